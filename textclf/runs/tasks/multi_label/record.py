"""What a run with several labels per row measures: the part of `metrics.json` that another task would not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from textclf.classify.multi_label.metrics import LabelSetMetrics
from textclf.runs.record.metrics_file import Epoch, Export, Record, RunMetrics
from textclf.runs.tasks.multi_label.long_texts import LabelSetLongTexts


def _as_metrics(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    try:
        return LabelSetMetrics.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected the metrics of a split ({type(error).__name__}: {error})") from error


SplitMetrics = Annotated[LabelSetMetrics, BeforeValidator(_as_metrics)]


class LabelSetEpoch(Epoch):
    """An epoch's scores on the validation rows, in 0..1, with the thresholds that are best for them.

    The losses are weighted as `training.class_weights` says. Epoch 0 is the fitted head on the untouched encoder.
    """

    validation_micro_f1: float
    validation_macro_f1: float
    validation_mean_average_precision: float


class LabelSetCalibrationErrors(Record):
    """The expected calibration error of a split, in 0..1, the mean over the labels: of the model as trained, with the
    calibration, and of the exported file, if there is one."""

    before: float
    after: float
    exported: float | None = None


class LabelSetCalibration(Record):
    """What changes the logits, by label in the order of the model's outputs: factors and offsets, which are part of the file.

    The `left` labels keep theirs (1 and 0); `reason` is why no label is calibrated although the recipe asks for it.
    """

    factors: Sequence[float]
    offsets: Sequence[float]
    left: Sequence[str]
    reason: str | None = None
    expected_calibration_error: Mapping[str, LabelSetCalibrationErrors]


class LabelSetThresholds(Record):
    """The probability from which each label is predicted, in the order of the model's outputs.

    That of the labels `few` is 0.5, because too few validation rows have them or lack them; for those of `unreached` no
    threshold has the wanted `precision`. `precision` is None if each threshold is for the best F1.
    `cross_validated_rows` training rows were judged by a head that was fitted to others; they count like validation rows.
    """

    values: Sequence[float]
    precision: float | None
    few: Sequence[str]
    unreached: Sequence[str]
    cross_validated_rows: int = 0


class LabelSetExport(Export):
    """How the exported file differs from the trained model on the held-out rows; None if there is no file.

    `changed_sets` rows have other labels, `changed_decided_sets` of them although the trained model was not undecided. The
    F1s are in 0..1. `doubt` is set if the rows are too few to tell a loss from chance.
    """

    rows: int | None = None
    largest_difference: float | None = None
    changed_sets: int | None = None
    changed_decided_sets: int | None = None
    micro_f1_trained: float | None = None
    micro_f1_exported: float | None = None
    doubt: str | None = None


class LabelSetRunMetrics(RunMetrics):
    """The record of a run that trained a model of several labels; `labels` in the order of the model's outputs.

    `long_texts` compares a file that reads windows with an app that reads the first one.
    """

    task: Literal["multi-label-classification"] = "multi-label-classification"
    labels: Sequence[str]
    history: Sequence[LabelSetEpoch]
    calibration: LabelSetCalibration
    thresholds: LabelSetThresholds
    export: LabelSetExport
    long_texts: LabelSetLongTexts | None = None
    validation: SplitMetrics
    test: SplitMetrics | None = None

    @property
    def measured(self) -> dict[str, LabelSetMetrics]:
        """The metrics of the held-out splits; the first is the one that the headline reports."""
        splits = {"test": self.test, "validation": self.validation}
        return {name: metrics for name, metrics in splits.items() if metrics is not None}
