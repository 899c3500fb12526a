"""The gate between a trained model and its exported file."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.errors import VerificationError
from textclf.export.verification import verify_export


def decided(labels: list[int]) -> np.ndarray:
    """Probabilities of two labels with the given ones clearly ahead."""
    return np.where(np.arange(2) == np.array(labels)[:, None], 0.9, 0.1)


def test_equal_answers_pass_and_are_counted():
    found = verify_export(decided([0, 1, 0]), decided([0, 1, 0]), np.array([0, 1, 1]), "dynamic")
    assert (found.rows, found.changed_labels, found.accuracy_exported) == (3, 0, pytest.approx(2 / 3))


def test_clearly_changed_labels_fail_beyond_one_row_and_one_percent():
    trained, truth = decided([0] * 400), np.zeros(400, int)
    verify_export(trained, decided([1] * 2 + [0] * 398), truth, "dynamic")
    with pytest.raises(VerificationError, match="gives 5 of 400 rows clearly another label"):
        verify_export(trained, decided([1] * 5 + [0] * 395), truth, "dynamic")


def test_4_bits_may_change_three_rows_in_a_hundred_unless_the_recipe_says_otherwise():
    trained, truth = decided([0] * 400), np.array([0, 1] * 200)
    exported = decided([1] * 12 + [0] * 388)
    verify_export(trained, exported, truth, "int4")
    with pytest.raises(VerificationError, match=r"at most 1\.0% may change"):
        verify_export(trained, exported, truth, "dynamic")
    with pytest.raises(VerificationError, match=r"at most 2\.0% may change"):
        verify_export(trained, exported, truth, "int4", max_changed_labels=0.02)
    with pytest.raises(VerificationError, match="gives 13 of 400 rows clearly another label"):
        verify_export(trained, decided([1] * 13 + [0] * 387), truth, "int4")


def test_changes_on_undecided_rows_count_only_where_they_cost_accuracy():
    trained = np.tile([0.51, 0.49], (1000, 1))
    exported = trained.copy()
    exported[:30] = [0.49, 0.51]
    helps_as_often = np.array([0] * 15 + [1] * 15 + [0] * 970)
    assert verify_export(trained, exported, helps_as_often, "dynamic").changed_labels == 30
    with pytest.raises(VerificationError, match=r"its accuracy is 97.0% against 100.0%"):
        verify_export(trained, exported, np.zeros(1000, int), "dynamic")


def test_without_quantisation_only_rounding_is_allowed():
    trained = decided([0, 1])
    verify_export(trained, trained + np.array([1e-4, -1e-4]), np.array([0, 1]), "none")
    with pytest.raises(VerificationError, match=r"differ from the trained model's by up to 0.0100"):
        verify_export(trained, trained + np.array([1e-2, -1e-2]), np.array([0, 1]), "none")


def test_probabilities_that_are_not_numbers_fail():
    with pytest.raises(VerificationError, match="not numbers"):
        verify_export(decided([0]), np.array([[np.nan, np.nan]]), np.array([0]), "dynamic")
