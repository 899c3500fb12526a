"""A first head that suits the encoder as it is: standardised features and labels in, a dense layer's weights out.

Multinomial logistic regression. Training that begins with it changes the encoder less before the head makes sense, which
keeps more of what pretraining taught (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import numpy as np

from textclf.evaluation import softmax

# Half the squared weights times this is added to the mean loss: what suits some hundred features and a thousand rows.
_PENALTY = 0.1
_MOST_STEPS = 300
_SMALLEST_CHANGE = 1e-4


def fit_head(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, label_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """float32 features [rows, width], label indices and weights [rows] → kernel [width, labels] and bias [labels].

    Minimises the weighted mean cross-entropy plus the penalty by Nesterov's accelerated gradient method.
    """
    rows, width = features.shape
    inputs = np.concatenate([features, np.ones((rows, 1), np.float32)], axis=1)
    targets = np.zeros((rows, label_count), np.float32)
    targets[np.arange(rows), labels] = 1.0
    shares = (weights / weights.sum()).astype(np.float32)[:, None]
    penalty = np.full((width + 1, 1), _PENALTY, np.float32)
    penalty[-1] = 0.0
    # The softmax's curvature is at most a half of that of the squared inputs.
    largest = np.linalg.eigvalsh((inputs * shares).T @ inputs)[-1]
    step = np.float32(1.0 / (0.5 * largest + _PENALTY))

    solution = ahead = np.zeros((width + 1, label_count), np.float32)
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
    return solution[:-1], solution[-1]
