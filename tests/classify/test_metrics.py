"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from textclf.classify.metrics import evaluate, softmax


def test_metrics_of_a_small_confusion_matrix():
    # True a a a b b c → predicted a a b b a b.
    predicted = [0, 0, 1, 1, 0, 1]
    probabilities = np.full((6, 3), 0.1)
    probabilities[np.arange(6), predicted] = 0.8
    metrics = evaluate(probabilities, np.array([0, 0, 0, 1, 1, 2]), ["a", "b", "c"])
    assert metrics.confusion_cells == [[0, 0, 2], [0, 1, 1], [1, 0, 1], [1, 1, 1], [2, 1, 1]]
    assert metrics.confusion_matrix().tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert metrics.accuracy == pytest.approx(0.5)
    a, b, c = metrics.per_label
    assert (a.precision, a.recall, a.f1, a.support) == (
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
        3,
    )
    assert (b.precision, b.recall, b.f1, b.support) == (pytest.approx(1 / 3), 0.5, pytest.approx(0.4), 2)
    assert (c.precision, c.recall, c.f1, c.support) == (0, 0, 0, 1)
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 0.4 + 0) / 3)
    assert metrics.loss == pytest.approx(-(3 * math.log(0.8) + 3 * math.log(0.1)) / 6)


def test_a_label_that_never_occurs_does_not_lower_macro_f1():
    metrics = evaluate(np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), np.array([0, 1]), ["a", "b", "unused"])
    assert metrics.macro_f1 == 1.0


def test_a_true_label_of_probability_zero_gives_a_finite_loss():
    assert math.isfinite(evaluate(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"]).loss)


def test_softmax_of_large_logits_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0], [0.0, math.log(3)]])), [[0.5, 0.5], [0.25, 0.75]])
