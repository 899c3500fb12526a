"""Finds variables by the original's names, and derives the configuration from their shapes.

Used by formats without a configuration file, or with the variable names of google-research's code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textclf.encoders.formats.arrays import RawArray, StoredArray, count_layers, count_networks
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.vocabulary import Vocabulary, check_vocabulary_size
from textclf.errors import EncoderError

_ORIGINAL = re.compile(r"(?:.*/)?bert/((?:embeddings|encoder|pooler)/.+)$")


def original_arrays(raw: Mapping[str, RawArray]) -> dict[str, StoredArray]:
    """Returns the encoder's arrays by canonical name, without heads. Optimiser slots keep names that are never used."""
    matches = {name: match[1] for name in raw if (match := _ORIGINAL.match(name))}
    return {canonical: StoredArray(name, raw[name].shape, raw[name].read) for name, canonical in matches.items()}


def settings_from_shapes(stored: Mapping[str, StoredArray]) -> dict[str, Any]:
    """Returns the settings that follow from an encoder's arrays, if all arrays for them are present.

    Not among them are the number of attention heads, activation, dropout and the use of the pooler.
    """

    def size(name: str, axis: int) -> int | None:
        array = stored.get(name)
        return array.shape[axis] if array is not None and len(array.shape) == 2 else None

    layer = "encoder/layer_0"
    embedding_size = size("embeddings/word_embeddings", 1)
    bottleneck = size(f"{layer}/bottleneck/input/dense/kernel", 1)
    shared = f"{layer}/bottleneck/attention/dense/kernel" in stored
    settings = {
        "vocab_size": size("embeddings/word_embeddings", 0),
        "embedding_size": embedding_size,
        "hidden_size": size("embeddings/position_embeddings", 1),
        "num_hidden_layers": count_layers(stored) or None,
        "intra_bottleneck_size": bottleneck,
        "intermediate_size": size(f"{layer}/intermediate/dense/kernel", 1),
        "num_feedforward_networks": count_networks(stored),
        "key_query_shared_bottleneck": shared,
        "use_bottleneck_attention": not shared and size(f"{layer}/attention/self/value/kernel", 0) == bottleneck,
        "max_position_embeddings": size("embeddings/position_embeddings", 0),
        "type_vocab_size": size("embeddings/token_type_embeddings", 0),
        "use_bottleneck": bottleneck is not None,
        "trigram_input": (embedding_size or 0) * 3 == size("embeddings/embedding_transformation/kernel", 0),
        "normalization_type": "no_norm" if "embeddings/FakeLayerNorm/gamma" in stored else "layer_norm",
    }
    return {key: value for key, value in settings.items() if value is not None}


def facts_from_shapes(
    stored: Mapping[str, StoredArray], vocabulary: Vocabulary, prefix: Path, folder: Path
) -> EncoderFacts:
    """Returns the facts that follow from the shapes of the embeddings and the number of layers.

    Raises EncoderError if they are missing or the vocabulary does not match.
    """
    settings = settings_from_shapes(stored)
    for key in ("vocab_size", "max_position_embeddings", "type_vocab_size"):
        if not settings.get(key):
            raise EncoderError(f"{prefix}: holds no embeddings of a MobileBERT encoder; is it another model's file?")
    check_vocabulary_size(vocabulary, settings["vocab_size"])
    longest, segments = settings["max_position_embeddings"], settings["type_vocab_size"]
    return EncoderFacts(longest, segments, settings.get("num_hidden_layers", 0), vocabulary, folder)
