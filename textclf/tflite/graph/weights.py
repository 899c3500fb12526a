"""The weights for a graph: an encoder's weights and a head, with the features' standardisation folded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textclf.encoders.average_words import VECTORS, WordVectors
from textclf.encoders.checkpoint import EncoderCheckpoint, MaskConvention, MobileBertConfig


@dataclass(frozen=True)
class AverageWordsWeights:
    """A trained classifier: `vectors` float32 [words, width], `rows` int32 [spellings] (which vector a word id has),
    and the head as probabilities are made from it, softmax(mean @ head_kernel + head_bias)."""

    vectors: np.ndarray
    rows: np.ndarray
    head_kernel: np.ndarray
    head_bias: np.ndarray


@dataclass(frozen=True)
class ClassifierWeights:
    """A trained classifier: the encoder's arrays by checkpoint name, and the head as probabilities are made from it,
    softmax(pooled_output @ head_kernel + head_bias); float32 [hidden, classes] and [classes]."""

    config: MobileBertConfig
    encoder: Mapping[str, np.ndarray]
    mask_convention: MaskConvention
    head_kernel: np.ndarray
    head_bias: np.ndarray


InferenceWeights = ClassifierWeights | AverageWordsWeights
"""The weights for a graph."""


def inference_weights(trained: EncoderCheckpoint | WordVectors, head: Mapping[str, np.ndarray]) -> InferenceWeights:
    """Returns a trained encoder and its head; the standardisation of features is folded into the head.

    `head` holds head/kernel [width, labels], head/bias [labels], features/mean and features/scale [width].
    """
    # The graph writer reports values that overflow in float32.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = head["head/kernel"].astype(np.float64) * head["features/scale"].astype(np.float64)[:, None]
        shifted = head["head/bias"] - head["features/mean"].astype(np.float64) @ scaled
        kernel, bias = scaled.astype(np.float32), shifted.astype(np.float32)
    if isinstance(trained, WordVectors):
        return AverageWordsWeights(trained.weights[VECTORS], trained.rows, kernel, bias)
    return ClassifierWeights(trained.config, trained.weights, trained.mask_convention, kernel, bias)
