"""What a `saved_model.pb` tells besides the weights; no graph in it is ever run.

In: a SavedModel's folder. Out: its message, the constants on the way into each softmax, the vocabulary among its assets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from textclf.encoders.checkpoint import MaskConvention
from textclf.encoders.formats.vocabulary import Vocabulary, is_lower_cased
from textclf.errors import EncoderError
from textclf.native_log import load_tensorflow
from textclf.tokenizer import read_vocabulary

FILE = "saved_model.pb"
OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"

# Padding is masked with -10000 by the original and with -1e9 by later Keras layers; both are 0 after softmax.
_HIGHEST_ADDITIVE_MASK = -1000.0
_SCALED_MASK = -6.0
_PRODUCTS = frozenset(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"))


def read_meta_graphs(folder: Path) -> list[Any]:
    """The `MetaGraphDef` messages of a SavedModel; EncoderError if the file is none."""
    load_tensorflow()
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / FILE
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise EncoderError(f"{file}: cannot be read as a SavedModel ({error}); it is damaged or incomplete") from error
    if not message.meta_graphs:
        raise EncoderError(f"{file}: holds no graph; it is damaged or no SavedModel")
    return list(message.meta_graphs)


def is_object_based(folder: Path) -> bool:
    """Whether a SavedModel was written by TensorFlow 2: its variables then have a graph of objects among them.

    Told by the key in the variables' index, which needs no TensorFlow.
    """
    index_file = folder / "variables" / "variables.index"
    return index_file.is_file() and OBJECT_GRAPH_KEY.encode() in index_file.read_bytes()


def operations(meta_graph: Any) -> Iterator[list[Any]]:
    """The nodes of the graph itself and of each of its functions."""
    yield list(meta_graph.graph_def.node)
    for function in meta_graph.graph_def.library.function:
        yield list(function.node_def)


def read_mask_convention(meta_graph: Any, file: Path) -> MaskConvention:
    """How padding is kept out of attention, told by the constants that enter the softmax of the attention layers."""
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


def softmax_constants(meta_graph: Any) -> list[set[float]]:
    """For each softmax, the scalar constants between it and the matrix product before it."""
    found = []
    for nodes in operations(meta_graph):
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            if node.op == "Softmax":
                found.append(_constants_before(node, by_name))
    return found


def head_size(constants: Iterable[float]) -> int | None:
    """The width of an attention head, from the factor 1/√width that scales its scores."""
    for constant in constants:
        if 0 < constant < 1:
            width = round(1 / constant**2)
            if math.isclose(constant, 1 / math.sqrt(width), rel_tol=1e-6):
                return width
    return None


def find_asset_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary among a SavedModel's assets: `vocab.txt`, or the only text file.

    The graph is not asked, as a TF1 Hub module names the file only as `SAVEDMODEL-ASSET`.
    """
    files = sorted((folder / "assets").glob("*.txt"))
    file = folder / "assets" / "vocab.txt" if len(files) != 1 else files[0]
    if not file.is_file():
        raise EncoderError(f"{file}: is missing; put the encoder's vocabulary there, one piece a line")
    pieces = read_vocabulary(file)
    return Vocabulary(pieces, is_lower_cased(pieces), file)


def scalar(node: Any) -> Any:
    """The value of a Const node that holds one number, truth value or text, else None."""
    load_tensorflow()
    import tensorflow as tf

    if node.op != "Const" or node.attr["value"].tensor.tensor_shape.dim:
        return None
    return tf.make_ndarray(node.attr["value"].tensor).item()


def _constants_before(softmax: Any, by_name: dict[str, Any]) -> set[float]:
    constants: set[float] = set()
    waiting, seen = list(softmax.input), set()
    while waiting:
        # An input is `node`, `node:0`, `node:output:0` in functions, or `^node` for one that only has to run before.
        name = waiting.pop().partition(":")[0]
        node = by_name.get(name)
        if name in seen or node is None or node.op in _PRODUCTS:
            continue
        seen.add(name)
        value = scalar(node)
        if isinstance(value, float):
            constants.add(value)
        waiting.extend(node.input)
    return constants
