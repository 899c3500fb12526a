"""How probable it is that an answer is right: the softmax over its question's candidates, divided by a temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textclf.classify.question_answering.selection import Selected


def answer_probabilities(
    selected: Sequence[Selected], *, temperature: float = 1.0, null_bound: float | None = None
) -> np.ndarray:
    """Returns the probability of each question's outcome, its best answer or no answer, float64 [questions].

    "No answer" is one of the candidates. Its score is lowered by the `null_bound`, if there is one, so that it is the most
    probable exactly if the question gets no answer (`Selected.answer`). Without a bound, the probability is that of the
    best answer, which may be below that of no answer.
    """
    return probabilities_of_outcomes(candidate_scores(selected, null_bound), temperature, null_bound)


def candidate_scores(selected: Sequence[Selected], null_bound: float | None) -> np.ndarray:
    """Returns the scores of all candidates, float64 [questions, 1 + candidates], -inf where there is none; "no answer" is
    the first column, then the best answer."""
    most = max((len(one.candidates) for one in selected), default=0)
    scores = np.full((len(selected), most + 1), -np.inf)
    for row, one in enumerate(selected):
        scores[row, 0] = one.null_score - (0.0 if null_bound is None else null_bound)
        scores[row, 1 : 1 + len(one.candidates)] = [candidate.score for candidate in one.candidates]
    return scores


def probabilities_of_outcomes(scores: np.ndarray, temperature: float, null_bound: float | None) -> np.ndarray:
    """Returns the softmax of each row's outcome: its best answer, or no answer if that is better or there is no other."""
    best = scores[:, min(1, scores.shape[1] - 1)]
    outcome = np.where(np.isfinite(best), best, scores[:, 0]) if null_bound is None else np.maximum(best, scores[:, 0])
    largest = scores.max(axis=1)
    shares = np.exp((scores - largest[:, None]) / temperature)
    probabilities: np.ndarray = np.exp((outcome - largest) / temperature) / shares.sum(axis=1)
    return probabilities
