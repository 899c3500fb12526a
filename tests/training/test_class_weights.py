"""Weights by label, of mean 1 over the training rows."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.errors import RecipeError
from textclf.training.classification.class_weights import label_weights

LABELS, COUNTS = ["ham", "spam"], np.array([30, 10])


def test_balanced_labels_have_the_same_total_weight():
    weights = label_weights("balanced", LABELS, COUNTS)
    np.testing.assert_allclose(weights * COUNTS, [20, 20], rtol=1e-6)


def test_a_named_label_counts_so_many_times_as_the_others():
    weights = label_weights({"spam": 3.0}, LABELS, COUNTS)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert (weights * COUNTS).sum() == pytest.approx(40)
    np.testing.assert_array_equal(label_weights(None, LABELS, COUNTS), [1, 1])


def test_a_label_that_no_row_has_is_refused_with_the_nearest_one():
    with pytest.raises(RecipeError, match=r"names `spma`.*did you mean `spam`"):
        label_weights({"spma": 3.0}, LABELS, COUNTS)
