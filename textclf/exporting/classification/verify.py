"""`textclf verify` of a text classifier: takes a model file and returns a report of its problems.

Four things are checked: the structure of the file; whether its outputs are probabilities; whether they match those of
the trained model on real rows; and whether the installed runtimes predict the same as textclf's Classifier.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.data.dataset import load_dataset
from textclf.data.findings.finding import counted
from textclf.data.tables.frames import FrameTable, Rows, frame_table
from textclf.errors import ModelError, VerificationError
from textclf.exporting.apps import CONSUMERS, run_consumer
from textclf.exporting.checks import (
    conclude_answers,
    conclude_rows,
    conclude_structure,
    conclude_trained_model,
    is_asked,
    skip_trained_model,
)
from textclf.exporting.classification.answers import answer_problems, classify_table
from textclf.exporting.hard_texts import hard_texts
from textclf.exporting.parity import UNDECIDED_MARGIN, verify_export
from textclf.exporting.report import VerificationReport
from textclf.exporting.trained_run import TrainedRun, load_trained_run
from textclf.files.copies import local_copies
from textclf.files.locations import path_of
from textclf.files.model_path import model_path_of
from textclf.terminal.native_log import load_tensorflow
from textclf.tflite.checks import structure_problems
from textclf.tflite.metadata import load_model
from textclf.tflite.model_file import TfliteModel

MAX_CONSUMER_DIFFERENCE = 1e-3

# With 8- and 4-bit weights, other builds of a runtime round the inputs of matrix products differently. Their results
# differ by about a tenth of the difference to float weights, and by more on a few texts.
MAX_ROUNDING_DIFFERENCE = 0.05

MAX_TEXTS_ROUNDED_FURTHER = 0.01

_Table: TypeAlias = Path | FrameTable


@dataclass(frozen=True)
class ConsumerResult:
    """Another program compared with textclf's Classifier at full length: the number of texts, the largest difference of a
    probability, the texts that clearly get another label, and the texts whose difference is larger than expected."""

    name: str
    texts: int
    largest_difference: float
    changed_labels: int
    far_texts: int

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        return (
            f"compared with {self.name}: {self.changed_labels:,} of {counted(self.texts, 'prediction')} clearly "
            f"different, largest probability difference {self.largest_difference:.6f}"
        )


@local_copies()
def verify_model(
    model: str | Path,
    data: str | Path | Rows | None = None,
    *,
    run: str | Path | None = None,
    consumers: Sequence[str] | None = None,
) -> VerificationReport:
    """Does what `textclf.verify` does, for a text classifier."""
    path = model_path_of(model)
    report = VerificationReport(str(path))
    content = load_model(path)[1]
    trained = load_trained_run(Path(run)) if run is not None else None
    vocabulary = trained.checkpoint.vocabulary if trained is not None else None
    if not conclude_structure(report, content, structure_problems(content, vocabulary=vocabulary)):
        return report
    opened = open_classifier(report, path, content)
    if opened is None:
        return report
    classifier, graph = opened
    texts: list[tuple[str, ...]] = []
    problems: list[str] = []
    table = _table(data, classifier, trained)
    if trained is not None:
        before = len(report.problems)
        compare_with_run(report, classifier, trained, table)
        conclude_trained_model(report, before)
    else:
        skip_trained_model(report)
        if table is not None:
            report.rows, problems, texts = classify_table(classifier, graph, table)
        conclude_rows(report, problems)
    compare_with_consumers(report, classifier, consumers, [text[0] for text in texts if len(text) == 1])
    return report


def open_classifier(report: VerificationReport, path: Path, content: bytes) -> tuple[Classifier, TfliteModel] | None:
    """Opens a model and checks its answers; returns None, with the problems in the report, if they are not probabilities."""
    graph = TfliteModel(content, str(path))
    try:
        classifier = Classifier(path)
        problems = answer_problems(classifier, graph)
    except ModelError as error:
        problems = [str(error)]
    return (classifier, graph) if conclude_answers(report, problems, "probabilities for difficult texts") else None


def _table(data: str | Path | Rows | None, classifier: Classifier, trained: TrainedRun | None) -> _Table | None:
    """Returns the path of a table, or a table in memory, read with the columns of the training."""
    if data is None or isinstance(data, str | os.PathLike):
        return None if data is None else path_of(data)
    if trained is not None:
        settings = trained.recipe.dataset
        return frame_table(data, "data", settings.text, settings.label)
    return frame_table(data, "data", classifier.text_columns, classifier.label_column)


def compare_with_run(report: VerificationReport, classifier: Classifier, run: TrainedRun, data: _Table | None) -> None:
    if classifier.labels != run.labels:
        report.problems.append(f"the labels are {classifier.labels}, but those of {run.folder} are {run.labels}")
        return
    load_tensorflow()  # what is not installed is said before rows are read
    texts, truth = _rows(run, data)
    settings = classifier.metadata.settings or {}
    export = run.recipe.export
    try:
        report.parity = verify_export(
            run.probabilities(texts),
            classifier.probabilities(texts),
            truth,
            settings.get("quantization", export.quantization),
            max_changed_labels=export.max_changed_labels,
            max_lost_accuracy=export.max_lost_accuracy,
        )
    except VerificationError as error:
        report.problems.append(str(error))


def _rows(run: TrainedRun, data: _Table | None) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Returns texts and the indices of their true labels."""
    settings = run.recipe.dataset
    if data is None:
        splits = run.dataset().held_out
    else:
        changed: dict[str, Any] = {"validation": 0.1, "test": None, "labels": tuple(run.labels)}
        frames = {"train": data} if isinstance(data, FrameTable) else {}
        if isinstance(data, Path):
            changed["train"] = data.absolute()
        dataset = load_dataset(settings.model_copy(update=changed), run.recipe.training.seed, frames=frames)
        splits = [dataset.train, dataset.validation]
    return [text for split in splits for text in split.texts], np.concatenate([split.labels for split in splits])


ClearlyChanged: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Probabilities float [texts, labels] of textclf and of another program → which texts clearly get another result."""


def _other_label(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    second, best = np.partition(ours, -2, axis=1)[:, -2:].T
    changed: np.ndarray = (ours.argmax(axis=1) != theirs.argmax(axis=1)) & (best - second > UNDECIDED_MARGIN)
    return changed


def compare_with_consumers(
    report: VerificationReport,
    classifier: Classifier,
    consumers: Sequence[str] | None,
    rows: Sequence[str] = (),
    clearly_changed: ClearlyChanged = _other_label,
) -> None:
    """Compares every installed program, or those in `consumers`, with textclf on difficult texts and on `rows`."""
    for name in CONSUMERS:
        if is_asked(report, name, consumers, _unfit(classifier)):
            compare_with_consumer(report, classifier, name, rows, clearly_changed)


def _unfit(classifier: Classifier) -> str | None:
    """Returns why no program of phones and browsers can be compared, or None."""
    settings = classifier.metadata.settings or {}
    if len(settings.get("text", ["text"])) == 2:
        return "it reads no sentence pairs"
    return "it has another tokenizer than BERT's Python code" if settings.get("tokenizer") == "bert" else None


def compare_with_consumer(
    report: VerificationReport,
    classifier: Classifier,
    name: str,
    rows: Sequence[str] = (),
    clearly_changed: ClearlyChanged = _other_label,
) -> None:
    """Compares another program with textclf on difficult texts and on `rows`. The result, or a problem, goes into the report."""
    settings = classifier.metadata.settings or {}
    texts = [*hard_texts(), *rows]
    if name == "task-library" and classifier.metadata.tokenizer == "regex":
        # Its NLClassifier reads beyond a NUL character; all other tokenizers of both runtimes stop there.
        texts = [text for text in texts if "\0" not in text]
    try:
        theirs = run_consumer(name, classifier.path, classifier.labels, texts)
    except VerificationError as error:
        report.conclude(name, [str(error)], "")
        return
    ours = classifier.probabilities_at_full_length([(text,) for text in texts])
    changed = clearly_changed(ours, theirs)
    rounded = settings.get("quantization") in ("dynamic", "int4") and name != "mediapipe"
    expected = MAX_ROUNDING_DIFFERENCE if rounded else MAX_CONSUMER_DIFFERENCE
    allowed = int(MAX_TEXTS_ROUNDED_FURTHER * len(texts)) if rounded else 0
    differences = np.abs(ours - theirs).max(axis=1)
    far = ~(differences <= expected)
    result = ConsumerResult(name, len(texts), float(differences.max()), int(changed.sum()), int(far.sum()))
    report.consumers.append(result)
    problems = []
    if result.changed_labels or result.far_texts > allowed:
        problems.append(
            f"{name} gives {result.changed_labels:,} of {counted(result.texts, 'text')} clearly another label than textclf, "
            f"and {result.far_texts:,} a probability that differs by more than {expected} (at most {allowed} may; the largest "
            f"difference is {result.largest_difference:.4f})"
        )
    report.conclude(name, problems, result.as_text().partition(": ")[2])
