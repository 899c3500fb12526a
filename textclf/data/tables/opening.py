"""Opens a table of any format: what it is decides how it is read, and its name only where the content leaves it open.

Training, `check`, `evaluate`, `classify` and `new` open their tables here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from textclf.data.tables.files import STANDARD_STREAM, InputFile, open_input
from textclf.data.tables.formats.json_table import open_json_array, open_json_lines
from textclf.data.tables.formats.parquet_table import ParquetTable
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.formats.text_folder import TextFolder
from textclf.data.tables.formats.workbook import SheetTable, is_workbook
from textclf.data.tables.frames import FrameTable
from textclf.data.tables.table import BYTE_ORDER_MARKS, Table, open_table
from textclf.errors import DataError
from textclf.files.copies import local_file
from textclf.files.locations import location_of

AnyTable: TypeAlias = Table | RecordTable

Format = Literal["delimited text", "JSON Lines", "a JSON array", "a Parquet file", "an Excel workbook"]

_BEGINNING = 4096

# Of a pipe, only the first bytes may be there.
_STRING = r'"(?:[^"\\]|\\.)*(?:"\s*(?::|\Z)|\Z)'

_OBJECT = re.compile(rf"\s*\{{\s*(?:{_STRING}|\}}|\Z)")

_ARRAY = re.compile(rf"\s*\[\s*(?:\{{\s*(?:{_STRING}|\}}|\Z)|\]|\Z)")

_JSON_NAME = re.compile(r"\.(?:jsonl|ndjson|json)(?:\.(?:gz|zst|bz2|xz))?$", re.IGNORECASE)


@dataclass(frozen=True)
class ReadOptions:
    """How tables are read. Without a `delimiter` it is detected; `sheet` is that of workbooks; `columns` are the names of
    all columns of tables without a header."""

    delimiter: str | None = None
    encoding: str = "utf-8"
    sheet: str | None = None
    columns: tuple[str, ...] = ()


_DEFAULT = ReadOptions()


@contextmanager
def open_any(
    source: str | Path | FrameTable,
    options: ReadOptions = _DEFAULT,
    wanted: Sequence[str] = (),
    name: str | None = None,
) -> Iterator[tuple[AnyTable, InputFile | None]]:
    """Opens a path, an address, standard input (`-`) or a table in memory, and yields the table and its bytes (None for a
    folder).

    The `wanted` columns, the label last, help to find the header and the delimiter. `name` is the table's in messages.
    Raises DataError for a table that cannot be opened, and MissingPackageError where an extra reads the format.
    """
    if not isinstance(source, FrameTable):
        if (location := location_of(source)) is not None:
            with local_file(location) as file, open_any(str(file), options, wanted, name or str(location)) as opened:
                yield opened
            return
        source = os.fspath(source)
    if isinstance(source, str) and os.path.isdir(source) and any(entry.is_dir() for entry in os.scandir(source)):
        yield TextFolder(name or source, Path(source), wanted, options.encoding), None
        return
    with open_input(source, name) as input_file:
        name = name or input_file.name
        table = _open(source, input_file, options, wanted, name)
        table.counts_positions = input_file.counts_positions
        try:
            yield table, input_file
        finally:
            table.stop()
            if isinstance(table, ParquetTable | SheetTable):
                table.close()


def _open(
    source: str | FrameTable, file: InputFile, options: ReadOptions, wanted: Sequence[str], name: str
) -> AnyTable:
    delimiter, encoding = options.delimiter, options.encoding
    if isinstance(source, FrameTable):
        if source.has_lists:
            return open_json_lines(file.stream, "utf-8", name)
        return open_table(file.stream, ",", "utf-8", wanted, name)
    found = _format_of(source, file, options)
    if found == "delimited text":
        return open_table(file.stream, delimiter, encoding, wanted, name, file.is_live, options.columns)
    if options.columns and found != "an Excel workbook":
        raise DataError(
            f"{name}: is {found}, whose columns have names, but dataset.columns (--columns) is for tables without a header; "
            "leave it out"
        )
    if found == "JSON Lines":
        return open_json_lines(file.stream, encoding, name, file.is_live)
    if found == "a JSON array":
        return open_json_array(file.stream, encoding, name)
    if source == STANDARD_STREAM or file.is_live:
        raise DataError(f"{name}: is {found}, which is read from its end, but a pipe has none; save it to a file")
    if file.is_packed:
        raise DataError(f"{name}: is {found} in a compressed file; unpack it first (it is compressed inside already)")
    path = Path(source)
    if found == "a Parquet file":
        table = ParquetTable(name, path)
        file.progress = lambda: table.position
        return table
    return SheetTable(name, path, options.sheet, wanted, options.columns)


def _format_of(source: str, file: InputFile, options: ReadOptions) -> Format:
    try:
        start = file.stream.peek(_BEGINNING)[:_BEGINNING]
    except (OSError, EOFError):
        return "delimited text"  # whose reader reports the reason
    if start.startswith(b"PAR1"):
        return "a Parquet file"
    if start.startswith(b"PK\x03\x04") and (
        b"xl/" in start if file.is_packed or source == STANDARD_STREAM else is_workbook(Path(source))
    ):
        return "an Excel workbook"
    text = _decoded(start, options.encoding)
    if _OBJECT.match(text):
        return "JSON Lines"
    if _ARRAY.match(text):
        return "a JSON array"
    if start and _JSON_NAME.search(source) and text.strip()[:1] in ("[", "{", '"', ""):
        return "a JSON array" if text.strip()[:1] == "[" and ".jsonl" not in source.lower() else "JSON Lines"
    return "delimited text"


def _decoded(start: bytes, encoding: str) -> str:
    codec = next((codec for mark, codec in BYTE_ORDER_MARKS if start.startswith(mark)), encoding)
    return start.decode(codec, "replace").lstrip("\ufeff")
