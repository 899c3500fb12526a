"""Reads the labels of rows that may have several: from one column with a separator or with lists, or from a column for
each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textclf.data.dataset import LabelReader, no_rows_errors, not_writable_errors
from textclf.data.examples import Examples
from textclf.data.findings.finding import listed, visible
from textclf.data.findings.label_spellings import not_writable
from textclf.data.multi_label.label_sets import flag_of, kind_of_element, parts_of, rarest_labels, set_text
from textclf.data.reading import FileReader
from textclf.data.tables.formats.records import ListCell
from textclf.data.tables.table import Note
from textclf.recipe.settings import DatasetSettings
from textclf.recipe.values import USUAL_SEPARATOR


def _columns(settings: DatasetSettings) -> list[tuple[str, str]]:
    if settings.labels_from is not None:
        return [(name, "dataset.labels_from") for name in settings.labels_from]
    return [(settings.label, "dataset.label")]


def _collect(
    examples: Examples,
    reader: FileReader,
    text_columns: Sequence[int],
    label_columns: Sequence[int],
    settings: DatasetSettings,
) -> list[str]:
    """Fills the examples from a table; each of their labels is a `set_text`. Returns the errors."""
    cells = _Flags(settings.labels_from) if settings.labels_from is not None else _Cells(settings)
    for row in reader:
        texts = tuple(row.fields[column] for column in text_columns)
        if not any(text.strip() for text in texts):
            examples.left_out.append(row.number)
            continue
        labels = cells.labels_of(row.number, [row.fields[column] for column in label_columns])
        if labels is not None:
            examples.texts.append(texts)
            examples.labels.append(set_text(labels))
            examples.rows.append(row.number)
    # A row that is no data is one whose label no other row has.
    examples.notes.extend(reader.notes(rarest_labels(examples.labels), examples.texts, examples.rows))
    examples.notes.extend(cells.notes(reader.name))
    errors = [*reader.errors(), *cells.errors(reader)]
    return [*errors, *no_rows_errors(examples, reader, errors)]


LABEL_SETS = LabelReader(_columns, _collect)
"""Several labels in one column, as text or as lists, or a column for each label."""


class _Cells:
    """One cell with all labels of a row: a list, or, if the recipe has a separator, text."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._column = visible(settings.label)
        self._separator = settings.label_separator
        # Results are written with it.
        self._joined_by = settings.label_separator or USUAL_SEPARATOR
        self._not_lists: list[tuple[int, str]] = []
        self._wrong_elements: dict[str, list[int]] = {}
        self._not_joinable: list[tuple[int, str]] = []
        self._repeated: list[int] = []
        self._empty_parts: list[int] = []
        self._not_held: dict[str, list[tuple[int, str]]] = {}

    def labels_of(self, row: int, cells: Sequence[str]) -> list[str] | None:
        """Returns the labels of a row; None if they cannot be used."""
        [cell] = cells
        if isinstance(cell, ListCell):
            return self._labels_of_list(row, cell)
        if self._separator is None:
            if cell.strip():
                self._not_lists.append((row, cell))
                return None
            return []
        return self._writable(row, parts_of(cell, self._separator), cell.count(self._separator) + bool(cell.strip()))

    def _labels_of_list(self, row: int, cell: ListCell) -> list[str] | None:
        wrong = next((kind for value in cell.values if (kind := kind_of_element(value)) is not None), None)
        if wrong is not None:
            self._wrong_elements.setdefault(wrong, []).append(row)
            return None
        labels = parts_of(cell, self._joined_by)
        if (found := next((label for label in labels if self._joined_by in label), None)) is not None:
            self._not_joinable.append((row, found))
            return None
        return self._writable(row, labels, len(cell.values))

    def _writable(self, row: int, labels: list[str], written: int) -> list[str] | None:
        """Returns the labels if all of them can be used; `written` is their number with the empty ones."""
        for label in labels:
            if (problem := not_writable(label)) is not None:
                self._not_held.setdefault(problem, []).append((row, label))
                return None
        if len(set(labels)) < len(labels):
            self._repeated.append(row)
        if len(labels) < written:
            self._empty_parts.append(row)
        return labels

    def notes(self, name: str) -> list[Note]:
        notes = []
        if self._repeated:
            rows = "1 row names" if len(self._repeated) == 1 else f"{len(self._repeated):,} rows name"
            message = f"{name}: {rows} a label twice, which counts once; were two different labels meant?"
            notes.append(Note("repeated_label", message, tuple(self._repeated)))
        if self._empty_parts:
            rows = "1 row has" if len(self._empty_parts) == 1 else f"{len(self._empty_parts):,} rows have"
            what = (
                "an empty label in the list"
                if self._separator is None
                else f"a separator {visible(self._separator)} without a label before or after it"
            )
            message = f"{name}: {rows} {what}, which is ignored"
            notes.append(Note("empty_label", message, tuple(self._empty_parts)))
        return notes

    def errors(self, reader: FileReader) -> list[str]:
        name, errors = reader.name, not_writable_errors(reader, self._not_held)
        if self._not_lists:
            errors.append(
                f"{name}: {self._column} holds {visible(self._not_lists[0][1])} in "
                f"{listed([row for row, _ in self._not_lists])}, which is no list of labels; set dataset.label_separator to "
                "what stands between the labels, or write them as a list (in JSON or Parquet)"
            )
        for kind, rows in self._wrong_elements.items():
            errors.append(
                f"{name}: the list of {self._column} holds {kind} in {listed(rows)}, but labels are texts; write the name of "
                'each label, as in ["late", "refund"]'
            )
        if self._not_joinable:
            errors.append(
                f"{name}: the label {visible(self._not_joinable[0][1])} in {listed([row for row, _ in self._not_joinable])} "
                f"contains {visible(self._joined_by)}, which joins the labels of a row in results; set dataset.label_separator "
                "to other characters, or rename the label"
            )
        return errors


class _Flags:
    """A cell of 0 or 1 for each label."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._wrong: dict[str, list[tuple[int, str]]] = {}
        self._empty: dict[str, list[int]] = {}

    def labels_of(self, row: int, cells: Sequence[str]) -> list[str] | None:
        """Returns the labels of a row; None if they cannot be used."""
        flags = [flag_of(cell) for cell in cells]
        for label, cell, flag in zip(self._labels, cells, flags, strict=True):
            if flag is None and not cell.strip():
                self._empty.setdefault(label, []).append(row)
            elif flag is None:
                self._wrong.setdefault(label, []).append((row, cell))
        if None in flags:
            return None
        return [label for label, flag in zip(self._labels, flags, strict=True) if flag]

    def notes(self, name: str) -> list[Note]:
        return []

    def errors(self, reader: FileReader) -> list[str]:
        return [*_wrong_flags(reader.name, self._wrong), *_empty_flags(reader.name, self._empty)]


def _wrong_flags(name: str, found: Mapping[str, Sequence[tuple[int, str]]]) -> list[str]:
    return [
        f"{name}: the column {visible(label)} holds {visible(rows[0][1])} in {listed([row for row, _ in rows])}, but a column of "
        "dataset.labels_from holds 0 or 1 (or no and yes, false and true) only; correct the cells, or remove the column from "
        "the list"
        for label, rows in found.items()
    ]


def _empty_flags(name: str, found: Mapping[str, Sequence[int]]) -> list[str]:
    return [
        f"{name}: the column {visible(label)} is empty in {listed(rows)}, so nothing says whether the label applies; write 0 "
        "where it does not"
        for label, rows in found.items()
    ]
