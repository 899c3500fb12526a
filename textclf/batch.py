"""Tables of texts → the same tables with labels: rows are read, classified and written window by window.

Order, every other column and the way in which they are written stay as they are.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.errors import DataError
from textclf.evaluation import Metrics, evaluate
from textclf.predictor import Classifier
from textclf.tables import Row, Table, open_table

_WINDOW_ROWS = 4096


@dataclass(frozen=True)
class BatchSummary:
    """What was done: rows written and the time it took."""

    rows: int
    seconds: float


def classify_file(
    model: str | Path,
    input_file: str | Path,
    output: str | Path,
    *,
    text_columns: Sequence[str] = (),
    scores: bool = False,
    force: bool = False,
) -> BatchSummary:
    """Writes `output`: the rows of `input_file` with the columns predicted_label and predicted_score, and with `scores`
    one `score:<label>` for each label."""
    begun = time.monotonic()
    output = Path(output)
    if output.exists() and not force:
        raise DataError(f"{output}: exists already; choose another output, or replace it with --force")
    classifier = Classifier(model)
    rows = 0
    with open_table(Path(input_file), wanted=text_columns or classifier.text_columns) as table:
        columns = _text_indices(table, classifier, text_columns)
        added = ["predicted_label", "predicted_score", *(f"score:{label}" for label in classifier.labels if scores)]
        taken = [column for column in added if column in table.columns]
        if taken:
            raise DataError(f"{table.name}: has a column `{taken[0]}` already; rename or remove it first")
        temporary = output.with_name(f".{output.name}.unfinished")
        with temporary.open("w", encoding=table.encoding, errors="surrogateescape", newline="") as file:
            file.write(_extended(table.header.raw, added, table.dialect.delimiter))
            for window in _windows(iter(table)):
                texts = [tuple(row.fields[column] for column in columns) for row in window]
                for row, values in zip(window, classifier.probabilities(texts), strict=True):
                    best = int(values.argmax())
                    cells = [classifier.labels[best], f"{values[best]:.6f}"]
                    cells += [f"{value:.6f}" for value in values] if scores else []
                    file.write(_extended(row.raw, cells, table.dialect.delimiter))
                rows += len(window)
        os.replace(temporary, output)
    return BatchSummary(rows, time.monotonic() - begun)


def evaluate_file(
    model: str | Path, data: str | Path, *, text_columns: Sequence[str] = (), label_column: str | None = None
) -> Metrics:
    """The model's quality on the labelled rows of a table."""
    classifier = Classifier(model)
    label_column = label_column or classifier.label_column
    with open_table(Path(data), wanted=text_columns or classifier.text_columns) as table:
        columns = _text_indices(table, classifier, text_columns)
        if label_column is None:
            raise DataError(f"{table.name}: name the column of the labels with --label; there are {_names(table)}")
        label_index = table.column(label_column, "the column of the labels; name another with --label")
        index_of = {label: index for index, label in enumerate(classifier.labels)}
        probabilities, truth = [np.zeros((0, len(index_of)), np.float32)], []
        for window in _windows(iter(table)):
            for row in window:
                if row.fields[label_index] not in index_of:
                    raise DataError(
                        f"{table.name}: row {row.number} has the label `{row.fields[label_index]}`, which the model "
                        f"does not know; it knows {', '.join(classifier.labels)}"
                    )
                truth.append(index_of[row.fields[label_index]])
            probabilities.append(
                classifier.probabilities([tuple(row.fields[column] for column in columns) for row in window])
            )
    if not truth:
        raise DataError(f"{table.name}: has no rows to evaluate")
    return evaluate(np.concatenate(probabilities), np.array(truth), classifier.labels)


def _text_indices(table: Table, classifier: Classifier, text_columns: Sequence[str]) -> list[int]:
    names = tuple(text_columns) or classifier.text_columns
    wanted_by = "--text" if text_columns else "the column that the model was trained on; name another with --text"
    if not names:
        raise DataError(
            f"{table.name}: the model does not say which column holds its text; name it with --text, "
            f"there are {_names(table)}"
        )
    return [table.column(name, wanted_by) for name in names]


def _names(table: Table) -> str:
    return ", ".join(f"`{column}`" for column in table.columns)


def _windows(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while window := list(itertools.islice(rows, _WINDOW_ROWS)):
        for row in window:
            if row.fault and row.fault.kind != "blank":
                raise DataError(f"row {row.number} {row.fault.message}")
        yield [row for row in window if not row.fault]


def _extended(raw: str, cells: Sequence[str], delimiter: str) -> str:
    """A row as it stands in the file with more cells behind it."""
    body = raw.rstrip("\r\n")
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator=raw[len(body) :] or "\n").writerow(cells)
    return body + delimiter + line.getvalue()
