"""`textclf verify`: takes a model file and returns a report of its problems, as its task checks it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textclf.data.tables.frames import Rows
from textclf.errors import ArgumentError
from textclf.exporting.apps import CONSUMERS
from textclf.exporting.report import VerificationReport
from textclf.files.model_path import model_path_of
from textclf.runs.tasks.table import task_of_model


def verify(
    model: str | Path,
    data: str | Path | Rows | None = None,
    *,
    run: str | Path | None = None,
    consumers: Sequence[str] | None = None,
) -> VerificationReport:
    """Checks `model`. With `run`, the folder of the run that trained it, also compares it with the trained model.

    The report lists every check, also those that were not made, with the command that adds them (`checks`), and says which
    runtimes load the file (`runtimes`). Its `verdict` is `structure only` if the predictions were compared with nothing.

    `data` is a table with the columns of the training: a file, an address, or a table in memory, whose rows are
    numbered by position, from 0. With `run`, its rows are compared (default: the run's validation and test rows). Without
    `run`, its rows are classified, by the installed programs too, and the accuracy is reported if they have labels.
    `consumers` are names of CONSUMERS (default: all that are installed and for which the file was made). Raises
    ModelError for a file that cannot be read, DataError for rows that cannot be read, and ArgumentError for an unknown name in
    `consumers`. All other problems are in the report.
    """
    for name in consumers or ():
        if name not in CONSUMERS:
            raise ArgumentError(f"consumers names `{name}`; the programs are {', '.join(CONSUMERS)}")
    path = model_path_of(model)
    return task_of_model(path).verify(path, data, run=run, consumers=consumers)
