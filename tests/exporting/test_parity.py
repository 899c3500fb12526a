"""The gate between a trained model and its exported file."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.errors import VerificationError
from textclf.exporting.parity import verify_export
from textclf.exporting.report import VerificationReport


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
    with pytest.raises(VerificationError, match=r"accuracy is 97\.0% after the export and 100\.0% before"):
        verify_export(trained, exported, np.zeros(1000, int), "dynamic")


def test_without_quantisation_only_rounding_is_allowed():
    trained = decided([0, 1])
    verify_export(trained, trained + np.array([1e-4, -1e-4]), np.array([0, 1]), "none")
    with pytest.raises(VerificationError, match=r"differ from the trained model's by up to 0.0100"):
        verify_export(trained, trained + np.array([1e-2, -1e-2]), np.array([0, 1]), "none")


def test_probabilities_that_are_not_numbers_fail():
    for bad in (np.nan, np.inf):
        for form in ("none", "float16", "dynamic", "int4"):
            wrong = decided([0, 1])
            wrong[1, 0] = bad
            with pytest.raises(VerificationError, match=r"exported model .*not numbers for 1 of 2 rows \(first: row 2"):
                verify_export(decided([0, 1]), wrong, np.array([0, 1]), form)
            with pytest.raises(VerificationError, match=r"trained model .*not numbers for 1 of 2 rows"):
                verify_export(wrong, decided([0, 1]), np.array([0, 1]), form)


def test_the_message_names_the_bound_that_was_broken_and_no_other():
    changed_only = decided([0] * 400), decided([1] * 8 + [0] * 392), np.array([0, 1] * 200)
    with pytest.raises(VerificationError) as caught:
        verify_export(*changed_only, "dynamic")
    assert "8 of 400 rows clearly another label than the trained model (at most 1.0% may change)" in str(caught.value)
    assert "accuracy" not in str(caught.value)
    undecided = np.tile([0.51, 0.49], (400, 1))
    lost_only = undecided, np.where(np.arange(400)[:, None] < 30, [0.49, 0.51], undecided), np.zeros(400, int)
    with pytest.raises(VerificationError) as caught:
        verify_export(*lost_only, "dynamic")
    assert "92.5% after the export and 100.0% before, on 400 rows (at most 0.5% may be lost)" in str(caught.value)
    assert "another label" not in str(caught.value)


@pytest.mark.parametrize(("rows", "lost"), [(6, 1), (18, 3)])
def test_a_loss_that_chance_explains_on_few_rows_passes_with_the_doubt_told(rows, lost):
    trained = np.tile([0.51, 0.49], (rows, 1))
    exported = np.where(np.arange(rows)[:, None] < lost, [0.49, 0.51], trained)
    found = verify_export(trained, exported, np.zeros(rows, int), "int4")
    assert found.doubt is not None
    assert (
        f"83.3% after the export and 100.0% before (at most 1.0% may be lost), but {rows} rows are too few"
        in found.doubt
    )
    assert verify_export(trained, trained, np.zeros(rows, int), "int4").doubt is None
    report = VerificationReport("m.tflite", parity=found)
    assert report.as_text().startswith("m.tflite: no verdict, because there are too few rows\n")
    assert found.doubt in report.as_text()
