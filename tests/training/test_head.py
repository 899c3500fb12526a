"""The first head: against the optimality condition of the loss that it minimises."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.classify.metrics import softmax
from textclf.training.classification.head import fit_head


def problem(rows: int = 400, width: int = 12, labels: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    features = random.standard_normal((rows, width)).astype(np.float32)
    logits = features @ random.standard_normal((width, labels)) + random.standard_normal((rows, labels))
    return features, logits.argmax(axis=1), random.uniform(0.5, 2.0, rows)


def test_at_the_head_the_gradient_of_the_penalised_loss_is_zero():
    features, labels, weights = problem()
    kernel, bias = fit_head(features, labels, weights, 4)
    errors = softmax(features @ kernel + bias) - np.eye(4)[labels]
    shares = (weights / weights.sum())[:, None]
    assert np.abs(features.T @ (errors * shares) + 0.1 * kernel).max() < 1e-3
    assert np.abs((errors * shares).sum(axis=0)).max() < 1e-3
    assert (softmax(features @ kernel + bias).argmax(axis=1) == labels).mean() > 0.75


def test_a_label_without_rows_gets_the_lowest_probability():
    features, labels, weights = problem()
    kernel, bias = fit_head(features, labels, weights, 5)
    assert softmax(features @ kernel + bias)[:, 4].max() == pytest.approx(0.0, abs=0.05)
