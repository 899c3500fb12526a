"""Reads the headers of the pages of a Parquet file, which say how much memory each page needs before it is unpacked.

The sizes in the footer are sums, and a damaged or hostile file may state others. A header is a struct of Thrift's compact
protocol (`PageHeader` of parquet-format); only its first numbers are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

# Most headers have some 30 bytes; statistics in them may be long.
_SHORT, _LONGEST = 1 << 12, 1 << 24

_MOST_NESTED = 16

_DICTIONARY = 2


class Page(NamedTuple):
    """A page: its size in bytes when it is unpacked, and whether it holds a dictionary."""

    size: int
    is_dictionary: bool


def pages_of(file: BinaryIO, column: Any) -> Iterator[Page]:
    """Yields the pages of a column chunk. Raises ValueError for a header that cannot be read."""
    place = start_of(column)
    end = place + column.total_compressed_size
    while place < end:
        fields, length = _header(file, place)
        kind, size, packed = (fields.get(field, -1) for field in (1, 2, 3))
        if size < 0 or packed < 0:
            raise ValueError(f"the header of the page at byte {place:,} has no sizes")
        yield Page(size, kind == _DICTIONARY)
        place += length + packed


def start_of(column: Any) -> int:
    """Returns where a column chunk begins. A chunk without rows may have no pages, which writers state as the offset 0."""
    offsets = [column.data_page_offset]
    if column.has_dictionary_page and column.dictionary_page_offset is not None:
        offsets.append(column.dictionary_page_offset)
    return min((offset for offset in offsets if offset > 0), default=0)


def _header(file: BinaryIO, place: int) -> tuple[dict[int, int], int]:
    """Returns the numbers of a header by the ids of their fields, and its length in bytes."""
    for size in (_SHORT, _LONGEST):
        file.seek(place)
        content = file.read(size)
        struct = _Struct(content)
        try:
            return struct.numbers(), struct.place
        except IndexError:
            if len(content) < size:
                break
    raise ValueError(f"the header of the page at byte {place:,} is cut off")


class _Struct:
    """A struct in Thrift's compact protocol. Reading beyond the content raises IndexError."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.place = 0

    def numbers(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for field, kind in self._fields():
            if kind in (4, 5, 6):
                value = self._varint()
                found[field] = value >> 1 ^ -(value & 1)
            else:
                self._skip(kind, 0)
        return found

    def _fields(self) -> Iterator[tuple[int, int]]:
        field = 0
        while head := self._byte():
            if head >> 4:
                field += head >> 4
            else:
                value = self._varint()
                field = value >> 1 ^ -(value & 1)
            yield field, head & 15

    def _byte(self) -> int:
        self.place += 1
        return self._content[self.place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("the header of a page has a number with more than 64 bits")

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _MOST_NESTED:
            raise ValueError("the header of a page is nested too deeply")
        if kind in (3,):
            self._byte()
        elif kind in (4, 5, 6):
            self._varint()
        elif kind == 7:
            self._forward(8)
        elif kind == 8:
            self._forward(self._varint())
        elif kind in (9, 10):
            self._skip_list(depth)
        elif kind == 12:
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        elif kind not in (1, 2):  # true and false have no bytes
            raise ValueError(f"the header of a page has a field of the unknown type {kind}")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(count):
            # In a list, true and false are a byte each.
            self._skip(3 if head & 15 in (1, 2) else head & 15, depth + 1)

    def _forward(self, size: int) -> None:
        self.place += size
        if self.place > len(self._content):
            raise IndexError
