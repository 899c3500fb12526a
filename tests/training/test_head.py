"""The first head: against the optimality condition of the loss that it minimises."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.classify.metrics import softmax
from textclf.training.classification.head import fit_best_head, fit_head


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


def noisy(rows: int, width: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two labels, of which five features say a little, and many that say nothing."""
    random = np.random.default_rng(5)
    labels = np.arange(rows) % 2
    features = random.standard_normal((rows, width)).astype(np.float32)
    features[:, :5] += (labels[:, None] - 0.5) * 1.2
    return features, labels, np.ones(rows)


def test_the_chosen_penalty_predicts_unseen_rows_better_than_the_fixed_one():
    features, labels, weights = (array[:60] for array in noisy(2060))
    unseen, truth, _ = (array[60:] for array in noisy(2060))

    def loss(kernel: np.ndarray, bias: np.ndarray) -> float:
        return float(-np.log(softmax(unseen @ kernel + bias)[np.arange(len(truth)), truth]).mean())

    head = fit_best_head(features, labels, weights, 2)
    assert head.penalty > 0.1
    assert loss(head.kernel, head.bias) < loss(*fit_head(features, labels, weights, 2)) - 0.01


def test_a_rare_label_is_predicted_more_often_and_no_row_more_is_wrong():
    found = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        labels = (np.arange(2100) % 10 == 0).astype(int)
        features = random.standard_normal((2100, 40)).astype(np.float32)
        features[:, :8] += labels[:, None]
        unseen, truth = features[100:], labels[100:]
        head = fit_best_head(features[:100], labels[:100], np.ones(100), 2)
        plain = fit_head(features[:100], labels[:100], np.ones(100), 2, head.penalty)
        for kernel, bias in ((head.kernel, head.bias), plain):
            predicted = (unseen @ kernel + bias).argmax(axis=1)
            found.append([(predicted == truth).mean(), (predicted[truth == 1] == 1).mean()])
    (accuracy, recall), (plain_accuracy, plain_recall) = np.mean([found[0::2], found[1::2]], axis=1)
    assert accuracy >= plain_accuracy
    assert recall > plain_recall + 0.1


def test_weights_that_differ_are_used_as_they_are():
    features, labels, weights = problem(rows=100)
    head = fit_best_head(features, labels, weights, 4)
    kernel, _ = fit_head(features, labels, weights, 4, head.penalty)
    scale = np.abs(head.kernel).sum() / np.abs(kernel).sum()
    np.testing.assert_allclose(head.kernel, kernel * scale, atol=1e-4)


def test_cross_validated_logits_do_not_know_the_row_that_they_predict():
    features, _, weights = noisy(80)
    labels = np.random.default_rng(1).integers(0, 2, 80)
    head = fit_best_head(features, labels, weights, 2)
    assert (head.cross_validated.argmax(axis=1) == labels).mean() < 0.65
    kernel, bias = fit_head(features, labels, weights, 2)
    assert ((features @ kernel + bias).argmax(axis=1) == labels).mean() > 0.8, "a head can memorise them"


def test_with_very_many_rows_and_labels_nothing_is_cross_validated():
    random = np.random.default_rng(0)
    features = random.standard_normal((2000, 4)).astype(np.float32)
    head = fit_best_head(features, np.arange(2000) % 100, np.ones(2000), 100)
    assert head.cross_validated is None
