"""Probabilities that mean what they say: validation logits and true labels in, a temperature and a threshold out.

A temperature divides all logits: labels stay, probabilities become as sure as they are right (Guo et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textclf.classify.metrics import softmax
from textclf.errors import TrainingError

ERROR_BINS = 15
"""Bins of equal width over the probability of the likeliest label, as in Guo et al. 2017, section 2."""

LEAST_ROWS = 50
"""Validation rows from which on a temperature is fitted: of fewer, one or two mistakes decide everything."""

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.05, 20.0

_HALVINGS = 60

# Numbers of which a temperature is fitted at most; more would take a minute and change its third digit.
_MOST_LOGITS = 4_000_000

_FOLDS, _HALVINGS_A_FOLD = 5, 20

# By how much the cross-validated cross-entropy may exceed that of temperature 1: that much is chance where both are good.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class ChosenTemperature:
    """`value` divides all logits; `reason` says why it is 1 although another was asked for, None where it was fitted."""

    value: float
    reason: str | None = None


def choose_temperature(logits: np.ndarray, truth: np.ndarray) -> ChosenTemperature:
    """The fitted temperature of the validation rows, or 1 where they cannot tell it.

    They cannot where they are few, or where temperatures that are fitted to four fifths of them make the other fifth
    worse: then single rows decide. Raises TrainingError for logits that are not finite.
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
            f"the temperature {temperature:.2f} that suits the validation rows best rests on a few of them: cross-validated, "
            f"it raises the loss from {plain:.4f} to {calibrated:.4f}",
        )
    return ChosenTemperature(temperature)


def require_finite(logits: np.ndarray, split: str) -> None:
    """Raises TrainingError where the logits of a split, [rows, labels], hold NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise TrainingError(
            f"the trained model returns NaN or infinity for {len(bad)} of {len(logits)} {split} rows, so it cannot be used; "
            "lower training.learning_rate or raise training.warmup, and check the encoder with `textclf encoder SOURCE`"
        )


def calibration_text(chosen: ChosenTemperature, errors: Mapping[str, Mapping[str, float]]) -> str:
    """What a person is told: `errors` holds for each split the calibration error `before` and `after`."""
    if chosen.reason is not None:
        before = ", ".join(f"{name} {error['before']:.3f}" for name, error in errors.items())
        return f"not applied, because {chosen.reason}; expected calibration error {before}"
    shown = ", ".join(f"{name} {error['before']:.3f} → {error['after']:.3f}" for name, error in errors.items())
    worse = [name for name, error in errors.items() if round(error["after"], 3) > round(error["before"], 3)]
    text = f"temperature {chosen.value:.2f}, expected calibration error {shown}"
    if worse:
        text += (
            f". It did not help on the {' and '.join(worse)} split: do not read the probabilities as frequencies, or set "
            "training.calibrate=false and compare"
        )
    return text


def fit_temperature(logits: np.ndarray, truth: np.ndarray, halvings: int = _HALVINGS) -> float:
    """Logits float [rows, labels] and true label indices → the temperature of lowest cross-entropy.

    It is searched between 0.05 and 20 by halving the interval of its logarithm. Where every row is right it is 1: such
    rows would ask for endless certainty, and say nothing about mistakes.
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
        """The cross-entropy's derivative by 1/temperature, which only rises."""
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
    """The mean cross-entropy of rows whose temperature was fitted to the other rows."""
    fold = np.arange(len(truth)) % _FOLDS
    total = 0.0
    for number in range(_FOLDS):
        inside = fold == number
        temperature = fit_temperature(logits[~inside], truth[~inside], _HALVINGS_A_FOLD)
        total += _cross_entropy(logits[inside] / temperature, truth[inside]) * inside.sum()
    return total / len(truth)


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
