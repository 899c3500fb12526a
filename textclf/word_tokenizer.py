"""Whole words, exactly as the runtimes' regex tokenizer splits them: texts in, <START> and word ids out.

What the runtimes do was read from MediaPipe's and tflite-support's sources (`regex_tokenizer.cc`,
`regex_preprocessor_calculator.cc`, `regex_preprocessor.cc`, `vocab_utils.cc`) and tried on mediapipe 1.2.2 and
tflite-support 0.4.4:

- the text ends at its first NUL (in tflite-support 0.4.4 alone, a NUL separates words); nothing is folded,
  lower-cased or normalised;
- what the delimiter pattern, a regular expression of RE2, matches is dropped, and what stands between is a word;
- a word that is not in the vocabulary, letter by letter, has the id of <UNKNOWN>;
- where the vocabulary has <START>, its id comes first; the first `max_length` ids are kept, the rest of the input is
  filled with the id of <PAD>.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from textclf.errors import EncoderError
from textclf.tokenizer import Encoded, Overflow, kept_pieces, utf8

PAD, START, UNKNOWN = "<PAD>", "<START>", "<UNKNOWN>"
SPECIAL_WORDS = (PAD, START, UNKNOWN)

# White space, control characters, symbols and punctuation of ASCII, Latin-1, and the blocks of general, of Chinese and
# of full-width punctuation. Both apostrophes stay inside words, as do currency signs above Latin-1. The usual
# [^\w\']+ cuts a word at every letter outside ASCII.
DELIMITER_PATTERN = (
    r"[\x{00}-\x{26}\x{28}-\x{2F}\x{3A}-\x{40}\x{5B}-\x{5E}\x{60}\x{7B}-\x{A9}\x{AB}-\x{B4}\x{B6}-\x{B9}\x{BB}-\x{BF}"
    r"\x{D7}\x{F7}\x{2000}-\x{2018}\x{201A}-\x{206F}\x{3000}-\x{3004}\x{3008}-\x{3020}\x{3030}\x{FEFF}"
    r"\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}\x{FF5B}-\x{FF65}]+"
)


class WordTokenizer:
    """Texts to ids of `vocabulary`, whose entry i has id i.

    Raises EncoderError for a vocabulary without <PAD> or <UNKNOWN>, and for a delimiter pattern that Python's regular
    expressions cannot follow, or that matches the empty text and would keep the runtimes busy for ever.
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
        self._delimiters = python_pattern(delimiter_pattern)

    def ids_added(self, texts: int) -> int:
        """How many ids `encode` puts around those of the words."""
        return len(self._start)

    def words(self, text: str) -> list[str]:
        """The words of a text."""
        return split_words(text, self._delimiters)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """The word ids of each text, without <START> and not cut."""
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
            yield [ids.get(word, unknown) for word in split_words(text, self._delimiters)]


def split_words(text: str, delimiters: re.Pattern[str]) -> list[str]:
    """What stands between delimiters, up to the text's first NUL."""
    return [word for word in delimiters.split(utf8(text).partition(b"\0")[0].decode()) if word]


# --- RE2 in Python ---------------------------------------------------------------------------------------------------

# Both languages mean the same by these; \s is the one that differs.
_ESCAPED_SETS = {"w": r"\w", "W": r"\W", "d": r"\d", "D": r"\D"}
_ESCAPED_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_SPACES = "\\t\\n\\f\\r "
_SYNTAX = re.compile(
    r"""(?P<hex>\\x(?:\{(?P<long>[0-9A-Fa-f]{1,6})\}|(?P<short>[0-9A-Fa-f]{2})))
      | \\(?P<set>[wWdDsS]) | \\(?P<control>[ntrfva]) | \\(?P<sign>[^\w\s]) | (?P<named>\[:) | (?P<plain>[^\\])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_REPEAT = re.compile(r"([*+?]|\{\d+(,\d*)?\})\??")


def python_pattern(pattern: str) -> re.Pattern[str]:
    """A delimiter pattern of RE2 as Python's, for the part of the language in which both agree.

    That part has no anchors and no word boundaries, which the runtimes evaluate anew behind every delimiter, no Unicode
    classes, flags or back references. Raises EncoderError for anything else.
    """
    try:
        compiled = re.compile(_translated(pattern), re.ASCII)
    except (re.error, ValueError, OverflowError) as error:
        raise EncoderError(
            f"the delimiter pattern {pattern!r} cannot be followed here ({error}); expected character classes such as "
            r"[^\w']+, groups and repetitions"
        ) from error
    if compiled.fullmatch(""):
        raise EncoderError(f"the delimiter pattern {pattern!r} matches the empty text, on which runtimes never end")
    return compiled


def _translated(pattern: str) -> str:
    result, position, in_class, repeated = "", 0, False, True
    while position < len(pattern):
        if not in_class and not repeated and (repeat := _REPEAT.match(pattern, position)):
            result, position, repeated = result + repeat[0], repeat.end(), True
            continue
        token = _SYNTAX.match(pattern, position)
        if token is None or (token["named"] and in_class):
            raise ValueError(f"{pattern[position : position + 3]!r} at character {position + 1}")
        begun, position = position, position + 1 if token["named"] else token.end()
        text = "[" if token["named"] else token["plain"]
        repeated = False
        if text is None:
            result += _escaped(token, in_class)
        elif in_class:
            in_class = text != "]"
            result += text if text in "]-" else re.escape(text)
        elif text == "[":
            in_class = True
            result += text
            if pattern.startswith("^", position):
                result, position = result + "^", position + 1
            if pattern.startswith("]", position):
                result, position = result + r"\]", position + 1
        elif text == "(":
            if pattern.startswith("?", position) and not pattern.startswith("?:", position):
                raise ValueError(f"{pattern[begun : begun + 3]!r} at character {begun + 1}")
            position += 2 * pattern.startswith("?:", position)
            result, repeated = result + "(?:", True
        elif text in "^$*+?{":
            raise ValueError(f"{text!r} at character {begun + 1}")
        else:
            result, repeated = result + (text if text in ").|" else re.escape(text)), text == "|"
    return result


def _escaped(token: re.Match[str], in_class: bool) -> str:
    if token["hex"]:
        return re.escape(chr(int(token["long"] or token["short"], 16)))
    if token["control"]:
        return re.escape(_ESCAPED_CHARACTERS[token["control"]])
    if token["sign"]:
        return re.escape(token["sign"])
    kind = token["set"]
    if kind == "s":
        return _SPACES if in_class else f"[{_SPACES}]"
    if kind == "S":
        if in_class:
            raise ValueError(r"'\S' inside brackets")
        return f"[^{_SPACES}]"
    return _ESCAPED_SETS[kind]
