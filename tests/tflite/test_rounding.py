"""Eight-bit weights: rounding, and the exact changes that make weights fit into eight bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.encoders.test_mobilebert import token_arrays
from tests.tflite.test_inference_graph import LENGTH, classifier_weights, run_model
from tests.tiny import tiny_checkpoint
from textclf.encoders.formats.arrays import dominant_diagonal
from textclf.encoders.mobilebert import Encoder
from textclf.tflite.graph.mobilebert import build_inference_graph
from textclf.tflite.graph.rounding import (
    balance_encoder,
    quantize_rows,
    quantize_rows_for_inputs,
    quantize_rows_to_4_bits,
)


def test_quantised_rows_keep_their_largest_value_and_rows_of_zeros():
    matrix = np.array([[0.5, -1.27, 0.01], [0, 0, 0]], np.float32)
    values, scales = quantize_rows(matrix)
    np.testing.assert_array_equal(values, [[50, -127, 1], [0, 0, 0]])
    np.testing.assert_allclose(scales, [0.01, 1.0])


def test_balancing_changes_weights_but_not_the_function():
    checkpoint = tiny_checkpoint(num_feedforward_networks=3)
    balanced = replace(checkpoint, weights=balance_encoder(checkpoint.config, checkpoint.weights))
    arrays = token_arrays(2, 12, padding=2)
    expected = Encoder(checkpoint).encode(*arrays).sequence_output
    np.testing.assert_allclose(Encoder(balanced).encode(*arrays).sequence_output, expected, atol=1e-5)
    name = "encoder/layer_0/intermediate/dense/kernel"
    assert np.abs(balanced.weights[name] - checkpoint.weights[name]).max() > 0.01


def with_loud_unit(factor: float):
    """An encoder in which one inner unit has tiny incoming and huge outgoing weights, as unevenly trained ones do."""
    checkpoint = tiny_checkpoint()
    weights = {name: array.copy() for name, array in checkpoint.weights.items()}
    for layer in range(2):
        weights[f"encoder/layer_{layer}/intermediate/dense/kernel"][:, 3] /= factor
        weights[f"encoder/layer_{layer}/intermediate/dense/bias"][3] /= factor
        weights[f"encoder/layer_{layer}/output/dense/kernel"][3] *= factor
    return replace(checkpoint, weights=weights)


def test_one_loud_unit_does_not_cost_the_others_their_precision():
    arrays = token_arrays(8, LENGTH, padding=3)
    errors = []
    for checkpoint in (tiny_checkpoint(), with_loud_unit(50.0)):
        weights = classifier_weights(checkpoint)
        small, large = (run_model(build_inference_graph(weights, LENGTH, form), arrays) for form in ("dynamic", "none"))
        errors.append(np.abs(small - large).max())
    assert errors[1] < 2 * errors[0]


def test_a_dominant_diagonal_is_found_and_kept_out_of_the_eight_bits():
    random = np.random.default_rng(0)
    small = random.standard_normal((32, 32)).astype(np.float32) * 0.01
    assert dominant_diagonal(small) is None
    assert dominant_diagonal(small[:, :16]) is None
    diagonal = dominant_diagonal(small + np.eye(32, dtype=np.float32))
    np.testing.assert_allclose(diagonal, 1, atol=0.05)

    checkpoint = tiny_checkpoint(intra_bottleneck_size=32, key_query_shared_bottleneck=False)
    for layer in range(2):
        for name in ("bottleneck/input/dense", "output/bottleneck/dense"):
            kernel = checkpoint.weights[f"encoder/layer_{layer}/{name}/kernel"]
            kernel[:] = kernel * 0.05 + np.eye(32)
    weights = classifier_weights(checkpoint)
    arrays = token_arrays(8, LENGTH, padding=3)
    small_file, large_file = (build_inference_graph(weights, LENGTH, form) for form in ("dynamic", "none"))
    assert np.abs(run_model(small_file, arrays) - run_model(large_file, arrays)).max() < 0.02


def test_rounding_for_inputs_that_go_together_keeps_products_near():
    random = np.random.default_rng(0)
    inputs = random.standard_normal((2000, 12)) @ random.standard_normal((12, 96))
    inputs += 0.1 * random.standard_normal(inputs.shape)
    matrix = random.standard_normal((40, 96)).astype(np.float32)

    def loss(values: np.ndarray, scales: np.ndarray) -> float:
        return float(np.square(inputs @ (matrix - values * scales[:, None]).T).mean())

    values, scales = quantize_rows_for_inputs(matrix, np.cov(inputs.T))
    assert values.dtype == np.int8
    assert np.abs(values).max() == 7
    assert loss(values, scales) < 0.3 * loss(*quantize_rows_to_4_bits(matrix))


def test_rounding_for_inputs_that_vary_alike_and_apart_rounds_each_weight():
    matrix = np.random.default_rng(0).standard_normal((5, 70)).astype(np.float32)
    for covariance in (np.eye(70), np.zeros((70, 70))):
        values, scales = quantize_rows_for_inputs(matrix, covariance)
        np.testing.assert_array_equal(values, np.clip(np.rint(matrix / scales[:, None]), -7, 7))
