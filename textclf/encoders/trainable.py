"""What the training loop asks of an encoder, and the encoders that answer: MobileBERT and averaged words.

An encoder in memory in, an object that makes variables and computes a text's vector from them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from textclf.encoders.average_words import VECTORS, WordVectors
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.mobilebert import Dropout, Product, encode_pooled, stack_weights, unstack_weights
from textclf.errors import EncoderError

AnyEncoder = EncoderCheckpoint | WordVectors

# Before training. Any size does: the classifier standardises features, and the learning rate was chosen for this one.
_VECTOR_DEVIATION = 1.0


class TrainableEncoder(Protocol):
    """`width` of the pooled output; `layers` that can be frozen from below; `attention_dropout` that training applies;
    `summary` names the encoder in a line of the log."""

    summary: str
    width: int
    layers: int
    attention_dropout: float

    @property
    def checkpoint(self) -> AnyEncoder: ...

    def fresh(self, seed: int) -> dict[str, np.ndarray]:
        """The arrays with which a training begins, by variable name."""

    def pooled(
        self,
        variables: Mapping[str, tf.Tensor],
        input_ids: tf.Tensor,
        input_mask: tf.Tensor,
        segment_ids: tf.Tensor,
        dropout: Dropout | None,
        product: Product,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        """int32 [rows, length] three times → float32 [rows, width]."""

    def weights(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The variables' arrays by the checkpoint's names."""


class TrainableMobileBert:
    """MobileBERT: the first token of the last layer."""

    def __init__(self, checkpoint: EncoderCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.summary = f"{checkpoint.config.num_hidden_layers}-layer encoder ({checkpoint.format})"
        self.width = checkpoint.config.hidden_size
        self.layers = checkpoint.config.num_hidden_layers
        self.attention_dropout = checkpoint.config.attention_probs_dropout_prob

    def fresh(self, seed: int) -> dict[str, np.ndarray]:
        return stack_weights(self.checkpoint.config, self.checkpoint.weights)

    def pooled(
        self,
        variables: Mapping[str, tf.Tensor],
        input_ids: tf.Tensor,
        input_mask: tf.Tensor,
        segment_ids: tf.Tensor,
        dropout: Dropout | None,
        product: Product,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        return encode_pooled(
            self.checkpoint.config,
            variables,
            input_ids,
            input_mask,
            segment_ids,
            mask_convention=self.checkpoint.mask_convention,
            dropout=dropout,
            product=product,
            frozen_layers=frozen_layers,
        )

    def weights(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return unstack_weights(self.checkpoint.config, arrays)


class TrainableAverageWords:
    """The mean of the vectors of <START> and the words; <PAD> does not count."""

    def __init__(self, checkpoint: WordVectors) -> None:
        self.checkpoint = checkpoint
        self.summary = f"average of {checkpoint.config.words:,} word vectors"
        self.width = checkpoint.config.width
        self.layers = 0
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
        input_ids: tf.Tensor,
        input_mask: tf.Tensor,
        segment_ids: tf.Tensor,
        dropout: Dropout | None,
        product: Product,
        frozen_layers: int | None,
    ) -> tf.Tensor:
        vectors = tf.gather(variables[VECTORS], tf.gather(tf.constant(self.checkpoint.rows), input_ids))
        counted = tf.cast(input_mask, vectors.dtype)[:, :, None]
        return tf.reduce_sum(vectors * counted, axis=1) / tf.reduce_sum(counted, axis=1)

    def weights(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(arrays)


def trainable(checkpoint: AnyEncoder) -> TrainableEncoder:
    """The encoder as training uses it; raises EncoderError for weights that are NaN or infinite."""
    for name, array in checkpoint.weights.items():
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise EncoderError(
                f"{checkpoint.path}: {bad:,} of the {array.size:,} numbers of `{name}` are NaN or infinite, so nothing can be "
                "computed with this encoder; get it again from where it is published, or use another encoder"
            )
    return TrainableAverageWords(checkpoint) if isinstance(checkpoint, WordVectors) else TrainableMobileBert(checkpoint)
