"""Detects that the rows of a table may have several labels: in one cell, in a list, or in columns of 0 and 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from textclf.data.column_kinds import Column, Kind, describe_column
from textclf.data.findings.label_lists import holds_flags_only, separator_of
from textclf.data.multi_label.label_sets import flag_of, parts_of
from textclf.data.table_sample import TableSample

LEAST_FLAGS = 3
"""This many columns of 0 and 1 are a label each; of two, one may say something else about a row."""

# Fewer cells with two labels may be exceptions such as names that contain a comma.
_LEAST_SHARE = 0.02

_LONGEST_LABEL_WORDS = 5

# Longer lists are the words of a text rather than its labels, and labels occur more often than once.
_MOST_LABELS_OF_ROW, _LEAST_ROWS_OF_LABEL = 10.0, 2.0


def separator_in(sample: TableSample, column: Column) -> str | None:
    """Returns what separates the labels in the cells of a column; None if each cell has one label."""
    cells = [cell.strip() for cell in sample.cells(column.index) if cell.strip()]
    separator = separator_of(list(dict.fromkeys(cells)))
    if separator is None:
        return None
    parts = [parts_of(cell, separator) for cell in cells]
    if any(len(part.split()) > _LONGEST_LABEL_WORDS for own in parts for part in own):
        return None
    return separator if sum(len(own) > 1 for own in parts) >= _LEAST_SHARE * len(cells) else None


def described(sample: TableSample, index: int) -> Column:
    """Returns what a column contains; of lists, what their elements are."""
    name, cells = sample.columns[index], sample.cells(index)
    if index not in sample.lists:
        return describe_column(name, index, cells)
    own = [parts_of(cell, None) for cell in cells]
    counts = Counter(label for labels in own for label in labels)
    filled, total = sum(map(bool, own)), counts.total()
    words = sum(len(label.split()) * count for label, count in counts.items()) / max(total, 1)
    kind: Kind = "other"
    if len(counts) < 2:
        kind = "constant" if counts else "empty"
    elif (
        words <= _LONGEST_LABEL_WORDS
        and total <= _MOST_LABELS_OF_ROW * filled
        and total >= _LEAST_ROWS_OF_LABEL * len(counts)
    ):
        kind = "label"
    return Column(
        name, index, kind, filled, len(counts), words, tuple(label for label, _ in counts.most_common(1000)), False
    )


def with_lists_as_labels(sample: TableSample, columns: Sequence[Column], names: frozenset[str]) -> list[Column]:
    """Returns the columns, where cells with several labels make a column one of labels.

    There are more combinations than labels, so that a value rarely repeats. Of texts, only columns with one of the `names`
    are looked at: texts may be short lists of words.
    """
    return [
        replace(column, kind="label")
        if (column.kind == "other" or (column.kind == "text" and _singular(column.name) in names))
        and column.index not in sample.lists
        and separator_in(sample, column) is not None
        else column
        for column in columns
    ]


def _singular(name: str) -> str:
    plain = name.strip().casefold()
    return plain[:-3] + "y" if plain.endswith("ies") else plain.removesuffix("s")


def flags_among(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Returns the columns of 0 and 1 that are a label each, with those of 0 alone between them; none if they are too few."""
    both = [column for column in columns if column.distinct == 2 and holds_flags_only(column.common)]
    if len(both) < LEAST_FLAGS:
        return ()
    first, last = both[0].index, both[-1].index
    return tuple(
        column
        for column in columns
        if column in both
        or (first < column.index < last and column.kind == "constant" and flag_of(column.common[0]) is False)
    )


def counts_of(sample: TableSample, label: Column, separator: str | None, flags: Sequence[Column]) -> Counter[str]:
    """Returns the number of rows with each label."""
    if flags:
        return Counter(
            {column.name: sum(flag_of(cell) is True for cell in sample.cells(column.index)) for column in flags}
        )
    return Counter(part for cell in sample.cells(label.index) for part in set(parts_of(cell, separator)))


def has_one_each(sample: TableSample, flags: Sequence[Column]) -> bool:
    """Returns whether exactly one of the columns is 1 in each row."""
    return all(sum(flag_of(row[column.index]) is True for column in flags) == 1 for row in sample.rows)
