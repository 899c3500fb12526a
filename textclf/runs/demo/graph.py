"""Translates the graph of a `.tflite` for the interpreter in the page: takes a model and returns operations and constants.

The file is read and checked here, so that the page needs no reader of TFLite files. The interpreter knows the operations
that textclf writes (`textclf/tflite/graph/`); other graphs are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textclf.errors import ModelError
from textclf.tflite.format.flatbuffer import DamagedFlatbufferError, FlatTable
from textclf.tflite.model_file import Operator, Tensor, TfliteModel

_ALIGNMENT = 16

# The fields of the schema's tables of options that the interpreter needs, by their numbers there.
_RELU = 1


@dataclass(frozen=True)
class PageGraph:
    """`description` is what interpreter.js reads: inputs, outputs, tensors and operations. `constants` are the bytes to
    which its offsets lead."""

    description: dict[str, Any]
    constants: bytes


def page_graph(model: TfliteModel, input_names: Sequence[str], outputs: Sequence[int]) -> PageGraph:
    """Translates the first graph of a model.

    `input_names` are those of the metadata, in the order of the graph's inputs, and `outputs` the positions of the needed
    outputs. Raises ModelError for operations and types that the page cannot compute.
    """
    used = {tensor for operator in model.operators for tensor in (*operator.inputs, *operator.outputs) if tensor >= 0}
    constants = bytearray()
    tensors = [_tensor(model, tensor, constants) if place in used else {} for place, tensor in enumerate(model.tensors)]
    return PageGraph(
        {
            "inputs": dict(zip(input_names, model.input_indices, strict=True)),
            "outputs": [model.output_indices[position] for position in outputs],
            "tensors": tensors,
            "operations": [_operation(model, operator) for operator in model.operators],
        },
        bytes(constants),
    )


def _tensor(model: TfliteModel, tensor: Tensor, constants: bytearray) -> dict[str, Any]:
    """Describes a tensor for the page and appends the numbers of a constant."""
    if tensor.span is None:
        return {}
    if tensor.type.name not in ("float32", "float16", "int32", "int8", "int4"):
        raise _refusal(model, f"the tensor {tensor.name!r} has the type {tensor.type.name}")
    start, size = tensor.span
    content = model.content[start : start + size]
    if tensor.type.name == "int4":
        content = _in_bytes(content, int(np.prod(tensor.shape)))
    kind = "int8" if tensor.type.name == "int4" else tensor.type.name
    described: dict[str, Any] = {"type": kind, "shape": list(tensor.shape), "offset": _append(constants, content)}
    if tensor.quantization is not None and len(tensor.quantization.scales):
        quantization = tensor.quantization
        if quantization.zero_points.any() or (len(quantization.scales) > 1 and quantization.dimension != 0):
            raise _refusal(model, f"the tensor {tensor.name!r} has zero points, or scales along another dimension")
        scales = {"offset": _append(constants, quantization.scales.tobytes()), "count": len(quantization.scales)}
        described["scales"] = scales
    return described


def _in_bytes(content: bytes, count: int) -> bytes:
    """Unpacks integers of 4 bits, of which the first is in the low half of a byte, into one byte each."""
    packed = np.frombuffer(content, np.uint8)
    halves = np.stack([packed << 4, packed & 0xF0], axis=1).view(np.int8).reshape(-1)[:count]
    return (halves >> 4).tobytes()


def _append(constants: bytearray, content: bytes) -> int:
    constants.extend(bytes(-len(constants) % _ALIGNMENT))
    constants.extend(content)
    return len(constants) - len(content)


def _operation(model: TfliteModel, operator: Operator) -> dict[str, Any]:
    if operator.custom or operator.name not in _OPTIONS or operator.strangeness is not None:
        raise _refusal(model, f"its graph has the operation {operator.name}")
    try:
        options = _OPTIONS[operator.name](operator.options)
    except DamagedFlatbufferError as error:
        raise ModelError(f"{model.source}: not a whole TFLite model: {error}") from error
    if options is None:
        raise _refusal(model, f"its graph has the operation {operator.name} with other options")
    given = [tensor for tensor in operator.inputs if tensor >= 0]
    return {"name": operator.name, "inputs": given, "outputs": list(operator.outputs), "options": options}


def _refusal(model: TfliteModel, what: str) -> ModelError:
    return ModelError(
        f"{model.source}: {what}, but the demo computes only the graphs that textclf writes itself (quantization none, "
        "float16, dynamic and int4); train the model with training.engine: native"
    )


# --- Options ---------------------------------------------------------------------------------------------------------
def _option(options: FlatTable | None, field: int, kind: str = "i") -> int:
    return 0 if options is None else options.integer(field, kind)


def _without_activation(options: FlatTable | None) -> dict[str, int] | None:
    return None if _option(options, 0, "b") else {}


def _fully_connected(options: FlatTable | None) -> dict[str, int] | None:
    activation = _option(options, 0, "b")
    return {"relu": activation} if activation in (0, _RELU) and not _option(options, 1, "b") else None


def _batch_matmul(options: FlatTable | None) -> dict[str, int] | None:
    return None if _option(options, 0, "B") else {"transposed": _option(options, 1, "B")}


def _softmax(options: FlatTable | None) -> dict[str, int] | None:
    return {} if options is not None and options.number(0) == 1.0 else None


def _strided_slice(options: FlatTable | None) -> dict[str, int] | None:
    others = [_option(options, field) for field in (2, 3, 4)]
    return None if any(others) else {"begin_mask": _option(options, 0), "end_mask": _option(options, 1)}


def _cumsum(options: FlatTable | None) -> dict[str, int] | None:
    return {} if _option(options, 0, "B") and not _option(options, 1, "B") else None


def _along_rows(options: FlatTable | None) -> dict[str, int] | None:
    """GATHER and CONCATENATION along the first dimension."""
    return None if _option(options, 0) or _option(options, 1) else {}


def _no_options(_: FlatTable | None) -> dict[str, int]:
    return {}


_OPTIONS: Mapping[str, Callable[[FlatTable | None], dict[str, int] | None]] = {
    "ADD": _without_activation,
    "BATCH_MATMUL": _batch_matmul,
    "CAST": _no_options,
    "CONCATENATION": lambda options: None if _option(options, 0) or _option(options, 1, "b") else {},
    "CUMSUM": _cumsum,
    "DEQUANTIZE": _no_options,
    "DIV": _without_activation,
    "EMBEDDING_LOOKUP": _no_options,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _along_rows,
    "LOGISTIC": _no_options,
    "MINIMUM": _no_options,
    "MUL": _without_activation,
    "PACK": lambda options: {"axis": _option(options, 1)},
    "PADV2": _no_options,
    "RESHAPE": _no_options,
    "SLICE": _no_options,
    "SOFTMAX": _softmax,
    "SPLIT": _no_options,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _without_activation,
    "SUM": _no_options,
    "TANH": _no_options,
    "TRANSPOSE": _no_options,
}
"""The operations that the interpreter computes, and what it needs of their options; None for options that it lacks."""
