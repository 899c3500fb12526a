"""The only reader of `.tflite` files: takes untrusted bytes and returns tensors, operations, metadata and packed files.

Nothing is trusted: every offset, size, count and index is checked before it is followed, lists that share bytes are
read a few times at most, and errors become a ModelError. Parts are read on demand.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from textclf.errors import ModelError
from textclf.tflite.format import metadata_schema, schema
from textclf.tflite.format.flatbuffer import DamagedFlatbufferError, FlatTable
from textclf.tflite.format.packed_files import EXPORT_AGAIN, PackedFiles

# LiteRT addresses 2 GB inside a flatbuffer; the rest of a file is not much larger.
_LARGEST_FILE = 4 << 30
# The full-size MobileBERT has 3,200 tensors. LiteRT supports at most 6 dimensions, some operations 8.
_MOST_TENSORS = 100_000
_MOST_DIMENSIONS = 8
_MOST_INPUTS = 100


@dataclass(frozen=True)
class Quantization:
    """The meaning of the integers of a tensor: scale · (integer - zero point), with a scale for all, or for each index
    of one dimension. Arrays are views of the file."""

    scales: np.ndarray
    zero_points: np.ndarray
    dimension: int
    has_details: bool


@dataclass(frozen=True)
class Tensor:
    """`span` is the position of its constant bytes in the file, None for a computed tensor."""

    name: str
    type: schema.TensorType
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    has_rank: bool
    span: tuple[int, int] | None
    quantization: Quantization | None
    strangeness: str | None
    """A property that no text classifier has and that runtimes treat specially."""

    @property
    def bytes_needed(self) -> int:
        """The size in bytes of a tensor of this shape and type."""
        return bytes_of(self.type, self.shape)


@dataclass(frozen=True)
class Operator:
    """`name` is the schema's name of a built-in operation, or the name of a custom operation, with `custom` set.

    `options` is the table of the operation's options, of the kind `options_type` (0: none)."""

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: int
    options: FlatTable | None
    custom: bool
    strangeness: str | None


@dataclass(frozen=True)
class Signature:
    """A named signature of the graph: indices of tensors."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraph: int


def bytes_of(kind: schema.TensorType, shape: tuple[int, ...]) -> int:
    """Returns the bytes of a tensor; several numbers of less than 8 bits share a byte."""
    count = 1
    for size in shape:
        count *= size
    return -(-count * kind.bits // 8)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Returns the bytes of a model; for a file that is not a model, only its beginning.

    Raises ModelError for a file that cannot be read, is not a regular file, or is larger than any model.
    """
    path = Path(path)
    try:
        # Opening a named pipe would wait for a writer.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not path.is_dir():
            raise ModelError(f"{path}: not a file; give the path of a .tflite file")
        with path.open("rb") as file:
            start = file.read(8)
            if start[4:] != metadata_schema.MODEL_IDENTIFIER:
                if path.suffix == ".onnx":
                    raise ModelError(
                        f"{path}: is an ONNX file, but a .tflite is expected here; `classify`, `answer` and `evaluate` read ONNX "
                        "files, which were compared with the trained model when they were written"
                    )
                return start
            if status.st_size > _LARGEST_FILE:
                raise ModelError(
                    f"{path}: has {status.st_size:,} bytes; a model has at most {_LARGEST_FILE:,}; {EXPORT_AGAIN}"
                )
            file.seek(0)
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: the model cannot be read ({reason}); expected a .tflite file") from error
    except MemoryError as error:
        raise ModelError(f"{path}: does not fit into memory; free memory or use a smaller model") from error


class TfliteModel:
    """A model in memory. `source` is its name in messages.

    Every member raises ModelError for bytes that are not a whole TFLite model.
    """

    def __init__(self, content: bytes, source: str = "the model") -> None:
        self.content = content
        self.source = source
        with self._reading():
            self.root = FlatTable.root(content, metadata_schema.MODEL_IDENTIFIER)

    @cached_property
    def metadata_buffer(self) -> memoryview | None:
        """The bytes of the buffer that the metadata list calls TFLITE_METADATA; None without one."""
        with self._reading():
            for entry in self.root.tables(metadata_schema.Model.METADATA):
                if entry.text(metadata_schema.Metadata.NAME) == metadata_schema.METADATA_BUFFER_NAME:
                    start, size = self._span(entry.integer(metadata_schema.Metadata.BUFFER, "I")) or (0, 0)
                    return memoryview(self.content)[start : start + size]
            return None

    @cached_property
    def metadata_names(self) -> list[str]:
        """The names of all entries of the metadata list with a buffer."""
        with self._reading():
            names = []
            for entry in self.root.tables(metadata_schema.Model.METADATA):
                self._span(entry.integer(metadata_schema.Metadata.BUFFER, "I"))
                names.append(entry.text(metadata_schema.Metadata.NAME) or "")
            return names

    @cached_property
    def files(self) -> PackedFiles:
        """The files that are packed behind the model."""
        return PackedFiles(self.source, self.content)

    @cached_property
    def subgraph_count(self) -> int:
        with self._reading():
            return self.root.count(metadata_schema.Model.SUBGRAPHS)

    @cached_property
    def input_indices(self) -> tuple[int, ...]:
        """The indices of the tensors that are inputs of the first graph."""
        return self._ends(schema.Subgraph.INPUTS)

    @cached_property
    def output_indices(self) -> tuple[int, ...]:
        """The indices of the tensors that are outputs of the first graph."""
        return self._ends(schema.Subgraph.OUTPUTS)

    @cached_property
    def inputs(self) -> list[Tensor]:
        """The inputs of the first graph; no other tensor is read."""
        return [self._tensor_at(index) for index in self.input_indices]

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The outputs of the first graph; no other tensor is read."""
        return [self._tensor_at(index) for index in self.output_indices]

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The tensors of the first graph."""
        with self._reading():
            count = self._graph.count(schema.Subgraph.TENSORS)
            if count > _MOST_TENSORS:
                raise DamagedFlatbufferError(f"{count:,} tensors; expected at most {_MOST_TENSORS:,}")
            return [self._tensor(table) for table in self._graph.tables(schema.Subgraph.TENSORS)]

    @cached_property
    def operators(self) -> list[Operator]:
        """The operations of the first graph, in the order in which they run."""
        with self._reading():
            codes = [self._code(table) for table in self.root.tables(metadata_schema.Model.OPERATOR_CODES)]
            count = self._graph.count(schema.Subgraph.OPERATORS)
            if count > _MOST_TENSORS:
                raise DamagedFlatbufferError(f"{count:,} operations; expected at most {_MOST_TENSORS:,}")
            return [self._operator(table, codes) for table in self._graph.tables(schema.Subgraph.OPERATORS)]

    @cached_property
    def signatures(self) -> list[Signature]:
        with self._reading():
            return [self._signature(table) for table in self.root.tables(metadata_schema.Model.SIGNATURE_DEFS)]

    @cached_property
    def reaches_beyond(self) -> bool:
        """Whether weights are behind the flatbuffer, at offsets from the file's start."""
        with self._reading():
            buffers = self.root.tables(metadata_schema.Model.BUFFERS)
            return any(buffer.integer(metadata_schema.Buffer.OFFSET, "Q") > 1 for buffer in buffers)

    @cached_property
    def keeps_weights_elsewhere(self) -> bool:
        """Whether the file has fields of a later schema, such as the list of files that hold its weights."""
        with self._reading():
            return any(field >= len(metadata_schema.Model) for field in self.root.present())

    def constant(self, tensor: Tensor) -> np.ndarray | None:
        """Returns the numbers of a constant tensor, as a view of the file, or None for types that numpy does not know."""
        if tensor.span is None or tensor.type.code is None:
            return None
        start, size = tensor.span
        count = size * 8 // tensor.type.bits
        return np.frombuffer(self.content, f"<{tensor.type.code}", count, start)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except DamagedFlatbufferError as error:
            raise ModelError(f"{self.source}: not a whole TFLite model: {error}; {EXPORT_AGAIN}") from error

    @cached_property
    def _graph(self) -> FlatTable:
        return self.root.item(metadata_schema.Model.SUBGRAPHS, 0)

    def _ends(self, field: int) -> tuple[int, ...]:
        with self._reading():
            count = self._graph.count(field)
            if count > _MOST_INPUTS:
                raise DamagedFlatbufferError(f"{count:,} inputs or outputs; expected at most {_MOST_INPUTS}")
            return tuple(self._graph.integers(field))

    def _tensor_at(self, index: int) -> Tensor:
        with self._reading():
            return self._tensor(self._graph.item(schema.Subgraph.TENSORS, index))

    def _tensor(self, table: FlatTable) -> Tensor:
        name = table.text(schema.Tensor.NAME) or ""
        code = table.integer(schema.Tensor.TYPE, "b")
        kind = schema.TENSOR_TYPES.get(code)
        strangeness = None
        if kind is None:
            if code not in schema.OTHER_TENSOR_TYPES:
                raise DamagedFlatbufferError(f"the tensor {name!r} has the type {code}, which the schema does not know")
            kind = schema.TensorType(schema.OTHER_TENSOR_TYPES[code], 8)
            strangeness = f"the type {kind.name}"
        shape = self._shape(table, schema.Tensor.SHAPE, name, 0)
        fields = {
            schema.Tensor.SPARSITY: "sparse values",
            schema.Tensor.VARIANT_TENSORS: "a type that is not known before it runs",
        }
        for field, what in fields.items():
            if table.target(field) is not None:
                strangeness = what
        if table.integer(schema.Tensor.IS_VARIABLE, "B"):
            strangeness = "a value that is kept from call to call"
        if table.integer(schema.Tensor.EXTERNAL_BUFFER, "I"):
            strangeness = "its bytes in another file"
        return Tensor(
            name=name,
            type=kind,
            shape=shape,
            shape_signature=self._shape(table, schema.Tensor.SHAPE_SIGNATURE, name, -1),
            has_rank=bool(table.integer(schema.Tensor.HAS_RANK, "B")),
            span=self._span(table.integer(schema.Tensor.BUFFER, "I")),
            quantization=self._quantization(table),
            strangeness=strangeness,
        )

    def _shape(self, table: FlatTable, field: int, name: str, smallest: int) -> tuple[int, ...]:
        if table.count(field) > _MOST_DIMENSIONS:
            raise DamagedFlatbufferError(
                f"the tensor {name!r} has {table.count(field):,} dimensions; runtimes know at most {_MOST_DIMENSIONS}"
            )
        shape = tuple(table.integers(field))
        if min(shape, default=0) < smallest:
            raise DamagedFlatbufferError(f"the tensor {name!r} has the shape {list(shape)}, with a negative size")
        return shape

    def _quantization(self, table: FlatTable) -> Quantization | None:
        stored = table.table(schema.Tensor.QUANTIZATION)
        if stored is None:
            return None
        scales = self._array(stored, schema.Quantization.SCALE, "f4")
        return Quantization(
            scales=scales,
            zero_points=self._array(stored, schema.Quantization.ZERO_POINT, "i8"),
            dimension=stored.integer(schema.Quantization.DIMENSION, "i"),
            has_details=stored.integer(schema.Quantization.DETAILS_TYPE, "B") != 0,
        )

    def _array(self, table: FlatTable, field: int, code: str) -> np.ndarray:
        start, count = table.vector(field, np.dtype(code).itemsize)
        return np.frombuffer(self.content, f"<{code}", count if start is not None else 0, start or 0)

    def _span(self, buffer: int) -> tuple[int, int] | None:
        """Returns the position of a buffer's bytes, or None for an empty buffer. They are inside the flatbuffer, or
        behind it, where offsets of 32 bits do not reach."""
        table = self.root.item(metadata_schema.Model.BUFFERS, buffer)
        start, size = table.span(metadata_schema.Buffer.DATA) or (0, 0)
        offset = table.integer(metadata_schema.Buffer.OFFSET, "Q")
        if offset > 1:
            start, size = offset, table.integer(metadata_schema.Buffer.SIZE, "Q")
            if start + size > len(self.content):
                raise DamagedFlatbufferError(
                    f"buffer {buffer} ends at byte {start + size}, the file at {len(self.content)}"
                )
        return (start, size) if size else None

    def _code(self, table: FlatTable) -> tuple[str, int, bool]:
        # Files of the older schema have the code only in the first field.
        code = max(
            table.integer(schema.OperatorCode.CODE, "i"), table.integer(schema.OperatorCode.DEPRECATED_CODE, "b")
        )
        if not 0 <= code < len(schema.OPERATIONS):
            raise DamagedFlatbufferError(f"an operation has the code {code}, which the schema does not know")
        name, custom = schema.OPERATIONS[code], schema.OPERATIONS[code] == "CUSTOM"
        if custom:
            name = table.text(schema.OperatorCode.CUSTOM_CODE) or ""
        return name, table.integer(schema.OperatorCode.VERSION, "i", 1), custom

    def _operator(self, table: FlatTable, codes: list[tuple[str, int, bool]]) -> Operator:
        index = table.integer(schema.Operator.OPCODE_INDEX, "I")
        if index >= len(codes):
            raise DamagedFlatbufferError(f"an operation is of kind {index} of {len(codes)}")
        name, version, custom = codes[index]
        strange = (
            (table.span(schema.Operator.CUSTOM_OPTIONS), "options of a custom operation"),
            (table.integer(schema.Operator.LARGE_CUSTOM_OPTIONS_OFFSET, "Q"), "options of a custom operation"),
            (table.integer(schema.Operator.SECOND_OPTIONS_TYPE, "B"), "options of a later schema"),
            (table.count(schema.Operator.INTERMEDIATES), "tensors of its own"),
            (any(table.content(schema.Operator.MUTATED_INPUTS) or b""), "inputs that it changes"),
        )
        return Operator(
            name=name,
            version=version,
            inputs=tuple(table.integers(schema.Operator.INPUTS)),
            outputs=tuple(table.integers(schema.Operator.OUTPUTS)),
            options_type=table.integer(schema.Operator.OPTIONS_TYPE, "B"),
            options=table.table(schema.Operator.OPTIONS),
            custom=custom,
            strangeness=next((what for there, what in strange if there), None),
        )

    def _signature(self, table: FlatTable) -> Signature:
        tensors = []
        for field in (schema.Signature.INPUTS, schema.Signature.OUTPUTS):
            entries = table.tables(field)
            if any(entry.text(schema.SignatureTensor.NAME) is None for entry in entries):
                raise DamagedFlatbufferError("a tensor of a signature has no name")
            tensors.append(tuple(entry.integer(schema.SignatureTensor.TENSOR, "I") for entry in entries))
        if table.text(schema.Signature.KEY) is None:
            raise DamagedFlatbufferError("a signature has no name")
        return Signature(tensors[0], tensors[1], table.integer(schema.Signature.SUBGRAPH, "I"))
