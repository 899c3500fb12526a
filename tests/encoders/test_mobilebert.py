"""The encoder's forward pass: reference outputs, padding, masks, variants."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import tiny_checkpoint
from textclf.data.tokens.encoded import Tokens
from textclf.encoders.mobilebert import Encoder, encode, encode_pooled, stack_weights, unstack_weights


def token_arrays(rows: int, length: int, padding: int = 0) -> Tokens:
    random = np.random.default_rng(5)
    ids = random.integers(5, 100, (rows, length)).astype(np.int32)
    mask = np.ones_like(ids)
    if padding:
        ids[:, -padding:] = 0
        mask[:, -padding:] = 0
    segments = np.zeros_like(ids)
    segments[:, length // 2 : length - padding] = 1
    return Tokens(ids, mask, segments)


def test_outputs_equal_those_of_the_original_program(shared):
    from textclf import load_encoder

    reference = np.load(shared / "encoders/hugging_face/reference.npz")
    encoder = load_encoder(shared / "encoders/hugging_face")
    for suffix in ("", "_128"):
        output = encoder.encode(*(reference[name + suffix] for name in ("input_ids", "input_mask", "segment_ids")))
        np.testing.assert_allclose(output.sequence_output, reference["sequence_output" + suffix], atol=2e-4, rtol=0)
        np.testing.assert_allclose(output.pooled_output, reference["pooled_output" + suffix], atol=2e-4, rtol=0)


@pytest.mark.parametrize("mask_convention", ["additive", "scaled"])
def test_one_pad_after_the_last_token_gives_the_output_of_any_longer_padding(mask_convention):
    encoder = Encoder(tiny_checkpoint(mask_convention=mask_convention))
    short = token_arrays(3, 12, padding=1)
    long = [np.pad(array, ((0, 0), (0, 40))) for array in short]
    pooled_short, pooled_long = encoder.encode(*short).pooled_output, encoder.encode(*long).pooled_output
    if mask_convention == "additive":
        np.testing.assert_allclose(pooled_short, pooled_long, atol=1e-5)
    else:
        # The later convention lets a little attention through to padding, so that lengths do matter with it.
        assert np.abs(pooled_short - pooled_long).max() > 1e-4


def test_without_a_pad_the_last_token_sees_nothing_after_it():
    encoder = Encoder(tiny_checkpoint())
    ids, mask, segments = token_arrays(2, 12)
    padded = [np.pad(array, ((0, 0), (0, 1))) for array in (ids, mask, segments)]
    assert (
        np.abs(encoder.encode(ids, mask, segments).pooled_output - encoder.encode(*padded).pooled_output).max() > 1e-4
    )


def test_the_two_mask_conventions_differ_on_padded_rows_only():
    additive, scaled = Encoder(tiny_checkpoint()), Encoder(tiny_checkpoint(mask_convention="scaled"))
    full, padded = token_arrays(2, 10), token_arrays(2, 10, padding=4)
    np.testing.assert_allclose(additive.encode(*full).pooled_output, scaled.encode(*full).pooled_output, atol=1e-6)
    assert np.abs(additive.encode(*padded).pooled_output - scaled.encode(*padded).pooled_output).max() > 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_feedforward_networks": 2},
        {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False},
        {"key_query_shared_bottleneck": False},
        {"classifier_activation": True},
        {"num_hidden_layers": 1},
    ],
)
def test_the_pooled_shortcut_equals_the_first_token_of_the_whole_sequence(changes):
    checkpoint = tiny_checkpoint(**changes)
    arrays = token_arrays(3, 14, padding=3)
    expected = Encoder(checkpoint).encode(*arrays).pooled_output
    weights = stack_weights(checkpoint.config, checkpoint.weights)
    pooled = encode_pooled(checkpoint.config, weights, arrays, mask_convention="additive").numpy()
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_stacking_weights_is_undone_by_unstacking():
    checkpoint = tiny_checkpoint(num_feedforward_networks=3)
    restored = unstack_weights(checkpoint.config, stack_weights(checkpoint.config, checkpoint.weights))
    assert restored.keys() == checkpoint.weights.keys()
    assert all(np.array_equal(restored[name], array) for name, array in checkpoint.weights.items())


def test_ids_outside_the_vocabulary_are_refused():
    encoder = Encoder(tiny_checkpoint())
    ids, mask, segments = token_arrays(1, 8)
    with pytest.raises(ValueError, match="input_ids must be in"):
        encoder.encode(ids + 10_000, mask, segments)
    with pytest.raises(ValueError, match="one shape"):
        encoder.encode(ids[:, :4], mask, segments)
    with pytest.raises(ValueError, match="more than the encoder's 64"):
        encoder.encode(*token_arrays(1, 65))


@pytest.mark.parametrize("frozen_layers", [None, 0, 1, 2])
def test_every_tokens_state_is_the_same_with_frozen_layers_and_their_gradients_are_none(frozen_layers):
    checkpoint, tokens = tiny_checkpoint(), token_arrays(3, 14, padding=3)
    weights = {name: tf.Variable(array) for name, array in stack_weights(checkpoint.config, checkpoint.weights).items()}
    with tf.GradientTape() as tape:
        states = encode(checkpoint.config, weights, tokens, mask_convention="additive", frozen_layers=frozen_layers)
        loss = tf.reduce_sum(states)
    np.testing.assert_allclose(states, Encoder(checkpoint).encode(*tokens).sequence_output, atol=1e-5)
    gradients = tape.gradient(loss, weights)
    assert (gradients["embeddings/position_embeddings"] is None) == (frozen_layers is not None)
    moved = gradients["layers/value/kernel"]
    learned = [moved is not None and bool(np.abs(moved[layer]).max() > 0) for layer in range(2)]
    assert learned == [layer >= (frozen_layers or 0) for layer in range(2)]
