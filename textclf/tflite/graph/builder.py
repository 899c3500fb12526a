"""Builds a TFLite model from tensors, constants and operations, and returns it as a flatbuffer.

The file is written directly instead of being converted from a training graph. This determines exactly what the device
runs, takes a second instead of a minute, and produces the same bytes for the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}

# Runtimes map weights from the file and need the alignment of the schema's `force_align`.
_BUFFER_ALIGNMENT = 16


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # its package has no types
    """A buffer whose bytes start at a multiple of 16. The generated packing code does not align them."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the name that the generated code calls
        if not self.content:
            schema.BufferStart(builder)
            return int(schema.BufferEnd(builder))
        builder.StartVector(1, len(self.content), _BUFFER_ALIGNMENT)
        start = builder.Head() - len(self.content)
        builder.Bytes[start : start + len(self.content)] = self.content
        builder.head = start
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


class _Quantization(schema.QuantizationParametersT):  # type: ignore[misc]  # its package has no types
    """Scales with zero points of 0.

    The file stores the zero points once per length; otherwise they would need 0.7 MB.
    """

    def __init__(self, scales: np.ndarray, axis: int) -> None:
        super().__init__()
        self.scales, self.axis = scales, axis if len(scales) > 1 else 0

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the name that the generated code calls
        zero_points = _written_once(builder, np.zeros(len(self.scales), np.int64))
        scales = builder.CreateNumpyVector(self.scales)
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scales)
        schema.QuantizationParametersAddZeroPoint(builder, zero_points)
        schema.QuantizationParametersAddQuantizedDimension(builder, self.axis)
        return int(schema.QuantizationParametersEnd(builder))


class _Builder(flatbuffers.Builder):  # type: ignore[misc]  # its package has no types
    """A flatbuffer builder that writes vectors that are equal in many tables only once."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.shared: dict[bytes, int] = {}


def _written_once(builder: flatbuffers.Builder, values: np.ndarray) -> int:
    """Returns the offset of a vector, written at its first use."""
    assert isinstance(builder, _Builder)
    key = values.tobytes()
    if key not in builder.shared:
        builder.shared[key] = builder.CreateNumpyVector(values)
    return builder.shared[key]


class GraphBuilder:
    """A graph of static shapes. Each method returns the index of a tensor."""

    def __init__(self) -> None:
        self._buffers: list[_AlignedBuffer] = [_AlignedBuffer(b"")]
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._inputs: list[int] = []
        self._shared: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Returns the shape of a tensor of this graph."""
        return tuple(int(size) for size in self._tensors[tensor].shape)

    def name(self, tensor: int) -> str:
        """Returns the name that a tensor was given."""
        return str(self._tensors[tensor].name)

    def input(self, name: str, shape: Sequence[int]) -> int:
        """Adds a graph input, int32."""
        tensor = self._tensor(name, shape, schema.TensorType.INT32, 0)
        self._inputs.append(tensor)
        return tensor

    def constant(self, name: str, values: np.ndarray, scale: np.ndarray | float | None = None, axis: int = 0) -> int:
        """Adds a constant.

        With `scale` it is int8 and represents values · scale, with one scale or one for each row of `axis`.
        """
        content = np.ascontiguousarray(values).tobytes()
        self._buffers.append(_AlignedBuffer(content))
        tensor = self._tensor(name, values.shape, _TYPES[values.dtype], len(self._buffers) - 1)
        if scale is not None:
            self._tensors[tensor].quantization = _Quantization(np.atleast_1d(np.asarray(scale, np.float32)), axis)
        return tensor

    def constant_4_bit(self, name: str, values: np.ndarray, scales: np.ndarray) -> int:
        """Adds a constant of int8 values within ±7 with a scale for each row, stored two per byte, the first in the low
        half."""
        halves = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)).view(np.uint8) & 15
        self._buffers.append(_AlignedBuffer((halves[0::2] | halves[1::2] << 4).tobytes()))
        tensor = self._tensor(name, values.shape, schema.TensorType.INT4, len(self._buffers) - 1)
        self._tensors[tensor].quantization = _Quantization(scales, 0)
        return tensor

    def dequantized(self, name: str, tensor: int) -> int:
        """Converts float16 or int8 to float32. Runtimes convert a constant only once."""
        version = {schema.TensorType.FLOAT16: 3, schema.TensorType.INT8: 2}[self._tensors[tensor].type]
        return self.op(name, "DEQUANTIZE", [tensor], self.shape(tensor), version=version, options={})

    def small_constant(self, values: Sequence[int] | np.ndarray) -> int:
        """Adds a constant for a shape, an axis or a number. Equal constants are stored once."""
        array = np.asarray(values) if isinstance(values, np.ndarray) else np.asarray(values, np.int32)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._shared:
            self._shared[key] = self.constant(f"constant_{len(self._shared)}", array)
        return self._shared[key]

    def op(
        self,
        name: str,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        *,
        like: int | None = None,
        version: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> int:
        """Adds the operation `kind` (a name of the schema's BuiltinOperator) and returns its one output.

        The output is float32, or of the type and quantisation of the tensor `like`. `options` are the fields of the
        operation's options table, by their names in the schema.
        """
        return self.ops([name], kind, inputs, shape, like=like, version=version, options=options)[0]

    def ops(
        self,
        names: Sequence[str],
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        *,
        like: int | None = None,
        version: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Does the same as `op`, with an output of the same shape and type for each name."""
        tensor_type = schema.TensorType.FLOAT32 if like is None else self._tensors[like].type
        outputs = [self._tensor(name, shape, tensor_type, 0) for name in names]
        if like is not None:
            for output in outputs:
                self._tensors[output].quantization = self._tensors[like].quantization
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(schema.BuiltinOperator, kind), version)
        operator.inputs, operator.outputs = list(inputs), outputs
        if options is not None:
            table = _OPTIONS[kind]
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = getattr(schema, f"{table}T")()
            for field, value in options.items():
                if not hasattr(operator.builtinOptions, field):
                    raise AttributeError(f"{table} has no field {field}")
                setattr(operator.builtinOptions, field, value)
        self._operators.append(operator)
        return outputs

    def cast(self, name: str, tensor: int) -> int:
        """int32 → float32."""
        options = {"inDataType": schema.TensorType.INT32, "outDataType": schema.TensorType.FLOAT32}
        return self.op(name, "CAST", [tensor], self.shape(tensor), options=options)

    def reshape(self, name: str, tensor: int, shape: Sequence[int]) -> int:
        """Adds a RESHAPE.

        One size may be -1, so that the file can be resized to other lengths; the stored shape has its value.
        """
        known = -int(np.prod(shape)) if -1 in shape else 1
        filled = [int(np.prod(self.shape(tensor))) // known if size == -1 else size for size in shape]
        options = {"newShape": np.asarray(shape, np.int32)}
        return self.op(name, "RESHAPE", [tensor, self.small_constant(shape)], filled, like=tensor, options=options)

    def binary(self, name: str, kind: str, left: int, right: int) -> int:
        """ADD, SUB, MUL, DIV or MINIMUM with broadcasting."""
        shape = np.broadcast_shapes(self.shape(left), self.shape(right))
        return self.op(name, kind, [left, right], shape, like=left, options={})

    def transpose(self, name: str, tensor: int, order: Sequence[int]) -> int:
        shape = [self.shape(tensor)[axis] for axis in order]
        return self.op(name, "TRANSPOSE", [tensor, self.small_constant(order)], shape, like=tensor, options={})

    def first_row(self, name: str, tensor: int) -> int:
        """[rows, columns] → [1, columns]."""
        columns = self.shape(tensor)[1]
        inputs = [tensor, self.small_constant([0, 0]), self.small_constant([1, columns])]
        return self.op(name, "SLICE", inputs, [1, columns], like=tensor, options={})

    def join_rows(self, name: str, first: int, rest: int) -> int:
        """[1, columns] and [rows, columns] → the same as `rest`, with its first row replaced by `first`; also after
        resizing."""
        rows, columns = self.shape(rest)
        bounds = [self.small_constant(values) for values in ([1, 0], [0, 0], [1, 1])]
        options = {"beginMask": 0b10, "endMask": 0b11}
        inputs = [rest, *bounds]
        others = self.op(f"{name}/others", "STRIDED_SLICE", inputs, [rows - 1, columns], like=rest, options=options)
        return self.op(name, "CONCATENATION", [first, others], [rows, columns], like=rest, options={"axis": 0})

    def between(self, name: str, tensor: int, begin: int, end: int) -> int:
        """Returns a vector without its first `begin` and its last `end` elements, also after resizing."""
        bounds = [self.small_constant([value]) for value in (begin, -end, 1)]
        options = {"beginMask": int(begin == 0), "endMask": int(end == 0)}
        shape = [self.shape(tensor)[0] - begin - end]
        return self.op(name, "STRIDED_SLICE", [tensor, *bounds], shape, like=tensor, options=options)

    def split(self, name: str, tensor: int, parts: int) -> list[int]:
        """[rows, columns] → `parts` tensors of [rows, columns / parts]."""
        rows, columns = self.shape(tensor)
        inputs = [self.small_constant(np.int32(1)), tensor]
        names = [f"{name}/{part}" for part in range(parts)]
        return self.ops(names, "SPLIT", inputs, [rows, columns // parts], like=tensor, options={"numSplits": parts})

    def gather(self, name: str, table: int, indices: int) -> int:
        shape = (*self.shape(indices), *self.shape(table)[1:])
        version = 2 if self._tensors[table].type == schema.TensorType.INT8 else 1
        return self.op(name, "GATHER", [table, indices], shape, like=table, version=version, options={"axis": 0})

    def lookup(self, name: str, table: int, ids: int) -> int:
        """Looks up rows of a quantised table [ids, columns], each times its scale, as float32. `ids` is a vector."""
        shape = [*self.shape(ids), self.shape(table)[1]]
        return self.op(name, "EMBEDDING_LOOKUP", [ids, table], shape, version=4)

    def finish(self, outputs: Mapping[int, str], description: str) -> bytes:
        """Returns the model as bytes, with the signature `serving_default`; `outputs` are tensors and their names in
        it."""
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = self._inputs, list(outputs)

        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_tensor_map(self._tensors[tensor].name, tensor) for tensor in self._inputs]
        signature.outputs = [_tensor_map(name, tensor) for tensor, name in outputs.items()]

        model = schema.ModelT()
        model.version, model.description = 3, description
        model.subgraphs, model.signatureDefs, model.buffers = [subgraph], [signature], self._buffers
        model.operatorCodes = [_operator_code(code, version) for code, version in self._codes]
        size = sum(len(buffer.content) for buffer in self._buffers)
        builder = _Builder(size + (1 << 20))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, name: str, shape: Sequence[int], tensor_type: int, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, np.asarray(shape, np.int32)
        tensor.type, tensor.buffer = tensor_type, buffer
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _code(self, code: int, version: int) -> int:
        return self._codes.setdefault((code, version), len(self._codes))


_OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CUMSUM": "CumsumOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "PACK": "PackOptions",
    "PADV2": "PadV2Options",
    "RESHAPE": "ReshapeOptions",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPLIT": "SplitOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE": "TransposeOptions",
}


def _tensor_map(name: str, tensor: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def _operator_code(code: int, version: int) -> schema.OperatorCodeT:
    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode, operator_code.version = code, version
    # Readers of the older schema use the field for codes below 127, which contains a placeholder for later codes.
    operator_code.deprecatedBuiltinCode = min(code, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    return operator_code
