"""Measures a training of question answering: takes the logits of windows, returns answers, scores and what looks wrong.

It needs no model, so it measures the models of every engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textclf.classify.question_answering.metrics import QuestionMetrics, evaluate
from textclf.classify.question_answering.selection import Candidate, Selected, select_answers
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tokens.spans import span_targets
from textclf.encoders.prepare_questions import PreparedQuestions
from textclf.training.question_answering.calibration import choose_null_bound
from textclf.training.watching.watchers import Trouble, overfitting

PADDING_LOGIT = -1e9
"""The logit of positions that hold no token."""

_STUCK_SHARE = 0.98


@dataclass(frozen=True)
class MeasuredQuestions:
    """The selected answers of a split's questions, the bound that was applied, and how good they are."""

    selected: list[Selected]
    null_bound: float | None
    metrics: QuestionMetrics

    @property
    def answers(self) -> list[Candidate | None]:
        """The answer to each question; None for no answer."""
        return [one.answer(np.inf if self.null_bound is None else self.null_bound) for one in self.selected]


class QuestionMeasures:
    """Measures logits float32 [windows, max_length, 2] of the splits of `data`; padding has `PADDING_LOGIT`."""

    def __init__(self, data: PreparedQuestions, epochs: int) -> None:
        self._data, self._epochs = data, epochs
        windows, train = data.windows["train"], data.split("train")
        self.targets = span_targets(windows, train.labels)
        self.guessing = float(np.log(windows.encoded.lengths).mean())
        self._validation: tuple[np.ndarray, MeasuredQuestions] | None = None
        self._guessing_without_reading = _loss_without_reading(self.targets, windows.encoded.lengths)

    def measure(self, split: str, logits: np.ndarray, null_bound: float | None) -> MeasuredQuestions:
        """Returns the answers to a split's questions and how good they are, with this bound (None: always answer)."""
        questions = self._data.split(split)
        selected = select_answers(self._data.windows[split], logits, questions.contexts)
        return _measured(selected, questions, null_bound)

    def measure_validation(self, logits: np.ndarray) -> MeasuredQuestions:
        """Does the same for the validation questions, with the bound that is best for them."""
        if self._validation is None or self._validation[0] is not logits:
            questions = self._data.split("validation")
            selected = select_answers(self._data.windows["validation"], logits, questions.contexts)
            measured = _measured(selected, questions, choose_null_bound(selected, golds_of(questions)))
            self._validation = logits, measured
        return self._validation[1]

    def epoch_entry(self, epoch: int, training_loss: float | None, logits: np.ndarray) -> dict[str, Any]:
        """Returns what the history keeps of an epoch; `logits` are those of the validation windows."""
        metrics = self.measure_validation(logits).metrics
        return {
            "epoch": epoch,
            "training_loss": training_loss,
            "validation_loss": self._loss("validation", logits),
            "validation_exact_match": metrics.exact_match,
            "validation_f1": metrics.f1,
        }

    def epoch_troubles(self, history: Sequence[Mapping[str, Any]], logits: np.ndarray) -> list[Trouble]:
        """Returns what the watchers detect after an epoch; `logits` are those of the validation windows."""
        troubles, trained = [], [entry for entry in history if entry["epoch"] > 0]
        measured = self.measure_validation(logits)
        if measured.metrics.has_answer is not None and not any(measured.answers):
            troubles.append(
                Trouble(
                    "one_class",
                    "the model answers none of the validation questions; train for more epochs or with a higher "
                    "training.learning_rate, or add questions that have an answer",
                )
            )
        latest, guessing = trained[-1], self._guessing_without_reading
        if latest["training_loss"] >= _STUCK_SHARE * guessing:
            troubles.append(
                Trouble(
                    "stuck",
                    f"the training loss is {latest['training_loss']:.3g} after epoch {latest['epoch']}, not clearly below the "
                    f"{guessing:.3g} of guessing: the model learned nothing from the questions; check that dataset.question, "
                    "dataset.context and dataset.answer name the right columns, raise training.learning_rate, or train for "
                    "more epochs",
                )
            )
        if (found := overfitting(trained)) is not None:
            troubles.append(found)
        return troubles

    def epoch_line(self, entry: Mapping[str, Any]) -> str:
        """Returns the line that is shown at the end of an epoch."""
        which = f"Epoch {entry['epoch']}/{self._epochs}" if entry["epoch"] else "The encoder's own head"
        return (
            f"{which}: validation loss {entry['validation_loss']:.4f}, exact match {entry['validation_exact_match']:.1%}, "
            f"F1 {entry['validation_f1']:.1%}"
        )

    def quality(self, entry: Mapping[str, Any]) -> tuple[float, float, float]:
        """Returns what makes an epoch the best: the highest F1, then exact match, then the lowest loss."""
        return entry["validation_f1"], entry["validation_exact_match"], -entry["validation_loss"]

    def measured_scores(self, split: str, logits: np.ndarray, validation: MeasuredQuestions) -> dict[str, float]:
        """Returns exact_match, f1 and loss of a split, with the bound that is best for the validation questions."""
        metrics = validation.metrics
        if split != "validation":
            metrics = self.measure(split, logits, validation.null_bound).metrics
        return {"exact_match": metrics.exact_match, "f1": metrics.f1, "loss": self._loss(split, logits)}

    def _loss(self, split: str, logits: np.ndarray) -> float:
        """The mean cross-entropy of start and end over the windows, in nats."""
        targets = span_targets(self._data.windows[split], self._data.split(split).labels)
        return span_loss(logits, targets)


def span_loss(logits: Iterable[np.ndarray], targets: Sequence[np.ndarray] | np.ndarray) -> float:
    """Takes the logits of each window, [length, 2], and its targets [2]; returns the mean cross-entropy of start and end in
    nats."""
    total = 0.0
    for window, target in zip(logits, targets, strict=True):
        values = window.astype(np.float64, copy=False)
        shifted = values - values.max(axis=0)
        chosen = shifted[target, [0, 1]]
        total += float((np.log(np.exp(shifted).sum(axis=0)) - chosen).mean())
    return total / len(targets)


def golds_of(questions: QuestionSplit) -> list[list[str]]:
    """Returns the texts of the correct answers to each question."""
    return [[answer.text for answer in answers] for answers in questions.answers]


def _measured(selected: list[Selected], questions: QuestionSplit, null_bound: float | None) -> MeasuredQuestions:
    answers = [one.answer(np.inf if null_bound is None else null_bound) for one in selected]
    metrics = evaluate([answer.text if answer else "" for answer in answers], golds_of(questions))
    return MeasuredQuestions(selected, null_bound, metrics)


def _loss_without_reading(targets: np.ndarray, lengths: np.ndarray) -> float:
    """Returns the training loss of the best model that knows only how long windows are and how many have no answer."""
    without = float((targets[:, 1] == 0).mean())
    inside = float(np.log(np.maximum(lengths[targets[:, 1] > 0] - 1, 1)).mean()) if without < 1 else 0.0
    shares = np.array([share for share in (without, 1 - without) if share > 0])
    return float(-(shares * np.log(shares)).sum()) + (1 - without) * inside
