"""Measures a model of several labels per text on the rows of a table."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from textclf.classify.classifier import Classifier
from textclf.classify.multi_label.metrics import LabelSetMetrics, measure_label_sets
from textclf.classify.table_settings import READING_ARGUMENTS, reading_settings, settings_of_arguments
from textclf.classify.texts import column_names
from textclf.classify.training_files import is_training_file
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.multi_label.dataset import load_label_set_file
from textclf.data.tables.frames import FrameTable, Rows, frame_table
from textclf.errors import DataError, ModelError
from textclf.files.copies import local_copies
from textclf.files.locations import path_of
from textclf.terminal.progress import Progress

logger = logging.getLogger(__name__)


@local_copies()
def evaluate_label_sets(
    model: str | Path,
    data: str | Path | Rows,
    *,
    text_columns: str | Sequence[str] = (),
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    quiet: bool = True,
) -> LabelSetMetrics:
    """Returns the quality of a model of several labels on the rows of a table: a file, an address, a DataFrame or a list
    of dicts.

    The labels are read as in training: from one column with the model's separator, which `label_column` may name, or from
    a column of 0 and 1 for each label. Rows without text are left out. A warning is logged for the file that the model was
    trained on. Raises DataError for rows that cannot be read and for labels that the model does not know, and ModelError
    for a model of one label per text.
    """
    with Classifier(model) as classifier:
        thresholds = classifier.thresholds
        if thresholds is None:
            raise ModelError(
                f"{classifier.name}: the model gives a text one label; measure it with evaluate_file (textclf evaluate)"
            )
        split = read_label_sets(
            classifier,
            data,
            text_columns=column_names(text_columns),
            label_column=label_column,
            delimiter=delimiter,
            encoding=encoding,
            sheet=sheet,
            columns=columns,
        )
        with Progress(quiet=quiet).during(f"Classifying {counted(len(split.rows), 'row')}"):
            probabilities = classifier.probabilities(split.texts)
        if isinstance(data, str | os.PathLike) and is_training_file(classifier.path, path_of(data)):
            logger.warning(
                "%s: the model was trained on this file, so the results are too optimistic; use rows that it has not seen",
                path_of(data),
            )
        return measure_label_sets(probabilities, split.labels, thresholds, classifier.labels)


def read_label_sets(
    classifier: Classifier,
    data: str | Path | Rows | FrameTable,
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
) -> Split:
    """Returns the rows of a file or table with their labels; the columns are by default those of the training."""
    texts = tuple(text_columns) or classifier.text_columns
    if len(texts) != len(classifier.text_columns):
        raise DataError(
            f"{classifier.name}: the model was trained on {' and '.join(classifier.text_columns)}, but text_columns (--text) "
            f"names {' and '.join(texts)}; name {'one column' if len(classifier.text_columns) == 1 else 'two columns'}"
        )
    settings = classifier.metadata.settings or {}
    labels: dict[str, object] = {"label_separator": classifier.label_separator}
    if settings.get("labels_in_columns") and label_column is None:
        labels = {"labels_from": tuple(classifier.labels)}
    elif (label := label_column or classifier.label_column) is not None:
        labels["label"] = label
    path, reading = reading_settings(data, delimiter, encoding, sheet, columns)
    given = settings_of_arguments({**reading, "text": texts, **labels}, _ARGUMENTS)
    frame = None
    if not isinstance(data, str | os.PathLike):
        label_columns = given.labels_from or ()
        label = given.label if given.labels_from is None else None
        frame = (
            data
            if isinstance(data, FrameTable)
            else frame_table(data, "data", texts, label, *label_columns, lists=True)
        )
    try:
        return load_label_set_file(given, path, classifier.labels, frame)
    except DataError as error:
        # There is no recipe here whose settings could be changed.
        raise DataError(_SETTING.sub(lambda found: _ARGUMENTS[found[1]], str(error))) from error


_SETTING = re.compile(r"\bdataset\.(text|label|labels_from|encoding|delimiter|sheet)\b(?!_)")

_ARGUMENTS = {
    "text": "text_columns (--text)",
    "label": "label_column (--label)",
    "labels_from": "the columns of the labels",
    **READING_ARGUMENTS,
}
"""What the settings of a recipe are called where there is none."""
