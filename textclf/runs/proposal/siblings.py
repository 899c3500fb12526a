"""Takes the path of a table and returns the tables beside it that serve as validation and test data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textclf.data.findings.finding import named, visible
from textclf.data.multi_label.label_sets import parts_of
from textclf.data.table_sample import TableSample, sample_table
from textclf.data.tables.column_names import matching_columns
from textclf.errors import TextclfError
from textclf.files.locations import Location

_WORDS = {"validation": ("validation", "valid", "val", "dev"), "test": ("test", "testing", "heldout", "eval")}

_TRAIN = ("train", "training")

_SUFFIX = re.compile(r"\.(?:(?:csv|tsv|tab|txt|jsonl|ndjson|json)(?:\.(?:gz|zst|bz2|xz))?|parquet|xlsx)", re.IGNORECASE)


@dataclass(frozen=True)
class Siblings:
    """The files by split, and why other files of such names are not used."""

    files: dict[str, TableSample]
    notes: list[str]


def stem_of(path: Path) -> str:
    """The name of a table without the ending of its format and its compression."""
    found = _SUFFIX.search(path.name)
    return path.name[: found.start()] if found and found.end() == len(path.name) else path.stem


def find_siblings(
    sample: TableSample, text: Sequence[str], labels: Sequence[str], separator: str | None = None
) -> Siblings:
    """Finds `test.csv` and `dev.csv` beside `train.csv`, and `tickets_test.csv` beside `tickets.csv`, if they have the
    same columns and labels.

    `labels` are the columns with labels: one, of which a cell may be a list or have several labels with a `separator` between
    them, or a column of 0 and 1 for each label.
    """
    files: dict[str, TableSample] = {}
    notes: list[str] = []
    seen = _labels(sample, labels, separator)
    for split, paths in files_beside(sample.path).items():
        for path in paths:
            try:
                sheet = sample.sheet if path.suffix == sample.path.suffix else None
                other = sample_table(path, (*text, *labels), sheet, sample.named_columns)
            except TextclfError as error:
                notes.append(f"not used for {split}: {error}")
                continue
            if problem := _problem(sample, other, text, labels, separator, seen):
                notes.append(f"{other.shown} is not used for {split}: {problem}")
            else:
                files[split] = other
                break
    return Siblings(files, notes)


def files_beside(path: Path) -> dict[str, list[Path]]:
    """Returns the files beside a training file whose names say that they are for validation or test."""
    return {split: _files_named(path, words) for split, words in _WORDS.items()}


def training_file_beside(path: Path) -> Path | None:
    """Returns the training file beside a file whose name says that it is for validation or test."""
    for words in _WORDS.values():
        for word in words:
            if _has_word(stem_of(path), word):
                found = _files_with_stems(path, [_replaced(stem_of(path), word, train) for train in _TRAIN])
                return found[0] if found else None
    return None


def _files_named(path: Path, words: Sequence[str]) -> list[Path]:
    stem = stem_of(path)
    for train in _TRAIN:
        if _has_word(stem, train):
            return _files_with_stems(path, [_replaced(stem, train, word) for word in words])
    return _files_with_stems(path, [f"{stem}{mark}{word}" for word in words for mark in "_-."])


def _files_with_stems(path: Path, stems: Sequence[str]) -> list[Path]:
    if isinstance(path, Location):
        return []
    wanted = [stem.casefold() for stem in stems]
    try:
        entries = sorted(path.absolute().parent.iterdir())
    except OSError:
        return []
    found = [
        entry
        for entry in entries
        if stem_of(entry).casefold() in wanted
        and _SUFFIX.fullmatch(entry.name, len(stem_of(entry)))
        and entry.is_file()
    ]
    return sorted(found, key=lambda entry: wanted.index(stem_of(entry).casefold()))


def _has_word(stem: str, word: str) -> bool:
    return re.search(_as_word(word), stem, re.IGNORECASE) is not None


def _replaced(stem: str, word: str, other: str) -> str:
    return re.sub(_as_word(word), other, stem, count=1, flags=re.IGNORECASE)


def _as_word(word: str) -> str:
    return rf"(?<![A-Za-z]){word}(?![A-Za-z])"


def _labels(sample: TableSample, labels: Sequence[str], separator: str | None) -> set[str]:
    """Returns all labels of a table, or the values of columns of 0 and 1."""
    cells = [cell for name in labels for cell in sample.cells(matching_columns(name, sample.columns)[0])]
    if separator is None and not _holds_lists(sample, labels[0]):
        return set(cells)
    return {part for cell in cells for part in parts_of(cell, separator)}


def _holds_lists(sample: TableSample, label: str) -> bool:
    return matching_columns(label, sample.columns)[0] in sample.lists


def _problem(
    sample: TableSample,
    other: TableSample,
    text: Sequence[str],
    labels: Sequence[str],
    separator: str | None,
    seen: set[str],
) -> str | None:
    """Returns why a file cannot serve: another encoding, missing columns, missing labels, or labels that are new."""
    if other.encoding != sample.encoding and not _is_ascii(other):
        return f"it is {other.encoding} and {sample.shown} is {sample.encoding}, but one setting applies to all files"
    for name in (*text, *labels):
        if len(matching_columns(name, other.columns)) != 1:
            return f"it has no column {visible(name)}"
    if separator is None and _holds_lists(sample, labels[0]) != _holds_lists(other, labels[0]):
        return f"only one of the files has lists in {visible(labels[0])}"
    cells = other.cells(matching_columns(labels[0], other.columns)[0])
    if (
        separator is None
        and not _holds_lists(sample, labels[0])
        and (missing := sum(not cell.strip() for cell in cells))
    ):
        return f"{missing:,} of its rows have no label"
    if sample.is_whole and (unknown := sorted(_labels(other, labels, separator) - seen)):
        return f"{sample.shown} has no row with {named(unknown)}"
    return None


def _is_ascii(sample: TableSample) -> bool:
    return all(cell.isascii() for row in sample.rows for cell in row)
