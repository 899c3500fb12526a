"""How probable it is that an answer is right: the softmax over its question's candidates, divided by a temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textclf.classify.question_answering.selection import Selected


def answer_probabilities(
    selected: Sequence[Selected], *, temperature: float = 1.0, null_bound: float | None = None
) -> np.ndarray:
    """Returns the probability of each question's outcome, its best answer or no answer, float64 [questions].

    With a `null_bound`, "no answer" is one of the candidates. Its score is lowered by the bound, so that it is the most
    probable one exactly if the question gets no answer (`Selected.answer`). A question without any candidate has 0, or 1
    with a bound.
    """
    scores = candidate_scores(selected, null_bound)
    return probabilities_of_best(scores, temperature)


def candidate_scores(selected: Sequence[Selected], null_bound: float | None) -> np.ndarray:
    """Returns the scores of all candidates, float64 [questions, candidates + 1], -inf where there is none; "no answer" is
    the last column."""
    most = max((len(one.candidates) for one in selected), default=0)
    scores = np.full((len(selected), most + 1), -np.inf)
    for row, one in enumerate(selected):
        scores[row, : len(one.candidates)] = [candidate.score for candidate in one.candidates]
        if null_bound is not None:
            scores[row, most] = one.null_score - null_bound
    return scores


def probabilities_of_best(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the softmax of each row's largest score; 0 for a row without any."""
    largest = scores.max(axis=1, keepdims=True)
    is_empty = ~np.isfinite(largest[:, 0])
    relative = np.where(is_empty[:, None], 0.0, scores - np.where(np.isfinite(largest), largest, 0.0))
    return np.where(is_empty, 0.0, 1.0 / np.exp(relative / temperature).sum(axis=1))
