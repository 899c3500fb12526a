"""Temperature, calibration error and rejection against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.classify.metrics import softmax
from textclf.training.classification.calibration import (
    calibration_error,
    fit_temperature,
    measure_rejection,
    rejection_threshold,
)


def logits_drawn_at(temperature: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels drawn from them at this temperature: what should be found again."""
    random = np.random.default_rng(0)
    logits = random.standard_normal((rows, 3)) * 4
    cumulated = softmax(logits / temperature).cumsum(axis=1)
    return logits, (random.random((rows, 1)) > cumulated).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_at_which_labels_were_drawn_is_found(temperature):
    assert fit_temperature(*logits_drawn_at(temperature)) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_brings_the_calibration_error_near_zero():
    logits, truth = logits_drawn_at(3.0)
    assert calibration_error(softmax(logits), truth) > 0.15
    assert calibration_error(softmax(logits / fit_temperature(logits, truth)), truth) < 0.015


def test_rows_that_are_all_right_leave_the_temperature_at_one():
    assert fit_temperature(np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([0, 1])) == 1.0


def test_the_calibration_error_weighs_each_bins_gap_by_its_rows():
    # Three rows at 0.9 of which two are right, one row at 0.6 that is right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    error = calibration_error(probabilities, np.array([0, 0, 1, 1]))
    assert error == pytest.approx(3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * (1 - 0.6))


def test_the_lowest_threshold_that_reaches_the_precision_is_chosen():
    sureness = np.array([0.99, 0.95, 0.9, 0.8, 0.7, 0.6])
    right = np.array([True, True, False, True, True, False])
    probabilities = np.stack([sureness, 1 - sureness], axis=1)
    truth = np.where(right, 0, 1)
    found = rejection_threshold(probabilities, truth, 0.75)
    # Of the first five, four are right: 80 %; of all six 67 %.
    assert (found.threshold, found.precision, found.coverage) == pytest.approx((0.65, 0.8, 5 / 6))
    assert rejection_threshold(probabilities, truth, 0.9).threshold == pytest.approx(0.925)
    assert rejection_threshold(probabilities, truth, 0.5).threshold == 0.0
    assert rejection_threshold(probabilities, 1 - truth, 0.9) is None


def test_equal_probabilities_are_kept_or_rejected_together():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.7, 0.3]])
    found = rejection_threshold(probabilities, np.array([0, 0, 1, 1]), 0.9)
    assert found.threshold == pytest.approx(0.85)


def test_a_threshold_is_measured_on_other_rows():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.55, 0.45]])
    measured = measure_rejection(probabilities, np.array([0, 1, 1, 1]), 0.65)
    assert (measured.precision, measured.coverage) == pytest.approx((2 / 3, 3 / 4))
    assert measure_rejection(probabilities, np.array([0, 1, 1, 1]), 0.99).coverage == 0
