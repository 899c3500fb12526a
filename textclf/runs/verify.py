"""`textclf verify`: takes a model file and returns a report of what holds and what does not, as its task checks it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textclf.data.tables.frames import Rows
from textclf.exporting.verify import VerificationReport
from textclf.files.model_path import model_path_of
from textclf.runs.tasks import task_of_model


def verify(
    model: str | Path,
    data: str | Path | Rows | None = None,
    *,
    run: str | Path | None = None,
    consumers: Sequence[str] | None = None,
) -> VerificationReport:
    """Looks at `model`; with `run`, the folder of the run that trained it, also compares it with the trained model.

    The rows compared are those of `data`, a table like the training's, by default the run's validation and test rows.
    Without `run`, the rows of `data` are classified, by the installed programs too, and where they have labels the
    accuracy is reported. `consumers` are names of CONSUMERS, by default all that are installed and that the file was made
    for. Raises ModelError for a file that cannot be read and DataError for rows that cannot; everything else that is
    wrong is in the report.
    """
    path = model_path_of(model)
    return task_of_model(path).verify(path, data, run=run, consumers=consumers)
