"""What one gets without thinking of the device: MobileBERT written with Keras layers and converted to TFLite.

Model sizes in, the bytes of two files out: float32, and with the converter's default optimisation (8-bit weights).
Conversion takes minutes at full size; `benchmarks/export.py` keeps the files.
"""

from __future__ import annotations

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from textclf.encoders.checkpoint import MobileBertConfig


class NoNorm(keras.layers.Layer):
    """gamma · x + beta."""

    def build(self, shape: tuple[int, ...]) -> None:
        # Of gammas of exactly 1 the converter would leave the products out.
        near_one, near_zero = (keras.initializers.RandomNormal(mean, 0.05, seed=0) for mean in (1.0, 0.0))
        self.gamma = self.add_weight(shape=(shape[-1],), initializer=near_one, name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer=near_zero, name="beta")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.gamma + self.beta


def mobilebert(config: MobileBertConfig, length: int, labels: int) -> keras.Model:
    """`ids`, `mask`, `segment_ids` (int32 [1, length]) → probabilities; random weights."""
    ids, mask, segments = (
        keras.Input((length,), batch_size=1, dtype="int32", name=name) for name in ("ids", "mask", "segment_ids")
    )
    states = _embeddings(config, length, ids, segments)
    offset = (1.0 - keras.ops.cast(mask, "float32")[:, None, None, :]) * -10000.0
    for _ in range(config.num_hidden_layers):
        states = _layer(config, states, offset)
    probabilities = keras.layers.Dense(labels, activation="softmax")(states[:, 0])
    return keras.Model([ids, mask, segments], probabilities)


def _embeddings(
    config: MobileBertConfig, length: int, ids: keras.KerasTensor, segments: keras.KerasTensor
) -> keras.KerasTensor:
    words = keras.layers.Embedding(config.vocab_size, config.embedding_size)(ids)
    following = keras.layers.ZeroPadding1D((0, 1))(words[:, 1:])
    previous = keras.layers.ZeroPadding1D((1, 0))(words[:, :-1])
    states = keras.layers.Dense(config.hidden_size)(keras.layers.Concatenate()([following, words, previous]))
    states += keras.layers.Embedding(config.type_vocab_size, config.hidden_size)(segments)
    positions = keras.layers.Embedding(config.max_position_embeddings, config.hidden_size)
    return NoNorm()(states + positions(keras.ops.arange(length)))


def _layer(config: MobileBertConfig, states: keras.KerasTensor, offset: keras.KerasTensor) -> keras.KerasTensor:
    narrow, heads = config.intra_bottleneck_size, config.num_attention_heads

    def dense_norm(inputs: keras.KerasTensor, width: int) -> keras.KerasTensor:
        return NoNorm()(keras.layers.Dense(width)(inputs))

    def residual(inputs: keras.KerasTensor, other: keras.KerasTensor) -> keras.KerasTensor:
        return NoNorm()(keras.layers.Dense(other.shape[-1])(inputs) + other)

    def split(inputs: keras.KerasTensor) -> keras.KerasTensor:
        rows = keras.layers.Reshape((-1, heads, narrow // heads))(keras.layers.Dense(narrow)(inputs))
        return keras.layers.Permute((2, 1, 3))(rows)

    layer_input, shared = dense_norm(states, narrow), dense_norm(states, narrow)
    query, key, value = split(shared), split(shared), split(states)
    scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 1, 3, 2))) / (narrow / heads) ** 0.5
    context = keras.ops.matmul(keras.layers.Softmax()(scores + offset), value)
    context = keras.layers.Reshape((-1, narrow))(keras.layers.Permute((2, 1, 3))(context))
    inner = residual(context, layer_input)
    for _ in range(config.num_feedforward_networks):
        inner = residual(keras.layers.Dense(config.intermediate_size, activation="relu")(inner), inner)
    return residual(inner, states)


def converted(model: keras.Model) -> tuple[bytes, bytes]:
    """The model as TFLite without optimisations and with Optimize.DEFAULT.

    The variables are frozen first: the converter leaves those of a Keras 3 model outside the file.
    """
    specifications = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in model.inputs]
    called = tf.function(lambda *inputs: model(list(inputs), training=False), input_signature=specifications)
    frozen = convert_variables_to_constants_v2(called.get_concrete_function())

    def convert(optimizations: list[tf.lite.Optimize]) -> bytes:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], called)
        converter.optimizations = optimizations
        return bytes(converter.convert())

    return convert([]), convert([tf.lite.Optimize.DEFAULT])
