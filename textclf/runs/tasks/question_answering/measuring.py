"""Measures a question answering model on the held-out questions: takes answers by split, returns records of `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from textclf.classify.question_answering.evaluation import (
    AnswerMetrics,
    MeasuredAnswers,
    compared_metrics,
    golds_of,
    question_scores,
)
from textclf.classify.question_answering.metrics import Interval, QuestionMetrics
from textclf.classify.question_answering.question_answerer import Answer
from textclf.data.findings.finding import counted
from textclf.data.question_answering.questions import QuestionSplit
from textclf.recipe.settings import Recipe
from textclf.runs.tasks.question_answering.record import AnswerCalibration
from textclf.terminal.progress import Progress
from textclf.training.question_answering.calibration import AnswerTemperature, choose_temperature

if TYPE_CHECKING:
    from textclf.training.question_answering.measures import MeasuredQuestions

FEW_QUESTIONS = 50
"""With fewer measured questions, the 95 % confidence interval of an exact match is up to 28 points wide and more."""

_ERROR_BINS = 15


@dataclass(frozen=True)
class ChosenCalibration:
    """When the model gives no answer, and the temperature of its probabilities."""

    null_bound: float | None
    temperature: AnswerTemperature


@dataclass(frozen=True)
class Measured:
    """The results on the held-out splits, and the answers to the reported one, by split."""

    answers: Mapping[str, MeasuredAnswers]
    calibration: AnswerCalibration

    @property
    def splits(self) -> dict[str, AnswerMetrics]:
        return {name: one.metrics for name, one in self.answers.items()}


def calibrate(
    recipe: Recipe, validation: QuestionSplit, measured: MeasuredQuestions, progress: Progress
) -> ChosenCalibration:
    """Chooses, on the validation questions, the temperature for the bound of `measured`; 1 if the recipe asks for none."""
    golds, bound = golds_of(validation), measured.null_bound
    chosen = AnswerTemperature(1.0)
    if recipe.training.calibrate:
        chosen = choose_temperature(measured.selected, golds, bound)
        shown = f"temperature {chosen.value:.2f}" + (f" ({chosen.reason})" if chosen.reason is not None else "")
        never = "no question without an answer" if all(golds) else "answering all is best"
        when = f"no answer above a margin of {bound:.2f}" if bound is not None else f"always an answer ({never})"
        progress.say(f"Calibration: {shown}; {when}")
    return ChosenCalibration(bound, chosen)


def measure(
    splits: Sequence[QuestionSplit],
    server: Mapping[str, Sequence[Answer]],
    phone: Mapping[str, Sequence[Answer]] | None,
    chosen: ChosenCalibration,
) -> Measured:
    """The results of a model with these answers by split; `phone` is None for a model that phones cannot use."""
    answers, errors = {}, {}
    for split in splits:
        own, golds = list(server[split.name]), golds_of(split)
        on_phone = None if phone is None else list(phone[split.name])
        answers[split.name] = MeasuredAnswers(compared_metrics(own, on_phone, golds), own, on_phone)
        right = question_scores([answer.text for answer in own], golds)[:, 0] > 0
        errors[split.name] = calibration_error(np.array([answer.score for answer in own]), right)
    calibration = AnswerCalibration(
        null_bound=chosen.null_bound,
        temperature=chosen.temperature.value,
        reason=chosen.temperature.reason,
        expected_calibration_error=errors,
    )
    return Measured(answers, calibration)


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Returns the expected calibration error, 0..1: the mean difference of probability and share of right answers by bin,
    weighted by questions."""
    bins = np.minimum((probabilities * _ERROR_BINS).astype(int), _ERROR_BINS - 1)
    error = 0.0
    for number in np.unique(bins):
        inside = bins == number
        error += inside.mean() * abs(right[inside].mean() - probabilities[inside].mean())
    return float(error)


# --- Words -----------------------------------------------------------------------------------------------------------
def say_results(splits: Mapping[str, AnswerMetrics], model: str, progress: Progress) -> None:
    """Prints one line for each split and way to answer; `model` says which model was measured."""
    for name, metrics in splits.items():
        for place, one in metrics.by_place.items():
            progress.say(
                f"{model} on the {name} split ({counted(one.count, 'question')}), as a {place} answers: "
                f"exact match {one.exact_match:.1%}, F1 {one.f1:.1%} ({interval_text(one.f1_interval)})"
            )


def interval_text(interval: Interval) -> str:
    """`95 % confidence interval: 61.8–75.2 %`."""
    return f"95 % confidence interval: {100 * interval[0]:.1f}–{100 * interval[1]:.1f} %"


def result_warnings(splits: Mapping[str, AnswerMetrics], reported: str) -> list[str]:
    """Returns warnings that a person needs before trusting the numbers; `reported` is the split that stands for all."""
    warnings = []
    server = splits[reported].server
    if (guess := _without_answers(server)) is not None and server.f1 <= guess:
        warnings.append(
            f"the model is not better than never answering: F1 {server.f1:.1%}, and {guess:.1%} of the {reported} questions have "
            "no answer. Train for more epochs, with a higher training.learning_rate, or on more questions"
        )
    for name, metrics in splits.items():
        if metrics.server.count < FEW_QUESTIONS:
            warnings.append(
                f"the F1 of {metrics.server.f1:.1%} was measured on only {metrics.server.count} {name} questions and is very "
                f"uncertain{_interval_in_brackets(metrics.server.f1_interval)}; measure on more questions before you rely on it"
            )
    return warnings


def _interval_in_brackets(interval: Interval) -> str:
    """Nothing if all measured questions are alike: resampling them says nothing about others."""
    return f" ({interval_text(interval)})" if interval[0] < interval[1] else ""


def _without_answers(metrics: QuestionMetrics) -> float | None:
    """Returns the share of questions without an answer; None if all have one."""
    return None if metrics.no_answer is None else metrics.no_answer.count / metrics.count
