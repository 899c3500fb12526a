"""`textclf evaluate`: takes a model and rows with known results, and returns its quality, as its task measures it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textclf.data.tables.frames import Rows
from textclf.files.model_path import model_path_of
from textclf.runs.tasks.interface import Evaluation
from textclf.runs.tasks.table import task_of_model


def evaluate(
    model: str | Path,
    data: str | Path | Rows,
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    quiet: bool = True,
) -> Evaluation:
    """Does what `evaluate_file` does for a text classifier, `evaluate_label_sets` for one of several labels, and
    `evaluate_answers` for a question answering model.

    For a question answering model, `text_columns` are the columns of the question and of the context, and `label_column`
    that of the answer.
    """
    path = model_path_of(model)
    return task_of_model(path).evaluate(
        path,
        data,
        text_columns=text_columns,
        label_column=label_column,
        delimiter=delimiter,
        encoding=encoding,
        sheet=sheet,
        columns=columns,
        quiet=quiet,
    )
