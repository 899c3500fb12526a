"""Fits a first head for several labels per row: one logistic regression for each label, all of them at once.

It has the purpose and the penalties of the head of one label (`classification/head.py`), and is chosen by the same folds.
"""

from __future__ import annotations

import numpy as np

from textclf.classify.multi_label.metrics import mean_loss, sigmoid
from textclf.errors import TrainingError
from textclf.training.classification.folds import stratified_folds
from textclf.training.classification.head import PENALTIES, PENALTY, TEMPERATURES, FittedHead
from textclf.training.multi_label.weights import SideWeights

# Up to this many rows times labels, cross-validation takes seconds.
_MOST_CROSS_VALIDATED_CELLS = 200_000

_STEPS_OF_A_FOLD, _STEPS = 40, 200

_SMALLEST_CHANGE = 1e-4

# A label without any row, or with every row, starts as if this share of a row were different.
_HALF_A_ROW = 0.5


def fit_best_head(features: np.ndarray, targets: np.ndarray, weights: SideWeights, strata: np.ndarray) -> FittedHead:
    """float32 features [rows, width] and bool targets [rows, labels] → the head that predicts rows of other folds best.

    The penalty and the scale of the logits are the same for all labels. `strata` are numbers by row; each fold has about
    the same share of every stratum. Raises TrainingError if the head would not be finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _best_head(features, targets, weights, strata)


def _best_head(features: np.ndarray, targets: np.ndarray, weights: SideWeights, strata: np.ndarray) -> FittedHead:
    rows, labels = targets.shape
    if rows < 2 or rows * labels > _MOST_CROSS_VALIDATED_CELLS:
        fitted = _Fit(features, targets, weights).solution(PENALTY, _STEPS)
        return FittedHead(*_checked(fitted), PENALTY)
    folds = stratified_folds(features, strata)
    cross_validated = _cross_validated(features, targets, weights, folds)
    losses = {
        (penalty, temperature): mean_loss(_cooled(logits, base, temperature), targets, *weights) * rows
        + 0.5 * np.log(temperature) ** 2
        for penalty, (logits, base) in cross_validated.items()
        for temperature in TEMPERATURES[::3].tolist()
    }
    penalty, temperature = min(losses, key=lambda key: losses[key])
    fit = _Fit(features, targets, weights)
    kernel, bias = _checked(fit.solution(penalty, _STEPS))
    factor = np.float32(1.0 / temperature)
    logits, base = cross_validated[penalty]
    return FittedHead(
        kernel * factor, fit.base + (bias - fit.base) * factor, penalty, _cooled(logits, base, temperature)
    )


def _cross_validated(
    features: np.ndarray, targets: np.ndarray, weights: SideWeights, folds: np.ndarray
) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Returns, by penalty, the logits of each row of heads that were fitted to the other folds, and the logits of heads that
    do not read the text, float32 [rows, labels] each."""
    found = {
        penalty: (np.zeros(targets.shape, np.float32), np.zeros(targets.shape, np.float32)) for penalty in PENALTIES
    }
    for fold in range(folds.max() + 1):
        inside = folds == fold
        fit = _Fit(features[~inside], targets[~inside], weights)
        for penalty, (logits, base) in found.items():
            solution = fit.solution(penalty, _STEPS_OF_A_FOLD)
            logits[inside] = features[inside] @ solution[:-1] + solution[-1]
            base[inside] = fit.base
    return found


def _cooled(logits: np.ndarray, base: np.ndarray, temperature: float) -> np.ndarray:
    """Divides by the temperature what the text adds to the logits: the share of a label stays as it is."""
    cooled: np.ndarray = base + (logits - base) / np.float32(temperature)
    return cooled


def _checked(solution: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and the bias of a solution."""
    if not np.isfinite(solution).all():
        raise TrainingError(
            "the first head cannot be fitted: the encoder's outputs for the training rows lead to NaN or infinity; "
            "set training.head to fresh, or use another encoder"
        )
    return solution[:-1], solution[-1]


class _Fit:
    """The regression of some rows, for any penalty. `base` are the logits of the labels' weighted shares."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, weights: SideWeights) -> None:
        rows = len(features)
        self._inputs = np.concatenate([features, np.ones((rows, 1), np.float32)], axis=1)
        self._targets = targets.astype(np.float32)
        self._cells = np.where(targets, weights.with_label, weights.without_label).astype(np.float32) / np.float32(rows)
        positives = targets.sum(axis=0)
        having = (positives + _HALF_A_ROW) * weights.with_label
        lacking = (rows - positives + _HALF_A_ROW) * weights.without_label
        self.base = np.log(having / lacking).astype(np.float32)
        # The curvature of a logistic regression is at most a quarter of that of the squared inputs, times the weight of a row.
        self._largest = 0.25 * np.maximum(weights.with_label, weights.without_label)
        with np.errstate(over="ignore", invalid="ignore"):
            curvature = (self._inputs.T @ self._inputs).astype(np.float64) / rows
        self._values: np.ndarray = np.full(len(curvature), np.nan)
        self._vectors: np.ndarray = np.full_like(curvature, np.nan)
        if np.isfinite(curvature).all():
            self._values, self._vectors = np.linalg.eigh(curvature)

    def solution(self, penalty: float, steps: int) -> np.ndarray:
        """Returns kernel and bias as one array, float32 [width + 1, labels].

        Each step of Nesterov's accelerated method is scaled by the inverse of the bound on the curvature, which has the same
        directions for every label.
        """
        vectors = self._vectors.astype(np.float32)
        scales = (1.0 / (np.maximum(self._values, 0)[:, None] * self._largest + penalty)).astype(np.float32)
        solution: np.ndarray = np.zeros((self._inputs.shape[1], self._targets.shape[1]), np.float32)
        solution[-1] = self.base
        shrunk = np.full((len(solution), 1), penalty, np.float32)
        shrunk[-1] = 0.0
        ahead, momentum = solution, 1.0
        for _ in range(steps):
            errors = (sigmoid(self._inputs @ ahead) - self._targets) * self._cells
            gradient = self._inputs.T @ errors + shrunk * ahead
            following = ahead - vectors @ (scales * (vectors.T @ gradient))
            change = following - solution
            next_momentum = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
            ahead = following + np.float32((momentum - 1.0) / next_momentum) * change
            solution, momentum = following, next_momentum
            if np.abs(change).max() < _SMALLEST_CHANGE * np.abs(solution).max():
                break
        return solution
