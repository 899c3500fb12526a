"""What the model got wrong: the wrong rows, and the labels that it mixes up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textclf.classify.metrics import Metrics
from textclf.data.examples import Split

CONFUSED_PAIRS = 25


@dataclass(frozen=True)
class Mistake:
    """A row with a wrong prediction; `row` is its number in a spreadsheet, `score` the probability of the wrong label."""

    split: str
    row: int
    text: str
    label: str
    predicted: str
    score: float


@dataclass(frozen=True)
class ConfusedPair:
    """`rows` rows of `label` were predicted as `predicted`; `share` is their part of all rows of `label`, in 0..1."""

    label: str
    predicted: str
    rows: int
    share: float


def worst_mistakes(split: Split, probabilities: np.ndarray, labels: Sequence[str], limit: int = 30) -> list[Mistake]:
    """Returns the wrong rows of a split, the most confident first, at most `limit`.

    `probabilities` are float [rows, labels] in the order of the split.
    """
    predicted = probabilities.argmax(axis=1)
    scores = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != split.labels)
    worst = wrong[np.argsort(-scores[wrong], kind="stable")][:limit]
    return [
        Mistake(
            split=split.name,
            row=split.rows[index],
            text="\n".join(split.texts[index]),
            label=labels[split.labels[index]],
            predicted=labels[predicted[index]],
            score=float(scores[index]),
        )
        for index in worst
    ]


def most_confused(metrics: Metrics, limit: int = CONFUSED_PAIRS) -> list[ConfusedPair]:
    """Returns the pairs of true and predicted label with the most wrong rows, the largest first, at most `limit`."""
    names = [label.label for label in metrics.per_label]
    wrong = sorted((cell for cell in metrics.confusion_cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return [
        ConfusedPair(names[true], names[given], rows, rows / metrics.per_label[true].support)
        for true, given, rows in wrong[:limit]
    ]
