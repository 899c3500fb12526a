"""The interface of an encoder in training, and its implementations: MobileBERT and averaged words.

`trainable` takes an encoder in memory and returns an object that computes a text's vector from variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from textclf.data.tokens.encoded import Tokens
from textclf.encoders.average_words import VECTORS, WordVectors
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.question_head import QuestionHead, question_head
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.mobilebert import (
    Dropout,
    encode,
    encode_pooled,
    stack_weights,
    unstack_weights,
)
from textclf.errors import EncoderError

# Before training. Any deviation would do: the classifier standardises features. The learning rate was chosen for this one.
_VECTOR_DEVIATION = 1.0

# Activations of a step without those of attention: measured at the published size, 24 layers of width 512 with four
# networks of 512.
_BYTES_A_TOKEN, _PUBLISHED_LAYERS, _PUBLISHED_WIDTH = 0.55e6, 24, 512 + 4 * 512

# A step keeps about this many arrays [heads, length] of each token and layer: measured at lengths of 128 and 384.
_KEPT_SCORES = 2


class TrainableEncoder(Protocol):
    """`attention_dropout` is the rate that training applies."""

    attention_dropout: float

    @property
    def checkpoint(self) -> AnyEncoder: ...

    def fresh(self, seed: int) -> dict[str, np.ndarray]:
        """Returns the arrays with which training begins, by variable name."""

    def pooled(
        self,
        variables: Mapping[str, tf.Tensor],
        tokens: Tokens,
        dropout: Dropout | None,
        dtype: tf.DType,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        """Tokens [rows, length] → float32 [rows, width]."""

    def states(
        self,
        variables: Mapping[str, tf.Tensor],
        tokens: Tokens,
        dropout: Dropout | None,
        dtype: tf.DType,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        """Tokens [rows, length] → a state of each token, float32 [rows, length, width]. Raises EncoderError if the encoder
        has none."""

    def question_head(self) -> QuestionHead | None:
        """Returns the head for question answering that came with the encoder. Raises EncoderError for one that cannot be
        used."""

    def weights(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the variables' arrays by the checkpoint's names."""

    def activation_bytes(self, tokens: int, measured_tokens: int, length: int) -> float | None:
        """Returns about how many bytes are needed besides the weights, or None if they are too few to matter.

        The largest part of a step has `tokens` tokens. Evaluations between steps compute up to `measured_tokens` tokens at
        once. Rows have up to `length` tokens.
        """


class TrainableMobileBert:
    """MobileBERT: the last layer's state of the first token."""

    def __init__(self, checkpoint: EncoderCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.attention_dropout = checkpoint.config.attention_probs_dropout_prob

    def fresh(self, seed: int) -> dict[str, np.ndarray]:
        return stack_weights(self.checkpoint.config, self.checkpoint.weights)

    def pooled(
        self,
        variables: Mapping[str, tf.Tensor],
        tokens: Tokens,
        dropout: Dropout | None,
        dtype: tf.DType,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        return encode_pooled(
            self.checkpoint.config,
            variables,
            tokens,
            mask_convention=self.checkpoint.mask_convention,
            dropout=dropout,
            dtype=dtype,
            frozen_layers=frozen_layers,
        )

    def states(
        self,
        variables: Mapping[str, tf.Tensor],
        tokens: Tokens,
        dropout: Dropout | None,
        dtype: tf.DType,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        return encode(
            self.checkpoint.config,
            variables,
            tokens,
            mask_convention=self.checkpoint.mask_convention,
            dropout=dropout,
            dtype=dtype,
            frozen_layers=frozen_layers,
        )

    def question_head(self) -> QuestionHead | None:
        return question_head(self.checkpoint)

    def weights(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return unstack_weights(self.checkpoint.config, arrays)

    def activation_bytes(self, tokens: int, measured_tokens: int, length: int) -> float | None:
        config = self.checkpoint.config
        width = config.hidden_size + config.num_feedforward_networks * config.intermediate_size
        share = config.num_hidden_layers / _PUBLISHED_LAYERS * width / _PUBLISHED_WIDTH
        scores = 4 * config.num_attention_heads * length
        kept = _BYTES_A_TOKEN * share + _KEPT_SCORES * scores * config.num_hidden_layers
        # Without gradients: some states, and one layer's attention scores before, during and after the softmax.
        measured = (4 * 4 * config.hidden_size + 3 * scores) * measured_tokens
        return max(kept * tokens, measured)


class TrainableAverageWords:
    """The mean of the vectors of <START> and the words; <PAD> does not count."""

    def __init__(self, checkpoint: WordVectors) -> None:
        self.checkpoint = checkpoint
        self.attention_dropout = 0.0

    def fresh(self, seed: int) -> dict[str, np.ndarray]:
        if self.checkpoint.weights:
            return dict(self.checkpoint.weights)
        config = self.checkpoint.config
        random = np.random.default_rng([seed, 2])
        return {VECTORS: random.standard_normal((config.words, config.width)) * _VECTOR_DEVIATION}

    def pooled(
        self,
        variables: Mapping[str, tf.Tensor],
        tokens: Tokens,
        dropout: Dropout | None,
        dtype: tf.DType,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        vectors = tf.gather(variables[VECTORS], tf.gather(tf.constant(self.checkpoint.rows), tokens.ids))
        counted = tf.cast(tokens.mask, vectors.dtype)[:, :, None]
        return tf.reduce_sum(vectors * counted, axis=1) / tf.reduce_sum(counted, axis=1)

    def states(
        self,
        variables: Mapping[str, tf.Tensor],
        tokens: Tokens,
        dropout: Dropout | None,
        dtype: tf.DType,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        raise EncoderError(
            f"{self.checkpoint.path}: averaged words have no state for each token, so they cannot learn to find answers in a "
            "text; set encoder.source to a MobileBERT, for example builtin"
        )

    def question_head(self) -> QuestionHead | None:
        return None

    def weights(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(arrays)

    def activation_bytes(self, tokens: int, measured_tokens: int, length: int) -> float | None:
        return None


def trainable(checkpoint: AnyEncoder) -> TrainableEncoder:
    """Returns the encoder for training; raises EncoderError for weights that are NaN or infinite."""
    for name, array in checkpoint.weights.items():
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise EncoderError(
                f"{checkpoint.path}: {bad:,} of the {array.size:,} numbers of `{name}` are NaN or infinite, so this "
                "encoder cannot compute anything; download it again, or use another encoder"
            )
    return checkpoint.trainable()
