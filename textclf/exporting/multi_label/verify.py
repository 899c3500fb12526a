"""`textclf verify` of a model with several labels per text: takes a model file and returns a report of its problems.

The checks are those of a text classifier. That labels change means that another set of labels is predicted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.multi_label.evaluation import read_label_sets
from textclf.classify.multi_label.metrics import measure_label_sets
from textclf.classify.tables.rows import is_blank, problem_of
from textclf.classify.tables.windows import TableOptions, read_windows
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.multi_label.dataset import load_label_set_file, load_label_sets
from textclf.data.tables.column_names import matching_columns
from textclf.data.tables.frames import FrameTable, Rows, frame_table
from textclf.data.tables.opening import ReadOptions, open_any
from textclf.errors import DataError, VerificationError
from textclf.exporting.checks import conclude_rows, conclude_structure, conclude_trained_model, skip_trained_model
from textclf.exporting.classification.verify import compare_with_consumers, open_classifier
from textclf.exporting.multi_label.model_file import clearly_changed_sets, verify_label_sets
from textclf.exporting.multi_label.trained_run import TrainedLabelSets, load_trained_label_sets
from textclf.exporting.report import VerificationReport
from textclf.files.copies import local_copies
from textclf.files.locations import path_of
from textclf.files.model_path import model_path_of
from textclf.terminal.native_log import load_tensorflow
from textclf.tflite.checks import structure_problems
from textclf.tflite.metadata import load_model
from textclf.tflite.multi_label import output_problems

# More texts show little more about a runtime, and take it minutes.
_COMPARED_TEXTS = 1000

_Table: TypeAlias = Path | FrameTable


@dataclass(frozen=True)
class LabelSetRows:
    """The results on a table's rows; `micro_f1` and `macro_f1` (0 to 1) are None if the table has no labels."""

    data: str
    rows: int
    micro_f1: float | None
    macro_f1: float | None

    @property
    def scores(self) -> list[tuple[str, float, str]]:
        """The scores, if there are any, and the rows that they were measured on."""
        on = counted(self.rows, "row")
        named = (("Micro-F1", self.micro_f1), ("Macro-F1", self.macro_f1))
        return [(name, score, on) for name, score in named if score is not None]

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        scores = [f"{name[0].lower()}{name[1:]} {score:.1%}" for name, score, _ in self.scores]
        return ", ".join(
            [f"{self.data}: {counted(self.rows, 'row')} classified", *(scores or ["no labels to compare with"])]
        )


@local_copies()
def verify_label_set_model(
    model: str | Path,
    data: str | Path | Rows | None = None,
    *,
    run: str | Path | None = None,
    consumers: Sequence[str] | None = None,
) -> VerificationReport:
    """Does what `textclf.verify` does, for a model of several labels per text."""
    path = model_path_of(model)
    report = VerificationReport(str(path))
    content = load_model(path)[1]
    trained = load_trained_label_sets(Path(run)) if run is not None else None
    vocabulary = trained.run.checkpoint.vocabulary if trained is not None else None
    problems = structure_problems(content, vocabulary=vocabulary, output_problems=output_problems)
    if not conclude_structure(report, content, problems):
        return report
    opened = open_classifier(report, path, content)
    if opened is None:
        return report
    classifier = opened[0]
    texts: list[tuple[str, ...]] = []
    table = _table(data, classifier)
    if trained is not None:
        before = len(report.problems)
        compare_with_run(report, classifier, trained, table)
        conclude_trained_model(report, before)
    else:
        skip_trained_model(report)
        if table is not None:
            report.rows, texts = _rows_of(classifier, table)
        conclude_rows(report)
    thresholds = classifier.thresholds
    assert thresholds is not None
    compare_with_consumers(
        report,
        classifier,
        consumers,
        [text[0] for text in texts if len(text) == 1],
        lambda ours, theirs: clearly_changed_sets(ours, theirs, thresholds),
    )
    return report


def _table(data: str | Path | Rows | None, classifier: Classifier) -> _Table | None:
    """Returns the path of a table, or a table in memory, read with the columns of the training."""
    if data is None or isinstance(data, str | os.PathLike):
        return None if data is None else path_of(data)
    others = tuple(classifier.labels) if classifier.label_column is None else ()
    return frame_table(data, "data", classifier.text_columns, classifier.label_column, *others, lists=True)


def compare_with_run(
    report: VerificationReport, classifier: Classifier, trained: TrainedLabelSets, data: _Table | None
) -> None:
    """Compares a file with the trained model; the result, or a problem, goes into the report."""
    run, settings = trained.run, classifier.metadata.settings or {}
    if classifier.labels != run.labels:
        report.problems.append(f"the labels are {classifier.labels}, but those of {run.folder} are {run.labels}")
        return
    if classifier.thresholds is None or not np.array_equal(classifier.thresholds, trained.thresholds):
        report.problems.append(f"the thresholds of the labels are not those of {run.folder}")
        return
    load_tensorflow()  # what is not installed is said before rows are read
    splits = _splits(trained, data)
    texts = [text for split in splits for text in split.texts]
    export = run.recipe.export
    try:
        report.parity = verify_label_sets(
            trained.probabilities(texts),
            classifier.probabilities(texts),
            np.concatenate([split.labels for split in splits]),
            trained.thresholds,
            settings.get("quantization", export.quantization),
            max_changed_labels=export.max_changed_labels,
            max_lost_accuracy=export.max_lost_accuracy,
        )
    except VerificationError as error:
        report.problems.append(str(error))


def _splits(trained: TrainedLabelSets, data: _Table | None) -> list[Split]:
    run = trained.run
    if data is None:
        return run.dataset(load_label_sets).held_out
    frame = data if isinstance(data, FrameTable) else None
    path = Path(data.name) if isinstance(data, FrameTable) else data.absolute()
    return [load_label_set_file(run.recipe.dataset, path, run.labels, frame)]


def _rows_of(classifier: Classifier, data: _Table) -> tuple[LabelSetRows, list[tuple[str, ...]]]:
    """Returns the results on a table's rows, and the first texts."""
    name = data.name if isinstance(data, FrameTable) else str(data)
    if not _has_labels(classifier, data):
        texts = _texts_of(classifier, data)
        classifier.probabilities(texts)
        return LabelSetRows(name, len(texts), None, None), texts[:_COMPARED_TEXTS]
    split = read_label_sets(classifier, data)
    assert classifier.thresholds is not None
    found = measure_label_sets(
        classifier.probabilities(split.texts), split.labels, classifier.thresholds, classifier.labels
    )
    return LabelSetRows(name, found.rows, found.micro_f1, found.macro_f1), split.texts[:_COMPARED_TEXTS]


def _has_labels(classifier: Classifier, data: _Table) -> bool:
    wanted = classifier.labels if classifier.label_column is None else [classifier.label_column]
    options = ReadOptions("," if isinstance(data, FrameTable) else None)
    with open_any(data, options, classifier.text_columns) as (table, _):
        return all(len(matching_columns(name, table.columns)) == 1 for name in wanted)


def _texts_of(classifier: Classifier, data: _Table) -> list[tuple[str, ...]]:
    wanted_by = "the column that the model was trained on"
    delimiter = "," if isinstance(data, FrameTable) else None
    texts = []
    for window in read_windows([data], TableOptions(classifier.text_columns, wanted_by, None, delimiter)):
        for row in window.rows:
            if not is_blank(row) and problem_of(row, window.layout) is None:
                texts.append(tuple(row.fields[column] for column in window.layout.text_columns))
    if not texts:
        raise DataError(f"{data if isinstance(data, Path) else data.name}: no row has a text; pass a table with texts")
    return texts
