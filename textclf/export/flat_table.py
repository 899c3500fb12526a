"""Tables of a flatbuffer, read and written by the numbers that the schema gives their fields.

Reading takes a file that nobody vouches for: every offset is checked before it is followed. Writing takes nested
dictionaries and gives the bytes that flatc's generated Python code would. The format: https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flatbuffers

# A table to be written: field → text, byte, table, or a list of tables or floats; None is left out.
Table = dict[int, Any]


class DamagedFlatbufferError(ValueError):
    """An offset or a size that leads out of the file."""


class FlatTable:
    """The table at `position` of `data`; everything raises DamagedFlatbufferError where an offset leads astray."""

    def __init__(self, data: bytes | memoryview, position: int) -> None:
        self._data = data
        self._position = position
        field_table = position - self._unpack("<i", position)
        size = self._unpack("<H", field_table)
        self._fields = [self._unpack("<H", field_table + begin) for begin in range(4, size - 1, 2)]

    @classmethod
    def root(cls, data: bytes | memoryview, identifier: bytes) -> FlatTable:
        """The root table of a whole flatbuffer with this file identifier."""
        found = bytes(data[4:8])
        if found != identifier:
            raise DamagedFlatbufferError(f"bytes 4 to 8 are {found!r}, expected {identifier!r}")
        return cls(data, struct.unpack_from("<I", data)[0])

    def present(self) -> list[int]:
        """The numbers of the fields that are there."""
        return [field for field, offset in enumerate(self._fields) if offset]

    def integer(self, field: int, kind: str, default: int = 0) -> int:
        """A number of the struct format `kind`."""
        position = self._field(field)
        return default if position is None else self._unpack(f"<{kind}", position)

    def target(self, field: int) -> int | None:
        """The position that an offset field leads to; None for an absent field."""
        position = self._field(field)
        return None if position is None else self._inside(position + self._unpack("<I", position))

    def text(self, field: int) -> str | None:
        """A string; None for an absent field."""
        content = self.content(field)
        if content is None:
            return None
        try:
            return bytes(content).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DamagedFlatbufferError(f"a text that is not UTF-8: {bytes(content[:40])!r}") from error

    def content(self, field: int) -> memoryview | None:
        """A vector of bytes; None for an absent field."""
        start, count = self._vector(field, 1)
        return None if start is None else memoryview(self._data)[start : start + count]

    def integers(self, field: int) -> list[int]:
        """A vector of int32; empty for an absent field."""
        start, count = self._vector(field, 4)
        return [] if start is None else list(struct.unpack_from(f"<{count}i", self._data, start))

    def table(self, field: int) -> FlatTable | None:
        """A table; None for an absent field."""
        position = self.target(field)
        return None if position is None else FlatTable(self._data, position)

    def table_positions(self, field: int) -> list[int]:
        """Where the tables of a vector begin; empty for an absent field."""
        start, count = self._vector(field, 4)
        if start is None:
            return []
        offsets = struct.unpack_from(f"<{count}I", self._data, start)
        return [start + 4 * index + offset for index, offset in enumerate(offsets)]

    def item(self, field: int, index: int) -> FlatTable:
        """One table of a vector."""
        positions = self.table_positions(field)
        if not 0 <= index < len(positions):
            raise DamagedFlatbufferError(f"item {index} of a list of {len(positions)} is asked for")
        return FlatTable(self._data, positions[index])

    def tables(self, field: int) -> list[FlatTable]:
        """A vector of tables; empty for an absent field."""
        return [FlatTable(self._data, position) for position in self.table_positions(field)]

    def _field(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._position + offset if offset else None

    def _vector(self, field: int, item_size: int) -> tuple[int | None, int]:
        position = self.target(field)
        if position is None:
            return None, 0
        count = self._unpack("<I", position)
        if position + 4 + count * item_size > len(self._data):
            raise DamagedFlatbufferError(f"{count} items at byte {position}, but only {len(self._data)} bytes")
        return position + 4, count

    def _unpack(self, kind: str, position: int) -> Any:
        self._inside(position, struct.calcsize(kind))
        return struct.unpack_from(kind, self._data, position)[0]

    def _inside(self, position: int, size: int = 1) -> int:
        if position < 0 or position + size > len(self._data):
            raise DamagedFlatbufferError(f"an offset leads to byte {position} of {len(self._data)}")
        return position


def pack_table(builder: flatbuffers.Builder, table: Table) -> int:
    """Writes a table behind its children, in the order of flatc's generated Python code, and returns its offset."""
    fields = sorted((int(field), value) for field, value in table.items() if value is not None)
    children = {field: _pack_child(builder, value) for field, value in fields if not isinstance(value, int)}
    builder.StartObject(fields[-1][0] + 1 if fields else 0)
    for field, value in fields:
        if isinstance(value, int):
            builder.PrependInt8Slot(field, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, children[field], 0)
    return builder.EndObject()


def pack_offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    """Writes a vector of offsets to what has been written already, and returns its own."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def pack_bytes(builder: flatbuffers.Builder, content: bytes, alignment: int) -> int:
    """Writes a vector of bytes whose first lies at a multiple of `alignment`, and returns its offset."""
    builder.StartVector(1, len(content), alignment)
    start = builder.Head() - len(content)
    builder.Bytes[start : start + len(content)] = content
    builder.head = start
    return builder.EndVector()


def _pack_child(builder: flatbuffers.Builder, value: Any) -> int:
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, dict):
        return pack_table(builder, value)
    if isinstance(value[0], float):
        builder.StartVector(4, len(value), 4)
        for number in reversed(value):
            builder.PrependFloat32(number)
        return builder.EndVector()
    return pack_offsets(builder, [pack_table(builder, table) for table in value])
