"""The outputs of each task's graph: takes the head's logits and returns names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from textclf.errors import ModelError
from textclf.onnx.builder import OnnxBuilder
from textclf.tflite.graph.classification import PROBABILITIES
from textclf.tflite.graph.multi_label import INDEPENDENT_PROBABILITIES
from textclf.tflite.graph.outputs import GraphOutputs
from textclf.tflite.graph.question_answering import SPAN_LOGITS

_Outputs: TypeAlias = Mapping[str, Sequence[int | str]]


def _probabilities(graph: OnnxBuilder, logits: str, columns: int) -> _Outputs:
    """[batch, labels] → `probability` of the same shape."""
    return {str(graph.op("probability", "Softmax", [logits], axis=-1)): ["batch", columns]}


def _independent_probabilities(graph: OnnxBuilder, logits: str, columns: int) -> _Outputs:
    """[batch, labels] → `probability` of the same shape, each label by itself."""
    return {str(graph.op("probability", "Sigmoid", [logits])): ["batch", columns]}


def _span_logits(graph: OnnxBuilder, logits: str, columns: int) -> _Outputs:
    """[batch, length, 2] → `start_logits` and `end_logits`, [batch, length]."""
    for place, name in enumerate(("start_logits", "end_logits")):
        column = graph.between(f"{name}/column", logits, place, place + 1, axis=2)
        graph.op(name, "Squeeze", [column, graph.small([2])])
    return {name: ["batch", "length"] for name in ("start_logits", "end_logits")}


# What a further task makes of the logits adds a line.
_OUTPUTS_OF: dict[type, Callable[[OnnxBuilder, str, int], _Outputs]] = {
    type(PROBABILITIES): _probabilities,
    type(INDEPENDENT_PROBABILITIES): _independent_probabilities,
    type(SPAN_LOGITS): _span_logits,
}


def add_outputs(graph: OnnxBuilder, outputs: GraphOutputs, logits: str, columns: int) -> _Outputs:
    """Adds the operations after the head, and returns the outputs' shapes by name. Raises ModelError for a task that
    ONNX files do not have."""
    if type(outputs) not in _OUTPUTS_OF:
        raise ModelError(f"a {outputs.kind} cannot be written for ONNX; export it as .tflite")
    return _OUTPUTS_OF[type(outputs)](graph, logits, columns)
