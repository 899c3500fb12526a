"""Probabilities that mean what they say: validation logits and true labels in, a temperature and a threshold out.

A temperature divides all logits: labels stay, probabilities become as sure as they are right (Guo et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textclf.evaluation import softmax

ERROR_BINS = 15
"""Bins of equal width over the probability of the likeliest label, as in Guo et al. 2017, section 2."""

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.05, 20.0
_HALVINGS = 60


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Logits float [rows, labels] and true label indices → the temperature of lowest cross-entropy.

    Where every row is right it is 1: such rows would ask for endless certainty, and say nothing about mistakes.
    """
    if (logits.argmax(axis=1) == truth).all():
        return 1.0
    targets = np.eye(logits.shape[1])[truth]
    scores = logits.astype(np.float64)

    def slope(factor: float) -> float:
        """The cross-entropy's derivative by 1/temperature, which only rises."""
        return float(((softmax(scores * factor) - targets) * scores).sum())

    low, high = np.log(_SMALLEST_FACTOR), np.log(_LARGEST_FACTOR)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The expected calibration error, 0..1: how far sureness and rightness lie apart, bin by bin, weighted by rows."""
    sureness = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((sureness * ERROR_BINS).astype(int), ERROR_BINS - 1)
    error = 0.0
    for number in range(ERROR_BINS):
        inside = bins == number
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - sureness[inside].mean())
    return float(error)


@dataclass(frozen=True)
class Rejection:
    """Rows whose likeliest label has a probability below `threshold` get none; `precision` of the others are right, and
    `coverage` is their share of all rows."""

    threshold: float
    precision: float
    coverage: float


def rejection_threshold(probabilities: np.ndarray, truth: np.ndarray, precision: float) -> Rejection | None:
    """The lowest threshold at which this share of the given labels is right; None where no threshold reaches it."""
    sureness = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    order = np.argsort(-sureness, kind="stable")
    sorted_sureness = sureness[order]
    precisions = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Equal probabilities stand or fall together.
    ends = np.append(sorted_sureness[1:] < sorted_sureness[:-1], True)
    reached = np.flatnonzero(ends & (precisions >= precision))
    if not len(reached):
        return None
    last = int(reached[-1])
    lower = sorted_sureness[last + 1] if last + 1 < len(order) else 0.0
    # Between the last row that is kept and the first that is not: 8-bit weights move both a little.
    threshold = float((sorted_sureness[last] + lower) / 2) if lower else 0.0
    return Rejection(threshold, float(precisions[last]), (last + 1) / len(order))


def measure_rejection(probabilities: np.ndarray, truth: np.ndarray, threshold: float) -> Rejection:
    """What a threshold does on other rows; precision 1 where no row is given a label."""
    kept = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == truth
    return Rejection(threshold, float(right[kept].mean()) if kept.any() else 1.0, float(kept.mean()))
