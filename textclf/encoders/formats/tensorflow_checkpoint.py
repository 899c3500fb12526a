"""Reads arrays of TensorFlow checkpoints without TensorFlow: names and shapes first, each array on demand.

Takes a checkpoint's prefix, the path without `.index`, and returns its arrays by name. The index is a table in
LevelDB's format (tensorflow/core/lib/io/format.cc) of `BundleEntryProto` messages (core/protobuf/tensor_bundle.proto).
The numbers are in the `.data-…` files without encoding. TensorFlow's reader is not used, because it trusts damaged
files.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.encoders.formats.arrays import RawArray, numpy_type
from textclf.encoders.formats.protobuf import (
    ProtobufError,
    as_bytes,
    as_number,
    fields,
    fixed32,
    message_in,
    messages,
    varint,
)
from textclf.errors import EncoderError
from textclf.extras import require

_FOOTER_BYTES = 48
_TABLE_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
# A block ends with a byte for its compression and a checksum.
_TRAILER_BYTES = 5
_LARGEST_INDEX = 64 * 2**20
_MOST_ENTRIES = 50_000
_LARGEST_RANK = 8
_LONGEST_NAME = 1000
# tensorflow/core/framework/types.proto
_STRING = 7
_TYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}


class _DamageError(ValueError):
    """The index or a data file is not one that TensorFlow writes."""


@dataclass(frozen=True)
class _Entry:
    """The place of an array: the data file, the first byte, the number of bytes, and the checksum."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int | None


def index_checkpoint(prefix: Path) -> dict[str, RawArray]:
    """Returns the arrays of a checkpoint by name.

    Raises EncoderError for a checkpoint that is damaged, incomplete or of another kind.
    """
    index_file = prefix.with_name(f"{prefix.name}.index")
    if not index_file.is_file():
        raise EncoderError(f"{index_file}: is missing; get the whole checkpoint again")
    try:
        shards, entries = _read_index(index_file)
        files = [prefix.with_name(f"{prefix.name}.data-{n:05}-of-{shards:05}") for n in range(shards)]
        sizes = [file.stat().st_size if file.is_file() else None for file in files]
        for name, entry in entries.items():
            _check_place(name, entry, sizes)
    except (_DamageError, ProtobufError, OSError) as error:
        raise EncoderError(
            f"{index_file}: cannot be read as a TensorFlow checkpoint ({error}); get the whole checkpoint again"
        ) from error
    for file, size in zip(files, sizes, strict=True):
        if size is None:
            raise EncoderError(f"{file}: is missing beside {index_file.name}; get the whole checkpoint again")
    return {
        name: RawArray(entry.shape, _TYPES.get(entry.dtype, "string"), _reader(name, entry, files[entry.shard]))
        for name, entry in entries.items()
    }


def data_bytes(prefix: Path) -> int:
    """Returns the size of a checkpoint's data files."""
    return sum(file.stat().st_size for file in prefix.parent.glob(f"{prefix.name}.data-*"))


def _read_index(file: Path) -> tuple[int, dict[str, _Entry]]:
    """Returns the number of data files, and the arrays by name."""
    if file.stat().st_size > _LARGEST_INDEX:
        raise _DamageError(f"it is longer than {_LARGEST_INDEX:,} bytes")
    data = memoryview(file.read_bytes())
    shards: int | None = None
    entries: dict[str, _Entry] = {}
    for key, value in _table(data):
        if len(entries) >= _MOST_ENTRIES:
            raise _DamageError(f"it has more than {_MOST_ENTRIES:,} entries")
        if key == b"":
            shards = _number_of_shards(value)
            continue
        try:
            name = key.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _DamageError("a name is not UTF-8") from error
        entries[name] = _entry(name, value)
    if shards is None:
        raise _DamageError("it has no header")
    return shards, entries


def _table(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a table, block by block."""
    if len(data) < _FOOTER_BYTES or data[-8:] != _TABLE_MAGIC:
        raise _DamageError("it does not end as an index does")
    footer = data[-_FOOTER_BYTES:]
    _, position = _handle(footer, 0)
    index, _ = _handle(footer, position)
    # Blocks follow each other: a valid index reads no byte twice.
    total = 0
    for _, value in _block(data, index):
        handle, _ = _handle(value, 0)
        total += handle[1]
        if total > len(data):
            raise _DamageError("its blocks overlap")
        yield from _block(data, handle)


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return (offset, size), position


def _block(data: memoryview, handle: tuple[int, int]) -> Iterator[tuple[bytes, memoryview]]:
    """Yields the entries of a block. Each key stores only its difference from the key before."""
    offset, size = handle
    if offset + size + _TRAILER_BYTES > len(data) or size < 4:
        raise _DamageError("a block leads out of the file")
    block = data[offset : offset + size]
    compression, checksum = struct.unpack("<BI", data[offset + size : offset + size + _TRAILER_BYTES])
    if compression:
        raise _DamageError("it is compressed, which TensorFlow's checkpoints are not; save the checkpoint again")
    if _masked_checksum(data[offset : offset + size + 1]) != checksum:
        raise _DamageError("a checksum is wrong")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 - 4 * restarts
    if end < 0:
        raise _DamageError("a block is shorter than it says")
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or fresh + length > end - position:
            raise _DamageError("an entry leads out of its block")
        key = key[:shared] + bytes(block[position : position + fresh])
        if len(key) > _LONGEST_NAME:
            raise _DamageError(f"a name is longer than {_LONGEST_NAME:,} bytes")
        position += fresh
        yield key, block[position : position + length]
        position += length


def _number_of_shards(header: memoryview) -> int:
    """Checks a `BundleHeaderProto`: 1 is the number of data files, 2 the order of the bytes in a number (0 is
    little-endian)."""
    shards = 0
    for number, value in fields(header):
        if number == 1:
            shards = as_number(value)
        elif number == 2 and value != 0:
            raise _DamageError("its numbers are big-endian")
    if not 0 < shards <= 1000:
        raise _DamageError(f"it says that it has {shards} data files")
    return shards


def _entry(name: str, message: memoryview) -> _Entry:
    dtype = shard = offset = size = 0
    checksum: int | None = None
    for number, value in fields(message):
        if number == 1:
            dtype = as_number(value)
        elif number == 3:
            shard = as_number(value)
        elif number == 4:
            offset = as_number(value)
        elif number == 5:
            size = as_number(value)
        elif number == 6:
            checksum = fixed32(value)
        elif number == 7:
            raise _DamageError(f"the tensor {name!r} is stored in slices; save it whole")
    shape = tuple(_dimension(dimension) for dimension in messages(message_in(message, 2), 2))
    if len(shape) > _LARGEST_RANK or any(length >= 2**31 for length in shape):
        raise _DamageError(f"the tensor {name!r} has a shape that no encoder's has")
    return _Entry(dtype, shape, shard, offset, size, checksum)


def _dimension(message: memoryview) -> int:
    size = 0
    for number, value in fields(message):
        if number == 1:
            size = as_number(value)
    return size


def _check_place(name: str, entry: _Entry, sizes: list[int | None]) -> None:
    """Raises an error unless an array has as many bytes as its shape needs, inside its file."""
    if entry.shard >= len(sizes):
        raise _DamageError(f"the tensor {name!r} is in data file {entry.shard} of {len(sizes)}")
    size = sizes[entry.shard]
    if size is not None and entry.offset + entry.size > size:
        raise _DamageError(
            f"the tensor {name!r} ends at byte {entry.offset + entry.size:,} of a data file of {size:,} bytes"
        )
    if entry.dtype in _TYPES:
        needed = math.prod(entry.shape) * numpy_type(_TYPES[entry.dtype]).itemsize
        if needed != entry.size:
            raise _DamageError(f"the tensor {name!r} has {entry.size:,} bytes, and its shape needs {needed:,}")


def _reader(name: str, entry: _Entry, file: Path) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        try:
            with file.open("rb") as stream:
                stream.seek(entry.offset)
                data = stream.read(entry.size)
            if len(data) != entry.size:
                raise _DamageError("it ends too early")
            if entry.dtype == _STRING:
                return _string(entry, memoryview(data))
            if entry.dtype not in _TYPES:
                raise _DamageError(f"its type {entry.dtype} is not supported")
            if entry.checksum is not None and _masked_checksum(data) != entry.checksum:
                raise _DamageError("its checksum is wrong")
        except (_DamageError, ProtobufError, OSError) as error:
            raise EncoderError(
                f"{file}: the tensor {name!r} cannot be read ({error}); the checkpoint is damaged or incomplete, get it"
                " again"
            ) from error
        return np.frombuffer(data, numpy_type(_TYPES[entry.dtype])).reshape(entry.shape)

    return read


def _string(entry: _Entry, data: memoryview) -> np.ndarray:
    """Returns a text: its length, the length's checksum, and its bytes (tensor_bundle.cc, `ReadStringTensor`)."""
    if entry.shape:
        raise _DamageError("it is a list of texts")
    length, position = varint(data, 0)
    content = as_bytes(data[position + 4 :])
    if len(content) != length:
        raise _DamageError("it is shorter than it says")
    return np.array(bytes(content), object)


def _masked_checksum(data: bytes | memoryview) -> int:
    """CRC-32C as TensorFlow stores it, rotated and shifted (core/lib/hash/crc32c.h)."""
    require("google_crc32c", "to read TensorFlow's checkpoints")
    import google_crc32c

    checksum: int = google_crc32c.value(bytes(data))
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
