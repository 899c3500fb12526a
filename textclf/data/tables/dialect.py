"""Detects how a table is written from its first lines: delimiter, quotation marks, and the row that holds the header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from textclf.data.tables.column_names import plain_name
from textclf.data.tables.lines import Dialect, Feed, parse

DELIMITERS = (",", ";", "\t", "|")

_ROWS_ABOVE_HEADER = 50

_LINES_WITH_HEADER = 60

_LONGEST_LINE = 1 << 14

_SEPARATOR = r"[^\w\"'`\r\n]{1,5}"


@dataclass(frozen=True)
class Sample:
    """The first lines of a table; `is_whole` when there are no others."""

    lines: Sequence[str]
    is_whole: bool


@dataclass(frozen=True)
class Layout:
    """How a table is written.

    `header` is the index among all rows of the row that holds the header, None for the first row that is not blank.
    `row_names`: each row begins with a name for which the header has no column. `names_below`: the index of a row that
    holds all wanted columns, but stands below rows that could be data. `found_all`: the header has all wanted columns.
    `is_detected`: the delimiter was not set.
    """

    dialect: Dialect
    header: int | None = None
    row_names: bool = False
    names_below: int | None = None
    found_all: bool = False
    is_detected: bool = True


class _Fitness(NamedTuple):
    """How well a dialect fits, for comparison: wanted columns found; whether rows are split at all; fraction of rows
    like the header; columns whose fields still have quotation marks; columns."""

    found: int
    is_cut: bool
    share: float
    still_quoted: int
    columns: int


class _SampleEndsError(Exception):
    """The sample ended, perhaps inside a row."""


def find_layout(sample: Sample, delimiter: str | None, wanted: Sequence[str]) -> Layout:
    """Returns the dialect that fits the first lines best; of equally good ones, the first."""
    names = [plain_name(name) for name in wanted]
    ways = _ways(sample, (delimiter,) if delimiter else DELIMITERS)
    fits = {way: _fitness(sample, way, names) for way in ways}
    best = max(ways, key=lambda way: fits[way])
    if not delimiter and names and (fits[best].found < len(names) or _has_constant_columns(sample, best)):
        for way in _ways(sample, _unusual_delimiters(sample, wanted)):
            fit = _fitness(sample, way, names)
            # Such a delimiter must split nearly every row alike, because it was guessed from the header.
            if fit.found == len(names) and fit.share > 0.9 and fit.columns > 1 and fit[:3] >= fits[best][:3]:
                best, fits[way] = way, fit
    rows = list(islice(rows_of_sample(sample, best), 2 + _ROWS_ABOVE_HEADER))
    header, below = _header_index(rows, names), _names_index(rows, names)
    cells = rows[header or 0] if rows else None
    if header is None:
        cells = next((row for row in rows if row), None)
    spaced = bool(cells) and len(cells or ()) > 1 and all(field.startswith(" ") for field in (cells or ())[1:])
    best = replace(best, skip_space=spaced)
    found_all = fits[replace(best, skip_space=False)].found == len(names)
    return Layout(
        best,
        header,
        row_names=_has_row_names(sample, best, header),
        names_below=below if header is None else None,
        found_all=found_all,
        is_detected=delimiter is None,
    )


def rows_of_sample(sample: Sample, dialect: Dialect) -> Iterator[list[str] | None]:
    """The fields of each row, None where the quotes do not fit; a row that the end of the sample cuts is left out."""
    lines = iter(sample.lines)

    def readline(_: int) -> str:
        line = next(lines, "")
        if not line and not sample.is_whole:
            raise _SampleEndsError
        return line

    longest = 1 + max(map(len, sample.lines), default=0) + sum(map(len, sample.lines))
    with suppress(_SampleEndsError):
        for fields, _, _, fault in parse(Feed(readline, "", "", longest, 2 * longest), dialect, longest):
            yield None if fault else fields


def _ways(sample: Sample, delimiters: Sequence[str]) -> list[Dialect]:
    """Returns the dialects that the sample suggests, the most usual first."""
    ways = [Dialect(delimiter) for delimiter in delimiters]
    if any('\\"' in line for line in sample.lines):
        ways += [Dialect(delimiter, backslash=True) for delimiter in delimiters]
    if "\t" in delimiters and any("\t" in line and '"' not in line for line in sample.lines[:1]):
        ways.append(Dialect("\t", quotes=False))
    backslash = any("\\'" in line for line in sample.lines)
    for delimiter in delimiters:
        if sum(_is_single_quoted(line, delimiter) for line in sample.lines[1:201]) > 0.5 * len(sample.lines[1:201]):
            ways += [Dialect(delimiter, quote="'"), *([Dialect(delimiter, backslash=True, quote="'")] * backslash)]
    return ways


def _is_single_quoted(line: str, delimiter: str) -> bool:
    line = line.rstrip("\r\n")
    return (line.startswith("'") or f"{delimiter}'" in line) and (line.endswith("'") or f"'{delimiter}" in line)


def _unusual_delimiters(sample: Sample, wanted: Sequence[str]) -> list[str]:
    """Returns the text between the names of the wanted columns in the header, such as `^`, `||` or a control character."""
    found: dict[str, None] = {}
    for line in sample.lines[:_LINES_WITH_HEADER]:
        if len(line) < _LONGEST_LINE and all(name.strip() in line for name in wanted):
            for name in wanted:
                pattern = rf"(?:^|({_SEPARATOR}))[\"'`]?{re.escape(name.strip())}[\"'`]?(?:({_SEPARATOR})|[\r\n]*$)"
                for match in re.finditer(pattern, line):
                    found.update(dict.fromkeys(separator for separator in match.groups() if separator))
    return [separator for separator in found if separator not in DELIMITERS and "\ufeff" not in separator][:8]


def _fitness(sample: Sample, dialect: Dialect, wanted: Sequence[str]) -> _Fitness:
    """Rates a dialect. In a file with one column, a comma in the texts is not a delimiter. Therefore splitting counts
    only if more than a tenth of the rows have as many fields as the header (many rows may be ragged)."""
    rows = list(rows_of_sample(sample, dialect))
    header = _header_index(rows[: 2 + _ROWS_ABOVE_HEADER], wanted) or 0
    rows = [row for row in rows[header:] if row is None or any(row)]
    if not rows or rows[0] is None:
        return _Fitness(0, False, 0.0, 0, 0)
    names, body = rows[0], rows[1:]
    widths = [_width(row, len(names)) for row in body]
    like = sum(width == len(names) for width in widths)
    with_names = sum(width == len(names) + 1 for width in widths)
    if like < with_names and with_names > 0.9 * len(widths):  # each row begins with a row name
        like = with_names
    share = like / len(body) if body else 1.0
    plain = {plain_name(field) for field in names}
    found = sum(name in plain for name in wanted)
    return _Fitness(found, len(names) > 1 and share > 0.1, share, -_still_quoted(body, len(names)), len(names))


def _has_constant_columns(sample: Sample, dialect: Dialect) -> bool:
    """Returns whether every other column holds the same sign in all rows, or nothing, as `a||b` and `a|~|b` read with
    `|`."""
    rows = [row for row in rows_of_sample(sample, dialect) if row and any(row)]
    signs = rows[0][1:-1:2] if rows else []
    if not signs or len(rows[0]) % 2 == 0 or any(character.isalnum() for sign in signs for character in sign):
        return False
    return all(row[1:-1:2] == signs for row in rows if len(row) == len(rows[0]))


def _width(row: list[str] | None, expected: int) -> int:
    """Returns the number of fields, without empty ones beyond the header's."""
    if row is None:
        return -1
    return expected if len(row) > expected and not any(row[expected:]) else len(row)


def _still_quoted(rows: Sequence[list[str] | None], columns: int) -> int:
    """In how many columns nearly every field is in quotation marks of the other kind."""
    read = [row for row in rows if row is not None and len(row) == columns][:200]
    count = 0
    for column in range(columns if read else 0):
        cells = [row[column].strip() for row in read if row[column]]
        quoted = sum(len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'" for cell in cells)
        count += bool(cells) and quoted > 0.9 * len(cells)
    return count


def _names_index(rows: Sequence[list[str] | None], wanted: Sequence[str]) -> int | None:
    """Returns the row with all wanted columns, unless that is the first that is not blank."""
    first = next((index for index, row in enumerate(rows) if row is None or any(row)), None)
    for index, row in enumerate(rows):
        if wanted and row is not None and set(wanted) <= {plain_name(field) for field in row}:
            return index if index != first else None
    return None


def _header_index(rows: Sequence[list[str] | None], wanted: Sequence[str]) -> int | None:
    """Returns the row with all wanted columns if only titles are above it: rows with other widths or empty cells,
    comments."""
    index = _names_index(rows, wanted)
    if index is None:
        return None
    header = rows[index] or []
    above = [row for row in rows[:index] if row is not None]
    titles = all(sum(map(bool, row)) < len(header) or len(row) > len(header) or row[0].startswith("#") for row in above)
    return index if titles and len(header) > 1 else None


def _has_row_names(sample: Sample, dialect: Dialect, header: int | None) -> bool:
    """Returns whether every row has one field more than the header, the first being a number that no other row has.

    R writes tables so. Names that are no numbers could also be texts with a delimiter in them.
    """
    rows = islice(rows_of_sample(sample, dialect), header or 0, 2 * _ROWS_ABOVE_HEADER)
    read = [row for row in rows if row and any(row)]
    names, body = (read or [[]])[0], [row for row in read[1:] if row != read[0]]
    named = [row for row in body if len(row) == len(names) + 1]
    firsts = [row[0] for row in named]
    return (
        len(named) > 1
        and len(named) > 0.9 * len(body)
        and any(row[-1] for row in named)
        and all(first.isascii() and first.isdigit() for first in firsts)
        and len(set(firsts)) == len(firsts)
    )
