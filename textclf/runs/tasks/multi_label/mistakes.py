"""The rows whose labels a model got wrong: with what is missing and what is wrong in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textclf.classify.multi_label.metrics import LabelSetMetrics, predicted_sets
from textclf.data.examples import Split

MISTAKES = 30

CONFUSED_PAIRS = 25


@dataclass(frozen=True)
class LabelSetMistake:
    """A row with wrong labels; `row` is its number in a spreadsheet.

    `right` labels are predicted and true, `wrong` only predicted, `missing` only true; the latter two have the model's
    probability.
    """

    row: int
    text: str
    right: list[str]
    wrong: list[tuple[str, float]]
    missing: list[tuple[str, float]]


@dataclass(frozen=True)
class ConfusedLabels:
    """In `rows` rows, `missing` is right and not predicted while `wrong` is predicted and not right; `share` is their part of
    all rows of `missing`, in 0..1."""

    missing: str
    wrong: str
    rows: int
    share: float


def worst_mistakes(
    split: Split, probabilities: np.ndarray, thresholds: np.ndarray, labels: Sequence[str], limit: int = MISTAKES
) -> list[LabelSetMistake]:
    """Returns the wrong rows of a split, the most confident mistake first, at most `limit`.

    `probabilities` are float [rows, labels] in the order of the split.
    """
    predicted, truth = predicted_sets(probabilities, thresholds), split.labels
    wrong = np.flatnonzero((predicted != truth).any(axis=1))
    doubts = np.where(truth, 1 - probabilities, probabilities)[wrong].max(axis=1)

    def named(row: int, chosen: np.ndarray) -> list[tuple[str, float]]:
        return [(labels[index], float(probabilities[row, index])) for index in np.flatnonzero(chosen[row]).tolist()]

    return [
        LabelSetMistake(
            row=split.rows[row],
            text="\n".join(split.texts[row]),
            right=[label for label, _ in named(row, predicted & truth)],
            wrong=named(row, predicted & ~truth),
            missing=named(row, truth & ~predicted),
        )
        for row in wrong[np.argsort(-doubts, kind="stable")][:limit]
    ]


def most_confused(metrics: LabelSetMetrics, limit: int = CONFUSED_PAIRS) -> list[ConfusedLabels]:
    """Returns the pairs of a missing and a wrong label with the most rows, the largest first, at most `limit`."""
    labels = metrics.per_label
    pairs = sorted(metrics.confusions, key=lambda pair: -pair[2])[:limit]
    return [
        ConfusedLabels(labels[missing].label, labels[wrong].label, rows, rows / labels[missing].support)
        for missing, wrong, rows in pairs
    ]
