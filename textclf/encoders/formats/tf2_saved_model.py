"""Reads a TF2 SavedModel of TensorFlow's model garden.

The keys of its variables have no meaning (`variables/17`); the object graph in the checkpoint has their names. The
configuration is in the Keras metadata, and it is compared with the arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.arrays import RawArray, StoredArray, read_weights
from textclf.encoders.formats.configuration import make_config
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.protobuf import ProtobufError, message_in, messages, text
from textclf.encoders.formats.saved_model_file import (
    FILE,
    LARGEST_FILE,
    OBJECT_GRAPH_KEY,
    find_asset_vocabulary,
    is_object_based,
    read_mask_convention,
    read_meta_graphs,
)
from textclf.encoders.formats.tensorflow_checkpoint import data_bytes, index_checkpoint
from textclf.encoders.formats.tensorflow_names import facts_from_shapes, settings_from_shapes
from textclf.encoders.formats.vocabulary import check_vocabulary
from textclf.errors import EncoderError

NAME = "tf2_saved_model"
HOLDS = "saved_model.pb of TensorFlow 2, variables/ and assets/vocab.txt"

_METADATA_FILE = "keras_metadata.pb"
_ENCODER_NAME = re.compile(r"(?:.*/)?(mobile_bert_embedding|transformer_layer_\d+|pooler)/(.+)$")

# Parts of names in the model garden (official/nlp/modeling/layers/mobile_bert_layers.py) → the original's.
_EMBEDDINGS = {
    "word_embedding/embeddings": "word_embeddings",
    "type_embedding/embeddings": "token_type_embeddings",
    "position_embedding/embeddings": "position_embeddings",
    "embedding_projection": "embedding_transformation",
    "embedding_norm": "FakeLayerNorm",
}
_LAYER_PARTS = {
    "bottleneck_input/dense": "bottleneck/input/dense",
    "bottleneck_input/norm": "bottleneck/input/FakeLayerNorm",
    "kq_shared_bottleneck/dense": "bottleneck/attention/dense",
    "kq_shared_bottleneck/norm": "bottleneck/attention/FakeLayerNorm",
    "attention/query": "attention/self/query",
    "attention/key": "attention/self/key",
    "attention/value": "attention/self/value",
    "attention/attention_output": "attention/output/dense",
    "attention/norm": "attention/output/FakeLayerNorm",
    "bottleneck_output/dense": "output/bottleneck/dense",
    "bottleneck_output/norm": "output/bottleneck/FakeLayerNorm",
}
_NETWORK_PARTS = {
    "intermediate_dense": "intermediate/dense",
    "output_dense": "output/dense",
    "norm": "output/FakeLayerNorm",
}
_TRANSFORMER = re.compile(rb'"class_name": "(?:\w+>)?MobileBertTransformer", "config": ')
_LONGEST_SETTINGS = 10_000
_MOST_LAYERS = 1000
_NETWORK = re.compile(r"ffn_layer_(\d+)/(\w+)$")

# Names in the Keras metadata of the transformer layers → the original's setting.
_METADATA = {
    "num_attention_heads": "num_attention_heads",
    "intermediate_act_fn": "hidden_act",
    "normalization_type": "normalization_type",
    "attention_probs_dropout_prob": "attention_probs_dropout_prob",
    "hidden_dropout_prob": "hidden_dropout_prob",
    "use_bottleneck_attention": "use_bottleneck_attention",
}


def recognise(folder: Path) -> bool:
    """Returns whether the folder holds a SavedModel of TensorFlow 2."""
    return (folder / FILE).is_file() and is_object_based(folder)


def read(folder: Path) -> EncoderCheckpoint:
    """Returns the encoder in a folder for which `recognise` is true."""
    file, prefix = folder / FILE, folder / "variables" / "variables"
    # Read first, and not kept: a real one is half as large as the weights.
    mask_convention = read_mask_convention(read_meta_graphs(folder)[0], file)
    raw = index_checkpoint(prefix)
    stored = _stored_arrays(raw, _variable_keys(raw, prefix), prefix)
    if not stored:
        raise EncoderError(f"{prefix}: has no variable of a MobileBERT encoder; this SavedModel is another model")
    config = make_config(_settings(folder, file, stored), file)
    weights = read_weights(config, stored, prefix, data_bytes(prefix))
    vocabulary = find_vocabulary(folder)
    check_vocabulary(vocabulary, config)
    said = _do_lower_case(raw)
    do_lower_case = vocabulary.do_lower_case if said is None else said
    return EncoderCheckpoint(config, weights, vocabulary.pieces, do_lower_case, mask_convention, NAME, folder)


def read_facts(folder: Path) -> EncoderFacts:
    """Returns the facts in the index of the variables and the vocabulary."""
    prefix = folder / "variables" / "variables"
    raw = index_checkpoint(prefix)
    stored = _stored_arrays(raw, _variable_keys(raw, prefix), prefix)
    return facts_from_shapes(stored, find_vocabulary(folder), prefix, folder)


find_vocabulary = find_asset_vocabulary


def canonical_name(block: str, rest: str, last_network: int) -> str | None:
    """Returns the original's name, if any, of a model garden name, split into its block (`transformer_layer_3`) and the
    rest.

    `last_network` is the number of the last feed-forward network, which has no number in the original.
    """
    part, _, kind = rest.rpartition("/")
    if block == "pooler":
        return f"pooler/dense/{kind}"
    if block == "mobile_bert_embedding":
        name = _EMBEDDINGS.get(rest) or _EMBEDDINGS.get(part)
        return None if name is None else f"embeddings/{name}" + ("" if rest in _EMBEDDINGS else f"/{kind}")
    layer = block.removeprefix("transformer_")
    if match := _NETWORK.match(part):
        network = "" if int(match[1]) == last_network else f"ffn_layer_{match[1]}/"
        name = _NETWORK_PARTS.get(match[2])
        return None if name is None else f"encoder/{layer}/{network}{name}/{kind}"
    return None if part not in _LAYER_PARTS else f"encoder/{layer}/{_LAYER_PARTS[part]}/{kind}"


def _variable_keys(raw: Mapping[str, RawArray], prefix: Path) -> dict[str, str]:
    """Returns the names of the variables with their keys in the checkpoint, from the object graph in the checkpoint."""
    if OBJECT_GRAPH_KEY not in raw:
        raise EncoderError(
            f"{prefix}: has no object graph, so its variables have no names; export the SavedModel again"
        )
    keys: dict[str, str] = {}
    try:
        graph = memoryview(raw[OBJECT_GRAPH_KEY].read().item())
        for name, key in _variables(graph):
            if _ENCODER_NAME.match(name) and keys.setdefault(name, key) != key:
                raise EncoderError(f"{prefix}: holds two variables called {name!r}; export the encoder alone")
    except (ProtobufError, TypeError, ValueError) as error:
        raise EncoderError(f"{prefix}: its object graph cannot be read ({error}); get the SavedModel again") from error
    return keys


def _variables(graph: memoryview) -> Iterator[tuple[str, str]]:
    """Of a `TrackableObjectGraph` the names of its variables and their keys: 1 is a node, 2 one of its attributes, in
    which 2 is the full name and 3 the key."""
    for node in messages(graph, 1):
        for attribute in messages(node, 2):
            yield text(message_in(attribute, 2)), text(message_in(attribute, 3))


def _stored_arrays(raw: Mapping[str, RawArray], keys: Mapping[str, str], prefix: Path) -> dict[str, StoredArray]:
    """Returns the encoder's arrays by canonical name, with those of the attention heads as matrices."""
    matches = {name: match for name in keys if (match := _ENCODER_NAME.match(name))}
    numbers = [int(found[1]) for match in matches.values() if (found := _NETWORK.match(match[2].rpartition("/")[0]))]
    stored: dict[str, StoredArray] = {}
    for name, match in matches.items():
        canonical = canonical_name(match[1], match[2], max(numbers, default=0))
        if canonical is None:
            continue
        if keys[name] not in raw:
            raise EncoderError(f"{prefix}: lacks {keys[name]!r}, the variable {name!r}; get the SavedModel again")
        stored[canonical] = _as_matrix(name, canonical, raw[keys[name]])
    return stored


def _as_matrix(name: str, canonical: str, array: RawArray) -> StoredArray:
    """Attention kernels are [in, heads, size] or [heads, size, out], their biases [heads, size] here."""
    shape = array.shape
    if canonical.endswith("/kernel") and len(shape) == 3:
        split_inputs = canonical.endswith("attention/output/dense/kernel")
        shape = (shape[0] * shape[1], shape[2]) if split_inputs else (shape[0], shape[1] * shape[2])
    elif "/attention/self/" in canonical and canonical.endswith("/bias") and len(shape) == 2:
        shape = (shape[0] * shape[1],)
    return StoredArray(name, shape, lambda: array.read().reshape(shape))


def _settings(folder: Path, file: Path, stored: Mapping[str, StoredArray]) -> dict[str, Any]:
    """Returns the configuration that follows from the arrays, completed and checked with the layers' Keras metadata."""
    layers = _layer_metadata(folder)
    if not layers:
        raise EncoderError(
            f"{file}: carries no Keras metadata of its layers, so their activation and normalisation are not known;"
            " use another form of this encoder"
        )
    told = [{ours: layer.get(theirs) for theirs, ours in _METADATA.items()} for layer in layers]
    for key in _METADATA.values():
        if any(settings[key] != told[0][key] for settings in told):
            raise EncoderError(f"{file}: its layers differ in `{key}`; only encoders with equal layers are supported")
    return {
        **settings_from_shapes(stored),
        **told[0],
        "classifier_activation": "pooler/dense/kernel" in stored,
    }


def _layer_metadata(folder: Path) -> list[dict[str, Any]]:
    """Returns the Keras settings of each transformer layer: JSON inside `keras_metadata.pb`, before TF 2.5 in the
    SavedModel."""
    for file in (folder / _METADATA_FILE, folder / FILE):
        if not file.is_file():
            continue
        if file.stat().st_size > LARGEST_FILE:
            raise EncoderError(f"{file}: is longer than {LARGEST_FILE:,} bytes; get the SavedModel again")
        content = file.read_bytes()
        matches = islice(_TRANSFORMER.finditer(content), _MOST_LAYERS)
        found = [_settings_at(content, match.end()) for match in matches]
        if layers := [settings for settings in found if settings is not None]:
            return layers
    return []


def _settings_at(content: bytes, start: int) -> dict[str, Any] | None:
    text = content[start : start + _LONGEST_SETTINGS].decode("utf-8", errors="replace")
    try:
        settings, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def _do_lower_case(raw: Mapping[str, RawArray]) -> bool | None:
    """Returns the exporter's attribute of that name, if it exists."""
    array = raw.get("do_lower_case/.ATTRIBUTES/VARIABLE_VALUE")
    return None if array is None or array.shape else bool(array.read())
