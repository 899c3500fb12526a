"""Findings about the data (a kind, a sentence and row numbers), and how messages show rows, labels and fractions."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textclf.terminal.door import escaped

Severity = Literal["warning", "note"]
"""A `warning` is probably a mistake or makes results unreliable. A `note` is only good to know."""

ROWS_LISTED = 5

ROWS_KEPT = 20

_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Finding:
    """Something in the data that does not stop training.

    `kind` is a word to search for and `message` a sentence. `count` is the number of rows (or labels) concerned, and
    `rows` are the spreadsheet numbers of the first of them (the header is row 1).
    """

    kind: str
    message: str
    count: int
    rows: tuple[int, ...] = ()
    severity: Severity = "warning"

    def __str__(self) -> str:
        return self.message


def of_rows(kind: str, message: str, rows: Sequence[int], severity: Severity = "warning") -> Finding:
    """Returns a finding about these rows; the message gets their numbers at its end."""
    return Finding(kind, f"{message} ({listed(rows)})", len(rows), tuple(rows[:ROWS_KEPT]), severity)


def listed(rows: Sequence[int]) -> str:
    """`row 5`, `rows 5 and 9`, `rows 2, 3, 5, 8, 13 and 4 more`."""
    shown = [f"{row}" for row in rows[:ROWS_LISTED]]
    if len(rows) > ROWS_LISTED:
        shown.append(f"{len(rows) - ROWS_LISTED:,} more")
    return f"row{'s' if len(rows) > 1 else ''} {enumerated(shown)}"


def named(values: Sequence[str]) -> str:
    """Lists values such as `a`, `b` and `c` in backticks, at most the first five."""
    shown = [visible(value) for value in values[:ROWS_LISTED]]
    return enumerated([*shown, f"{len(values) - ROWS_LISTED:,} more"] if len(values) > ROWS_LISTED else shown)


def visible(value: str) -> str:
    """Returns a value in backticks, shortened; invisible characters are written as escapes such as `\\u200b`."""
    short = value if len(value) <= _LONGEST_SHOWN else value[: _LONGEST_SHOWN - 1] + "…"
    if short.isascii() and short.isprintable():
        return f"`{short}`"
    return f"`{''.join(escaped(one) if _is_hidden(one, place) else one for place, one in enumerate(short))}`"


def _is_hidden(character: str, place: int) -> bool:
    if character.isascii() or not character.isprintable():
        return not character.isprintable()
    return (place == 0 or 0xFE00 <= ord(character) <= 0xFE0F) and unicodedata.category(character).startswith("M")


def enumerated(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or share == 0 else "less than 0.1%"
