"""`textclf verify`: a model file in, a report of what holds and what does not out.

Three things are looked at: the file's structure; whether it says what the trained model says, on real rows; and whether
the runtimes that are installed here say what our predictor says, on texts that are hard for tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textclf.dataset import Dataset, load_dataset
from textclf.errors import ModelError, RunError, VerificationError
from textclf.export.consumers import installed_consumers, run_consumer
from textclf.export.hard_texts import hard_texts
from textclf.export.model import export_classifier
from textclf.export.structure import structure_problems
from textclf.export.trained_run import TrainedRun, load_trained_run
from textclf.export.verification import UNDECIDED_MARGIN, Verification, verify_export
from textclf.model_path import model_path_of
from textclf.predictor import Classifier

MAX_CONSUMER_DIFFERENCE = 1e-3
# Of 8- and 4-bit weights, runtimes of another build round the inputs of products in other ways: they lie apart by about
# a tenth of what either is from float weights, and on few texts further.
MAX_ROUNDING_DIFFERENCE = 0.05
MAX_TEXTS_ROUNDED_FURTHER = 0.01


@dataclass(frozen=True)
class ConsumerResult:
    """Another program beside our predictor at full length: texts, the largest difference in a probability, texts on
    which our predictor had decided and the other gives another label, and texts further apart than expected."""

    name: str
    texts: int
    largest_difference: float
    changed_labels: int
    far_texts: int


@dataclass
class VerificationReport:
    """What was found; `problems` is empty for a model that passed."""

    model: str
    problems: list[str] = field(default_factory=list)
    parity: Verification | None = None
    consumers: list[ConsumerResult] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """Lines for a terminal."""
        lines = [f"{self.model}: {'verified' if not self.problems else 'NOT verified'}"]
        lines += [f"problem: {problem}" for problem in self.problems]
        if self.parity is not None:
            parity = self.parity
            lines.append(
                f"trained model: {parity.rows} rows, {parity.changed_labels} labels differ "
                f"({parity.changed_decided_labels} clearly), largest difference {parity.largest_difference:.4f}, "
                f"accuracy {parity.accuracy_trained:.1%} → {parity.accuracy_exported:.1%}"
            )
        for result in self.consumers:
            lines.append(
                f"{result.name}: {result.texts} texts, {result.changed_labels} labels differ clearly, largest difference "
                f"{result.largest_difference:.6f}"
            )
        return "\n".join(lines)


def export_run(
    folder: Path, overrides: Sequence[str] = (), output: Path | None = None, *, force: bool = False
) -> tuple[Path, VerificationReport]:
    """Writes a finished run's model in another form, verified, and returns its path and the report.

    The path is by default model-<quantization>.tflite in the run. Raises VerificationError, with nothing written, for a
    file that is not what was trained, and RunError where one exists already and `force` was not given.
    """
    run = load_trained_run(folder, overrides)
    form = run.recipe.export
    suffix = "-task-library" if form.compatibility == "task-library" else ""
    path = output or folder / f"model-{form.quantization}{suffix}.tflite"
    if path.exists() and not force:
        raise RunError(f"{path}: exists already; choose another with -o, or replace it with --force")
    rows = None
    if form.quantization == "int4":
        rows = run.encode(load_dataset(run.recipe.dataset, run.recipe.training.seed).train.texts)
    content = export_classifier(
        run.recipe, run.weights(), run.labels, run.checkpoint.vocabulary, reject_below=run.reject_below, rows=rows
    )
    unverified = path.with_name(f".{path.name}.unverified")
    report = VerificationReport(str(path))
    try:
        unverified.write_bytes(content)
        _compare_with_run(report, Classifier(unverified), run, None)
        if report.problems:
            raise VerificationError(f"{path}: not written: {report.problems[0]}")
        unverified.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); choose another with -o") from error
    finally:
        unverified.unlink(missing_ok=True)
    return path, report


def verify_model(
    model: Path, data: Path | None = None, run: Path | None = None, consumers: Sequence[str] | None = None
) -> VerificationReport:
    """Looks at `model`; with `run`, the folder of the run that trained it, also compares it with the trained model.

    The rows compared are those of `data`, a table like the training's, by default the run's validation and test rows.
    `consumers` are names of CONSUMERS, by default all that are installed and that the file was made for. Raises
    ModelError for a file that cannot be read; everything else that is wrong stands in the report.
    """
    model = model_path_of(model)
    report = VerificationReport(str(model))
    try:
        content = model.read_bytes()
    except OSError as error:
        raise ModelError(f"{model}: cannot be read ({error.strerror}); expected a .tflite file") from error
    trained = load_trained_run(run) if run is not None else None
    vocabulary = trained.checkpoint.vocabulary if trained is not None else None
    report.problems += structure_problems(content, vocabulary=vocabulary)
    if report.problems:
        return report
    try:
        classifier = Classifier(model)
    except ModelError as error:
        report.problems.append(str(error))
        return report
    if trained is not None:
        _compare_with_run(report, classifier, trained, data)
    for name in _fitting_consumers(classifier) if consumers is None else consumers:
        _compare_with_consumer(report, classifier, name)
    return report


def _compare_with_run(report: VerificationReport, classifier: Classifier, run: TrainedRun, data: Path | None) -> None:
    if classifier.labels != run.labels:
        report.problems.append(f"the labels are {classifier.labels}, but {run.folder} was trained on {run.labels}")
        return
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


def _rows(run: TrainedRun, data: Path | None) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Texts and true label indices."""
    settings = run.recipe.dataset
    if data is None:
        dataset: Dataset = load_dataset(settings, run.recipe.training.seed)
        splits = dataset.held_out
    else:
        changed = {"train": data.absolute(), "validation": 0.1, "test": None, "labels": tuple(run.labels)}
        dataset = load_dataset(settings.model_copy(update=changed), run.recipe.training.seed)
        splits = [dataset.train, dataset.validation]
    return [text for split in splits for text in split.texts], np.concatenate([split.labels for split in splits])


def _fitting_consumers(classifier: Classifier) -> list[str]:
    """The installed programs that the file was made for."""
    compatibility = (classifier.metadata.settings or {}).get("compatibility", "task-library")
    return [name for name in installed_consumers() if compatibility == "task-library" or name != "task-library"]


def _compare_with_consumer(report: VerificationReport, classifier: Classifier, name: str) -> None:
    settings = classifier.metadata.settings or {}
    if len(settings.get("text", ["text"])) == 2 or settings.get("tokenizer") == "bert":
        return  # These programs know neither sentence pairs nor BERT's own tokenizer.
    texts = hard_texts()
    if name == "task-library" and classifier.metadata.tokenizer == "regex":
        # Its NLClassifier reads on behind a NUL, where every other tokenizer of either runtime ends.
        texts = [text for text in texts if "\0" not in text]
    try:
        theirs = run_consumer(name, classifier.path, classifier.labels, texts)
    except VerificationError as error:
        report.problems.append(str(error))
        return
    ours = classifier.probabilities_at_full_length([(text,) for text in texts])
    second, best = np.partition(ours, -2, axis=1)[:, -2:].T
    changed = (ours.argmax(axis=1) != theirs.argmax(axis=1)) & (best - second > UNDECIDED_MARGIN)
    rounded = settings.get("quantization") in ("dynamic", "int4") and name != "mediapipe"
    expected = MAX_ROUNDING_DIFFERENCE if rounded else MAX_CONSUMER_DIFFERENCE
    allowed = int(MAX_TEXTS_ROUNDED_FURTHER * len(texts)) if rounded else 0
    differences = np.abs(ours - theirs).max(axis=1)
    far = ~(differences <= expected)
    result = ConsumerResult(name, len(texts), float(differences.max()), int(changed.sum()), int(far.sum()))
    report.consumers.append(result)
    if result.changed_labels or result.far_texts > allowed:
        report.problems.append(
            f"{name} gives {result.changed_labels} of {result.texts} texts clearly another label than our predictor, and "
            f"{result.far_texts} a probability more than {expected} away (at most {allowed} are expected), up to "
            f"{result.largest_difference:.4f}"
        )
