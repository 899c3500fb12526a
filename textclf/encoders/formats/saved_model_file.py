"""Reads a `saved_model.pb`, except the weights, without TensorFlow. No graph in it is ever run.

Takes a SavedModel's folder and returns its graphs, the constants before each softmax, and the vocabulary in its assets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from textclf.data.tokens.vocabulary import read_vocabulary
from textclf.encoders.checkpoint import MaskConvention
from textclf.encoders.formats.protobuf import (
    ProtobufError,
    as_bytes,
    as_number,
    fields,
    message_in,
    messages,
    text,
)
from textclf.encoders.formats.vocabulary import Vocabulary, is_lower_cased
from textclf.errors import EncoderError

FILE = "saved_model.pb"
OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"

LARGEST_FILE = 512 * 2**20
# The largest encoder's graph has some 50,000 nodes.
_MOST_NODES = 500_000

# Names are in alphabetical order, and this key starts with one of the first possible letters.
_INDEX_BEGINNING = 64 * 2**20

_SIGNATURES = ("tokenization_info", "squad")

# Padding is masked with -10000 by the original and with -1e9 by later Keras layers; both are 0 after softmax.
_HIGHEST_ADDITIVE_MASK = -1000.0
_SCALED_MASK = -6.0
# No attention head is a million wide.
_SMALLEST_FACTOR = 1e-3
_PRODUCTS = frozenset(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"))
# tensorflow/core/framework/types.proto, with the field of a `TensorProto` that holds one number of the type.
_FLOAT, _BOOL = 1, 10


@dataclass(frozen=True)
class Node:
    """An operation: its kind, its inputs, and its number if it is a constant of one number."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    value: float | bool | None


@dataclass(frozen=True)
class MetaGraph:
    """`parts` are the nodes of the graph itself and of each of its functions; `outputs` are the names of the tensors that a
    signature returns, by signature and key."""

    tags: tuple[str, ...]
    parts: list[list[Node]]
    outputs: dict[str, dict[str, str]]


def read_meta_graphs(folder: Path) -> list[MetaGraph]:
    """Returns the graphs of a SavedModel (core/protobuf/saved_model.proto). Raises EncoderError for another file."""
    file = folder / FILE
    try:
        size = file.stat().st_size
        if size > LARGEST_FILE:
            raise ProtobufError(f"it is longer than {LARGEST_FILE:,} bytes")
        graphs = [_meta_graph(message) for message in messages(memoryview(file.read_bytes()), 2)]
    except (ProtobufError, OSError) as error:
        raise EncoderError(
            f"{file}: cannot be read as a SavedModel ({error}); it is damaged or incomplete, get it again"
        ) from error
    if not graphs:
        raise EncoderError(f"{file}: holds no graph; it is damaged or no SavedModel")
    return graphs


def _meta_graph(message: memoryview) -> MetaGraph:
    graph = message_in(message, 2)
    parts = [[_node(node) for node in _bounded(messages(graph, 1))]]
    for function in _bounded(messages(message_in(graph, 2), 1)):
        parts.append([_node(node) for node in _bounded(messages(function, 3))])
    tags = tuple(text(tag) for tag in messages(message_in(message, 1), 4))
    return MetaGraph(tags, parts, {name: _outputs(message, name) for name in _SIGNATURES})


def _bounded(found: Iterator[memoryview]) -> Iterator[memoryview]:
    for number, message in enumerate(found):
        if number >= _MOST_NODES:
            raise ProtobufError(f"it has more than {_MOST_NODES:,} nodes")
        yield message


def _node(message: memoryview) -> Node:
    """Returns a `NodeDef`: 1 name, 2 operation, 3 inputs, 5 attributes."""
    name = kind = ""
    inputs: list[str] = []
    attributes: list[memoryview] = []
    for number, value in fields(message):
        if number == 1:
            name = text(value)
        elif number == 2:
            kind = text(value)
        elif number == 3:
            inputs.append(text(value))
        elif number == 5:
            attributes.append(as_bytes(value))
    constant = _constant(attributes) if kind == "Const" else None
    return Node(name, kind, tuple(inputs), constant)


def _constant(attributes: list[memoryview]) -> float | bool | None:
    """Returns the one number of the attribute `value`, an `AttrValue` whose field 8 is a `TensorProto`."""
    for entry in attributes:
        if bytes(message_in(entry, 1)) == b"value":
            return _scalar(message_in(message_in(entry, 2), 8))
    return None


def _scalar(tensor: memoryview) -> float | bool | None:
    """1 is the type, 2 the shape, 4 the bytes as they are; a float may be in 5, a truth value in 11, packed or not."""
    dtype = 0
    content = memoryview(b"")
    for number, value in fields(tensor):
        if number == 1:
            dtype = as_number(value)
        elif number == 2 and any(True for _ in messages(as_bytes(value), 2)):
            return None
        elif number == 4 or (number == 5 and dtype == _FLOAT):
            content = as_bytes(value)
        elif number == 11 and dtype == _BOOL:
            content = memoryview(bytes([min(value, 1)])) if isinstance(value, int) else value
    if dtype == _FLOAT:
        return float(struct.unpack("<f", content)[0]) if len(content) == 4 else 0.0 if not content else None
    if dtype == _BOOL:
        return bool(content[0]) if len(content) == 1 else False if not content else None
    return None


def _outputs(message: memoryview, signature: str) -> dict[str, str]:
    """The outputs of a signature, none if there is no such one (5 is a map of `SignatureDef`, in which 2 is one)."""
    outputs = {}
    for entry in messages(message, 5):
        if bytes(message_in(entry, 1)) == signature.encode():
            for output in messages(message_in(entry, 2), 2):
                outputs[text(message_in(output, 1))] = text(message_in(message_in(output, 2), 1))
    return outputs


def is_object_based(folder: Path) -> bool:
    """Returns whether a SavedModel was written by TensorFlow 2: its variables then have a graph of objects among them.

    This is detected from the key in the variables' index, without TensorFlow.
    """
    index_file = folder / "variables" / "variables.index"
    if not index_file.is_file():
        return False
    with index_file.open("rb") as stream:
        return OBJECT_GRAPH_KEY.encode() in stream.read(_INDEX_BEGINNING)


def read_mask_convention(meta_graph: MetaGraph, file: Path) -> MaskConvention:
    """Returns the mask of padding in attention, detected from the constants before the softmax of the attention layers."""
    found: set[MaskConvention] = set()
    for constants in softmax_constants(meta_graph):
        if any(constant <= _HIGHEST_ADDITIVE_MASK for constant in constants):
            found.add("additive")
        elif _SCALED_MASK in constants:
            found.add("scaled")
    if len(found) == 1:
        return found.pop()
    what = "in two ways" if found else "in no way that is known"
    raise EncoderError(
        f"{file}: its graph masks padding {what}; understood are scores - 10000·(1 - mask) and scores·mask - 6·(1 - mask)"
    )


def softmax_constants(meta_graph: MetaGraph) -> list[set[float]]:
    """For each softmax, the scalar constants between it and the matrix product before it."""
    found = []
    for nodes in meta_graph.parts:
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            if node.kind == "Softmax":
                found.append(_constants_before(node, by_name))
    return found


def head_size(constants: Iterable[float]) -> int | None:
    """Returns the width of an attention head, from the factor 1/√width that scales its scores."""
    for constant in constants:
        if _SMALLEST_FACTOR < constant < 1:
            width = round(1 / constant**2)
            if math.isclose(constant, 1 / math.sqrt(width), rel_tol=1e-6):
                return width
    return None


def find_asset_vocabulary(folder: Path) -> Vocabulary:
    """Returns the vocabulary among a SavedModel's assets: `vocab.txt`, or the only text file.

    The graph is not used, because a TF1 Hub module names the file only as `SAVEDMODEL-ASSET`.
    """
    files = sorted((folder / "assets").glob("*.txt"))
    file = folder / "assets" / "vocab.txt" if len(files) != 1 else files[0]
    if not file.is_file():
        raise EncoderError(f"{file}: is missing; put the encoder's vocabulary there, one entry per line")
    pieces = read_vocabulary(file)
    return Vocabulary(pieces, is_lower_cased(pieces), file)


def _constants_before(softmax: Node, by_name: dict[str, Node]) -> set[float]:
    constants: set[float] = set()
    waiting, seen = list(softmax.inputs), set()
    while waiting:
        # An input is `node`, `node:0`, `node:output:0` in functions, or `^node` for a node that only has to run before.
        name = waiting.pop().partition(":")[0]
        node = by_name.get(name)
        if name in seen or node is None or node.kind in _PRODUCTS:
            continue
        seen.add(name)
        if isinstance(node.value, float):
            constants.add(node.value)
        waiting.extend(node.inputs)
    return constants
