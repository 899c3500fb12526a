"""Detects label columns with several labels per row: lists in one cell, or one column of 0 and 1 for each label.

Without `dataset.label_separator`, a cell `billing; vip` would be learned as one more label, so such cells are reported.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from textclf.data.findings.finding import Finding, of_rows, visible
from textclf.data.findings.missing_values import written_by
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.opening import ReadOptions, open_any
from textclf.errors import TextclfError
from textclf.recipe.settings import DatasetSettings

_LONGEST_LIST = 2000

_ROWS_LOOKED_AT = 1000

_NEARLY_ALL = 0.9

_FLAGS = {"0", "1", "0.0", "1.0", "true", "false"}

_WRITTEN_LIST = re.compile(r"\s*(?:\[.*\]|\{.*\}|\((?=.*[,'\"]).*\)|(?:set|frozenset|array|list)\(.*\))\s*", re.DOTALL)

_TAGS = re.compile(r"\s*(?:<[^<>]+>\s*){2,}|\s*(?:#[^\s#]+[\s,;]*){2,}|\s*(?:__label__\S+\s*){2,}")

_SINGLE_TAG = re.compile(r"\s*(?:<[^<>]+>|__label__\S+)\s*")

# Strong separators rarely occur within one label. With weak separators, every part must be a known label.
_STRONG = (";", "|", ",", "，", "、", "；", "؛", "،", "\t", "||", "::", ">")

_WEAK = (
    "/",
    "+",
    "&",
    " and ",
    " und ",
    " et ",
    " y ",
    " - ",
    "-",
    "_",
    " ",
    ".",
    "\\",
    "·",
    "•",
    ":",
    "~",
    "*",
    "#",
    "^",
    "$",
)


def list_findings(file: str, labels: Sequence[str], rows: Sequence[int]) -> list[Finding]:
    """Returns a finding about labels that look like lists of labels."""
    lists = list_like(list(dict.fromkeys(labels)))
    if not lists:
        return []
    concerned = [row for row, label in zip(rows, labels, strict=True) if label in lists]
    example = Counter(label for label in labels if label in lists).most_common(1)[0][0]
    one = len(lists) == 1
    separator = separator_of(list(dict.fromkeys(labels)))
    remedy = "write the labels of a row with one separator, and name it in dataset.label_separator"
    if separator is not None:
        remedy = f"set dataset.label_separator to {visible(separator)}"
    message = (
        f"{file}: {len(lists):,} label{' looks like a list' if one else 's look like lists'} of labels, for example "
        f"{visible(example)}; {'it' if one else 'each of them'} is learned as one label. If a row may have several labels, "
        f"{remedy}; if not, keep one label in each row"
    )
    return [of_rows("list_of_labels", message, concerned)]


def separator_of(labels: Sequence[str]) -> str | None:
    """Returns what separates several labels in these different cells; None if they hold one label each.

    All parts of nearly all cells with the separator must be labels of other cells, too.
    """
    short = [label for label in labels if len(label) <= _LONGEST_LIST and not written_by(label)]
    single = {label.strip().casefold() for label in short}
    best: tuple[int, str] | None = None
    for separator in _STRONG:
        found = _joined(short, separator, lambda part, recurring: part in single or part in recurring, least=1)
        with_it = sum(separator in label for label in short)
        if found and len(found) >= _NEARLY_ALL * with_it and (best is None or len(found) > best[0]):
            best = len(found), separator
    return None if best is None else best[1]


def list_like(labels: Sequence[str]) -> set[str]:
    """Returns the labels that consist of several labels in one cell."""
    short = [label for label in labels if len(label) <= _LONGEST_LIST and not written_by(label)]
    written = {label for label in short if _WRITTEN_LIST.fullmatch(label)}
    tags = {label for label in short if _TAGS.fullmatch(label)}
    if tags:
        tags |= {label for label in short if _SINGLE_TAG.fullmatch(label)}
    found = written | tags
    single = {label.strip().casefold() for label in short}
    for separator in _STRONG:
        found |= _joined(short, separator, lambda part, recurring: part in single or part in recurring, least=1)
    for separator in _WEAK:
        found |= _joined(short, separator, lambda part, _: part in single, least=2)
    return found


def _joined(labels: Sequence[str], separator: str, is_label: Callable[[str, set[str]], bool], least: int) -> set[str]:
    """Returns labels whose parts between separators are all labels, or none if there are fewer than `least`."""
    parts_of = {label: parts for label in labels if separator in label and (parts := _parts(label, separator))}
    counts = Counter(part for parts in parts_of.values() for part in set(parts))
    recurring = {part for part, count in counts.items() if count > 1}
    found = {label for label, parts in parts_of.items() if all(is_label(part, recurring) for part in parts)}
    return found if len(found) >= least else set()


def _parts(label: str, separator: str) -> list[str]:
    """Returns two or more parts, each with a letter or digit, or nothing if the separator does not make a list."""
    parts = [part.strip().casefold() for part in label.split(separator)]
    parts = [part for part in parts if part]
    if len(set(parts)) < 2 or not all(any(map(str.isalnum, part)) for part in parts):
        return []
    return parts


def flag_columns(path: Path, settings: DatasetSettings) -> list[str]:
    """Returns the columns in which the first rows of a file hold 0 and 1 (or true and false) only, where there are two
    or more."""
    columns: list[str] = []
    options = ReadOptions(settings.delimiter, settings.encoding, settings.sheet, settings.columns or ())
    with suppress(TextclfError, OSError), open_any(str(path), options) as (table, _):
        if isinstance(table, RecordTable):
            table.texts_of_others = True
        values: list[set[str]] = [set() for _ in table.columns]
        for row in islice(table, _ROWS_LOOKED_AT):
            if row.fault is None:
                for place, field in enumerate(row.fields[: len(values)]):
                    values[place].add(field.strip().casefold())
        columns = [name for name, own in zip(table.columns, values, strict=True) if own and own <= _FLAGS]
    columns = [name for name in columns if name not in settings.text]
    return columns if len(columns) > 1 else []


def flag_columns_message(columns: Sequence[str]) -> str:
    """Returns a sentence about one-hot or multi-label columns. It follows a message about the label column."""
    shown = ", ".join(visible(name) for name in columns[:5])
    more = f" and {len(columns) - 5:,} more" if len(columns) > 5 else ""
    listed = ", ".join([*columns[:5], *(["…"] if len(columns) > 5 else [])])
    return (
        f"the columns {shown}{more} hold only 0 and 1; if each of them is a label, name them in dataset.labels_from: "
        f"[{listed}]"
    )


def holds_flags_only(labels: Sequence[str]) -> bool:
    return {label.strip().casefold() for label in labels} <= _FLAGS
