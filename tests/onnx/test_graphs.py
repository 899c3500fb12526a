"""The graphs for ONNX: they compute what the encoder computes, for several texts at once, in every form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from tests.encoders.test_mobilebert import token_arrays
from tests.tflite.test_inference_graph import LENGTH, VARIANTS, classifier_weights, expected_probabilities
from tests.tflite.test_question_answering import expected_logits, head_of
from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.classify.metrics import softmax
from textclf.data.tokens.encoded import Tokens
from textclf.encoders.mobilebert import Encoder
from textclf.errors import ModelError
from textclf.onnx.model_file import write_model
from textclf.onnx.running import OnnxModel
from textclf.tflite.graph.average_words import AverageWordsWeights
from textclf.tflite.graph.mobilebert import ClassifierWeights
from textclf.tflite.graph.multi_label import INDEPENDENT_PROBABILITIES
from textclf.tflite.graph.question_answering import SPAN_LOGITS
from textclf.tflite.graph.weights import InferenceWeights, token_weights

FORMS = [("none", 1e-5), ("float16", 2e-3), ("dynamic", 0.03)]
LABELS = ["bad", "so so", "gut 👍"]


def written(weights: InferenceWeights, form: str = "none", length: int = LENGTH) -> bytes:
    settings = {"version": 1, "quantization": form}
    return write_model(weights, length, form, name="tiny", vocabulary=VOCABULARY, labels=LABELS, settings=settings)


def probabilities(content: bytes, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    return OnnxModel(content).run(Tokens(*arrays))["probability"]


@pytest.mark.parametrize("mask_convention", ["additive", "scaled"])
@pytest.mark.parametrize("changes", VARIANTS)
def test_a_float_graph_computes_what_the_encoder_computes_for_a_batch(changes, mask_convention):
    checkpoint = tiny_checkpoint(mask_convention=mask_convention, **changes)
    content = written(classifier_weights(checkpoint))
    for arrays in (token_arrays(5, LENGTH, padding=5), token_arrays(3, LENGTH), token_arrays(4, 9, padding=1)):
        np.testing.assert_allclose(
            probabilities(content, arrays), expected_probabilities(checkpoint, arrays), atol=1e-5
        )


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize(("form", "tolerance"), FORMS)
def test_every_form_stays_near_the_encoder(form, tolerance, changes):
    checkpoint = tiny_checkpoint(**changes)
    arrays = token_arrays(8, LENGTH, padding=3)
    found = probabilities(written(classifier_weights(checkpoint), form), arrays)
    np.testing.assert_allclose(found, expected_probabilities(checkpoint, arrays), atol=tolerance)


@pytest.mark.parametrize("form", ["none", "dynamic"])
def test_a_text_gets_the_same_probabilities_alone_and_among_others(form):
    content = written(classifier_weights(tiny_checkpoint()), form)
    arrays = token_arrays(6, LENGTH, padding=4)
    together = probabilities(content, arrays)
    alone = [probabilities(content, tuple(array[row : row + 1] for array in arrays))[0] for row in range(6)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("outlier", [1.0, 300.0])
def test_rows_are_rounded_one_by_one(outlier):
    """A row of large states takes no bits from the other rows."""
    checkpoint = tiny_checkpoint()
    checkpoint.weights["embeddings/word_embeddings"][5] *= outlier
    arrays = token_arrays(6, LENGTH, padding=4)
    arrays[0][arrays[0] == 5] = 6
    arrays[0][3, 1:] = 5
    expected = expected_probabilities(checkpoint, arrays)
    found = probabilities(written(classifier_weights(checkpoint), "dynamic"), arrays)
    others = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(found[others], expected[others], atol=0.03)


def test_8_bit_weights_take_a_quarter_of_the_space():
    weights = classifier_weights(tiny_checkpoint(hidden_size=512, intermediate_size=2048))
    sizes = {form: len(written(weights, form)) for form, _ in FORMS}
    assert sizes["float16"] < 0.6 * sizes["none"]
    assert sizes["dynamic"] < 0.4 * sizes["none"]


def test_the_file_has_labels_vocabulary_and_settings_and_is_the_same_each_time():
    content = written(classifier_weights(tiny_checkpoint()), "dynamic")
    assert content == written(classifier_weights(tiny_checkpoint()), "dynamic")
    model = onnx.load_from_string(content)
    facts = {fact.key: fact.value for fact in model.metadata_props}
    assert json.loads(facts["labels"]) == LABELS
    assert facts["vocabulary"].splitlines() == VOCABULARY
    assert json.loads(facts["textclf.json"])["quantization"] == "dynamic"
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert {operation.domain for operation in model.opset_import} == {""}


@pytest.mark.parametrize("changes", [{}, {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False}])
@pytest.mark.parametrize("alike", [True, False])
def test_a_question_answerer_has_two_logits_for_each_token(alike, changes):
    checkpoint, head = tiny_checkpoint(**changes), head_of(32, alike=alike)
    tokens = Tokens(*token_arrays(4, LENGTH, padding=3))
    outputs = OnnxModel(written(token_weights(checkpoint, head, SPAN_LOGITS))).run(tokens)
    found = np.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)
    np.testing.assert_allclose(found, expected_logits(checkpoint, head, tokens), atol=1e-5)


@pytest.mark.parametrize(("form", "tolerance"), FORMS)
def test_averaged_words_are_counted_without_padding(form, tolerance):
    random = np.random.default_rng(3)
    vectors, rows = random.normal(size=(9, 4)).astype(np.float32), np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 3], np.int32)
    kernel, bias = random.normal(size=(4, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)
    ids = np.array([[4, 9, 2, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    found = probabilities(written(AverageWordsWeights(vectors, rows, kernel, bias), form), (ids,) * 3)
    means = np.array([vectors[[4, 3, 2]].mean(axis=0), vectors[1]])
    np.testing.assert_allclose(found, softmax(means @ kernel + bias), atol=tolerance)


def test_several_labels_have_probabilities_of_their_own():
    checkpoint, arrays = tiny_checkpoint(), token_arrays(4, LENGTH, padding=3)
    single = classifier_weights(checkpoint)
    logits = Encoder(checkpoint).encode(*arrays).pooled_output @ single.head_kernel + single.head_bias
    found = probabilities(written(replace(single, outputs=INDEPENDENT_PROBABILITIES)), arrays)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_weights_that_cannot_be_written_are_refused():
    checkpoint = tiny_checkpoint()
    with pytest.raises(ModelError, match="ONNX files have no int4 weights"):
        written(classifier_weights(checkpoint), "int4")
    weights = classifier_weights(checkpoint)
    broken = ClassifierWeights(
        weights.config, weights.encoder, weights.mask_convention, weights.head_kernel * np.nan, weights.head_bias
    )
    with pytest.raises(ModelError, match="are NaN or infinite"):
        written(broken)
    checkpoint.weights["encoder/layer_0/intermediate/dense/kernel"][0, 0] = 1e6
    with pytest.raises(ModelError, match="which float16 cannot"):
        written(classifier_weights(checkpoint), "float16")


def test_a_text_longer_than_the_model_is_an_error():
    content = written(classifier_weights(tiny_checkpoint()))
    with pytest.raises(ModelError, match="ONNX Runtime cannot run it"):
        probabilities(content, token_arrays(2, LENGTH + 1))


def test_what_is_not_onnx_is_refused():
    with pytest.raises(ModelError, match="cannot load it"):
        OnnxModel(b"not a model")
