"""Takes the cells of a column and returns what it seems to contain: texts, labels, identifiers, dates, numbers, links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "label", "id", "date", "number", "link", "constant", "empty", "other"]

_NUMBER = re.compile(
    r"[-+−]?\s?[$€£¥]?\s?\d+(?:[.,'\u00a0\u202f ]\d+)*(?:e[-+]?\d+)?\s?(?:[%$€£¥]|[a-zA-Z]{3})?", re.IGNORECASE
)

_WHOLE_NUMBER = re.compile(r"[-+]?\d{1,9}(?:\.0+)?")

_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?(?:[T ]\d.*)?|"
    r"\d{1,2}[-/. ]\d{1,2}[-/. ]\d{2,4}(?:,? .*)?|"
    r"\d{1,2}:\d{2}(?::\d{2})?(?: ?[ap]m)?",
    re.IGNORECASE,
)

# Dates in words, such as `Mon Apr 06 22:19:45 PDT 2009` and `3. März 2024`: numbers, at most three words, a year.
_DATE_IN_WORDS = re.compile(r"(?=.*\d{4})(?=.*[^\W\d_]{3})(?:\W*(?:\d+|[^\W\d_]{2,10})\b){2,9}\W*")

_MONTH = re.compile(
    r"\b(?:jan|feb|fév|mar|mär|apr|avr|abr|may|mai|maj|mag|jun|jui|giu|jul|lug|aug|aoû|ago|sep|set|oct|okt|ott|out|nov|"
    r"dec|dez|déc|dic)",
    re.IGNORECASE,
)

_LINK = re.compile(r"(?:[a-z]+://|www\.)\S+|[\w.+-]+@[\w-]+\.[\w.-]+", re.IGNORECASE)

_IDENTIFIER = re.compile(r"(?=.*\d)[\w.:/#+@=-]{1,80}", re.ASCII)

# Nearly all cells have to be of a kind; a few may be missing values or mistakes.
_NEARLY_ALL = 0.95

_LONGEST_DATE = 45

# Labels repeat, and they are names: rarely longer than a few words.
_LEAST_ROWS_OF_LABEL, _WORDS_OF_LABEL, _LONGEST_LABEL = 2.0, 5.0, 100

# Whole numbers are labels if they are as few as the grades of a scale.
_MOST_NUMBERS = 20

# Texts have this many words on average, and most of them occur once.
_WORDS_OF_TEXT, _WORDS_OF_SHORT_TEXT, _DISTINCT_TEXTS = 2.5, 1.2, 0.2

# Scripts without spaces need about this many characters for a word.
_CHARACTERS_OF_WORD = 3


@dataclass(frozen=True)
class Column:
    """A column and what it contains. `rows` is the number of cells with a value, `distinct` of different values, `words`
    the mean number of words in a cell, `common` the most frequent values."""

    name: str
    index: int
    kind: Kind
    rows: int
    distinct: int
    words: float
    common: tuple[str, ...]
    is_number: bool

    @property
    def is_short_text(self) -> bool:
        """Whether the texts have so few words that they may be names."""
        return self.kind == "text" and self.words < _WORDS_OF_TEXT

    def holds(self, value: str) -> bool:
        return value in self.common


def describe_column(name: str, index: int, cells: Sequence[str]) -> Column:
    """Judges a column by its content alone; the name is not looked at."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    counts = Counter(filled)
    words = sum(map(_words, filled)) / len(filled) if filled else 0.0
    kind = _kind(filled, len(counts), words)
    common = tuple(value for value, _ in counts.most_common(1000))
    return Column(name, index, kind, len(filled), len(counts), words, common, _share(filled, is_number) >= _NEARLY_ALL)


def is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def is_date(cell: str) -> bool:
    if len(cell) > _LONGEST_DATE:
        return False
    return _DATE.fullmatch(cell) is not None or (
        _MONTH.search(cell) is not None and _DATE_IN_WORDS.fullmatch(cell) is not None
    )


def _kind(filled: Sequence[str], distinct: int, words: float) -> Kind:
    if not filled:
        return "empty"
    if distinct == 1:
        return "constant"
    rows_of_value = len(filled) / distinct
    if _share(filled, is_date) >= _NEARLY_ALL:
        return "date"
    if _share(filled, is_number) >= _NEARLY_ALL:
        if distinct <= _MOST_NUMBERS and rows_of_value >= _LEAST_ROWS_OF_LABEL and _share(filled, _is_whole) == 1:
            return "label"
        return "id" if distinct > _NEARLY_ALL * len(filled) and _share(filled, _is_whole) == 1 else "number"
    if _share(filled, lambda cell: _LINK.fullmatch(cell) is not None) >= _NEARLY_ALL:
        return "link"
    if distinct > 0.5 * len(filled) and _share(filled, lambda cell: _IDENTIFIER.fullmatch(cell) is not None) >= 0.8:
        return "id"
    if rows_of_value >= _LEAST_ROWS_OF_LABEL and words <= _WORDS_OF_LABEL and max(map(len, filled)) <= _LONGEST_LABEL:
        return "label"
    if words >= _WORDS_OF_TEXT or (words >= _WORDS_OF_SHORT_TEXT and distinct >= _DISTINCT_TEXTS * len(filled)):
        return "text"
    return "other"


def _share(cells: Sequence[str], condition: Callable[[str], bool]) -> float:
    return sum(map(condition, cells)) / len(cells) if cells else 0.0


def _is_whole(cell: str) -> bool:
    return _WHOLE_NUMBER.fullmatch(cell) is not None


def _words(cell: str) -> float:
    """Counts words, in scripts without spaces by the number of characters."""
    by_spaces = len(cell.split())
    if cell.isascii():
        return by_spaces
    return max(by_spaces, sum(one >= "\u0e00" and one.isalpha() for one in cell) / _CHARACTERS_OF_WORD)
