"""What a run of text classification measures: the part of `metrics.json` that another task would not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from textclf.classify.metrics import FEW_MEASURED_ROWS, Metrics, share_interval
from textclf.runs.record.metrics_file import Epoch, Export, Record, RunMetrics
from textclf.runs.tasks.classification.long_texts import LongTexts
from textclf.training.classification.calibration import Rejection


def _with_cells(values: Any) -> Any:
    """The values of a split; earlier versions wrote a whole confusion matrix in place of its cells."""
    if not isinstance(values, dict) or "confusion" not in values:
        return values
    try:
        return Metrics.from_dict(values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected the metrics of a split ({type(error).__name__}: {error})") from error


SplitMetrics = Annotated[Metrics, BeforeValidator(_with_cells)]


class ClassificationEpoch(Epoch):
    """An epoch's accuracy and macro-F1 on the validation rows, in 0..1.

    Epoch 0 is the fitted head on the untouched encoder. Its accuracy was also estimated by cross-validation on training
    rows, `cross_validated_rows` of them.
    """

    validation_accuracy: float
    validation_macro_f1: float
    cross_validated_rows: int | None = None
    cross_validated_accuracy: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The accuracy of the exported model, in 0..1, estimated by cross-validation on `rows` training rows."""

    rows: int
    accuracy: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval, in 0..1."""
        return share_interval(self.accuracy, self.rows)


def estimate_of(history: Sequence[Mapping[str, Any]], best_epoch: int, measured_rows: int) -> Estimate | None:
    """Returns the estimate that is more certain than the accuracy on `measured_rows` held-out rows.

    There is one if these are few and the fitted head alone, epoch 0, is the model: in a history of fine-tuning, the
    cross-validation says nothing about the later epochs.
    """
    if best_epoch != 0 or measured_rows >= FEW_MEASURED_ROWS or not history:
        return None
    rows, accuracy = history[0].get("cross_validated_rows"), history[0].get("cross_validated_accuracy")
    if rows is None or accuracy is None or rows <= measured_rows:
        return None
    return Estimate(rows, accuracy)


class CalibrationErrors(Record):
    """The expected calibration error of a split, in 0..1: of the model as trained, with the temperature, and of the
    exported file, if there is one."""

    before: float
    after: float
    exported: float | None = None


class Calibration(Record):
    """The temperature that divides all logits; `reason` is why it is 1 although the recipe asks for a calibration."""

    temperature: float
    reason: str | None = None
    expected_calibration_error: Mapping[str, CalibrationErrors]


class ClassificationExport(Export):
    """How the exported file differs from the trained model on the held-out rows; None if there is no file.

    `changed_labels` rows have another label, `changed_decided_labels` of them although the trained model clearly
    preferred one. The accuracies are in 0..1. `doubt` is set if the rows are too few to tell a loss from chance.
    """

    rows: int | None = None
    largest_difference: float | None = None
    changed_labels: int | None = None
    changed_decided_labels: int | None = None
    accuracy_trained: float | None = None
    accuracy_exported: float | None = None
    doubt: str | None = None


class ClassificationMetrics(RunMetrics):
    """The record of a run that trained a text classifier; `labels` in the order of the model's outputs.

    `long_texts` compares a file that reads windows with an app that reads the first one.
    """

    labels: Sequence[str]
    history: Sequence[ClassificationEpoch]
    calibration: Calibration | None = None
    rejection: Mapping[str, Rejection] | None = None
    export: ClassificationExport
    long_texts: LongTexts | None = None
    validation: SplitMetrics
    test: SplitMetrics | None = None

    @property
    def measured(self) -> dict[str, Metrics]:
        """The metrics of the held-out splits; the first is the one that the headline reports."""
        splits = {"test": self.test, "validation": self.validation}
        return {name: metrics for name, metrics in splits.items() if metrics is not None}

    @property
    def estimate(self) -> Estimate | None:
        """The accuracy that the headline reports in place of one on very few rows; None if there is no better one."""
        headline = next(iter(self.measured.values()))
        return estimate_of([epoch.model_dump() for epoch in self.history], self.best_epoch, headline.rows)
