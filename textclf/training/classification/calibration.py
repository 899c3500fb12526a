"""Calibrates probabilities: takes validation logits and true labels, returns a temperature and a rejection threshold.

A temperature divides all logits. The labels stay the same, and a probability of 80 % then means that about 80 % of such
rows are right (Guo et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textclf.classify.metrics import softmax
from textclf.training.watching.watchers import require_finite

ERROR_BINS = 15
"""Bins of equal width over the probability of the most probable label, as in Guo et al. 2017, section 2."""

LEAST_ROWS = 50
"""A temperature is fitted only to this many validation rows or more: with fewer, one or two mistakes decide it."""

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.05, 20.0

_HALVINGS = 60

# A temperature is fitted to at most this many logits; more would take a minute and change its third digit.
_MOST_LOGITS = 4_000_000

_FOLDS, _HALVINGS_A_FOLD = 5, 20

# The cross-validated cross-entropy may exceed that of temperature 1 by this share, which is chance if both are good.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class ChosenTemperature:
    """`value` divides all logits; `reason` says why it is 1 and was not fitted, or is None."""

    value: float
    reason: str | None = None


def choose_temperature(logits: np.ndarray, truth: np.ndarray) -> ChosenTemperature:
    """Returns the temperature fitted to the validation rows, or 1 if they do not determine it.

    They do not if they are few, or if temperatures that are fitted to four fifths of them make the other fifth worse:
    then single rows decide. Raises TrainingError for logits that are not finite.
    """
    require_finite(logits, "validation")
    rows = len(truth)
    if rows < LEAST_ROWS:
        return ChosenTemperature(
            1.0, f"{rows} validation rows are too few to fit a temperature; {LEAST_ROWS} are needed"
        )
    temperature = fit_temperature(logits, truth)
    if temperature == 1.0:
        return ChosenTemperature(1.0)
    plain, calibrated = _cross_entropy(logits, truth), _cross_validated(logits, truth)
    if calibrated > plain * (1 + _TOLERANCE):
        return ChosenTemperature(
            1.0,
            f"the fitted temperature {temperature:.2f} depends on a few of the validation rows: cross-validated, it raises the "
            f"loss from {plain:.4f} to {calibrated:.4f}",
        )
    return ChosenTemperature(temperature)


def calibration_text(chosen: ChosenTemperature, errors: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the line that is shown. `errors` has, for each split, the calibration error `before` and `after`."""
    if chosen.reason is not None:
        before = ", ".join(f"{name} {error['before']:.3f}" for name, error in errors.items())
        return f"not applied, because {chosen.reason}; expected calibration error {before}"
    shown = ", ".join(f"{name} {error['before']:.3f} → {error['after']:.3f}" for name, error in errors.items())
    worse = [name for name, error in errors.items() if round(error["after"], 3) > round(error["before"], 3)]
    text = f"temperature {chosen.value:.2f}, expected calibration error {shown}"
    if worse:
        text += (
            f". It did not help on the {' and '.join(worse)} split: do not use the probabilities as frequencies, or set "
            "training.calibrate=false and compare"
        )
    return text


def fit_temperature(logits: np.ndarray, truth: np.ndarray, halvings: int = _HALVINGS) -> float:
    """Logits float [rows, labels] and true label indices → the temperature of lowest cross-entropy.

    It is searched between 0.05 and 20 by halving the interval of its logarithm. If every row is right it is 1, because
    the best temperature would be 0 and the rows show nothing about mistakes.
    """
    if (logits.argmax(axis=1) == truth).all():
        return 1.0
    most_rows = max(LEAST_ROWS, _MOST_LOGITS // logits.shape[1])
    if len(logits) > most_rows:
        chosen = np.linspace(0, len(logits) - 1, most_rows).astype(np.int64)
        logits, truth = logits[chosen], truth[chosen]
    targets = np.zeros(logits.shape)
    targets[np.arange(len(truth)), truth] = 1.0
    scores = logits.astype(np.float64)

    def slope(factor: float) -> float:
        """The derivative of the cross-entropy with respect to 1/temperature, which only rises."""
        return float(((softmax(scores * factor) - targets) * scores).sum())

    low, high = np.log(_SMALLEST_FACTOR), np.log(_LARGEST_FACTOR)
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def _cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    """The mean in nats."""
    scores = logits - logits.max(axis=1, keepdims=True)
    chosen = scores[np.arange(len(truth)), truth].astype(np.float64)
    return float((np.log(np.exp(scores).sum(axis=1, dtype=np.float64)) - chosen).mean())


def _cross_validated(logits: np.ndarray, truth: np.ndarray) -> float:
    """The mean cross-entropy of rows with a temperature that was fitted to the other rows."""
    fold = np.arange(len(truth)) % _FOLDS
    total = 0.0
    for number in range(_FOLDS):
        inside = fold == number
        temperature = fit_temperature(logits[~inside], truth[~inside], _HALVINGS_A_FOLD)
        total += _cross_entropy(logits[inside] / temperature, truth[inside]) * inside.sum()
    return total / len(truth)


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Returns the expected calibration error, 0..1: the mean difference of confidence and accuracy by bin, weighted by rows."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * ERROR_BINS).astype(int), ERROR_BINS - 1)
    error = 0.0
    for number in range(ERROR_BINS):
        inside = bins == number
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


@dataclass(frozen=True)
class Rejection:
    """Rows whose most probable label has a probability below `threshold` get no label. `precision` is the share of right
    labels among the other rows, `coverage` their share of all rows."""

    threshold: float
    precision: float
    coverage: float


def rejection_threshold(probabilities: np.ndarray, truth: np.ndarray, precision: float) -> Rejection | None:
    """Returns the lowest threshold at which this share of the labels is right, or None if no threshold reaches it."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    precisions = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Rows with equal probabilities are kept or rejected together.
    ends = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)
    reached = np.flatnonzero(ends & (precisions >= precision))
    if not len(reached):
        return None
    last = int(reached[-1])
    lower = sorted_confidence[last + 1] if last + 1 < len(order) else 0.0
    # Between the last row that is kept and the first that is not, because 8-bit weights change both a little.
    threshold = float((sorted_confidence[last] + lower) / 2) if lower else 0.0
    return Rejection(threshold, float(precisions[last]), (last + 1) / len(order))


def measure_rejection(probabilities: np.ndarray, truth: np.ndarray, threshold: float) -> Rejection:
    """Measures a threshold on other rows; precision is 1 if no row gets a label."""
    kept = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == truth
    return Rejection(threshold, float(right[kept].mean()) if kept.any() else 1.0, float(kept.mean()))
