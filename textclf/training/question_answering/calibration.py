"""Chooses on the validation questions when a model gives no answer, and what makes its probabilities true.

Takes the selected answers and the correct ones; returns a bound and a temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textclf.classify.question_answering.metrics import exact_match, token_f1
from textclf.classify.question_answering.probability import candidate_scores, probabilities_of_outcomes
from textclf.classify.question_answering.selection import Selected

LEAST_QUESTIONS = 50
"""A temperature is fitted only to this many validation questions or more."""

_TEMPERATURES = np.exp(np.linspace(np.log(0.05), np.log(20.0), 241))

_FOLDS = 5

# Sums of F1 that differ by less are equal.
_NO_GAIN = 1e-9

# The cross-validated loss may exceed that of temperature 1 by this share, which is chance if both are good.
_TOLERANCE = 0.01

# No probability is taken to be exactly 0 or 1.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class AnswerTemperature:
    """`value` divides the scores of candidates; `reason` says why it is 1 and was not fitted, or is None."""

    value: float
    reason: str | None = None


def choose_null_bound(selected: Sequence[Selected], golds: Sequence[Sequence[str]]) -> float | None:
    """Returns the bound with the highest mean F1: a question whose `null_margin` is above it gets no answer.

    None if the model should always answer: no question is without an answer, or answering all is best. Of bounds that are
    equally good, the one closest to 0 is returned, the default of `run_squad.py`. It lies halfway between two questions.
    """
    if all(golds):
        return None
    margins = np.array([one.null_margin for one in selected])
    gains = np.array(
        [
            token_f1(one.best.text if one.best else "", own) - token_f1("", own)
            for one, own in zip(selected, golds, strict=True)
        ]
    )
    order = np.argsort(margins, kind="stable")[: int(np.isfinite(margins).sum())]
    margins, gains = margins[order], gains[order]
    if not len(margins):
        return None
    # If the first 0, 1, … questions are answered: the gain over answering nothing, and the bound.
    totals = np.concatenate([[0.0], np.cumsum(gains)])
    edges = np.concatenate([[margins[0] - 2.0], margins, [margins[-1] + 2.0]])
    bounds = (edges[:-1] + edges[1:]) / 2
    # Questions with equal margins are answered together or not at all.
    possible = np.concatenate([[True], margins[1:] > margins[:-1], [True]])
    equal = np.flatnonzero(possible & (totals >= totals[possible].max() - _NO_GAIN))
    if equal[-1] == len(margins):
        return None
    return float(min(bounds[equal], key=abs))


def choose_temperature(
    selected: Sequence[Selected], golds: Sequence[Sequence[str]], null_bound: float | None
) -> AnswerTemperature:
    """Returns the temperature with which the probability of an outcome best predicts whether it is an exact match.

    It is 1 if the questions do not determine it: they are few, or temperatures fitted to four fifths of them make the
    other fifth worse.
    """
    questions = len(selected)
    if questions < LEAST_QUESTIONS:
        return AnswerTemperature(
            1.0, f"{questions} validation questions are too few to fit a temperature; {LEAST_QUESTIONS} are needed"
        )
    right = outcomes_right(selected, golds, null_bound)
    if right.all() or not right.any():
        return AnswerTemperature(
            1.0, f"{'all' if right.all() else 'none'} of the {questions:,} validation questions are answered exactly"
        )
    losses = _losses(candidate_scores(selected, null_bound), right, null_bound)
    chosen = float(_TEMPERATURES[losses.mean(axis=1).argmin()])
    plain, calibrated = float(losses[_place_of_one()].mean()), _cross_validated(losses)
    if calibrated > plain * (1 + _TOLERANCE):
        return AnswerTemperature(
            1.0,
            f"the fitted temperature {chosen:.2f} depends on a few of the validation questions: cross-validated, it raises "
            f"the loss from {plain:.4f} to {calibrated:.4f}",
        )
    return AnswerTemperature(chosen)


def outcomes_right(
    selected: Sequence[Selected], golds: Sequence[Sequence[str]], null_bound: float | None
) -> np.ndarray:
    """Returns whether each question's answer, or that it gets none, is an exact match, bool [questions]."""
    bound = np.inf if null_bound is None else null_bound
    answers = [one.answer(bound) for one in selected]
    return np.array(
        [exact_match(answer.text if answer else "", own) for answer, own in zip(answers, golds, strict=True)], bool
    )


def _losses(scores: np.ndarray, right: np.ndarray, null_bound: float | None) -> np.ndarray:
    """Returns the cross-entropy in nats of each temperature and question, [temperatures, questions]."""
    probabilities = np.stack(
        [probabilities_of_outcomes(scores, temperature, null_bound) for temperature in _TEMPERATURES]
    )
    probabilities = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
    losses: np.ndarray = -np.log(np.where(right, probabilities, 1 - probabilities))
    return losses


def _place_of_one() -> int:
    return int(np.abs(np.log(_TEMPERATURES)).argmin())


def _cross_validated(losses: np.ndarray) -> float:
    """The mean loss of questions with the temperature that is best for the questions of the other folds."""
    fold = np.arange(losses.shape[1]) % _FOLDS
    total = 0.0
    for number in range(_FOLDS):
        chosen = int(losses[:, fold != number].mean(axis=1).argmin())
        total += float(losses[chosen, fold == number].sum())
    return total / len(fold)
