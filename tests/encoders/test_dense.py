"""The gradients of the encoder's dense layers beside those that TensorFlow derives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from textclf.encoders import dense

ROWS, INPUTS, OUTPUTS = 40, 24, 16


def arrays(*shapes: tuple[int, ...]) -> list[tf.Tensor]:
    random = np.random.default_rng(1)
    return [tf.constant(random.standard_normal(shape), tf.float32) for shape in shapes]


def plain_dense(rows, kernel, bias):
    return tf.matmul(rows, kernel) + bias


def plain_norm(rows, gamma, beta):
    return rows * gamma + beta


def plain_dense_norm(rows, kernel, bias, gamma, beta, residual):
    return plain_norm(plain_dense(rows, kernel, bias) + residual, gamma, beta)


def plain_feed_forward(rows, kernel_1, kernel_2, bias_1, bias_2, gamma, beta):
    inner = tf.nn.relu(plain_dense(rows, kernel_1, bias_1))
    return plain_norm(plain_dense(inner, kernel_2, bias_2) + rows, gamma, beta)


CASES = {
    "dense": (dense.dense, plain_dense, [(ROWS, INPUTS), (INPUTS, OUTPUTS), (OUTPUTS,)]),
    "norm": (lambda *given: dense.no_norm(*given[:-1]), plain_norm, [(ROWS, INPUTS), (INPUTS,), (INPUTS,)]),
    "dense and norm": (
        lambda *given: dense.dense_norm(*given[:5], None, given[5]),
        lambda *given: plain_dense_norm(*given, 0.0),
        [(ROWS, INPUTS), (INPUTS, OUTPUTS), (OUTPUTS,), (OUTPUTS,), (OUTPUTS,)],
    ),
    "dense, residual and norm": (
        dense.dense_norm,
        plain_dense_norm,
        [(ROWS, INPUTS), (INPUTS, OUTPUTS), (OUTPUTS,), (OUTPUTS,), (OUTPUTS,), (ROWS, OUTPUTS)],
    ),
    "feed-forward": (
        lambda rows, kernel_1, kernel_2, bias_1, bias_2, gamma, beta, dtype: dense.feed_forward(
            rows, (kernel_1, kernel_2), (bias_1, bias_2), gamma, beta, dtype
        ),
        plain_feed_forward,
        [(ROWS, INPUTS), (INPUTS, OUTPUTS), (OUTPUTS, INPUTS), (OUTPUTS,), (INPUTS,), (INPUTS,), (INPUTS,)],
    ),
}


def value_and_gradients(function: Callable[..., tf.Tensor], given: list[tf.Tensor]) -> list[np.ndarray]:
    @tf.function(autograph=False)
    def both():
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = function(*given)
            loss = tf.reduce_sum(value * tf.sin(value))
        return [value, *tape.gradient(loss, given)]

    return [tensor.numpy() for tensor in both()]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_tensorflow(case: str):
    layer, plain, shapes = CASES[case]
    given = arrays(*shapes)
    expected = value_and_gradients(plain, given)
    found = value_and_gradients(lambda *tensors: layer(*tensors, tf.float32), given)
    assert len(found) == len(shapes) + 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("case", [case for case in CASES if case != "norm"])
def test_bfloat16_keeps_values_and_gradients_in_float32_and_near(case: str):
    layer, plain, shapes = CASES[case]
    given = [tensor * 0.3 for tensor in arrays(*shapes)]
    expected = value_and_gradients(plain, given)
    found = value_and_gradients(lambda *tensors: layer(*tensors, tf.bfloat16), given)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        assert np.linalg.norm(one - other) < 0.03 * np.linalg.norm(other)
    assert any((one != other).any() for one, other in zip(found, expected, strict=True))
