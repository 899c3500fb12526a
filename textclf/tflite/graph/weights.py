"""The weights for a graph: an encoder's weights and a head, with the features' standardisation folded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    return _WEIGHTS_OF[type(trained)].of(
        trained, *_folded(head, head["features/mean"], head["features/scale"]), outputs
    )


def token_weights(
    trained: EncoderCheckpoint, head: Mapping[str, np.ndarray], outputs: GraphOutputs
) -> ClassifierWeights:
    """Does the same for a head that reads every token.

    features/mean and features/scale are [2, width]: for the first token, and for all others.
    """
    first, rest = (
        _folded(head, mean, scale) for mean, scale in zip(head["features/mean"], head["features/scale"], strict=True)
    )
    weights = ClassifierWeights.of(trained, *rest, outputs)
    same = all(np.array_equal(ours, theirs) for ours, theirs in zip(first, rest, strict=True))
    return weights if same else replace(weights, first_token_head=first)


def _folded(head: Mapping[str, np.ndarray], mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and the bias of the head for features that are not standardised."""
    # The graph writer reports values that overflow in float32.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = head["head/kernel"].astype(np.float64) * scale.astype(np.float64)[:, None]
        shifted = head["head/bias"] - mean.astype(np.float64) @ scaled
        return scaled.astype(np.float32), shifted.astype(np.float32)
