"""Fits a first head to the untrained encoder: takes standardised features and labels, returns a dense layer's weights.

This is multinomial logistic regression. A training that begins with it changes the encoder less before the head makes
sense, so more of the pretraining is kept (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textclf.classify.metrics import softmax
from textclf.errors import TrainingError
from textclf.training.classification.folds import stratified_folds

# Half the squared weights times this is added to the mean loss. Where cross-validation would take too long, the first one
# is used, which suits a few hundred features and a thousand rows; otherwise the one of the others that is best.
PENALTY = 0.1

PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)

# Up to this many rows times labels, cross-validation takes seconds.
_MOST_CROSS_VALIDATED_CELLS = 100_000

_STEPS_OF_A_FOLD = 20

# Up to this many rows, a label counts in the fit by the square root of its share, because a head that is fitted to the shares
# predicts rare labels too seldom. With 2,000 rows this no longer helps (benchmarks/README.md, Imbalanced labels).
_FEW_ROWS = 500

# The temperatures that are tried for the logits of a penalty. A strong penalty ranks labels well, but makes all of them
# about equally probable.
TEMPERATURES = np.exp(np.linspace(np.log(0.05), np.log(4.0), 45))

_MOST_STEPS = 300

_SMALLEST_CHANGE = 1e-4

# Up to this many rows times labels, the minimum is searched until it is found, which takes seconds: 4,096 rows, 150 labels.
_MOST_CELLS = 650_000

# Beyond, about this many rows times labels times steps are computed (five seconds on two cores), in 3 to 20 steps.
_MOST_CELLS_IN_ALL = 30_000_000

_FEWEST_QUICK_STEPS, _MOST_QUICK_STEPS = 3, 20

# Added to the diagonal of the curvature, because directions without variance could not be inverted.
_DAMPING = 1e-5


@dataclass(frozen=True)
class FittedHead:
    """A dense layer: `kernel` float32 [width, labels] and `bias` float32 [labels].

    `cross_validated` are the logits of the rows, float32 [rows, labels], each from a head that was fitted to the rows of
    the other folds. It is None if cross-validation would take too long; then `penalty` was not chosen by it either.
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    cross_validated: np.ndarray | None = None


def fit_best_head(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, label_count: int) -> FittedHead:
    """Fits a head with the penalty and the temperature that predict the rows of the other folds best.

    The arguments and the errors are those of `fit_head`. The folds are equal for equal inputs. With
    few rows of equal weight, a label counts in the fit by the square root of its share. Penalty and temperature are
    judged with the weights as given.
    """
    rows = len(features)
    if rows * label_count > _MOST_CROSS_VALIDATED_CELLS or np.bincount(labels).max() == rows:
        return FittedHead(*fit_head(features, labels, weights, label_count), PENALTY)
    fitted_weights = _fitted_weights(labels, weights)
    folds = stratified_folds(features, labels)
    rotated = _rotated(features)
    best: tuple[float, float, float, np.ndarray] | None = None
    for penalty in PENALTIES:
        logits = _cross_validated(rotated, labels, fitted_weights, label_count, penalty, folds)
        loss, temperature = _best_temperature(logits, labels, weights)
        # Among equals the strongest penalty, which comes first.
        if best is None or loss < best[0]:
            best = loss, penalty, temperature, logits
    assert best is not None
    _, penalty, temperature, logits = best
    kernel, bias = fit_head(features, labels, fitted_weights, label_count, penalty)
    factor = np.float32(1.0 / temperature)
    return FittedHead(kernel * factor, bias * factor, penalty, logits * factor)


def _fitted_weights(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weights [rows] of the fit. Weights that differ were chosen by the user and stay as they are."""
    if len(labels) > _FEW_ROWS or weights.min() != weights.max():
        return weights
    fitted: np.ndarray = weights / np.sqrt(np.bincount(labels)[labels])
    return fitted


def _rotated(features: np.ndarray) -> np.ndarray:
    """Returns the features [rows, width] as [rows, at most rows], with the same products between rows.

    A head of the same penalty has the same logits on both, and is fitted to the narrower ones in less time.
    """
    if len(features) >= features.shape[1] or not np.isfinite(features).all():
        return features
    left, sizes, _ = np.linalg.svd(features, full_matrices=False)
    rotated: np.ndarray = (left * sizes).astype(np.float32)
    return rotated


def _cross_validated(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, label_count: int, penalty: float, folds: np.ndarray
) -> np.ndarray:
    """Returns the logits of each row of a head that was fitted to the rows of the other folds."""
    logits: np.ndarray = np.zeros((len(features), label_count), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for fold in range(folds.max() + 1):
            inside = folds == fold
            inputs, shares, penalties = _prepared(features[~inside], weights[~inside], penalty)
            solution = _near_minimum(inputs, labels[~inside], shares, penalties, label_count, _STEPS_OF_A_FOLD)
            logits[inside] = features[inside] @ solution[:-1] + solution[-1]
    return logits


def _best_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Returns the lowest loss over the temperatures and the temperature itself.

    The loss is a sum over the rows. Half the squared logarithm of the temperature is added, so that a handful of rows
    does not lead to an extreme one.
    """
    shares = weights / weights.mean()
    rows = np.arange(len(labels))
    losses = []
    for temperature in TEMPERATURES:
        scores = logits.astype(np.float64) / temperature
        scores -= scores.max(axis=1, keepdims=True)
        of_rows = np.log(np.exp(scores).sum(axis=1)) - scores[rows, labels]
        losses.append(float((of_rows * shares).sum()) + 0.5 * np.log(temperature) ** 2)
    place = int(np.argmin(losses))
    return losses[place], float(TEMPERATURES[place])


def fit_head(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, label_count: int, penalty: float = PENALTY
) -> tuple[np.ndarray, np.ndarray]:
    """float32 features [rows, width], label indices and weights [rows] → kernel [width, labels] and bias [labels].

    Minimises the weighted mean cross-entropy plus the penalty by Nesterov's accelerated gradient method. With very many
    labels only a few steps are made, each scaled by the inverse of the features' curvature; they come close to the
    minimum. Raises TrainingError if the head would not be finite.
    """
    inputs, shares, penalties = _prepared(features, weights, penalty)
    cells = len(features) * label_count
    with np.errstate(over="ignore", invalid="ignore"):
        if cells <= _MOST_CELLS:
            solution = _minimum(inputs, labels, shares, penalties, label_count)
        else:
            steps = min(max(_MOST_CELLS_IN_ALL // cells, _FEWEST_QUICK_STEPS), _MOST_QUICK_STEPS)
            solution = _near_minimum(inputs, labels, shares, penalties, label_count, steps)
    if not np.isfinite(solution).all():
        raise TrainingError(
            "the first head cannot be fitted: the encoder's outputs for the training rows lead to NaN or infinity; "
            "set training.head to fresh, or use another encoder"
        )
    return solution[:-1], solution[-1]


def _prepared(features: np.ndarray, weights: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the features with a column of ones for the bias, the rows' shares [rows, 1] of the loss, and the penalty of
    each input, [width + 1, 1]: none for the bias."""
    inputs = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    shares = (weights / weights.sum()).astype(np.float32)[:, None]
    penalties: np.ndarray = np.full((inputs.shape[1], 1), penalty, np.float32)
    penalties[-1] = 0.0
    return inputs, shares, penalties


def _minimum(
    inputs: np.ndarray, labels: np.ndarray, shares: np.ndarray, penalty: np.ndarray, label_count: int
) -> np.ndarray:
    rows, width = inputs.shape
    targets = np.zeros((rows, label_count), np.float32)
    targets[np.arange(rows), labels] = 1.0
    # The softmax's curvature is at most half that of the squared inputs.
    largest = _largest_eigenvalue((inputs * shares).T @ inputs)
    step = np.float32(1.0 / (0.5 * largest + penalty[0, 0]))

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
