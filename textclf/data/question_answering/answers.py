"""Finds an answer in its context: takes the text and, if the file has it, the offset, and returns the span."""

from __future__ import annotations

import itertools
import re
from typing import Literal, NamedTuple

from textclf.data.question_answering.questions import Answer

Place = Literal["exact", "utf16", "moved", "spaces", "ambiguous", "missing"]
"""How an answer was found: at its offset; at its offset in UTF-16 units, as JavaScript counts; elsewhere; elsewhere and
with other white space. Or why not: the context has it several times, or not at all."""

# An answer that is this near to its offset is meant, even if the context has the same text elsewhere.
_NEAR = 10

_BEYOND_16_BITS = re.compile("[\U00010000-\U0010ffff]")


class Found(NamedTuple):
    """An answer, or None, and how it was found. `starts` are all places of the text in the context, at most 100."""

    answer: Answer | None
    place: Place
    starts: list[int]


_MOST_STARTS = 100


def find_answer(context: str, text: str, start: int | None) -> Found:
    """Returns where `text` is in `context`: at `start`, else as near to it as can only be meant, else at its only place.

    Without a `start`, at its only place. A text that is only there with other white space is found as well; the answer
    then has the context's own.
    """
    if start is not None and start >= 0:
        if context.startswith(text, start):
            return Found(Answer(text, start), "exact", [start])
        moved = _from_utf16(context, start)
        if moved is not None and context.startswith(text, moved):
            return Found(Answer(text, moved), "utf16", [moved])
    spans, place = _occurrences(context, text), "moved" if start is not None else "exact"
    if not spans and (words := text.split()):
        spans, place = _with_other_spaces(context, words), "spaces"
    near = [] if start is None else [span for span in spans if abs(span[0] - start) <= _NEAR]
    starts = [begin for begin, _ in spans]
    if len(near) == 1 or len(spans) == 1:
        begin, end = (near or spans)[0]
        return Found(Answer(context[begin:end], begin), place, starts)  # type: ignore[arg-type]
    return Found(None, "ambiguous" if spans else "missing", starts)


def _occurrences(context: str, text: str) -> list[tuple[int, int]]:
    """Returns where a text is, overlapping places included."""
    found: list[tuple[int, int]] = []
    start = context.find(text)
    while start >= 0 and len(found) < _MOST_STARTS:
        found.append((start, start + len(text)))
        start = context.find(text, start + 1)
    return found


def _with_other_spaces(context: str, words: list[str]) -> list[tuple[int, int]]:
    pattern = re.compile(r"\s+".join(map(re.escape, words)))
    return [match.span() for match in itertools.islice(pattern.finditer(context), _MOST_STARTS)]


def _from_utf16(context: str, units: int) -> int | None:
    """Returns the character at this many UTF-16 units, if it is another one than that at the same number of characters."""
    if not _BEYOND_16_BITS.search(context, 0, units):
        return None
    place = left = 0
    for place, character in enumerate(context):
        if left >= units:
            return place
        left += 2 if character > "\uffff" else 1
    return place + 1 if left == units else None
