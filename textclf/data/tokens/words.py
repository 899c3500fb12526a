"""Splits texts into words exactly as the runtimes' regex tokenizer does, and returns <START> and word ids.

What the runtimes do was read from MediaPipe's and tflite-support's sources (`regex_tokenizer.cc`,
`regex_preprocessor_calculator.cc`, `regex_preprocessor.cc`, `vocab_utils.cc`) and tried on mediapipe 1.2.2 and
tflite-support 0.4.4:

- the text ends at its first NUL (in tflite-support 0.4.4 alone, a NUL separates words); nothing is folded,
  lower-cased or normalised;
- the matches of the delimiter pattern, a regular expression of RE2, are dropped, and the text between them is a word;
- a word that is not in the vocabulary, letter by letter, has the id of <UNKNOWN>;
- where the vocabulary has <START>, its id comes first; the first `max_length` ids are kept, the rest of the input is
  filled with the id of <PAD>.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from textclf.data.tokens.encoded import Encoded, Overflow, kept_pieces, utf8
from textclf.errors import EncoderError
from textclf.recipe.values import quoted

PAD, START, UNKNOWN = "<PAD>", "<START>", "<UNKNOWN>"

SPECIAL_WORDS = (PAD, START, UNKNOWN)

# White space, control characters, symbols and punctuation of ASCII, Latin-1, and the blocks of general, of Chinese and
# of full-width punctuation. Both apostrophes stay inside words, as do currency signs above Latin-1. The usual
# [^\w\']+ splits a word at every letter outside ASCII.
DELIMITER_PATTERN = (
    r"[\x{00}-\x{26}\x{28}-\x{2F}\x{3A}-\x{40}\x{5B}-\x{5E}\x{60}\x{7B}-\x{A9}\x{AB}-\x{B4}\x{B6}-\x{B9}\x{BB}-\x{BF}"
    r"\x{D7}\x{F7}\x{2000}-\x{2018}\x{201A}-\x{206F}\x{3000}-\x{3004}\x{3008}-\x{3020}\x{3030}\x{FEFF}"
    r"\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}\x{FF5B}-\x{FF65}]+"
)


class WordTokenizer:
    """Texts to ids of `vocabulary`, whose entry i has id i.

    Raises EncoderError for a vocabulary without <PAD> or <UNKNOWN>, and for a delimiter pattern that is not a regular
    expression of RE2, or that matches the empty text and would never let the runtimes finish.
    """

    kind = "regex"

    def __init__(self, vocabulary: Sequence[str], delimiter_pattern: str = DELIMITER_PATTERN) -> None:
        self.vocabulary = tuple(vocabulary)
        self._ids = {word: index for index, word in enumerate(vocabulary)}
        missing = [word for word in (PAD, UNKNOWN) if word not in self._ids]
        if missing:
            raise EncoderError(
                f"the vocabulary of {len(self._ids)} words lacks {' and '.join(missing)}, without which runtimes refuse it"
            )
        self.pad_id, self.unknown_id = self._ids[PAD], self._ids[UNKNOWN]
        self._start = [self._ids[START]] if START in self._ids else []
        self.delimiter_pattern = delimiter_pattern
        self._split = device_splitter(delimiter_pattern)

    def ids_added(self, texts: int) -> int:
        """Returns how many ids `encode` puts around those of the words."""
        return len(self._start)

    def words(self, text: str) -> list[str]:
        """Returns the words of a text."""
        return self._split(text)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the word ids of each text, without <START> and not truncated."""
        return list(self._iterate_pieces(texts))

    def encode(self, texts: Sequence[tuple[str, ...]], max_length: int, overflow: Overflow = "head") -> Encoded:
        """Rows of one text as <START> and word ids, at most `max_length` in all; `overflow` says which words are kept.

        Device runtimes always keep the head. Raises ValueError for rows of another number of texts.
        """
        widths = set(map(len, texts))
        if widths - {1}:
            raise ValueError(f"a row to encode has one text, found {max(widths - {1})}")
        flat: list[int] = []
        offsets = np.zeros(len(texts) + 1, np.int64)
        truncated = np.zeros(len(texts), bool)
        room = max_length - len(self._start)
        for row, pieces in enumerate(self._iterate_pieces([text for (text,) in texts])):
            flat += self._start + kept_pieces(pieces, room, overflow)
            truncated[row] = len(pieces) > room
            offsets[row + 1] = len(flat)
        return Encoded(np.array(flat, np.int32), offsets, np.diff(offsets).astype(np.int32), truncated, self.pad_id)

    def _iterate_pieces(self, texts: Sequence[str]) -> Iterator[list[int]]:
        ids, unknown = self._ids, self.unknown_id
        for text in texts:
            yield [ids.get(word, unknown) for word in self._split(text)]


# --- Delimiters ------------------------------------------------------------------------------------------------------

# Our own pattern is one character class, which both engines read alike; Python's is five times as fast.
_OWN_DELIMITERS = re.compile(
    re.sub(r"\\x\{([0-9A-F]+)\}", lambda found: re.escape(chr(int(found[1], 16))), DELIMITER_PATTERN)
)

_LONGEST_PATTERN = 10_000

# Instructions of a compiled pattern, by which the time for a byte is bounded; the usual patterns have 20 to 50.
_LARGEST_PROGRAM = 10_000

_WORDS_BETWEEN_LOOKS = 256

# Texts with every kind of place at which a pattern may match nothing: ends, lines, and the edges of words.
_SAMPLES = ("", "a", " ", "a b", "a\nb", "\n", "é", "1.", "中文")


def device_splitter(pattern: str, seconds_a_text: float = 10.0) -> Callable[[str], list[str]]:
    """Returns what splits a text, up to its first NUL, into the words between delimiters, with the engine that runtimes
    use.

    Raises EncoderError for a pattern that the engine refuses, or that matches nothing somewhere: there runtimes never
    end. The returned function raises it for a text that takes more than `seconds_a_text` of processor time.
    """
    if pattern == DELIMITER_PATTERN:
        return lambda text: [word for word in _OWN_DELIMITERS.split(_until_nul(text).decode()) if word]
    delimiters = _compiled(pattern)
    for sample in _SAMPLES:
        _split(sample, pattern, delimiters, seconds_a_text)
    return lambda text: _split(text, pattern, delimiters, seconds_a_text)


def _compiled(pattern: str) -> Any:
    """Returns an RE2 expression with the options of tflite-support and MediaPipe: all defaults, inside a group."""
    import re2

    if len(pattern) > _LONGEST_PATTERN:
        raise EncoderError(
            f"the delimiter pattern has {len(pattern):,} characters; expected at most {_LONGEST_PATTERN:,}"
        )
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(f"({pattern})", options)
        size = compiled.programsize
    except (re2.error, ValueError) as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise EncoderError(
            f"the delimiter pattern {quoted(pattern)} is not a regular expression of RE2 ({reason}), so runtimes cannot "
            "follow it either; expected one such as [^\\w']+"
        ) from error
    if size > _LARGEST_PROGRAM:
        raise EncoderError(
            f"the delimiter pattern {quoted(pattern)} is too large: {size:,} steps, expected at most {_LARGEST_PROGRAM:,}"
        )
    return compiled


def _split(text: str, pattern: str, delimiters: Any, limit: float) -> list[str]:
    """Splits as RE2::FindAndConsume does: after each delimiter, the rest is a new text."""
    content = _until_nul(text)
    left, words, begun, rounds = memoryview(content), [], time.thread_time(), 0
    while (found := delimiters.search(left)) is not None:
        start = found.start(1)
        if start < 0 or found.end() == found.start():
            raise EncoderError(
                f"the delimiter pattern {quoted(pattern)} matches the empty text, on which runtimes never end"
            )
        words.append(bytes(left[:start]))
        left = left[found.end() :]
        rounds += 1
        if rounds % _WORDS_BETWEEN_LOOKS == 0 and time.thread_time() - begun > limit:
            raise EncoderError(
                f"the delimiter pattern {quoted(pattern)} needs more than {limit:g} s for a text of "
                f"{len(content):,} bytes; shorten the text"
            )
    words.append(bytes(left))
    # No vocabulary contains half of a character, which \C can split off.
    return [word.decode(errors="replace") for word in words if word]


def _until_nul(text: str) -> bytes:
    return utf8(text).partition(b"\0")[0]
