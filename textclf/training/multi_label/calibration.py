"""Calibrates the probabilities of each label: takes validation logits and true labels, returns factors and offsets.

The logits of a label are multiplied by a factor and get an offset (Platt 1999), so that a probability of 80 % means that
the label is right for about 80 % of such rows. The order of the rows of a label stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textclf.classify.multi_label.metrics import sigmoid
from textclf.training.classification.calibration import ERROR_BINS, LEAST_ROWS
from textclf.training.watching.watchers import require_finite

LEAST_POSITIVES = 10
"""Factor and offset are fitted only for a label that this many validation rows have, and this many do not have."""

_STEPS = 30

# The factor and the offset are kept near 1 and 0 as by one observation with a deviation of 1.
_PULL = 1.0

_FOLDS = 5

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.05, 20.0


@dataclass(frozen=True)
class LabelCalibration:
    """`factors` and `offsets`, float64 [labels], change the logits. The labels with the indices `left` keep theirs (1 and 0),
    because their rows are too few or because other rows would not gain; `reason` is why no label is calibrated."""

    factors: np.ndarray
    offsets: np.ndarray
    left: tuple[int, ...] = ()
    reason: str | None = None

    @classmethod
    def none(cls, labels: int, reason: str | None = None) -> LabelCalibration:
        """Returns what leaves all logits as they are."""
        return cls(np.ones(labels), np.zeros(labels), tuple(range(labels)), reason)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Returns logits float32 [rows, labels] with the factors and the offsets."""
        calibrated: np.ndarray = logits * self.factors.astype(np.float32) + self.offsets.astype(np.float32)
        return calibrated


def has_enough(positives: int, rows: int) -> bool:
    """Returns whether a label that `positives` of the validation rows have can be calibrated."""
    return rows >= LEAST_ROWS and min(positives, rows - positives) >= LEAST_POSITIVES


def calibrate_labels(logits: np.ndarray, truth: np.ndarray) -> LabelCalibration:
    """Takes logits float [rows, labels] and true labels bool [rows, labels] of rows that were not trained on.

    A label is calibrated if enough rows have it and lack it, and if factors and offsets that are fitted to four fifths of
    the rows make the other fifth better. Raises TrainingError for logits that are not finite.
    """
    require_finite(logits, "validation")
    rows, labels = truth.shape
    if rows < LEAST_ROWS:
        too_few = f"{rows} validation rows are too few to calibrate labels; {LEAST_ROWS} are needed"
        return LabelCalibration.none(labels, too_few)
    positives = truth.sum(axis=0)
    enough = np.array([has_enough(int(number), rows) for number in positives])
    scores = logits.astype(np.float64)
    factors, offsets = _fit(scores, truth)
    helps = _cross_validated(scores, truth) < _losses(scores, truth)
    chosen = enough & helps
    left = tuple(np.flatnonzero(~chosen).tolist())
    reason = None
    if not chosen.any():
        reason = (
            "other rows would not gain from it"
            if enough.any()
            else f"each label needs {LEAST_POSITIVES} validation rows with it and without it"
        )
    return LabelCalibration(np.where(chosen, factors, 1.0), np.where(chosen, offsets, 0.0), left, reason)


def _fit(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factors and offsets [labels] of the lowest cross-entropy, by Newton's method for all labels at once."""
    factors, offsets = np.ones(truth.shape[1]), np.zeros(truth.shape[1])
    for _ in range(_STEPS):
        probabilities = sigmoid(scores * factors + offsets)
        errors, curvature = probabilities - truth, probabilities * (1 - probabilities)
        slope_factor = (errors * scores).sum(axis=0) + _PULL * (factors - 1)
        slope_offset = errors.sum(axis=0) + _PULL * offsets
        by_factor = (curvature * scores**2).sum(axis=0) + _PULL
        by_offset = curvature.sum(axis=0) + _PULL
        mixed = (curvature * scores).sum(axis=0)
        determinant = by_factor * by_offset - mixed**2
        # Steps of at most 1, because far from the minimum the curvature is small.
        change_factor = (by_offset * slope_factor - mixed * slope_offset) / determinant
        change_offset = (by_factor * slope_offset - mixed * slope_factor) / determinant
        factors = np.clip(factors - np.clip(change_factor, -1, 1), _SMALLEST_FACTOR, _LARGEST_FACTOR)
        offsets = offsets - np.clip(change_offset, -1, 1)
    return factors, offsets


def _cross_validated(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the summed cross-entropy [labels] of rows with factors and offsets that were fitted to the other rows."""
    fold = np.arange(len(truth)) % _FOLDS
    total = np.zeros(truth.shape[1])
    for number in range(_FOLDS):
        inside = fold == number
        factors, offsets = _fit(scores[~inside], truth[~inside])
        total += _losses(scores[inside] * factors + offsets, truth[inside])
    return total


def _losses(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the summed cross-entropy of each label in nats, [labels]."""
    losses: np.ndarray = np.logaddexp(0.0, np.where(truth, -scores, scores)).sum(axis=0)
    return losses


def label_calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Returns the expected calibration error, 0..1: the mean over the labels, each by bins of its probability."""
    errors = []
    for index in range(truth.shape[1]):
        own = probabilities[:, index].astype(np.float64)
        bins = np.minimum((own * ERROR_BINS).astype(int), ERROR_BINS - 1)
        counts = np.bincount(bins, minlength=ERROR_BINS)
        gaps = np.bincount(bins, own - truth[:, index], minlength=ERROR_BINS)
        errors.append(np.abs(gaps).sum() / counts.sum())
    return float(np.mean(errors))


def calibration_text(chosen: LabelCalibration, errors: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the line that is shown. `errors` has, for each split, the calibration error `before` and `after`."""
    if chosen.reason is not None:
        before = ", ".join(f"{name} {error['before']:.3f}" for name, error in errors.items())
        return f"not applied, because {chosen.reason}; expected calibration error {before}"
    labels = len(chosen.factors)
    shown = ", ".join(f"{name} {error['before']:.3f} → {error['after']:.3f}" for name, error in errors.items())
    return f"{labels - len(chosen.left):,} of {labels:,} labels calibrated, expected calibration error {shown}"
