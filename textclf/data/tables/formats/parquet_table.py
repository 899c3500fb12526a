"""Reads Parquet files as tables, with pyarrow and batch by batch: memory does not grow with the file or its row groups.

The first row is row 1. A cell that is not text is read as pandas writes it to a CSV: `5`, `1.5`, `True`, `2024-05-01`; null
and NaN are an empty cell. Binary columns are read as UTF-8.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from textclf import extras
from textclf.data.tables.arrow_texts import has_own_text, text_array
from textclf.data.tables.formats.parquet_pages import pages_of, start_of
from textclf.data.tables.formats.records import ListCell, RecordTable, json_text
from textclf.data.tables.frames import is_missing
from textclf.data.tables.table import Fault, Row
from textclf.errors import DataError
from textclf.recipe.values import is_unicode

# A batch has at most this many rows, and about as many bytes as the second number says.
_BATCH_ROWS, _BATCH_BYTES = 4096, 1 << 24

# The most bytes in which a batch may repeat values of a dictionary.
_BATCH_OF_REPEATED = 1 << 28

# Column chunks are read from the file in pieces of this size.
_BUFFER = 1 << 20

_PIECE = 1 << 20

# Texts may have this many characters, or this many times the size of their file.
_UNSUSPICIOUS, _HIGHEST_RATIO = 1 << 29, 100

_LARGEST_BATCH = 1 << 30

LARGEST_PAGE = 1 << 28
"""The most bytes of an unpacked page. Writers make pages of about 1 MB; a header may state 2 GB."""


def pyarrow_modules() -> Any:
    """Returns pyarrow with its modules for Parquet and computing. Raises MissingPackageError if it is not installed."""
    extras.require("pyarrow", "to read and write Parquet files")
    for part in ("compute", "parquet"):
        import_module(f"pyarrow.{part}")
    return import_module("pyarrow")


class ParquetRecord:
    """A row of a batch. `size` is its share of the batch."""

    __slots__ = ("batch", "index", "size")

    def __init__(self, batch: Any, index: int, size: int) -> None:
        self.batch = batch
        self.index = index
        self.size = size

    def values(self) -> list[Any]:
        return [_python_value(column, self.index) for column in self.batch.columns]


class ParquetTable(RecordTable):
    """A Parquet file. Raises DataError for a file that cannot be read."""

    what = "a Parquet file"

    def __init__(self, name: str, path: Path) -> None:
        self._arrow = pyarrow_modules()
        self._path = path
        self._bytes_read = 0
        self._characters = 0
        try:
            self._file = self._arrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
            self.schema = self._file.schema_arrow
            self._metadata = self._file.metadata
        except MemoryError:
            raise
        except Exception as error:  # pyarrow raises many kinds for a damaged file
            raise self._damaged(name, error) from None
        self._groups, self._rows_before = range(self._metadata.num_row_groups), 0
        super().__init__(name, self.schema.names)

    def rows_of_groups(self) -> list[int]:
        """Returns the number of rows of each row group."""
        return [self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)]

    def span_of_groups(self, groups: range) -> tuple[int, int]:
        """Returns where these row groups begin and end in the file, in bytes."""
        columns = [
            self._metadata.row_group(group).column(index)
            for group in groups
            if self._metadata.row_group(group).num_rows
            for index in range(self._metadata.num_columns)
        ]
        starts = [start_of(column) for column in columns]
        ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
        return min(starts, default=0), max(ends, default=0)

    def select(self, groups: range) -> None:
        """Makes the table yield only the rows of these row groups."""
        self._groups, self._rows_before = groups, sum(self.rows_of_groups()[: groups.start])

    @property
    def position(self) -> int:
        """Bytes of the file that have been read, about."""
        return self._bytes_read

    def __iter__(self) -> Iterator[Row]:
        number = self._rows_before
        names = None if self.reads_others else [self.columns[index] for index in sorted(set(self.columns_asked_for))]
        for group in self._groups:
            if not self._metadata.row_group(group).num_rows:
                continue
            digest = self.digest_of_group(group) if self.reads_others else ""
            for batch in self.batches(group, names):
                try:
                    rows = list(self._rows_of(batch, number, digest))
                    self._check_repeated()
                except (ValueError, self._arrow.ArrowException) as error:
                    raise self._damaged(self.name, error, number) from None
                yield from rows
                number += batch.num_rows
                digest = ""

    def _check_repeated(self) -> None:
        """Raises DataError for a small file whose texts would fill the memory, because it repeats a long one."""
        if self._characters > max(_UNSUSPICIOUS, _HIGHEST_RATIO * self._path.stat().st_size):
            raise DataError(
                f"{self.name}: its texts have more than {self._characters:,} characters, over {_HIGHEST_RATIO} times the size "
                "of the file, so it is not read further; if the file is trusted, write it as CSV"
            )

    def close(self) -> None:
        self._file.close()

    @property
    def compression(self) -> str:
        """The compression of the first column, as a writer takes it."""
        if not self._metadata.num_row_groups or not self._metadata.num_columns:
            return "snappy"
        name = str(self._metadata.row_group(0).column(0).compression).lower()
        return {"uncompressed": "none", "lz4_raw": "lz4"}.get(name, name)

    def batches(self, group: int, names: Sequence[str] | None = None) -> Iterator[Any]:
        """Yields the rows of a row group in record batches of bounded size."""
        about = self._metadata.row_group(group)
        rows = self._rows_of_batch(group, names)
        before = self._bytes_read
        total, read = max(1, about.num_rows), 0
        size_in_file = sum(about.column(index).total_compressed_size for index in range(about.num_columns))
        batches = self._file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except MemoryError:
                raise
            except Exception as error:
                raise self._damaged(self.name, error, group=group) from None
            if batch.nbytes > _LARGEST_BATCH:
                raise DataError(
                    f"{self.name}: row group {group + 1} holds {batch.nbytes:,} bytes in {batch.num_rows:,} rows, which is "
                    "more than fits into memory; write the file again with shorter texts"
                )
            read += batch.num_rows
            self._bytes_read = before + size_in_file * read // total
            yield batch

    def _rows_of_batch(self, group: int, names: Sequence[str] | None) -> int:
        """Returns how many rows of a row group are read at once. Raises DataError for a page that would fill the memory."""
        about = self._metadata.row_group(group)
        rows = min(_BATCH_ROWS, _BATCH_BYTES // max(1, about.total_byte_size // max(1, about.num_rows)))
        for index in range(about.num_columns):
            column = about.column(index)
            if names is None or any(
                column.path_in_schema == name or column.path_in_schema.startswith(f"{name}.") for name in names
            ):
                # Each row may repeat the longest value of a dictionary, or the beginning of the value before it.
                rows = min(rows, _BATCH_OF_REPEATED // max(1, self._largest_repeated(group, column)))
        return int(max(1, rows))

    def _largest_repeated(self, group: int, column: Any) -> int:
        """Returns the size of the largest page of which a row may repeat any part, 0 if there is none."""
        repeats = any(encoding.startswith("DELTA_BYTE") for encoding in column.encodings)
        largest = 0
        try:
            with self._path.open("rb") as file:
                for page in pages_of(file, column):
                    if page.size > LARGEST_PAGE:
                        raise DataError(
                            f"{self.name}: row group {group + 1} has a page of {page.size:,} bytes in `{column.path_in_schema}`, "
                            f"but at most {LARGEST_PAGE:,} are read at once; write the file again with smaller pages, or as CSV"
                        )
                    if repeats or page.is_dictionary:
                        largest = max(largest, page.size)
        except (OSError, ValueError, OverflowError) as error:
            raise self._damaged(self.name, error, group=group) from None
        return largest

    def _rows_of(self, batch: Any, number: int, digest: str) -> Iterator[Row]:
        size = batch.nbytes // max(1, batch.num_rows)
        asked = self.columns_asked_for
        all_texts = self.reads_others and self.texts_of_others
        texts: dict[int, Sequence[str | None]] = {}
        for index, column in enumerate(self.columns):
            if index in asked or all_texts:
                array = batch.column(index) if self.reads_others else batch.column(batch.schema.names.index(column))
                if index in self.columns_of_lists and self._holds_lists(array.type):
                    texts[index] = ["" if value is None else ListCell.of(value) for value in array.to_pylist()]
                else:
                    texts[index] = self._texts(array) if index in asked else self._texts_of_others(array)
        width = len(self.columns)
        for place in range(batch.num_rows):
            fields = [""] * width
            fault: Fault | None = None
            for index, cells in texts.items():
                cell = cells[place]
                if cell is None:
                    if index in asked:
                        what = f"holds {self.schema.field(index).type} in `{self.columns[index]}`, which is no text"
                        fault = Fault("type", f"{what}; expected text, or one number or word in each row")
                else:
                    fields[index] = cell
            fault = fault or self._fault_of(fields)
            record = ParquetRecord(batch, place, size) if self.reads_others else None
            self._characters += sum(map(len, fields))
            yield Row(number + place + 1, number + place + 1, fields, "" if place else digest, fault, record)

    def _holds_lists(self, kind: Any) -> bool:
        types = self._arrow.types
        return any(is_kind(kind) for is_kind in (types.is_list, types.is_large_list, types.is_fixed_size_list))

    def _texts_of_others(self, array: Any) -> Sequence[str | None]:
        """Returns the cells as text: lists and the like as JSON, bytes that are not UTF-8 as Python writes them."""
        texts = []
        for place, text in enumerate(self._texts(array)):
            if text is None or not (text.isascii() or is_unicode(text)) or "\0" in text:
                value = _python_value(array, place)
                text = value if isinstance(value, str) else json_text(value)
            texts.append(text)
        return texts

    def _texts(self, array: Any) -> list[str | None]:
        """Returns the cells as text; None for a value that has no text, such as a list."""
        arrow = self._arrow
        types = arrow.types
        kind = array.type
        if isinstance(kind, arrow.BaseExtensionType):
            array, kind = array.storage, array.storage.type
        if types.is_dictionary(kind):
            array, kind = array.dictionary_decode(), kind.value_type
        if types.is_nested(kind):
            return [None if value.is_valid else "" for value in array]
        if has_own_text(kind):
            array = text_array(array)
            kind = array.type
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            try:
                return ["" if value is None else value for value in array.to_pylist()]
            except UnicodeDecodeError:
                array = arrow.compute.cast(array, arrow.large_binary())
        return [_text(value) for value in array.to_pylist()]

    def digest_of_group(self, group: int) -> str:
        """Returns the hash of the bytes of a row group, by which a resumed job sees that it has not changed."""
        about = self._metadata.row_group(group)
        digest = hashlib.blake2b(digest_size=16)
        try:
            with self._path.open("rb") as file:
                for index in range(about.num_columns):
                    column = about.column(index)
                    file.seek(start_of(column))
                    left = column.total_compressed_size
                    while left > 0 and (piece := file.read(min(_PIECE, left))):
                        digest.update(piece)
                        left -= len(piece)
        except (OSError, OverflowError) as error:
            raise self._damaged(self.name, error, group=group) from None
        return f"{group} {digest.hexdigest()}"

    def _damaged(
        self, name: str, error: BaseException, number: int | None = None, group: int | None = None
    ) -> DataError:
        where = f" after row {number:,}" if number else "" if group is None else f" in row group {group + 1}"
        reason = " ".join(str(error).split())[:200]
        return DataError(f"{name}: the Parquet file cannot be read{where} ({reason}); make or fetch the file again")


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if is_missing(value) else str(value)


def _python_value(column: Any, index: int) -> Any:
    """Returns a value, as text if Python has no type for it, such as a time with nanoseconds and a year after 9999.

    A duration is a text, too, because Python and pandas write it differently.
    """
    try:
        value = column[index].as_py()
        if isinstance(value, datetime.timedelta) and has_own_text(column.type):
            value = text_array(column.slice(index, 1))[0].as_py()
    except UnicodeDecodeError:
        value = column[index].as_buffer().to_pybytes()
    except (ValueError, OverflowError):
        one = column.slice(index, 1)
        value = text_array(one)[0].as_py() if has_own_text(one.type) else " ".join(one.to_string().split())
    if not isinstance(value, bytes):
        return value
    try:
        return str(value) if b"\0" in value else value.decode()
    except UnicodeDecodeError:
        return str(value)
