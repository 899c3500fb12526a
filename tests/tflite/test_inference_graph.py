"""The exported graph: it computes what the encoder computes, at the stored length and at shorter ones."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.encoders.test_mobilebert import token_arrays
from tests.tiny import tiny_checkpoint
from textclf.classify.metrics import softmax
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.mobilebert import Encoder
from textclf.tflite.graph.mobilebert import ClassifierWeights, build_inference_graph

LENGTH = 24
VARIANTS = [
    {},
    {"num_feedforward_networks": 2},
    {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False},
    {"key_query_shared_bottleneck": False},
    {"classifier_activation": True},
    {"num_hidden_layers": 1},
]


def classifier_weights(checkpoint: EncoderCheckpoint, labels: int = 3) -> ClassifierWeights:
    random = np.random.default_rng(7)
    kernel = random.standard_normal((checkpoint.config.hidden_size, labels)).astype(np.float32) * 0.1
    bias = random.standard_normal(labels).astype(np.float32)
    return ClassifierWeights(checkpoint.config, checkpoint.weights, checkpoint.mask_convention, kernel, bias)


def run_model(content: bytes, arrays: tuple[np.ndarray, ...], length: int | None = None) -> np.ndarray:
    """Runs each row by itself through the tensors' names, resized to `length` where it is given."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    inputs = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    if length is not None:
        for index in inputs.values():
            interpreter.resize_tensor_input(index, [1, length])
    interpreter.allocate_tensors()
    rows = []
    for row in range(len(arrays[0])):
        for name, array in zip(("ids", "mask", "segment_ids"), arrays, strict=True):
            interpreter.set_tensor(inputs[name], array[row : row + 1])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(rows)


def expected_probabilities(checkpoint: EncoderCheckpoint, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    weights = classifier_weights(checkpoint)
    return softmax(Encoder(checkpoint).encode(*arrays).pooled_output @ weights.head_kernel + weights.head_bias)


@pytest.mark.parametrize("mask_convention", ["additive", "scaled"])
@pytest.mark.parametrize("changes", VARIANTS)
def test_a_float_graph_computes_what_the_encoder_computes(changes, mask_convention):
    checkpoint = tiny_checkpoint(mask_convention=mask_convention, **changes)
    content = build_inference_graph(classifier_weights(checkpoint), LENGTH, "none")
    for arrays in (token_arrays(3, LENGTH, padding=5), token_arrays(3, LENGTH)):
        np.testing.assert_allclose(run_model(content, arrays), expected_probabilities(checkpoint, arrays), atol=1e-5)


def test_a_graph_resized_to_a_shorter_length_keeps_its_meaning():
    checkpoint = tiny_checkpoint()
    content = build_inference_graph(classifier_weights(checkpoint), LENGTH, "none")
    short = token_arrays(4, 9, padding=1)
    expected = expected_probabilities(checkpoint, short)
    np.testing.assert_allclose(run_model(content, short, length=9), expected, atol=1e-5)
    padded = tuple(np.pad(array, ((0, 0), (0, LENGTH - 9))) for array in short)
    np.testing.assert_allclose(run_model(content, padded), expected, atol=1e-5)


def test_eight_bit_weights_stay_near_the_float_model_and_take_a_quarter_of_the_space():
    checkpoint = tiny_checkpoint(hidden_size=128, intermediate_size=128, vocab_size=len(tiny_checkpoint().vocabulary))
    weights = classifier_weights(checkpoint)
    small, large = (build_inference_graph(weights, LENGTH, form) for form in ("dynamic", "none"))
    arrays = token_arrays(6, LENGTH, padding=3)
    np.testing.assert_allclose(run_model(small, arrays), run_model(large, arrays), atol=0.03)
    assert len(small) < 0.5 * len(large)


def test_all_weights_of_products_are_stored_as_eight_bits():
    content = build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "dynamic")
    interpreter = Interpreter(model_content=content)
    kernels = {d["name"]: d["dtype"] for d in interpreter.get_tensor_details() if d["name"].endswith("/kernel")}
    assert kernels.pop("head/kernel") == np.float32
    assert len(kernels) > 10
    assert set(kernels.values()) == {np.int8}


def test_the_same_weights_give_the_same_bytes():
    first, second = (build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "dynamic") for _ in range(2))
    assert first == second


def test_weights_start_at_multiples_of_sixteen_bytes():
    from ai_edge_litert import schema_py_generated as schema

    content = build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "dynamic")
    model = schema.Model.GetRootAsModel(content, 0)
    offsets = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            field = buffer._tab.Offset(4)
            offsets.append(buffer._tab.Vector(field) % 16)
    assert len(offsets) > 50
    assert set(offsets) == {0}


def test_the_signature_names_inputs_and_output():
    content = build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "none")
    signatures = Interpreter(model_content=content).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["ids", "mask", "segment_ids"], "outputs": ["probability"]}}
