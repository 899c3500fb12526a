"""The pieces of training with several labels per row: weights, head, calibration, thresholds, metrics, parity."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.classify.multi_label.metrics import average_precision, f1_of, measure_label_sets, sigmoid
from textclf.errors import RecipeError, TrainingError, VerificationError
from textclf.exporting.multi_label.model_file import verify_label_sets
from textclf.training.multi_label.calibration import calibrate_labels, label_calibration_error
from textclf.training.multi_label.head import fit_best_head
from textclf.training.multi_label.thresholds import best_f1_thresholds, choose_thresholds
from textclf.training.multi_label.weights import guessing_loss, side_weights

LABELS = ["a", "b", "c"]


def judged(rows: int = 600, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and true labels for which the sigmoid of logits / scale is the right probability."""
    random = np.random.default_rng(seed)
    logits = random.normal([-2.0, 0.0, 1.0], 1.5, (rows, 3))
    return (logits * scale).astype(np.float32), random.random((rows, 3)) < sigmoid(logits)


# --- Weights ---------------------------------------------------------------------------------------------------------
def test_balanced_weights_give_both_sides_of_a_label_the_same_total_and_the_mean_one():
    positives = np.array([10, 50, 90])
    weights = side_weights("balanced", LABELS, positives, 100)
    assert weights.with_label * positives == pytest.approx(weights.without_label * (100 - positives))
    assert (weights.with_label * positives + weights.without_label * (100 - positives)) / 100 == pytest.approx(
        [1, 1, 1]
    )
    rare = side_weights("balanced", LABELS, np.array([1, 50, 50]), 100_000)
    assert rare.with_label[0] / rare.without_label[0] == pytest.approx(100)


def test_a_number_is_the_ratio_of_the_weights_and_unknown_labels_are_errors():
    weights = side_weights({"b": 3.0}, LABELS, np.array([10, 50, 90]), 100)
    assert weights.with_label / weights.without_label == pytest.approx([1, 3, 1])
    with pytest.raises(RecipeError, match=r"names `bb`, a label that no row has; did you mean `b`\?"):
        side_weights({"bb": 3.0}, ["a", "b"], np.array([1, 1]), 4)


def test_guessing_costs_the_entropy_of_the_shares():
    plain = side_weights(None, LABELS, np.array([0, 50, 100]), 100)
    assert guessing_loss(np.array([0, 50, 100]), 100, plain) == pytest.approx(np.log(2) / 3)


# --- The first head --------------------------------------------------------------------------------------------------
def test_the_head_ranks_rows_of_other_folds_and_keeps_the_share_of_rare_labels():
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 20)).astype(np.float32)
    targets = features[:, :3] + random.standard_normal((300, 3)) * 0.5 > np.array([0.0, 1.0, 1.8])
    head = fit_best_head(features, targets, side_weights(None, LABELS, targets.sum(axis=0), 300), targets[:, 0])
    assert head.cross_validated is not None
    probabilities = sigmoid(head.cross_validated)
    # With the right feature alone they would be 0.95, 0.86 and 0.67; the rarest label has 17 rows.
    ranked = [average_precision(probabilities[:, index], targets[:, index]) for index in range(3)]
    assert [round(value, 1) for value in ranked] == [0.9, 0.8, 0.5]
    assert probabilities.mean(axis=0) == pytest.approx(targets.mean(axis=0), abs=0.03)
    again = fit_best_head(features, targets, side_weights(None, LABELS, targets.sum(axis=0), 300), targets[:, 0])
    assert np.array_equal(again.kernel, head.kernel)


def test_features_that_are_not_finite_are_an_error():
    features = np.full((20, 4), np.inf, np.float32)
    targets = np.arange(60).reshape(20, 3) % 2 == 0
    with pytest.raises(TrainingError, match="the first head cannot be fitted"):
        fit_best_head(features, targets, side_weights(None, LABELS, targets.sum(axis=0), 20), np.zeros(20, int))


# --- Calibration and thresholds --------------------------------------------------------------------------------------
def test_factors_and_offsets_undo_a_wrong_scale_and_few_rows_leave_a_label_alone():
    logits, truth = judged(scale=3.0)
    truth[:, 1] = False
    truth[:5, 1] = True
    chosen = calibrate_labels(logits, truth)
    assert chosen.factors[[0, 2]] == pytest.approx([1 / 3, 1 / 3], abs=0.1)
    assert (chosen.factors[1], chosen.offsets[1], chosen.left) == (1.0, 0.0, (1,))
    others, other_truth = judged(seed=1, scale=3.0)
    before = label_calibration_error(sigmoid(others)[:, ::2], other_truth[:, ::2])
    after = label_calibration_error(sigmoid(chosen.apply(others))[:, ::2], other_truth[:, ::2])
    assert after < before / 2
    assert "49 validation rows are too few" in str(calibrate_labels(logits[:49], truth[:49]).reason)


def test_a_threshold_has_the_best_f1_lies_between_rows_and_is_a_half_for_few_rows():
    probabilities = np.array([0.9, 0.8, 0.4, 0.35, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03])[:, None].repeat(2, axis=1)
    truth = np.array([[1, 1, 1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]], bool).T
    found = best_f1_thresholds(probabilities, truth)
    assert found.values == pytest.approx([0.25, 0.5])
    assert found.few == (1,)
    [note] = found.notes(["x", "y"], None)
    assert note.startswith("`y`: fewer than 5 validation rows have the label")


def test_thresholds_of_calibrated_probabilities_are_better_on_other_rows():
    """Mean over 30 draws of a label that one row in ten has; the calibrated probabilities are known here."""

    def draw(random, rows):
        truth = random.random((rows, 1)) < 0.1
        return sigmoid(1.5 * (random.normal(size=(rows, 1)) + 1.5 * truth) - 1.125 - np.log(9)), truth

    gained = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        rows, others = draw(random, 200), draw(random, 5000)
        known, unknown = (
            measure_label_sets(*others, choose_thresholds(*rows, None, is_calibrated).values, ["x"]).macro_f1
            for is_calibrated in (True, False)
        )
        gained.append(known - unknown)
    assert 0.003 < np.mean(gained) < 0.03
    # Below ten rows with the label, nothing was calibrated.
    probabilities, truth = draw(np.random.default_rng(0), 200)
    truth[np.flatnonzero(truth)[9:]] = False
    assert choose_thresholds(probabilities, truth, None, True).values == best_f1_thresholds(probabilities, truth).values


def test_a_wanted_precision_raises_thresholds_only_where_it_must_and_says_where_it_is_not_reached():
    logits, truth = judged()
    best, strict = (choose_thresholds(sigmoid(logits), truth, wanted) for wanted in (None, 0.9))
    assert (strict.values[1:] > best.values[1:]).all()
    measured = measure_label_sets(sigmoid(logits), truth, strict.values, LABELS)
    assert min(label.precision for label in measured.per_label) >= 0.9
    # Where the best F1 is precise enough, its threshold stays.
    separable = np.where(truth, 0.8, 0.3)
    assert choose_thresholds(separable, truth, 0.9).values == pytest.approx([0.55] * 3)
    halves = (np.arange(100) % 2 == 0)[:, None]
    lost = choose_thresholds(np.full((100, 1), 0.4), halves, 0.9)
    assert (lost.unreached, lost.values[0]) == ((0,), 0.2)
    assert "`x`: no threshold reaches a precision of 90.0%" in lost.notes(["x"], 0.9)[0]


# --- Metrics and parity ----------------------------------------------------------------------------------------------
def test_metrics_have_their_definitions():
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], bool)
    probabilities = np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.1], [0.1, 0.1, 0.2], [0.6, 0.4, 0.1]])
    found = measure_label_sets(probabilities, truth, np.full(3, 0.5), LABELS)
    # Right: a, a; wrong: b (row 2), a (row 4); missing: b (row 1), b (row 4).
    assert found.micro_f1 == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    assert found.macro_f1 == pytest.approx((2 * 2 / (2 * 2 + 1) + 0) / 2)
    assert found.sample_f1 == pytest.approx((2 / 3 + 2 / 3 + 1 + 0) / 4)
    assert (found.exact_match, found.hamming_loss) == (0.25, 4 / 12)
    assert found.confusions == [[1, 0, 1]]
    assert [label.average_precision for label in found.per_label] == [1.0, pytest.approx((0.5 + 2 / 3) / 2 + 0.0), None]
    assert found.micro_f1_interval[0] <= found.micro_f1 <= found.micro_f1_interval[1]
    assert type(found).from_dict(found.as_dict()) == found
    assert f1_of(np.array(0), np.array(0), np.array(0)) == 1.0


def test_a_file_that_predicts_other_labels_is_refused_and_undecided_rows_may_change():
    logits, truth = judged()
    trained, thresholds = sigmoid(logits), np.full(3, 0.5)
    near = sigmoid(logits + np.where(np.abs(logits) < 0.09, -2 * logits, 0))
    found = verify_label_sets(trained, near, truth, thresholds, "dynamic", max_lost_accuracy=1.0)
    assert found.changed_sets > 0
    assert found.changed_decided_sets == 0
    with pytest.raises(VerificationError, match="clearly other labels than the trained model"):
        verify_label_sets(trained, 1 - trained, truth, thresholds, "dynamic")
    with pytest.raises(VerificationError, match=r"expected at most 0\.001 without quantisation"):
        verify_label_sets(trained, near, truth, thresholds, "none")
