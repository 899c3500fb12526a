"""The features between an encoder and a task's head: their standardisation, and the first weights of a dense layer."""

from __future__ import annotations

import numpy as np

# Standard deviation of a fresh dense layer's weights (bert_config.json, initializer_range).
_INITIALIZER_RANGE = 0.02


def fresh_kernel(seed: int, inputs: int, outputs: int) -> np.ndarray:
    """Returns the weights of an untrained head, [inputs, outputs], truncated at two deviations as by the original's
    initialiser."""
    random = np.random.default_rng([seed, 1])
    kernel = random.standard_normal((inputs, outputs))
    while (outside := np.abs(kernel) > 2).any():
        kernel[outside] = random.standard_normal(outside.sum())
    return kernel * _INITIALIZER_RANGE


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes features [rows, width] and returns `mean` and `scale` float64 [width]; (feature - mean) * scale has mean 0 and
    deviation 1.

    A feature that does not vary is left unscaled, because its scale would be enormous.
    """
    rows = features.astype(np.float64)
    deviation = rows.std(axis=0)
    varies = deviation > 1e-6 * np.abs(rows).max(initial=1e-6)
    return rows.mean(axis=0), np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 1.0)
