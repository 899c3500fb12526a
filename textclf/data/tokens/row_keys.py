"""Makes a key for each row from its texts. Two keys are equal exactly if the model cannot distinguish the rows.

These keys are used to find duplicates, contradictions, leaks and the groups that a split keeps together. Texts that
differ only in capitals or blanks are equal to a model, and so are texts that differ only after its last token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.text_windows import LongTexts, encode_texts
from textclf.data.tokens.words import DELIMITER_PATTERN, device_splitter

Texts = tuple[str, ...]

# Number of rows that are tokenized at once. This bounds the memory for files of any size.
_BATCH = 4096

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class RowKeys:
    """`keys` has one key per row. `unknown` marks the rows with a word that the encoder does not know."""

    keys: list[bytes]
    unknown: list[bool]


Reading = Callable[[Sequence[Texts]], RowKeys]


def as_written(rows: Sequence[Texts]) -> RowKeys:
    """Returns keys of the texts themselves, for callers without a model."""
    return RowKeys([_digest("\0".join(row).encode("utf-8", "surrogatepass")) for row in rows], [False] * len(rows))


def as_tokens(tokenizer: TextTokenizer, max_length: int, long_texts: LongTexts = "head") -> Reading:
    """Returns keys of the token ids and segments, of a long text those that the model reads."""

    def read(rows: Sequence[Texts]) -> RowKeys:
        keys: list[bytes] = []
        unknown: list[bool] = []
        for begin in range(0, len(rows), _BATCH):
            found = encode_texts(tokenizer, rows[begin : begin + _BATCH], max_length, long_texts)
            encoded, windows = found.encoded, found.first_windows
            is_unknown = encoded.flat_ids == tokenizer.unknown_id
            for row in range(len(found)):
                place = slice(int(encoded.offsets[windows[row]]), int(encoded.offsets[windows[row + 1]]))
                first_length = int(encoded.first_lengths[windows[row]]).to_bytes(4, "little")
                keys.append(_digest(first_length + encoded.flat_ids[place].tobytes()))
                unknown.append(bool(is_unknown[place].any()))
        return RowKeys(keys, unknown)

    return read


def as_words(max_length: int, lowercase: bool) -> Reading:
    """Returns keys for averaged words, whose vocabulary is not known before the split.

    A mean does not depend on the order of the words, and punctuation is not a word. `max_length` counts <START>.
    """
    split_words = device_splitter(DELIMITER_PATTERN)

    def key(row: Texts) -> bytes:
        words = [word for text in row for word in split_words(text)][: max_length - 1]
        return _digest("\0".join(sorted(word.lower() if lowercase else word for word in words)).encode())

    def read(rows: Sequence[Texts]) -> RowKeys:
        return RowKeys([key(row) for row in rows], [False] * len(rows))

    return read


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
