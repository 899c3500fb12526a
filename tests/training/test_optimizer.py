"""AdamW and its schedule against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from textclf.training.learning_rate import scheduled_learning_rate
from textclf.training.optimizer import AdamW


def test_the_rate_rises_linearly_then_falls_to_zero():
    rates = [scheduled_learning_rate(step, 10, 1.0, 0.4) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert scheduled_learning_rate(0, 10, 1.0, 0.0) == 1.0
    assert [scheduled_learning_rate(step, 10, 1.0, 0.4) for step in (10, 11)] == [0.0, 0.0]


def make_optimizer(clip_norm: float = 1e9) -> AdamW:
    variables = {name: tf.Variable([2.0, -2.0]) for name in ("dense/kernel", "dense/bias", "norm/gamma", "norm/beta")}
    return AdamW(variables, weight_decay=0.5, clip_norm=clip_norm)


def test_the_first_update_has_no_bias_correction_and_decays_kernels_only():
    optimizer = make_optimizer()
    optimizer.apply({name: tf.constant([1.0, 1.0]) for name in optimizer.variables}, tf.constant(0.1))
    adam = 0.1 * 0.1 / (np.sqrt(0.001) + 1e-6)
    np.testing.assert_allclose(
        optimizer.variables["dense/kernel"], [2 - adam - 0.1 * 0.5 * 2, -2 - adam + 0.1 * 0.5 * 2], rtol=1e-5
    )
    for name in ("dense/bias", "norm/gamma", "norm/beta"):
        np.testing.assert_allclose(optimizer.variables[name], [2 - adam, -2 - adam], rtol=1e-5)


def test_gradients_are_scaled_down_to_the_joint_norm():
    optimizer = make_optimizer(clip_norm=1.0)
    norm = optimizer.apply({name: tf.constant([3.0, 3.0]) for name in optimizer.variables}, tf.constant(0.1))
    assert float(norm) == pytest.approx(np.sqrt(8 * 9))
    np.testing.assert_allclose(optimizer.state()["first/dense/bias"], 0.1 * 3 / np.sqrt(72), rtol=1e-5)


def test_a_restored_state_goes_on_as_if_never_stopped():
    one, other = make_optimizer(), make_optimizer()
    gradients = {name: tf.constant([0.3, -0.2]) for name in one.variables}
    one.apply(gradients, tf.constant(0.1))
    other.load_state(one.state())
    for name, variable in other.variables.items():
        variable.assign(one.variables[name])
    one.apply(gradients, tf.constant(0.1))
    other.apply(gradients, tf.constant(0.1))
    for name, variable in other.variables.items():
        np.testing.assert_array_equal(variable, one.variables[name])
