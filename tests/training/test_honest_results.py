"""Results say how much they are worth: temperatures of few rows, accuracies of few rows, models no better than a guess."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.classify.metrics import evaluate, result_warnings, softmax
from textclf.runs.pages.metrics_text import metrics_text
from textclf.training.classification.calibration import (
    LEAST_ROWS,
    ChosenTemperature,
    calibration_text,
    choose_temperature,
    fit_temperature,
)


def drawn(rows: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    logits = random.standard_normal((rows, 3)) * 3
    cumulated = softmax(logits / temperature).cumsum(axis=1)
    return logits, (random.random((rows, 1)) > cumulated).sum(axis=1)


def test_a_handful_of_rows_fits_no_temperature():
    logits, truth = np.array([[2.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), np.array([0, 1, 1])
    assert fit_temperature(logits, truth) > 4
    chosen = choose_temperature(logits, truth)
    assert chosen.value == 1.0
    assert "3 validation rows are too few" in chosen.reason
    assert str(LEAST_ROWS) in chosen.reason


def test_enough_rows_fit_the_temperature_that_they_always_did():
    logits, truth = drawn(200, 2.0)
    assert choose_temperature(logits, truth) == ChosenTemperature(fit_temperature(logits, truth))
    assert 1.4 < choose_temperature(logits, truth).value < 2.8


def test_a_temperature_that_rests_on_one_row_is_not_applied():
    logits = np.tile([4.0, 0.0], (60, 1))
    logits[7] = [0.0, 40.0]
    truth = np.zeros(60, np.int64)
    assert fit_temperature(logits, truth) > 1.5
    chosen = choose_temperature(logits, truth)
    assert chosen.value == 1.0
    assert "cross-validated" in chosen.reason


def test_of_very_many_logits_some_rows_tell_the_temperature():
    logits, truth = drawn(1200, 2.0)
    wide = np.concatenate([logits, np.full((1200, 5000), -60.0)], axis=1)
    assert fit_temperature(wide, truth) == pytest.approx(fit_temperature(logits, truth), rel=0.1)


def test_a_calibration_that_makes_the_error_larger_is_said():
    better, worse = {"before": 0.118, "after": 0.05}, {"before": 0.118, "after": 0.159}
    assert "did not help" not in calibration_text(ChosenTemperature(1.3), {"validation": better})
    text = calibration_text(ChosenTemperature(1.3), {"validation": better, "test": worse})
    assert "test 0.118 → 0.159" in text
    assert "did not help on the test split" in text


def metrics_of(truth: list[int], given: list[int]):
    return evaluate(np.eye(3)[given] * 0.9 + 0.03, np.array(truth), ["ham", "spam", "other"])


def test_a_model_that_is_not_better_than_the_commonest_label_is_a_warning():
    truth = [0] * 60 + [1] * 40
    poor = metrics_of(truth, [0] * 55 + [1] * 45)
    assert result_warnings({"test": poor}, "test") == []
    guessing = metrics_of(truth, [0] * 100)
    [warning] = result_warnings({"test": guessing}, "test")
    assert warning.startswith("the model is not better than always predicting `ham` (60.0% of the test rows)")
    assert "Warning: the model is not better than always predicting `ham`" in metrics_text(guessing)


def test_an_accuracy_of_few_rows_is_said_with_its_interval():
    few, enough = metrics_of([0, 1, 1], [0, 1, 1]), metrics_of([0, 1] * 25, [0, 1] * 25)
    [warning] = result_warnings({"validation": few, "test": enough}, "test")
    assert "measured on only 3 validation rows" in warning
    assert "43.9–100.0 %" in warning


def test_a_perfect_model_of_rows_of_one_label_is_no_guess():
    assert result_warnings({"test": metrics_of([1] * 60, [1] * 60)}, "test") == []
