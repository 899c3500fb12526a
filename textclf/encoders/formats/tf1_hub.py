"""Reads a TF1 Hub module: a SavedModel with the signatures `tokens` and `tokenization_info` and the original's variable
names.

It has no configuration: the configuration follows from the arrays' shapes and the graph's constants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig
from textclf.encoders.formats.arrays import StoredArray, read_weights
from textclf.encoders.formats.configuration import make_config
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.question_head import stored_question_head
from textclf.encoders.formats.saved_model_file import (
    FILE,
    MetaGraph,
    find_asset_vocabulary,
    head_size,
    is_object_based,
    read_mask_convention,
    read_meta_graphs,
    softmax_constants,
)
from textclf.encoders.formats.squad_signature import head_of_signature
from textclf.encoders.formats.tensorflow_checkpoint import data_bytes, index_checkpoint
from textclf.encoders.formats.tensorflow_names import facts_from_shapes, original_arrays, settings_from_shapes
from textclf.encoders.formats.vocabulary import check_vocabulary
from textclf.errors import EncoderError

NAME = "tf1_hub"
HOLDS = "saved_model.pb of TensorFlow 1, variables/ and assets/vocab.txt"

_ACTIVATIONS = ("Relu", "Relu6", "Erf", "Elu", "Selu", "LeakyRelu", "Softplus")


def recognise(folder: Path) -> bool:
    """Returns whether the folder holds a SavedModel of TensorFlow 1."""
    return (folder / FILE).is_file() and not is_object_based(folder)


def read(folder: Path) -> EncoderCheckpoint:
    """Returns the encoder in a folder for which `recognise` is true."""
    file, prefix = folder / FILE, folder / "variables" / "variables"
    graph = _inference_graph(read_meta_graphs(folder))
    raw = index_checkpoint(prefix)
    stored = original_arrays(raw)
    if not stored:
        raise EncoderError(f"{prefix}: has no variable under `bert/`; this SavedModel is no MobileBERT")
    config = make_config(_settings(graph, stored, file), file)
    weights = read_weights(config, stored, prefix, data_bytes(prefix))
    vocabulary = find_vocabulary(folder)
    check_vocabulary(vocabulary, config)
    said = _do_lower_case(graph)
    do_lower_case = vocabulary.do_lower_case if said is None else said
    mask_convention = read_mask_convention(graph, file)
    head = head_of_signature(graph, raw) or stored_question_head(raw)
    return EncoderCheckpoint(config, weights, vocabulary.pieces, do_lower_case, mask_convention, NAME, folder, head)


def read_facts(folder: Path) -> EncoderFacts:
    """Returns the facts in the index of the variables and the vocabulary."""
    prefix = folder / "variables" / "variables"
    return facts_from_shapes(original_arrays(index_checkpoint(prefix)), find_vocabulary(folder), prefix, folder)


find_vocabulary = find_asset_vocabulary


def _inference_graph(graphs: list[MetaGraph]) -> MetaGraph:
    """Returns the graph without tags, which has no dropout. The other graph of a Hub module is tagged `train`."""
    return min(graphs, key=lambda graph: len(graph.tags))


def _settings(graph: MetaGraph, stored: dict[str, StoredArray], file: Path) -> dict[str, Any]:
    settings = settings_from_shapes(stored)
    widths = {head_size(constants) for constants in softmax_constants(graph)}
    width = widths.pop() if len(widths) == 1 else None
    if width is None or "intra_bottleneck_size" not in settings:
        raise EncoderError(f"{file}: its graph does not tell the number of attention heads; is it a MobileBERT?")
    kinds = {node.kind for nodes in graph.parts for node in nodes}
    activations = [kind.lower() for kind in _ACTIVATIONS if kind in kinds]
    defaults = MobileBertConfig()
    return {
        **settings,
        "num_attention_heads": settings["intra_bottleneck_size"] // width,
        "hidden_act": activations[0] if len(activations) == 1 else activations or None,
        # A pooler's arrays can remain from pretraining. The pooler is used only if the graph has its activation.
        "classifier_activation": "pooler/dense/kernel" in stored and "Tanh" in kinds,
        "attention_probs_dropout_prob": defaults.attention_probs_dropout_prob,
        "hidden_dropout_prob": defaults.hidden_dropout_prob,
    }


def _do_lower_case(graph: MetaGraph) -> bool | None:
    """Returns the constant behind the signature `tokenization_info`, if the module has one."""
    output = graph.outputs["tokenization_info"].get("do_lower_case", "").partition(":")[0]
    for node in graph.parts[0]:
        if node.name == output:
            return bool(node.value) if node.value is not None else None
    return None
