"""The weights for a graph: an encoder's weights and a head, with the features' standardisation folded in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from textclf.data.tokens.encoded import Encoded
from textclf.encoders.average_words import WordVectors
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.interface import AnyEncoder
from textclf.tflite.graph.average_words import AverageWordsWeights
from textclf.tflite.graph.classification import PROBABILITIES
from textclf.tflite.graph.mobilebert import ClassifierWeights, Quantization
from textclf.tflite.graph.outputs import GraphOutputs
from textclf.tflite.runtimes import Compatibility


class InferenceWeights(Protocol):
    """A trained model, ready to be written."""

    def graph(
        self, max_length: int, quantization: Quantization, compatibility: Compatibility, rows: Encoded | None
    ) -> bytes:
        """A `.tflite` model without metadata, for texts of `max_length` ids; by `rows`, texts like
        those that the model will read, int4 weights are rounded. Raises ModelError for what cannot be written.
        """


class _WeightsOf(Protocol):
    def of(
        self, encoder: Any, head_kernel: np.ndarray, head_bias: np.ndarray, outputs: GraphOutputs
    ) -> InferenceWeights: ...


# How the graph of each encoder is written; a further encoder adds a line.
_WEIGHTS_OF: dict[type, _WeightsOf] = {EncoderCheckpoint: ClassifierWeights, WordVectors: AverageWordsWeights}


def inference_weights(
    trained: AnyEncoder, head: Mapping[str, np.ndarray], outputs: GraphOutputs = PROBABILITIES
) -> InferenceWeights:
    """A trained encoder and its head; the standardisation of features is folded into the head.

    `head` holds head/kernel [width, columns], head/bias [columns], features/mean and features/scale [width]. `outputs`
    are those of the task, by default a probability for each label.
    """
    # The graph writer reports values that overflow in float32.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = head["head/kernel"].astype(np.float64) * head["features/scale"].astype(np.float64)[:, None]
        shifted = head["head/bias"] - head["features/mean"].astype(np.float64) @ scaled
        kernel, bias = scaled.astype(np.float32), shifted.astype(np.float32)
    return _WEIGHTS_OF[type(trained)].of(trained, kernel, bias, outputs)
