"""Divides a file of rows into parts that can be read independently of each other, and reads one of them.

A part of delimited text or JSON Lines is a range of bytes that begins and ends between two rows, whatever line breaks are
inside of quotation marks; a part of a Parquet file is some of its row groups. Any other file, such as a compressed one, is
one part. Where the parts begin depends only on the file, how it is read, and the number of rows of a part.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

from textclf.data.tables.files import InputFile
from textclf.data.tables.formats.json_table import JsonTable
from textclf.data.tables.formats.parquet_table import ParquetTable
from textclf.data.tables.opening import AnyTable, ReadOptions, open_any
from textclf.data.tables.table import RowPlace, Table
from textclf.errors import DataError
from textclf.files.copies import local_file
from textclf.files.locations import Location, path_of

_PIECE = 1 << 20


@dataclass(frozen=True)
class TablePart:
    """The bytes from `start` to `end` (exclusive) of a file, with their `digest`, and the number of their `rows`.

    Blank lines are rows. A part of text has the `place` of its first row, one of a Parquet file the first and last
    (exclusive) of its row `groups`; a part without both is a whole file, and its rows are not counted.
    """

    start: int
    end: int
    digest: str
    rows: int | None = None
    place: RowPlace | None = None
    groups: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TablePart:
        """Raises KeyError, TypeError or ValueError for what `as_dict` has not written."""
        place, groups = values.get("place"), values.get("groups")
        return cls(
            int(values["start"]),
            int(values["end"]),
            str(values["digest"]),
            None if values.get("rows") is None else int(values["rows"]),
            None if place is None else RowPlace(*map(int, place)),
            None if groups is None else (int(groups[0]), int(groups[1])),
        )


def find_parts(path: str | Location, options: ReadOptions, wanted: Sequence[str], rows_a_part: int) -> list[TablePart]:
    """Returns the parts of a file in their order, of `rows_a_part` rows or, of Parquet files, a few more; at least one part.

    Text is read once as a whole. Raises DataError for what is not a file or cannot be read.
    """
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder of text files, which cannot be divided; write its texts to a table first")
    with open_any(path, options, wanted) as (table, file):
        if file is None or file.is_live:
            raise DataError(f"{path}: is a pipe or a device, which can be read only once; save its rows to a file")
        if isinstance(table, ParquetTable):
            return _parts_of_groups(path, table, rows_a_part)
        return _parts_of_text(path, table, file, rows_a_part) or [_whole(path)]


@contextmanager
def opened_at(path: str | Location, start: int) -> Iterator[BinaryIO]:
    """Opens a file at a byte. Raises DataError where that is not possible."""
    try:
        with local_file(path_of(path)) as file, file.open("rb") as stream:
            stream.seek(start)
            yield stream
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path and the disk") from error


@contextmanager
def selected(path: str | Location, table: AnyTable, part: TablePart) -> Iterator[None]:
    """Inside, the open table of this file yields the rows of the part.

    Raises DataError if the bytes are not those that were divided.
    """
    if digest_of(path, part.start, part.end) != part.digest:
        raise DataError(
            f"{path}: bytes {part.start:,} to {part.end:,} were changed since the file was divided into partitions; restore "
            "the file, or start again with force=True (--force)"
        )
    if isinstance(table, ParquetTable) and part.groups is not None:
        table.select(range(*part.groups))
        yield
    elif isinstance(table, Table | JsonTable) and part.place is not None and part.rows is not None:
        with opened_at(path, part.start) as stream:
            table.select(stream, part.place, part.rows)
            yield
    else:
        yield


def digest_of(path: str | Location, start: int, end: int) -> str:
    """Returns the hash of a range of bytes; of those that exist, where the file is shorter."""
    digest = hashlib.blake2b(digest_size=16)
    with opened_at(path, start) as stream:
        left = end - start
        while left > 0 and (piece := stream.read(min(_PIECE, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def size_of(path: str | Location) -> int:
    """Returns the number of bytes of a file, or of the copy of a remote one."""
    with local_file(path_of(path)) as file:
        return file.stat().st_size


def _whole(path: str | Location) -> TablePart:
    size = size_of(path)
    return TablePart(0, size, digest_of(path, 0, size))


def _parts_of_groups(path: str | Location, table: ParquetTable, rows_a_part: int) -> list[TablePart]:
    bounds, rows = [0], 0
    counts = table.rows_of_groups()
    for group, count in enumerate(counts, start=1):
        rows += count
        if rows >= rows_a_part or group == len(counts):
            bounds.append(group)
            rows = 0
    parts = []
    for first, last in pairwise(bounds):
        start, end = table.span_of_groups(range(first, last))
        parts.append(TablePart(start, end, digest_of(path, start, end), sum(counts[first:last]), groups=(first, last)))
    return parts or [_whole(path)]


def _parts_of_text(path: str | Location, table: AnyTable, file: InputFile, rows_a_part: int) -> list[TablePart]:
    """Returns no parts for a file that is read only as a whole."""
    bytes_of = _size_in(table.encoding)
    has_places = isinstance(table, Table) or (isinstance(table, JsonTable) and table.has_lines)
    if file.is_packed or not has_places or bytes_of is None:
        return []
    assert isinstance(table, Table | JsonTable)
    mark = len(codecs.BOM_UTF8) if file.start.startswith(codecs.BOM_UTF8) else 0
    parts: list[TablePart] = []
    first: RowPlace | None = None
    rows = 0
    place = RowPlace(0, 0, 0, 0)
    for place in table.row_places(bytes_of, mark):
        if first is None:
            first = place
        elif rows == rows_a_part:
            parts.append(_part(path, first, place.start, rows))
            first, rows = place, 0
        rows += 1
    if first is not None and rows > 1:
        parts.append(_part(path, first, place.start, rows - 1))
    # The sizes differ for a row that is too long to be kept.
    return parts if place.start == size_of(path) else []


def _part(path: str | Location, place: RowPlace, end: int, rows: int) -> TablePart:
    return TablePart(place.start, end, digest_of(path, place.start, end), rows, place)


def _size_in(encoding: str) -> Callable[[str], int] | None:
    """Returns what counts the bytes of a text in an encoding; None if text cannot be read from the middle of a file."""
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return _size_in_utf_8
    has_a_byte_each = len(bytes(range(256)).decode(encoding, "replace")) == 256
    return len if has_a_byte_each else None


def _size_in_utf_8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
