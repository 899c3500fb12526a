"""Numbers that are none are named where they arise, and never become a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.encoders.test_mobilebert import token_arrays
from tests.fitting import fit_into
from tests.tflite.test_inference_graph import LENGTH, classifier_weights, run_model
from tests.tiny import tiny_checkpoint, write_recipe, write_tiny_encoder
from textclf.encoders.average_words import VECTORS, AverageWordsConfig, WordVectors
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.encoders.trainable import trainable
from textclf.errors import EncoderError, ModelError, RecipeError, TrainingError
from textclf.recipe.reading import load_recipe
from textclf.tflite.graph.average_words import AverageWordsWeights, build_average_words_graph
from textclf.tflite.graph.mobilebert import build_inference_graph
from textclf.tflite.graph.rounding import quantize_rows, quantize_rows_for_inputs, quantize_rows_to_4_bits
from textclf.training.classification.calibration import choose_temperature
from textclf.training.classification.class_weights import label_weights
from textclf.training.classification.head import fit_head
from textclf.training.loop import Fitted
from textclf.training.model import TaskModel
from textclf.training.saved.run_folder import load_state
from textclf.training.step import TrainingStep
from textclf.training.watching.watchers import after_step, diverged

NAN, INFINITY = float("nan"), float("inf")
# Of 80 rows, 64 are for training: 4 steps of 16 rows an epoch.
STEPS_AN_EPOCH = 4


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Fitted]:
    def run(*overrides: str, **arguments: Any) -> Fitted:
        encoder = write_tiny_encoder(tmp_path / "encoder", num_hidden_layers=1)
        recipe = load_recipe(write_recipe(tmp_path, rows=80, epochs=3, encoder=encoder), overrides)
        return fit_into(tmp_path / "run", recipe, **arguments)

    return run


def loss_of_nan_from(step: int) -> type[TrainingStep]:
    """From the step of this number (from 0), the loss is no number and nothing is learned."""

    class Diverging(TrainingStep):
        def __call__(self, parts: Any, learning_rate: float, seed: int, number: int) -> tuple[float, float]:
            return super().__call__(parts, learning_rate, seed, number) if number < step else (NAN, NAN)

    return Diverging


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_diverged_training_keeps_the_last_good_epoch(fit, tmp_path):
    fitted = fit(step_kind=loss_of_nan_from(STEPS_AN_EPOCH + 2))
    assert [entry["epoch"] for entry in fitted.winner.history] == [0, 1]
    assert "step 7: the loss is nan" in fitted.winner.stopped
    kept, _ = load_state(tmp_path / ".run.unfinished" / "checkpoints" / f"best-{fitted.winner.seed}.safetensors")
    assert all(np.array_equal(array, kept[name]) for name, array in fitted.task.model.state().items())


def test_a_diverged_training_fails_if_the_recipe_says_so(fit):
    with pytest.raises(TrainingError, match="not_finite is fail"):
        fit("training.watchers.not_finite=fail", step_kind=loss_of_nan_from(1))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_training_that_diverges_before_an_epoch_is_complete_is_an_error_with_the_remedy(fit):
    with pytest.raises(TrainingError, match=r"lower training.learning_rate.*no model to export"):
        fit(step_kind=loss_of_nan_from(0))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_weights_that_are_none_after_an_epochs_last_step_leave_the_epoch_before_as_the_best(fit):
    class Spoiling(TrainingStep):
        """After the last step of epoch 2, whose loss is finite, one weight is NaN."""

        def __init__(self, model: TaskModel, *others: Any) -> None:
            super().__init__(model, *others)
            self.table = model.variables["embeddings/word_embeddings"]

        def __call__(self, parts: Any, learning_rate: float, seed: int, number: int) -> tuple[float, float]:
            result = super().__call__(parts, learning_rate, seed, number)
            if number + 1 == 2 * STEPS_AN_EPOCH:
                array = self.table.numpy()
                # The vector of a token that no row has: no logit shows it.
                array[-1, 0] = NAN
                self.table.assign(array)
            return result

    fitted = fit(step_kind=Spoiling)
    assert [entry["epoch"] for entry in fitted.winner.history] == [0, 1]
    assert fitted.winner.best_epoch in (0, 1)
    assert "step 8: the weights `embeddings/word_embeddings` contain NaN or infinity" in fitted.winner.stopped
    assert all(np.isfinite(array).all() for array in fitted.task.model.state().values())


def test_an_encoder_that_holds_nan_is_refused_with_the_name_of_the_array():
    checkpoint = tiny_checkpoint()
    checkpoint.weights["encoder/layer_1/attention/self/key/kernel"][2, 3] = NAN
    with pytest.raises(
        EncoderError, match=r"tiny: 1 of the 256 numbers of `encoder/layer_1/attention/self/key/kernel`"
    ):
        trainable(checkpoint)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_encoder_whose_outputs_overflow_is_refused_with_the_row(fit, tmp_path):
    checkpoint = tiny_checkpoint()
    for name in checkpoint.weights:
        if name.endswith("output/bottleneck/FakeLayerNorm/gamma"):
            checkpoint.weights[name] = checkpoint.weights[name] * np.float32(1e30)
    write_encoder(tmp_path / "enormous", checkpoint)
    with pytest.raises(EncoderError, match=r"returns NaN or infinity for 64 of 64 training rows, first for row \d+"):
        fit(f"encoder={tmp_path / 'enormous'}")


def test_word_vectors_that_hold_infinity_are_refused():
    vectors = {VECTORS: np.array([[0.0, INFINITY]], np.float32)}
    encoder = WordVectors(AverageWordsConfig(1, 2, True), ["<PAD>"], np.zeros(1, np.int32), vectors, Path("words"))
    with pytest.raises(EncoderError, match=r"words: 1 of the 2 numbers of `word_vectors`"):
        trainable(encoder)


def test_a_gradient_that_is_none_counts_as_divergence_although_the_loss_is_finite():
    assert after_step([0.5], 0.69, 1e-3, 2.0) is None
    trouble = after_step([0.5], 0.69, 1e-3, INFINITY)
    assert (trouble.watcher, "the norm of the gradients is inf" in trouble.message) == ("not_finite", True)


def test_an_epoch_is_sound_only_if_its_loss_its_logits_and_its_weights_are():
    logits = np.zeros((4, 2))
    assert diverged(0.5, logits, None, 1e-3) is None
    assert "mean training loss of the epoch is nan" in diverged(NAN, logits, None, 1e-3).message
    assert "`head/bias`" in diverged(0.5, logits, "head/bias", 1e-3).message
    logits[2, 1] = -INFINITY
    assert "1 of 4 validation rows" in diverged(0.5, logits, None, 1e-3).message


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("labels", [2, 400])
def test_features_that_lead_to_no_numbers_are_no_head(labels):
    features = np.random.default_rng(0).standard_normal((2000, 4)).astype(np.float32)
    features[5, 1] = INFINITY
    with pytest.raises(TrainingError, match=r"set training\.head to fresh"):
        fit_head(features, np.arange(2000) % labels, np.ones(2000), labels)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("weights", [{"a": 1e308, "b": 1e308}, {"a": 1e-50}, {"b": 1e60}])
def test_class_weights_beyond_what_training_computes_with_are_refused(weights):
    with pytest.raises(RecipeError, match="differ too much"):
        label_weights(weights, ["a", "b"], np.array([30, 10]))


def test_no_temperature_is_fitted_to_logits_that_are_none():
    logits = np.zeros((60, 2))
    logits[7, 0] = NAN
    with pytest.raises(TrainingError, match="NaN or infinity for 1 of 60 validation rows"):
        choose_temperature(logits, np.zeros(60, np.int64))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("bad", [NAN, INFINITY])
def test_weights_that_are_none_are_not_rounded(bad):
    matrix = np.array([[1.0, bad], [0.5, 0.2]], np.float32)
    for rounded in (quantize_rows, quantize_rows_to_4_bits, lambda array: quantize_rows_for_inputs(array, np.eye(2))):
        with pytest.raises(ModelError, match="1 of the 4 weights of `matrix` are NaN or infinite"):
            rounded(matrix)
    with pytest.raises(ModelError, match="`covariance`"):
        quantize_rows_for_inputs(np.eye(2), np.array([[1.0, 0.0], [0.0, bad]]))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_rows_too_small_to_divide_by_are_rounded_to_zero():
    matrix = np.full((1, 4), 1e-44, np.float32)
    for rounded in (quantize_rows, quantize_rows_to_4_bits):
        values, scales = rounded(matrix)
        assert (values == 0).all()
        assert np.isfinite(scales).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("quantization", ["none", "float16", "dynamic", "int4"])
def test_no_graph_is_written_of_weights_that_are_none_or_become_it(quantization):
    weights = classifier_weights(tiny_checkpoint())
    spoilt = {**weights.encoder}
    spoilt["embeddings/position_embeddings"] = np.full_like(spoilt["embeddings/position_embeddings"], NAN)
    with pytest.raises(ModelError, match="`embeddings/position_embeddings` are NaN or infinite"):
        build_inference_graph(replace(weights, encoder=spoilt), LENGTH, quantization)
    norm = "encoder/layer_0/bottleneck/input"
    folded = {
        **weights.encoder,
        f"{norm}/dense/kernel": weights.encoder[f"{norm}/dense/kernel"] * np.float32(1e25),
        f"{norm}/FakeLayerNorm/gamma": weights.encoder[f"{norm}/FakeLayerNorm/gamma"] * np.float32(1e25),
    }
    with pytest.raises(ModelError, match=r"weights of `encoder/layer_0/bottleneck.*/kernel` are NaN or infinite"):
        build_inference_graph(replace(weights, encoder=folded), LENGTH, quantization)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_normalisation_that_is_all_zero_is_written_as_what_it_computes():
    checkpoint = tiny_checkpoint()
    name = "encoder/layer_0/attention/output/FakeLayerNorm/gamma"
    checkpoint.weights[name] = np.zeros_like(checkpoint.weights[name])
    content = build_inference_graph(classifier_weights(checkpoint), LENGTH, "none")
    assert np.isfinite(run_model(content, token_arrays(1, LENGTH))).all()


def test_averaged_words_that_are_none_are_not_written():
    weights = AverageWordsWeights(
        np.full((3, 2), NAN, np.float32), np.arange(3, dtype=np.int32), np.ones((2, 2)), np.zeros(2)
    )
    with pytest.raises(ModelError, match="`word_vectors` are NaN or infinite"):
        build_average_words_graph(weights, 8, "dynamic")
