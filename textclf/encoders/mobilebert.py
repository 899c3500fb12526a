"""The MobileBERT encoder (arXiv 2004.02984; google-research mobilebert/modeling.py) as functions over named tensors.

They take tokens and return a state of width 512 for each token. The weights of all layers are stacked by kind, [layers,
…]. The operands of the dense layers' products are rounded to a `dtype`, float32 or bfloat16; the rest is float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from textclf.data.tokens.encoded import Tokens
from textclf.encoders import dense as dense_layers
from textclf.encoders.checkpoint import EncoderCheckpoint, MaskConvention, MobileBertConfig

Weights = Mapping[str, tf.Tensor]
Stacks = Mapping[str, tf.TensorArray | Sequence[tf.Tensor]]
"""The weights of all layers, by kind; an array or a list has one element per layer."""

# Encoders of up to this many layers run them one after the other: a step of the built-in ones is 5 to 8 % faster than with
# a loop. Deeper ones run them in a loop, because tracing 24 separate layers takes 8 seconds longer than tracing one.
_UNROLLED_LAYERS = 8

# The names of one layer's arrays in the checkpoint, and of the stack with that kind of array for all layers.
_LAYER_KINDS = {
    "bottleneck/input/dense": "layers/bottleneck_input",
    "bottleneck/attention/dense": "layers/bottleneck_attention",
    "attention/self/query": "layers/query",
    "attention/self/key": "layers/key",
    "attention/self/value": "layers/value",
    "attention/output/dense": "layers/attention_output",
    "output/bottleneck/dense": "layers/bottleneck_output",
}
_LAYER_NORMS = {
    "bottleneck/input": "layers/bottleneck_input",
    "bottleneck/attention": "layers/bottleneck_attention",
    "attention/output": "layers/attention_output",
    "output/bottleneck": "layers/bottleneck_output",
}


def stacked_names(config: MobileBertConfig) -> dict[str, list[str] | list[list[str]]]:
    """Each trainable array's name → the checkpoint arrays that it stacks.

    A name of `layers/…` stacks one array per layer, [layers, …]; one of `layers/feedforward_…` stacks one array per layer
    and feed-forward network, [layers, networks, …]. Any other name is a single checkpoint array.
    """
    layers = range(config.num_hidden_layers)
    names: dict[str, list[str] | list[list[str]]] = {}
    for kind, stack in _LAYER_KINDS.items():
        if kind == "bottleneck/attention/dense" and not config.key_query_shared_bottleneck:
            continue
        for part in ("kernel", "bias"):
            names[f"{stack}/{part}"] = [f"encoder/layer_{layer}/{kind}/{part}" for layer in layers]
    for kind, stack in _LAYER_NORMS.items():
        if kind == "bottleneck/attention" and not config.key_query_shared_bottleneck:
            continue
        for part in ("gamma", "beta"):
            names[f"{stack}/{part}"] = [f"encoder/layer_{layer}/{kind}/FakeLayerNorm/{part}" for layer in layers]
    # The last feed-forward network has no prefix `ffn_layer_` in the original's names.
    networks = [f"ffn_layer_{network}/" for network in range(config.num_feedforward_networks - 1)] + [""]
    for half in ("intermediate", "output"):
        for part in ("kernel", "bias"):
            names[f"layers/feedforward_{half}/{part}"] = [
                [f"encoder/layer_{layer}/{network}{half}/dense/{part}" for network in networks] for layer in layers
            ]
    for part in ("gamma", "beta"):
        names[f"layers/feedforward_output/{part}"] = [
            [f"encoder/layer_{layer}/{network}output/FakeLayerNorm/{part}" for network in networks] for layer in layers
        ]
    return names


def stack_weights(config: MobileBertConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Checkpoint arrays → the arrays that the forward pass takes; arrays outside the layers keep their names."""
    stacked = {
        name: np.stack(
            [weights[part] if isinstance(part, str) else np.stack([weights[p] for p in part]) for part in parts]
        )
        for name, parts in stacked_names(config).items()
    }
    stacked.update({name: array for name, array in weights.items() if not name.startswith("encoder/")})
    return stacked


def unstack_weights(config: MobileBertConfig, stacked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `stack_weights`."""
    weights = {name: array for name, array in stacked.items() if not name.startswith("layers/")}
    for name, parts in stacked_names(config).items():
        for layer, part in enumerate(parts):
            if isinstance(part, str):
                weights[part] = stacked[name][layer]
            else:
                weights.update({p: stacked[name][layer, network] for network, p in enumerate(part)})
    return weights


def embed(
    config: MobileBertConfig,
    weights: Weights,
    tokens: Tokens,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Tokens [batch, length] → states [batch·length, hidden].

    The word vectors of the next, the current and the previous token (zeros past the ends) are projected to the stream's
    width (paper, section 3.1; modeling.py `MobileBertEmbeddings` of the original: next first).
    """
    batch, length = tf.unstack(tf.shape(tokens.ids))
    vectors = tf.gather(weights["embeddings/word_embeddings"], tokens.ids)
    edge = tf.zeros([batch, 1, config.embedding_size], vectors.dtype)
    following = tf.concat([vectors[:, 1:], edge], axis=1)
    previous = tf.concat([edge, vectors[:, :-1]], axis=1)
    trigrams = tf.concat([following, vectors, previous], axis=2)
    rows = tf.reshape(trigrams, [batch * length, 3 * config.embedding_size])
    states = _dense(weights, "embeddings/embedding_transformation", rows, dtype)
    states = tf.reshape(states, [batch, length, config.hidden_size])
    # There are about two segment vectors: a product with one-hot rows has a much cheaper gradient than a gather.
    segments = tf.one_hot(tokens.segments, config.type_vocab_size, dtype=states.dtype)
    states += tf.tensordot(segments, weights["embeddings/token_type_embeddings"], axes=1)
    states += weights["embeddings/position_embeddings"][:length]
    states = states * weights["embeddings/FakeLayerNorm/gamma"] + weights["embeddings/FakeLayerNorm/beta"]
    return tf.reshape(states, [batch * length, config.hidden_size])


class AttentionMask(NamedTuple):
    """Scores become `scores * factor + offset`; each is [batch, 1, 1, length], `factor` None for 1."""

    factor: tf.Tensor | None
    offset: tf.Tensor


def attention_mask(input_mask: tf.Tensor, convention: MaskConvention, dtype: tf.DType) -> AttentionMask:
    """Keeps padding out of attention as the original did before or after its quantisation-aware code (`MaskConvention`)."""
    mask = tf.cast(input_mask, dtype)[:, None, None, :]
    if convention == "additive":
        return AttentionMask(None, (1.0 - mask) * -10000.0)
    return AttentionMask(mask, (1.0 - mask) * -6.0)


class Dropout(NamedTuple):
    """Drops elements at `rate`. `seed` is int32 [2]; its second number plus the layer's must be new at every step."""

    rate: float
    seed: tf.Tensor

    def __call__(self, tensor: tf.Tensor, layer: int | tf.Tensor) -> tf.Tensor:
        seed = self.seed + tf.stack([0, tf.cast(layer, tf.int32)])
        return tf.nn.experimental.stateless_dropout(tensor, rate=self.rate, seed=seed, rng_alg="philox")


def transformer_layer(
    config: MobileBertConfig,
    layer: Weights,
    states: tf.Tensor,
    mask: AttentionMask,
    *,
    index: int | tf.Tensor,
    first_token_only: bool = False,
    dropout: Dropout | None = None,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """One bottlenecked layer (paper, figure 1c): states [batch·length, hidden] → the same shape.

    With `first_token_only`, the result is [batch, hidden]: only the first token's states. The pooled output does not
    depend on those of other tokens after the last layer's attention.
    """
    batch, length = tf.shape(mask.offset)[0], tf.shape(mask.offset)[3]
    heads, width = config.num_attention_heads, config.intra_bottleneck_size
    stream = tf.reshape(states, [batch, length, config.hidden_size])[:, 0] if first_token_only else states

    merged = not first_token_only and not config.use_bottleneck_attention
    if merged and config.key_query_shared_bottleneck:
        layer_input, key_input, value = _merged(
            layer, ("bottleneck_input", "bottleneck_attention", "value"), states, dtype
        )
        layer_input = _norm(layer, "bottleneck_input", layer_input)
        query, key = _merged(layer, ("query", "key"), _norm(layer, "bottleneck_attention", key_input), dtype)
    else:
        layer_input = _dense_norm(layer, "bottleneck_input", stream, None, dtype)
        if config.use_bottleneck_attention:
            key_input = value_input = (
                layer_input if not first_token_only else _dense_norm(layer, "bottleneck_input", states, None, dtype)
            )
            query_input = layer_input
        elif config.key_query_shared_bottleneck:
            key_input, value_input = _dense_norm(layer, "bottleneck_attention", states, None, dtype), states
            query_input = tf.reshape(key_input, [batch, length, width])[:, 0]
        else:
            query_input, key_input, value_input = stream, states, states
        query = _dense(layer, "query", query_input, dtype)
        key = _dense(layer, "key", key_input, dtype)
        value = _dense(layer, "value", value_input, dtype)

    def split_heads(rows: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(rows, [batch, -1, heads, width // heads]), [0, 2, 1, 3])

    query, key, value = split_heads(query), split_heads(key), split_heads(value)
    scores = tf.matmul(query, key, transpose_b=True) * (1.0 / math.sqrt(width / heads))
    if mask.factor is not None:
        scores *= mask.factor
    probabilities = tf.nn.softmax(scores + mask.offset)
    if dropout is not None:
        probabilities = dropout(probabilities, index)
    context = tf.reshape(tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3]), [-1, width])

    states = _dense_norm(layer, "attention_output", context, layer_input, dtype)
    # Unstacked once: the gradient of an index would fill a whole stack of zeros for each network.
    networks = {name: tf.unstack(tensor) for name, tensor in layer.items() if name.startswith("feedforward_")}
    for network in range(config.num_feedforward_networks):
        ffn = {name.removeprefix("feedforward_"): tensors[network] for name, tensors in networks.items()}
        states = dense_layers.feed_forward(
            states,
            (ffn["intermediate/kernel"], ffn["output/kernel"]),
            (ffn["intermediate/bias"], ffn["output/bias"]),
            ffn["output/gamma"],
            ffn["output/beta"],
            dtype,
        )
    return _dense_norm(layer, "bottleneck_output", states, stream, dtype)


def encode(
    config: MobileBertConfig,
    weights: Weights,
    tokens: Tokens,
    *,
    mask_convention: MaskConvention,
    dropout: Dropout | None = None,
    dtype: tf.DType = tf.float32,
    frozen_layers: int | None = None,
) -> tf.Tensor:
    """Tokens [batch, length] → `sequence_output` [batch, length, hidden].

    No gradient reaches the embeddings and the first `frozen_layers` layers. With None, gradients reach everything.
    """
    states, mask, stacks = _begin(config, weights, tokens, mask_convention, dtype)
    states = _run_to(config, stacks, states, mask, config.num_hidden_layers, dropout, dtype, frozen_layers)
    return tf.reshape(states, tf.concat([tf.shape(tokens.ids), [config.hidden_size]], axis=0))


def encode_pooled(
    config: MobileBertConfig,
    weights: Weights,
    tokens: Tokens,
    *,
    mask_convention: MaskConvention,
    dropout: Dropout | None = None,
    dtype: tf.DType = tf.float32,
    frozen_layers: int | None = None,
) -> tf.Tensor:
    """As `encode`, but computes and returns only `pooled_output` [batch, hidden]."""
    states, mask, stacks = _begin(config, weights, tokens, mask_convention, dtype)
    last = config.num_hidden_layers - 1
    states = _run_to(config, stacks, states, mask, last, dropout, dtype, frozen_layers)
    states = transformer_layer(
        config,
        _layer(stacks, last),
        states,
        mask,
        index=last,
        first_token_only=True,
        dropout=dropout,
        dtype=dtype,
    )
    if frozen_layers is not None and frozen_layers > last:
        states = tf.stop_gradient(states)
    return pool(config, weights, states)


def _begin(
    config: MobileBertConfig, weights: Weights, tokens: Tokens, mask_convention: MaskConvention, dtype: tf.DType
) -> tuple[tf.Tensor, AttentionMask, Stacks]:
    """Returns the states before the first layer, and the mask and the weights of all layers."""
    states = embed(config, weights, tokens, dtype)
    mask = attention_mask(tokens.mask, mask_convention, states.dtype)
    if dtype != tf.float32:
        # All layers of a kind at once, not one by one in the loop.
        weights = {
            name: tf.cast(tensor, dtype) if _is_stacked_kernel(name) else tensor for name, tensor in weights.items()
        }
    return states, mask, _layer_stacks(config, weights)


def _run_to(
    config: MobileBertConfig,
    stacks: Stacks,
    states: tf.Tensor,
    mask: AttentionMask,
    end: int,
    dropout: Dropout | None,
    dtype: tf.DType,
    frozen_layers: int | None,
) -> tf.Tensor:
    """Runs the layers before `end`. No gradient reaches the first `frozen_layers` and what is below them."""
    begin = 0
    if frozen_layers is not None:
        begin = min(frozen_layers, end)
        states = _run_layers(config, stacks, states, mask, range(begin), dropout, dtype)
        states = tf.stop_gradient(states)
    return _run_layers(config, stacks, states, mask, range(begin, end), dropout, dtype)


def pool(config: MobileBertConfig, weights: Weights, first_states: tf.Tensor) -> tf.Tensor:
    """First tokens' states [batch, hidden] → pooled output; the published encoders apply no dense layer here."""
    if config.classifier_activation:
        return tf.tanh(_dense(weights, "pooler/dense", first_states))
    return first_states


def _is_stacked_kernel(name: str) -> bool:
    return name.startswith("layers/") and name.endswith("/kernel")


def _layer_stacks(config: MobileBertConfig, weights: Weights) -> Stacks:
    """Returns what a layer's weights are read from; the gradient of plain indexing would be a whole stack per layer."""
    stacked = {name.removeprefix("layers/"): weights[name] for name in stacked_names(config)}
    if config.num_hidden_layers <= _UNROLLED_LAYERS:
        return {name: tf.unstack(tensor) for name, tensor in stacked.items()}
    return {
        name: tf.TensorArray(
            tensor.dtype,
            size=config.num_hidden_layers,
            element_shape=tensor.shape[1:],
            clear_after_read=False,
        ).unstack(tensor)
        for name, tensor in stacked.items()
    }


def _layer(stacks: Stacks, index: int | tf.Tensor) -> Weights:
    return {
        name: stack.read(index) if isinstance(stack, tf.TensorArray) else stack[index] for name, stack in stacks.items()
    }


def _run_layers(
    config: MobileBertConfig,
    stacks: Stacks,
    states: tf.Tensor,
    mask: AttentionMask,
    layers: range,
    dropout: Dropout | None = None,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Runs some layers, one after the other."""
    if not layers:
        return states

    def run(index: int | tf.Tensor, states: tf.Tensor) -> tf.Tensor:
        return transformer_layer(config, _layer(stacks, index), states, mask, index=index, dropout=dropout, dtype=dtype)

    if config.num_hidden_layers <= _UNROLLED_LAYERS:
        for number in layers:
            states = run(number, states)
        return states

    _, states = tf.while_loop(
        lambda index, _: index < layers.stop,
        lambda index, states: (index + 1, run(index, states)),
        (layers.start, states),
        maximum_iterations=len(layers),
    )
    return states


def _dense(weights: Weights, name: str, rows: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return dense_layers.dense(rows, weights[f"{name}/kernel"], weights[f"{name}/bias"], dtype)


def _merged(weights: Weights, names: tuple[str, ...], rows: tf.Tensor, dtype: tf.DType) -> list[tf.Tensor]:
    """Computes dense layers of equal width that read the same rows as one wide product."""
    kernel, bias = (tf.concat([weights[f"{name}/{part}"] for name in names], axis=-1) for part in ("kernel", "bias"))
    outputs: list[tf.Tensor] = tf.split(dense_layers.dense(rows, kernel, bias, dtype), len(names), axis=1)
    return outputs


def _norm(weights: Weights, name: str, rows: tf.Tensor) -> tf.Tensor:
    """NoNorm (paper, section 3.4): a scale and a shift instead of layer normalisation."""
    return dense_layers.no_norm(rows, weights[f"{name}/gamma"], weights[f"{name}/beta"])


def _dense_norm(weights: Weights, name: str, rows: tf.Tensor, residual: tf.Tensor | None, dtype: tf.DType) -> tf.Tensor:
    dense = (weights[f"{name}/kernel"], weights[f"{name}/bias"])
    return dense_layers.dense_norm(rows, *dense, weights[f"{name}/gamma"], weights[f"{name}/beta"], residual, dtype)


class EncoderOutput(NamedTuple):
    """numpy float32 `sequence_output` [batch, length, hidden] and `pooled_output` [batch, hidden]."""

    sequence_output: np.ndarray
    pooled_output: np.ndarray


class Encoder:
    """A loaded encoder that turns token ids into states; made by `textclf.load_encoder`."""

    def __init__(self, checkpoint: EncoderCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self._weights = {
            name: tf.constant(array) for name, array in stack_weights(self.config, checkpoint.weights).items()
        }
        self._encode = tf.function(self._forward, reduce_retracing=True, autograph=False)

    def encode(self, input_ids: np.ndarray, input_mask: np.ndarray, segment_ids: np.ndarray) -> EncoderOutput:
        """Takes three integer arrays [batch, length], length at most `config.max_position_embeddings`, and returns states.

        Raises ValueError for arrays of different shapes and for ids outside the vocabulary.
        """
        arrays = [np.asarray(array, np.int32) for array in (input_ids, input_mask, segment_ids)]
        if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 2:
            raise ValueError(f"expected three arrays of one shape [batch, length], got {[a.shape for a in arrays]}")
        if arrays[0].shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"length {arrays[0].shape[1]} is more than the encoder's {self.config.max_position_embeddings}"
            )
        limits = (self.config.vocab_size, 2, self.config.type_vocab_size)
        for name, array, limit in zip(("input_ids", "input_mask", "segment_ids"), arrays, limits, strict=True):
            if array.size and not (array.min() >= 0 and array.max() < limit):
                raise ValueError(f"{name} must be in 0..{limit - 1}, found {array.min()}..{array.max()}")
        sequence_output, pooled_output = self._encode(Tokens(*(tf.constant(array) for array in arrays)))
        return EncoderOutput(sequence_output.numpy(), pooled_output.numpy())

    def _forward(self, tokens: Tokens) -> tuple[tf.Tensor, tf.Tensor]:
        sequence_output = encode(self.config, self._weights, tokens, mask_convention=self.checkpoint.mask_convention)
        return sequence_output, pool(self.config, self._weights, sequence_output[:, 0])
