"""Every form of the exported file: what it computes, what is stored in it, and which runtimes know its operations."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tests.encoders.test_mobilebert import token_arrays
from tests.model_files import stored_types
from tests.tflite.test_checks import described
from tests.tflite.test_inference_graph import LENGTH, classifier_weights, run_model
from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.data.tokens.encoded import Encoded, pad
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.errors import ModelError
from textclf.tflite.checks import structure_problems
from textclf.tflite.graph.mobilebert import ClassifierWeights, build_inference_graph
from textclf.tflite.graph.rounding import quantize_rows, quantize_rows_to_4_bits

ARRAYS = token_arrays(8, LENGTH, padding=3)
FORMS = [
    ("float16", "litert", "float16", 2e-3),
    ("dynamic", "litert", "int8", 0.03),
    ("dynamic", "task-library", "int8", 0.05),
    ("int4", "litert", "int4", 0.3),
    ("none", "task-library", "float32", 1e-6),
]


@pytest.mark.parametrize(("quantization", "compatibility", "kind", "tolerance"), FORMS)
def test_a_form_stays_near_the_float_model_and_stores_what_it_says(quantization, compatibility, kind, tolerance):
    weights = classifier_weights(tiny_checkpoint())
    graph = build_inference_graph(weights, LENGTH, quantization, compatibility)
    expected = run_model(build_inference_graph(weights, LENGTH, "none"), ARRAYS)
    np.testing.assert_allclose(run_model(graph, ARRAYS), expected, atol=tolerance)
    short = tuple(array[:, :9] for array in token_arrays(2, 9, padding=2))
    assert np.isfinite(run_model(graph, short, length=9)).all()
    model = described(graph, quantization=quantization, compatibility=compatibility)
    assert structure_problems(model) == []
    counts = stored_types(model)
    assert counts[kind] > 10
    assert counts.get("float32", 0) == (1 if kind != "float32" else counts["float32"])


def test_8_bit_weights_for_the_task_library_have_one_scale_each():
    graph = build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "dynamic", "task-library")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(graph, 0))
    scales = [
        len(tensor.quantization.scale)
        for tensor in model.subgraphs[0].tensors
        if tensor.type == schema.TensorType.INT8 and tensor.quantization is not None and tensor.name.endswith(b"kernel")
    ]
    assert len(scales) > 10
    assert set(scales) == {1}


def tensor_bytes(graph: bytes) -> dict[str, int]:
    """Bytes stored for each constant by its name."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(graph, 0))
    stored = {tensor.name.decode(): model.buffers[tensor.buffer].data for tensor in model.subgraphs[0].tensors}
    return {name: len(data) for name, data in stored.items() if data is not None}


@pytest.fixture(scope="module")
def rows() -> Encoded:
    random = np.random.default_rng(5)
    words = [word for word in VOCABULARY if word.isalpha()]
    texts = [(" ".join(random.choice(words, random.integers(1, 20))),) for _ in range(120)]
    return Tokenizer(VOCABULARY).encode(texts, LENGTH, "head")


@pytest.mark.parametrize("changes", [{}, {"key_query_shared_bottleneck": False}, {"use_bottleneck_attention": True}])
def test_4_bit_weights_rounded_by_rows_stay_nearer_than_others(changes, rows):
    weights = classifier_weights(tiny_checkpoint(**changes))
    exact, plain = (build_inference_graph(weights, LENGTH, form) for form in ("none", "int4"))
    rounded = build_inference_graph(weights, LENGTH, "int4", rows=rows)
    assert rounded == build_inference_graph(weights, LENGTH, "int4", rows=rows)
    kernels = [
        {name: size for name, size in tensor_bytes(graph).items() if name.endswith("kernel")}
        for graph in (rounded, plain)
    ]
    assert kernels[0] == kernels[1]
    assert len(kernels[0]) > 10
    assert structure_problems(described(rounded, quantization="int4")) == []
    others = pad(rows, range(60), LENGTH)
    expected = run_model(exact, others)
    distances = [np.abs(run_model(graph, others) - expected).mean() for graph in (rounded, plain)]
    assert distances[0] < 0.6 * distances[1]


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
def test_vectors_of_pieces_that_rows_have_are_stored_more_finely_than_those_of_others(rows):
    weights = classifier_weights(tiny_checkpoint())
    graph = build_inference_graph(weights, LENGTH, "int4", rows=rows)
    interpreter = Interpreter(model_content=graph, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    tensors = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    table = weights.encoder["embeddings/word_embeddings"]
    stored = np.zeros_like(table)
    for begin in range(0, len(table), LENGTH):
        ids = np.minimum(begin + np.arange(LENGTH, dtype=np.int32), len(table) - 1)
        for name, values in (("ids", ids), ("mask", np.ones_like(ids)), ("segment_ids", np.zeros_like(ids))):
            interpreter.set_tensor(tensors[name], values[None])
        interpreter.invoke()
        trigrams = interpreter.get_tensor(tensors["embeddings/refined_words"]).reshape(LENGTH, 3, -1)
        stored[ids] = trigrams[:, 1]
    lost = np.square(stored - table).mean(axis=1)
    seen = np.isin(np.arange(len(table)), [*rows.flat_ids, rows.pad_id])
    assert 0 < seen.sum() < len(seen)
    assert lost[seen].mean() < 0.05 * lost[~seen].mean()


def test_4_bit_weights_are_rounded_by_states_that_are_large_and_hardly_vary(rows):
    checkpoint = tiny_checkpoint()
    checkpoint.weights["embeddings/FakeLayerNorm/beta"] += np.float32(1e7)
    weights = classifier_weights(checkpoint)
    rounded = build_inference_graph(weights, LENGTH, "int4", rows=rows)
    assert structure_problems(described(rounded, quantization="int4")) == []
    assert np.isfinite(run_model(rounded, pad(rows, range(60), LENGTH))).all()


def test_4_bit_weights_for_the_task_library_are_refused():
    with pytest.raises(ModelError, match="does not support 4-bit weights"):
        build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "int4", "task-library")


def test_weights_beyond_float16_are_refused():
    checkpoint = tiny_checkpoint()
    checkpoint.weights["encoder/layer_0/output/dense/kernel"][0, 0] = 1e6
    with pytest.raises(ModelError, match="which float16 cannot"):
        build_inference_graph(classifier_weights(checkpoint), LENGTH, "float16")


def test_4_bits_cut_off_the_largest_value_where_that_costs_less():
    random = np.random.default_rng(0)
    matrix = random.standard_normal((1, 4096)).astype(np.float32)
    values, scales = quantize_rows_to_4_bits(matrix)
    assert np.abs(values).max() == 7
    error = np.square(matrix - values * scales[:, None]).sum()
    whole = np.abs(matrix).max() / 7
    assert error < 0.8 * np.square(matrix - np.clip(np.rint(matrix / whole), -7, 7) * whole).sum()
    assert quantize_rows_to_4_bits(np.zeros((2, 4), np.float32))[0].tolist() == [[0] * 4] * 2
    assert quantize_rows(matrix)[0].max() <= 127


@pytest.mark.parametrize("spread", [1.2, 1e3])
def test_gammas_are_carried_by_the_next_products_and_only_wild_ones_are_multiplied(spread):
    checkpoint = tiny_checkpoint()
    random = np.random.default_rng(3)
    for name, array in checkpoint.weights.items():
        if name.endswith("gamma"):
            array[:] = np.exp(random.uniform(-1, 1, array.shape) * np.log(spread) / 8) * random.choice(
                [-1, 1], array.shape
            )
    weights = classifier_weights(checkpoint)
    graph = build_inference_graph(weights, LENGTH, "none")
    model = schema.Model.GetRootAsModel(graph, 0).Subgraphs(0)
    names = [model.Tensors(i).Name().decode() for i in range(model.TensorsLength())]
    multiplied = [name for name in names if name.endswith("scaled_residual")]
    assert bool(multiplied) == (spread > 2)
    from tests.tflite.test_inference_graph import expected_probabilities

    np.testing.assert_allclose(run_model(graph, ARRAYS), expected_probabilities(checkpoint, ARRAYS), atol=2e-5)


def test_states_of_ten_million_keep_their_meaning():
    """As in the published encoder, whose first token's state reaches 1e7; the head's features are scaled down to it."""
    checkpoint = tiny_checkpoint()
    for name in ("output/bottleneck/dense/kernel", "output/bottleneck/dense/bias"):
        checkpoint.weights[f"encoder/layer_1/{name}"][..., 0] *= 1e7
    weights = classifier_weights(checkpoint)
    kernel = weights.head_kernel.copy()
    kernel[0] *= 1e-7
    scaled = ClassifierWeights(weights.config, weights.encoder, weights.mask_convention, kernel, weights.head_bias)
    from textclf.classify.metrics import softmax
    from textclf.encoders.mobilebert import Encoder

    pooled = Encoder(checkpoint).encode(*ARRAYS).pooled_output
    assert np.abs(pooled).max() > 1e6
    expected = softmax(pooled @ kernel + weights.head_bias)
    for form, tolerance in (("none", 1e-5), ("dynamic", 0.05)):
        found = run_model(build_inference_graph(scaled, LENGTH, form), ARRAYS)
        np.testing.assert_allclose(found, expected, atol=tolerance)
