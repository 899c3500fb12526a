"""Reads and writes the tables of a flatbuffer, with the field numbers of the schema.

Files are not trusted: every offset is checked before it is followed. Writing takes nested
dictionaries and returns the same bytes as flatc's generated Python code. The format:
https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flatbuffers

# A table to be written: field → text, byte, table, or a list of tables or floats; None is left out.
Table = dict[int, Any]

# Tables and lists may be shared. A reader that follows each reference must still finish.
_READINGS = 4

_READ_ALWAYS = 1 << 20

_TABLE_COST = 16


class DamagedFlatbufferError(ValueError):
    """An offset or a size leads out of the file."""


class _Budget:
    """The number of bytes that may still be read.

    A valid file is read about once; many lists that share bytes are an attack.
    """

    def __init__(self, size: int) -> None:
        self.left = _READINGS * size + _READ_ALWAYS

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise DamagedFlatbufferError("its lists share too many bytes, so that reading them would never end")


class FlatTable:
    """The table at `position` of `data`. Every method raises DamagedFlatbufferError for an invalid offset."""

    def __init__(self, data: bytes | memoryview, position: int, budget: _Budget | None = None) -> None:
        self._data = data
        self._budget = budget or _Budget(len(data))
        self._budget.spend(_TABLE_COST)
        self.position = position
        self._field_table = position - self._unpack("<i", position)
        self._field_table_size = self._unpack("<H", self._field_table)
        self._size = self._unpack("<H", self._field_table + 2)
        self._inside(self._field_table, self._field_table_size)
        self._inside(position, self._size)

    @classmethod
    def root(cls, data: bytes | memoryview, identifier: bytes) -> FlatTable:
        """Returns the root table of a whole flatbuffer with this file identifier."""
        found = bytes(data[4:8])
        if found != identifier:
            raise DamagedFlatbufferError(f"bytes 4 to 8 are {found!r}, expected {identifier!r}")
        return cls(data, struct.unpack_from("<I", data)[0])

    def present(self) -> list[int]:
        """Returns the numbers of the fields that are present."""
        return [field for field in range((self._field_table_size - 4) // 2) if self._field(field) is not None]

    def integer(self, field: int, kind: str, default: int = 0) -> int:
        """Returns a number of the struct format `kind`."""
        position = self.place(field, kind)
        return default if position is None else self._unpack(f"<{kind}", position)

    def number(self, field: int, default: float = 0.0) -> float:
        """Returns a number of 32 bits with a fraction."""
        position = self.place(field, "f")
        return default if position is None else self._unpack("<f", position)

    def place(self, field: int, kind: str) -> int | None:
        """Returns the position at which a number of the struct format `kind` is stored; None for an absent field."""
        position = self._field(field)
        if position is not None and position + struct.calcsize(kind) > self.position + self._size:
            raise DamagedFlatbufferError(f"a field at byte {position} is larger than its table")
        return position

    def target(self, field: int) -> int | None:
        """Returns the position that an offset field leads to; None for an absent field."""
        position = self.place(field, "I")
        return None if position is None else self._inside(position + self._unpack("<I", position))

    def text(self, field: int) -> str | None:
        """Returns a string; None for an absent field."""
        content = self.content(field)
        if content is None:
            return None
        try:
            return bytes(content).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DamagedFlatbufferError(f"a text that is not UTF-8: {bytes(content[:40])!r}") from error

    def content(self, field: int) -> memoryview | None:
        """Returns a vector of bytes; None for an absent field."""
        start, count = self.vector(field, 1)
        return None if start is None else memoryview(self._data)[start : start + count]

    def span(self, field: int) -> tuple[int, int] | None:
        """Returns where a vector of bytes begins, and how many there are; None for an absent field.

        The vector itself is not read.
        """
        start, count = self.vector(field, 1, cost=0)
        return None if start is None else (start, count)

    def integers(self, field: int) -> list[int]:
        """Returns a vector of int32; empty for an absent field."""
        return self.numbers(field, "i")

    def numbers(self, field: int, kind: str) -> list[Any]:
        """Returns a vector of numbers of the struct format `kind`; empty for an absent field."""
        start, count = self.vector(field, struct.calcsize(kind))
        return [] if start is None else list(struct.unpack_from(f"<{count}{kind}", self._data, start))

    def table(self, field: int) -> FlatTable | None:
        """Returns a table; None for an absent field."""
        position = self.target(field)
        return None if position is None else FlatTable(self._data, position, self._budget)

    def table_positions(self, field: int) -> list[int]:
        """Returns where the tables of a vector begin; empty for an absent field."""
        start, count = self.vector(field, 4)
        if start is None:
            return []
        offsets = struct.unpack_from(f"<{count}I", self._data, start)
        return [start + 4 * index + offset for index, offset in enumerate(offsets)]

    def item(self, field: int, index: int) -> FlatTable:
        """Returns one table of a vector."""
        start, count = self.vector(field, 4, cost=4)
        if start is None or not 0 <= index < count:
            raise DamagedFlatbufferError(f"item {index} of a list of {count} is asked for")
        position = start + 4 * index
        return FlatTable(self._data, position + self._unpack("<I", position), self._budget)

    def count(self, field: int) -> int:
        """Returns the number of items of a vector whose items have 4 bytes."""
        return self.vector(field, 4, cost=0)[1]

    def tables(self, field: int) -> list[FlatTable]:
        """Returns a vector of tables; empty for an absent field."""
        return [FlatTable(self._data, position, self._budget) for position in self.table_positions(field)]

    def _field(self, field: int) -> int | None:
        place = 4 + 2 * field
        if place + 2 > self._field_table_size:
            return None
        offset = self._unpack("<H", self._field_table + place)
        return self.position + offset if offset else None

    def vector(self, field: int, item_size: int, cost: int | None = None) -> tuple[int | None, int]:
        """Returns where the items of a vector begin (None for an absent field), and how many there are; `cost` in bytes
        is what reading them takes, by default their size."""
        position = self.target(field)
        if position is None:
            return None, 0
        count = self._unpack("<I", position)
        if position + 4 + count * item_size > len(self._data):
            raise DamagedFlatbufferError(f"{count} items at byte {position}, but only {len(self._data)} bytes")
        self._budget.spend(count * item_size if cost is None else cost)
        return position + 4, count

    def _unpack(self, kind: str, position: int) -> Any:
        try:
            # Python would count a negative position from the end.
            return struct.unpack_from(kind, self._data, self._inside(position))[0]
        except struct.error:
            raise DamagedFlatbufferError(f"an offset leads to byte {position} of {len(self._data)}") from None

    def _inside(self, position: int, size: int = 1) -> int:
        if position < 0 or position + size > len(self._data):
            raise DamagedFlatbufferError(f"an offset leads to byte {position} of {len(self._data)}")
        return position


def pack_table(builder: flatbuffers.Builder, table: Table) -> int:
    """Writes a table after its children, in the order of flatc's generated Python code, and returns its offset."""
    fields = sorted((int(field), value) for field, value in table.items() if value is not None)
    children = {field: _pack_child(builder, value) for field, value in fields if not isinstance(value, int)}
    builder.StartObject(fields[-1][0] + 1 if fields else 0)
    for field, value in fields:
        if isinstance(value, int):
            builder.PrependInt8Slot(field, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, children[field], 0)
    return int(builder.EndObject())


def pack_offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    """Writes a vector of offsets to earlier items, and returns the offset of the vector."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def pack_bytes(builder: flatbuffers.Builder, content: bytes, alignment: int) -> int:
    """Writes a vector of bytes that starts at a multiple of `alignment`, and returns its offset."""
    builder.StartVector(1, len(content), alignment)
    start = builder.Head() - len(content)
    builder.Bytes[start : start + len(content)] = content
    builder.head = start
    return int(builder.EndVector())


def _pack_child(builder: flatbuffers.Builder, value: Any) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, dict):
        return pack_table(builder, value)
    if isinstance(value[0], float):
        builder.StartVector(4, len(value), 4)
        for number in reversed(value):
            builder.PrependFloat32(number)
        return int(builder.EndVector())
    return pack_offsets(builder, [pack_table(builder, table) for table in value])
