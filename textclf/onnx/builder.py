"""Makes an ONNX graph operation by operation. A tensor is its name, which is that of the operation that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
"""The version of ONNX's operations: that of ONNX 1.16 (2024), which ONNX Runtime reads from 1.18 on."""

_IR_VERSION = 10

_TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


class OnnxBuilder:
    """A graph under construction. Equal constants are stored once."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str) -> str:
        """Adds an input of token ids, int64 [batch, length]."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]))
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        """Adds weights."""
        self._constants[name] = numpy_helper.from_array(values, name)
        return name

    def small(self, values: Any, dtype: type = np.int64) -> str:
        """Adds a constant that has no meaning of its own, such as a shape, or returns the one that exists."""
        array: np.ndarray = np.asarray(values, dtype)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._small:
            self._small[key] = self.constant(f"constant_{len(self._small)}", array)
        return self._small[key]

    def op(self, name: str, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """Adds an operation and returns its output, or the list of its outputs."""
        names = [name] if outputs == 1 else [f"{name}/{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return name if outputs == 1 else names

    def cast(self, name: str, tensor: str, dtype: str) -> str:
        return str(self.op(name, "Cast", [tensor], to=_TYPES[dtype]))

    def reshape(self, name: str, tensor: str, shape: Sequence[int]) -> str:
        """In `shape`, 0 keeps a dimension, and -1 follows from the others."""
        return str(self.op(name, "Reshape", [tensor, self.small(shape)]))

    def between(self, name: str, tensor: str, start: int | str, end: int | str, axis: int) -> str:
        """Adds the part of a tensor from `start` up to `end` along an axis; both are numbers, or tensors int64 [1]."""
        ends = [bound if isinstance(bound, str) else self.small([bound]) for bound in (start, end)]
        return str(self.op(name, "Slice", [tensor, *ends, self.small([axis])]))

    def finish(self, outputs: Mapping[str, Sequence[int | str]], description: str) -> onnx.ModelProto:
        """Returns the model with these float32 outputs and their shapes."""
        shaped = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self._nodes, "textclf", self._inputs, shaped, list(self._constants.values()))
        graph.doc_string = description
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="textclf"
        )
