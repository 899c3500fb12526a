"""What a run of question answering measures: the part of `metrics.json` that another task would not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from textclf.classify.question_answering.evaluation import AnswerMetrics
from textclf.runs.record.metrics_file import Epoch, Export, Record, RunMetrics


def _as_metrics(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    try:
        return AnswerMetrics.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected the metrics of a split ({type(error).__name__}: {error})") from error


SplitMetrics = Annotated[AnswerMetrics, BeforeValidator(_as_metrics)]


class AnsweringEpoch(Epoch):
    """An epoch's exact match and F1 on the validation questions, in 0..1, with the bound that is best for them."""

    validation_exact_match: float
    validation_f1: float


class AnswerCalibration(Record):
    """When the model gives no answer, and what makes its probabilities true.

    `null_bound` is how much better "no answer" must be than the best answer, in logits; None: the model always answers.
    `temperature` divides the scores of the candidates; `reason` is why it is 1. `expected_calibration_error` is by split,
    in 0..1, that of the reported model.
    """

    null_bound: float | None
    temperature: float
    reason: str | None = None
    expected_calibration_error: Mapping[str, float]


class AnsweringExport(Export):
    """How the exported file differs from the trained model on the held-out questions; None if there is no file.

    `changed_answers` of the `questions` have another answer, `changed_decided_answers` of them although the trained model
    clearly preferred one. The F1s are in 0..1, those of answers as on a server. `doubt` is set if the questions are too
    few to tell a loss from chance.
    """

    questions: int | None = None
    largest_difference: float | None = None
    changed_answers: int | None = None
    changed_decided_answers: int | None = None
    f1_trained: float | None = None
    f1_exported: float | None = None
    doubt: str | None = None


class AnsweringMetrics(RunMetrics):
    """The record of a run that trained a model to answer questions."""

    task: Literal["question-answering"] = "question-answering"
    history: Sequence[AnsweringEpoch]
    calibration: AnswerCalibration | None = None
    export: AnsweringExport
    validation: SplitMetrics
    test: SplitMetrics | None = None

    @property
    def measured(self) -> dict[str, AnswerMetrics]:
        """The metrics of the held-out splits; the first is the one that the headline reports."""
        splits = {"test": self.test, "validation": self.validation}
        return {name: metrics for name, metrics in splits.items() if metrics is not None}
