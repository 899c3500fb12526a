"""Texts of any length as rows of token ids: the part of a long text that is kept, or windows over all of it.

Takes texts and a tokenizer. Returns rows of at most `max_length` ids, and the text to which each row belongs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from textclf.data.tokens.encoded import Encoded, Overflow, TextTokenizer
from textclf.data.tokens.wordpiece import Tokenizer

# A text is split into tokens in pieces of about this many characters, until the tokens fill all windows. So a text of
# many megabytes needs neither the memory nor the time for its tokens. The limit also bounds how many texts are split at once.
_CHARACTERS_AT_ONCE = 1 << 16


class WindowPlan(NamedTuple):
    """Each window begins `stride` tokens after the one before. A text has at most `most` windows; the rest is not read."""

    stride: int
    most: int

    def tokens(self, room: int) -> int:
        """Returns how many tokens of a text are read if a window has room for `room`."""
        return room + (self.most - 1) * min(room, self.stride)

    def windows(self, tokens: int, room: int) -> int:
        """Returns the number of windows that a text of this many tokens would need without the limit."""
        return 1 + -(-max(0, tokens - room) // min(room, self.stride))


LongTexts: TypeAlias = Overflow | WindowPlan
"""How a text that is too long is read: the part that is kept, or the windows over it."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTexts:
    """Texts as token ids. The rows of `encoded` are windows; those of a text follow each other, and every text has one.

    `texts[i]` is the index of the text of window i, in ascending order. `truncated` says which texts have tokens that no
    window shows.
    """

    encoded: Encoded
    texts: np.ndarray  # int64 [windows]
    truncated: np.ndarray  # bool [texts]

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def first_windows(self) -> np.ndarray:
        """int64 [texts + 1]: the first window of each text, and the number of all windows."""
        return np.searchsorted(self.texts, np.arange(len(self) + 1))

    @property
    def window_counts(self) -> np.ndarray:
        """int64 [texts]: the number of windows of each text."""
        return np.diff(self.first_windows)


def encode_texts(
    tokenizer: TextTokenizer, texts: Sequence[tuple[str, ...]], max_length: int, long_texts: LongTexts = "head"
) -> EncodedTexts:
    """Returns texts as token ids, at most `max_length` in a row.

    Raises ValueError for windows over a pair of texts, or over words that are not WordPiece tokens, and as
    `tokenizer.encode` does.
    """
    if not isinstance(long_texts, WindowPlan):
        encoded = tokenizer.encode(texts, max_length, long_texts)
        return EncodedTexts(encoded, np.arange(len(texts)), encoded.truncated)
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"windows need a WordPiece tokenizer, found {type(tokenizer).__name__}")
    if widths := set(map(len, texts)) - {1}:
        raise ValueError(f"a row that is read in windows has one text, found {max(widths)}")
    return _encode_windows(tokenizer, [text for (text,) in texts], max_length, long_texts)


def _encode_windows(tokenizer: Tokenizer, texts: Sequence[str], max_length: int, plan: WindowPlan) -> EncodedTexts:
    room = max_length - tokenizer.ids_added(1)
    if room < 1:
        raise ValueError(f"max_length is {max_length}, expected at least {tokenizer.ids_added(1) + 1}")
    start, end = [tokenizer.classification_id], [tokenizer.separator_id]
    flat: list[int] = []
    offsets, owners = [0], []
    truncated = np.zeros(len(texts), bool)
    readable = plan.tokens(room)
    for number, pieces in enumerate(_read_pieces(tokenizer, texts, readable)):
        truncated[number] = len(pieces) > readable
        for begin, count in window_parts(min(len(pieces), readable), room, plan.stride):
            flat += start + pieces[begin : begin + count] + end
            offsets.append(len(flat))
            owners.append(number)
    places = np.array(offsets, np.int64)
    is_cut = truncated[np.array(owners, np.int64)]
    encoded = Encoded(np.array(flat, np.int32), places, np.diff(places).astype(np.int32), is_cut, tokenizer.pad_id)
    return EncodedTexts(encoded, np.array(owners, np.int64), truncated)


def window_parts(pieces: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Returns the first token and the number of tokens of each part of a text. No token is in none.

    A text without tokens has one empty part.
    """
    parts, begin = [(0, min(pieces, room))], 0
    while sum(parts[-1]) < pieces:
        begin += min(room, stride)
        parts.append((begin, min(pieces - begin, room)))
    return parts


def _read_pieces(tokenizer: Tokenizer, texts: Sequence[str], wanted: int) -> Iterator[list[int]]:
    """Yields the tokens of each text, of a long one at least its first `wanted` and one more, if it has them."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        if len(text) > _CHARACTERS_AT_ONCE:
            yield from tokenizer.pieces(batch)
            yield _first_pieces(tokenizer, text, wanted)
            batch, characters = [], 0
            continue
        batch.append(text)
        characters += len(text)
        if characters > _CHARACTERS_AT_ONCE:
            yield from tokenizer.pieces(batch)
            batch, characters = [], 0
    yield from tokenizer.pieces(batch)


def _first_pieces(tokenizer: Tokenizer, text: str, wanted: int) -> list[int]:
    if tokenizer.kind == "device":  # devices stop at a NUL character, wherever the text is divided
        text = text.partition("\0")[0]
    pieces: list[int] = []
    begin = 0
    while begin < len(text) and len(pieces) <= wanted:
        # No token of either tokenizer reaches across a space, so the tokens are those of the whole text.
        space = text.find(" ", begin + _CHARACTERS_AT_ONCE)
        end = len(text) if space < 0 else space
        [more] = tokenizer.pieces([text[begin:end]])
        pieces += more
        begin = end
    return pieces
