"""Each trouble of a training is noticed, and a healthy training is left in peace."""

from __future__ import annotations

import math

import numpy as np
import pytest

from textclf.training.watching.watchers import RECENT_STEPS, after_epoch, after_step, guessing_loss


def history(*losses: tuple[float, float]) -> list[dict[str, float]]:
    """Training and validation loss by epoch."""
    return [
        {"epoch": number, "training_loss": training, "validation_loss": validation}
        for number, (training, validation) in enumerate(losses, 1)
    ]


def names(troubles: list) -> list[str]:
    return [trouble.watcher for trouble in troubles]


def test_guessing_costs_the_entropy_of_the_weighted_and_smoothed_shares():
    counts = np.array([30, 10])
    assert guessing_loss(counts, np.ones(2), 0.0) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert guessing_loss(counts, np.array([2 / 3, 2.0]), 0.0) == pytest.approx(math.log(2))
    assert guessing_loss(np.array([8, 0]), np.ones(2), 0.0) == 0.0
    assert guessing_loss(np.array([8, 0]), np.ones(2), 0.5) == pytest.approx(
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    )


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_noticed_at_once(loss):
    trouble = after_step([0.5, loss], 0.69, 1e-3)
    assert trouble.watcher == "not_finite"
    assert "training.learning_rate (now 0.001)" in trouble.message


def test_a_loss_well_above_guessing_means_a_learning_rate_too_high():
    assert after_step([1.2] * RECENT_STEPS, 0.69, 1e-3).watcher == "learning_rate"
    assert after_step([0.8] * RECENT_STEPS, 0.69, 1e-3) is None
    # One bad batch is no trend.
    assert after_step([0.7] * (RECENT_STEPS - 1) + [3.0], 0.69, 1e-3) is None
    assert after_step([1.2] * (RECENT_STEPS - 1), 0.69, 1e-3) is None


def test_one_label_for_every_row_is_noticed_unless_it_is_the_only_one():
    healthy = history((0.3, 0.3))
    assert names(after_epoch(healthy, ["ham"], 2, 0.69)) == ["one_class"]
    assert "`ham`" in after_epoch(healthy, ["ham"], 2, 0.69)[0].message
    assert after_epoch(healthy, ["ham"], 1, 0.69) == []
    assert after_epoch(healthy, ["ham", "spam"], 2, 0.69) == []


def test_a_loss_at_the_level_of_guessing_is_noticed():
    assert names(after_epoch(history((0.69, 0.69)), ["a", "b"], 2, 0.693)) == ["stuck"]
    assert after_epoch(history((0.6, 0.69)), ["a", "b"], 2, 0.693) == []


def test_overfitting_is_a_validation_loss_that_rises_while_the_training_loss_falls():
    rising = history((0.5, 0.40), (0.3, 0.45), (0.1, 0.55))
    [trouble] = after_epoch(rising, ["a", "b"], 2, 0.693)
    assert trouble.watcher == "overfitting"
    assert "rose from 0.4 (epoch 1) to 0.55 (epoch 3)" in trouble.message
    for healthy in (
        history((0.5, 0.4), (0.3, 0.45)),
        history((0.5, 0.4), (0.3, 0.45), (0.1, 0.44)),
        history((0.5, 0.4), (0.3, 0.45), (0.4, 0.55)),
        history((0.5, 0.4), (0.3, 0.405), (0.1, 0.41)),
    ):
        assert after_epoch(healthy, ["a", "b"], 2, 0.693) == []
