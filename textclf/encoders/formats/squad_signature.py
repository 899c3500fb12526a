"""Finds the head for question answering behind the signature `squad` of a TF1 Hub module: takes the module's graph and the
arrays of its variables, and returns the arrays of the head.

Model Maker reads this signature, with the outputs `start_logits` and `end_logits` (text_spec.py,
`create_qa_model_from_squad`). Between them and the variables are the operations of run_squad.py's `create_model`: a product,
a bias, a new shape, and the two parts. So the variables may have any names. The graph is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from textclf.encoders.formats.arrays import RawArray, StoredArray
from textclf.encoders.formats.question_head import as_is, transposed
from textclf.encoders.formats.saved_model_file import MetaGraph, Node

_OUTPUTS = ("start_logits", "end_logits")
# Operations that change no number, with the input that holds the logits.
_MOVES = {"Identity": 0, "Reshape": 0, "Squeeze": 0, "ExpandDims": 0, "Transpose": 0}
# Operations that return the start and the end apart.
_SPLITS = {"Unpack": 0, "Split": 1, "SplitV": 0}
_SUMS = ("BiasAdd", "Add", "AddV2")
_PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2")
_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
# Far more operations than there are between a logit and its product.
_MOST_STEPS = 50


class _Logit(NamedTuple):
    """Where a logit comes from: its place among the outputs of the product, and the names of the variables."""

    place: int
    kernel: str
    bias: str


def head_of_signature(graph: MetaGraph, raw: Mapping[str, RawArray]) -> dict[str, StoredArray]:
    """Returns the arrays `kernel` and `bias` of the head, the start first, without reading them; none if the module has no
    such signature, or if it computes its logits in another way."""
    outputs, nodes = graph.outputs["squad"], {node.name: node for node in graph.parts[0]}
    start, end = (_traced(outputs.get(key, ""), nodes) for key in _OUTPUTS)
    if start is None or end is None or start[1:] != end[1:] or {start.place, end.place} != {0, 1}:
        return {}
    if start.kernel not in raw or start.bias not in raw:
        return {}
    kernel, bias = raw[start.kernel], raw[start.bias]
    stored = transposed(start.kernel, kernel) if kernel.shape[:1] == (2,) else as_is(start.kernel, kernel)
    head = {"kernel": stored, "bias": as_is(start.bias, bias)}
    return head if start.place == 0 else {part: _reversed(array) for part, array in head.items()}


def _reversed(array: StoredArray) -> StoredArray:
    """Returns an array with its outputs, the last axis, in the opposite order."""
    return StoredArray(array.stored_name, array.shape, lambda: array.read()[..., ::-1])


def _traced(output: str, nodes: Mapping[str, Node]) -> _Logit | None:
    """Follows an output back to its product; None if it meets an operation that is not expected."""
    place = bias = None
    for _ in range(_MOST_STEPS):
        # A tensor is `node` or `node:1`.
        name, _, number = output.partition(":")
        node = nodes.get(name)
        if node is None:
            return None
        if node.kind in _PRODUCTS and len(node.inputs) == 2:
            kernel = _variable(node.inputs[1], nodes)
            return None if place is None or bias is None or kernel is None else _Logit(place, kernel, bias)
        if node.kind in _SUMS and len(node.inputs) == 2 and bias is None:
            variables = [_variable(one, nodes) for one in node.inputs]
            bias = next((one for one in variables if one is not None), None)
            output = node.inputs[variables.index(None)] if None in variables else ""
        elif node.kind in _SPLITS and place is None and len(node.inputs) > _SPLITS[node.kind]:
            place, output = int(number or 0), node.inputs[_SPLITS[node.kind]]
        elif node.kind in _MOVES and node.inputs:
            output = node.inputs[_MOVES[node.kind]]
        else:
            return None
    return None


def _variable(tensor: str, nodes: Mapping[str, Node]) -> str | None:
    """Returns the name of the variable whose value a tensor is."""
    for _ in range(_MOST_STEPS):
        node = nodes.get(tensor.partition(":")[0])
        if node is None or node.kind in _VARIABLES:
            return None if node is None else node.name
        if node.kind not in ("Identity", "ReadVariableOp") or not node.inputs:
            return None
        tensor = node.inputs[0]
    return None
