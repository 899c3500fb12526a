"""Fits a first head to the untrained encoder: takes standardised features and labels, returns a dense layer's weights.

This is multinomial logistic regression. A training that begins with it changes the encoder less before the head makes
sense, so more of the pretraining is kept (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import numpy as np

from textclf.classify.metrics import softmax
from textclf.errors import TrainingError

# Half the squared weights times this is added to the mean loss; chosen for a few hundred features and a thousand rows.
_PENALTY = 0.1

_MOST_STEPS = 300

_SMALLEST_CHANGE = 1e-4

# Up to this many rows times labels, the minimum is searched until it is found, which takes seconds: 4,096 rows, 150 labels.
_MOST_CELLS = 650_000

# Beyond, about this many rows times labels times steps are computed (five seconds on two cores), in 3 to 20 steps.
_MOST_CELLS_IN_ALL = 30_000_000

_FEWEST_QUICK_STEPS, _MOST_QUICK_STEPS = 3, 20

# Added to the diagonal of the curvature, because directions without variance could not be inverted.
_DAMPING = 1e-5


def fit_head(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, label_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """float32 features [rows, width], label indices and weights [rows] → kernel [width, labels] and bias [labels].

    Minimises the weighted mean cross-entropy plus the penalty by Nesterov's accelerated gradient method. With very many
    labels only a few steps are made, each scaled by the inverse of the features' curvature; they come close to the
    minimum. Raises TrainingError if the head would not be finite.
    """
    inputs = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    shares = (weights / weights.sum()).astype(np.float32)[:, None]
    penalty = np.full((inputs.shape[1], 1), _PENALTY, np.float32)
    penalty[-1] = 0.0
    cells = len(features) * label_count
    with np.errstate(over="ignore", invalid="ignore"):
        if cells <= _MOST_CELLS:
            solution = _minimum(inputs, labels, shares, penalty, label_count)
        else:
            steps = min(max(_MOST_CELLS_IN_ALL // cells, _FEWEST_QUICK_STEPS), _MOST_QUICK_STEPS)
            solution = _near_minimum(inputs, labels, shares, penalty, label_count, steps)
    if not np.isfinite(solution).all():
        raise TrainingError(
            "the first head cannot be fitted: the encoder's outputs for the training rows lead to NaN or infinity; "
            "set training.head to fresh, or use another encoder"
        )
    return solution[:-1], solution[-1]


def _minimum(
    inputs: np.ndarray, labels: np.ndarray, shares: np.ndarray, penalty: np.ndarray, label_count: int
) -> np.ndarray:
    rows, width = inputs.shape
    targets = np.zeros((rows, label_count), np.float32)
    targets[np.arange(rows), labels] = 1.0
    # The softmax's curvature is at most half that of the squared inputs.
    largest = _largest_eigenvalue((inputs * shares).T @ inputs)
    step = np.float32(1.0 / (0.5 * largest + _PENALTY))

    solution = ahead = np.zeros((width, label_count), np.float32)
    momentum = 1.0
    for _ in range(_MOST_STEPS):
        gradient = inputs.T @ ((softmax(inputs @ ahead) - targets) * shares) + penalty * ahead
        following = ahead - step * gradient
        next_momentum = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        change = following - solution
        ahead = following + np.float32((momentum - 1.0) / next_momentum) * change
        solution, momentum = following, next_momentum
        if np.abs(change).max() < _SMALLEST_CHANGE * np.abs(solution).max():
            break
    return solution


def _largest_eigenvalue(matrix: np.ndarray) -> np.floating:
    """Returns NaN if an entry is not finite; numpy would raise LinAlgError."""
    largest: np.floating = np.linalg.eigvalsh(matrix)[-1] if np.isfinite(matrix).all() else np.float32(np.nan)
    return largest


def _near_minimum(
    inputs: np.ndarray, labels: np.ndarray, shares: np.ndarray, penalty: np.ndarray, label_count: int, steps: int
) -> np.ndarray:
    """Makes this many accelerated steps, scaled by the inverse of a bound on the curvature (Böhning, 1992, Annals of the
    Institute of Statistical Mathematics 44, p. 197–200), which is the same for every label."""
    rows, width = inputs.shape
    curvature = 0.5 * ((inputs * shares).T @ inputs).astype(np.float64) + np.diag(penalty[:, 0].astype(np.float64))
    if not np.isfinite(curvature).all():
        return np.full((width, label_count), np.nan, np.float32)
    inverse: np.ndarray = np.linalg.inv(curvature + _DAMPING * np.eye(width)).astype(np.float32)
    weighted = np.ascontiguousarray((inputs * shares).T)
    solution: np.ndarray = np.zeros((width, label_count), np.float32)
    ahead = solution
    momentum = 1.0
    for _ in range(steps):
        errors = inputs @ ahead
        # In place: with this many labels, every further array of this size costs time and memory.
        errors -= errors.max(axis=1, keepdims=True)
        np.exp(errors, out=errors)
        errors /= errors.sum(axis=1, keepdims=True)
        errors[np.arange(rows), labels] -= 1.0
        following = ahead - inverse @ (weighted @ errors + penalty * ahead)
        next_momentum = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = following + np.float32((momentum - 1.0) / next_momentum) * (following - solution)
        solution, momentum = following, next_momentum
    return solution
