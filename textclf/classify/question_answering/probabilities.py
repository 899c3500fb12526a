"""Probabilities of answers: from the scores of the candidates and of "no answer", and a temperature."""

from __future__ import annotations

import math

from textclf.classify.question_answering.selection import Selected


def answer_probability(selected: Selected, temperature: float, bound: float = math.inf) -> float:
    """Returns the probability (0 to 1) that the model gives to its answer to a question, the best span or "no answer".

    It is a softmax of the scores of all candidates and of "no answer", divided by `temperature`. "No answer" counts
    `bound` less than its score, so that it is the answer where it is the most probable; with an infinite `bound` it
    counts as it is.
    """
    null = selected.null_score - (bound if math.isfinite(bound) else 0.0)
    scores = [candidate.score for candidate in selected.candidates]
    chosen = selected.answer(bound)
    largest = max([*scores, null])
    total = math.fsum(math.exp((score - largest) / temperature) for score in [*scores, null])
    own = null if chosen is None else chosen.score
    return math.exp((own - largest) / temperature) / total
