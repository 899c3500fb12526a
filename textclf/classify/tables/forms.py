"""Forms of an output that is not delimited text: JSON Lines, Parquet and Excel, chosen by the name of the output.

A job writes lines of text, so that it can be resumed after a kill. JSON Lines are the output itself. For Parquet and Excel
the lines are JSON, and `finished_file` makes the file of them when the job is complete.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from textclf.classify.tables.rows import NumberColumn, TableLayout, WholeNumberColumn, place_of, placed_fields
from textclf.data.tables.files import compress_file, compression_of, plain_suffix
from textclf.data.tables.formats.json_table import JsonRecord, JsonTable
from textclf.data.tables.formats.parquet_table import ParquetTable, pyarrow_modules
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.formats.sheet_cells import LAST_ROW, text_in_sheet
from textclf.data.tables.formats.workbook import openpyxl_module
from textclf.data.tables.frames import is_missing
from textclf.data.tables.opening import AnyTable
from textclf.data.tables.table import Row
from textclf.errors import DataError, RunError
from textclf.files.copies import copied

JSON_LINES = (".jsonl", ".ndjson")

PARQUET, EXCEL = ".parquet", ".xlsx"

UNREADABLE = "unreadable"
"""The key under which JSON Lines have the text of a row that is not an object."""

LONGEST_CELL = 32_767
"""The most characters of a cell in Excel."""

# As an escape in JSON, which readers turn back into the half character.
_ESCAPED = "backslashreplace"

_FIRST_DAY = datetime.date(1900, 1, 1)
"""The first day that Excel knows."""

_LARGEST_WHOLE = 1 << 53
"""The largest whole number that a cell in Excel holds, with all smaller ones, without a loss."""

_GROUP_ROWS, _GROUP_BYTES = 1 << 16, 1 << 26


class OutputForm:
    """How the rows of one table are written. `added` are the names of the new columns, `columns` those of the output without
    them.

    `row` returns a row with its new cells, `blank` a blank line, and `header` what stands before the first row; all as
    text with the line end.
    """

    def __init__(self, table: AnyTable, added: Sequence[str]) -> None:
        self._table = table
        self._added = added
        self.columns: Sequence[str] = ()

    def check_fits(self, first: AnyTable) -> None:
        """Prepares the table. Raises DataError for one that cannot be written behind the first table."""
        self._needs_texts(False)

    def _needs_texts(self, needed: bool) -> None:
        if isinstance(self._table, RecordTable):
            self._table.texts_of_others = needed

    def _check_names_differ(self, what: str) -> None:
        columns = self._table.columns
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise DataError(f"{self._table.name}: has the column `{twice}` twice, but {what} must differ; rename one")

    def header(self) -> str:
        return ""

    def row(self, row: Row, cells: Sequence[str], layout: TableLayout) -> str:
        raise NotImplementedError

    def blank(self, row: Row) -> str:
        return ""

    def _new_values(self, cells: Sequence[str]) -> list[Any]:
        """The new cells with their types; None for an empty one."""
        return [None if cell == "" else _type_of(name)(cell) for name, cell in zip(self._added, cells, strict=True)]

    def _values(self, row: Row, layout: TableLayout) -> Sequence[Any]:
        """The values of the row in the columns of the output, with their types where the table has types."""
        if row.record is None or _is_unreadable(row):
            return placed_fields(row, layout)
        values = list(row.record.values())
        if layout.places is None and len(values) == layout.output_width:
            return values
        placed: list[Any] = [None] * layout.output_width
        for place, value in zip(layout.places or range(layout.width), values, strict=False):
            placed[place] = value
        return placed


class JsonLinesForm(OutputForm):
    """An object on each line. The text of an object that was read is kept, and the new keys are added at its end."""

    def __init__(self, table: AnyTable, added: Sequence[str]) -> None:
        super().__init__(table, added)
        self._new_keys = [json.dumps(name, ensure_ascii=False) for name in added]

    def check_fits(self, first: AnyTable) -> None:
        super().check_fits(first)
        self._check_names_differ("the keys of a JSON object")

    def row(self, row: Row, cells: Sequence[str], layout: TableLayout) -> str:
        new = ", ".join(
            f"{key}: {_json(value, _ESCAPED)}"
            for key, value in zip(self._new_keys, self._new_values(cells), strict=True)
        )
        if isinstance(row.record, JsonRecord):
            self._check_keys(row)
            body = row.raw.strip("\ufeff \t\r\n")
            line_end = "\r\n" if row.raw.endswith("\r\n") else "\n"
            if "\n" in body or "\r" in body:  # an object of a list; there is no line break inside of texts
                body = re.sub(r"\s*[\r\n]+\s*", " ", body)
            return f"{body[:-1].rstrip()}{', ' if row.record.keys else ''}{new}}}{line_end}"
        if _is_unreadable(row):
            own = {UNREADABLE: row.raw.rstrip("\r\n")}
        else:
            own = dict(zip(self.columns, self._values(row, layout), strict=True))
        return f"{_json(own, _ESCAPED)[:-1]}{', ' if own else ''}{new}}}\n"

    def blank(self, row: Row) -> str:
        return row.raw if isinstance(self._table, JsonTable) and row.raw.endswith("\n") else ""

    def _check_keys(self, row: Row) -> None:
        assert isinstance(row.record, JsonRecord)
        if taken := [name for name in self._added if name in row.record.keys]:
            raise DataError(
                f"{self._table.name}: {place_of(row)} has a key `{taken[0]}` already; put a prefix before the added keys with "
                "column_prefix (--prefix)"
            )


class ParquetForm(OutputForm):
    """Lines of which a Parquet file is made: of a Parquet table the new cells only, of other tables all cells as text."""

    def check_fits(self, first: AnyTable) -> None:
        self._is_beside = isinstance(first, ParquetTable)
        self._needs_texts(not self._is_beside)
        self._check_names_differ("the columns of a Parquet file")
        if isinstance(first, ParquetTable) and (
            not isinstance(self._table, ParquetTable) or not self._table.schema.equals(first.schema)
        ):
            raise DataError(
                f"{self._table.name}: does not have the columns and types of {first.name}; inputs of one Parquet output must "
                "agree in them: convert this one, classify it alone, or name the output .jsonl"
            )

    def header(self) -> str:
        pyarrow_modules()
        types = [_type_of(name).__name__ for name in self._added]
        about: dict[str, Any] = {"columns": list(self.columns), "added": list(self._added), "types": types}
        if isinstance(self._table, ParquetTable):
            schema = base64.b64encode(self._table.schema.serialize().to_pybytes()).decode()
            about |= {"schema": schema, "compression": self._table.compression}
        return _line(about)

    def row(self, row: Row, cells: Sequence[str], layout: TableLayout) -> str:
        new = self._new_values(cells)
        if self._is_beside:
            return _line({"file": self._table.name, "group": row.raw, "cells": new} if row.raw else new)
        return _line([*placed_fields(row, layout), *new])


class ExcelForm(OutputForm):
    """Lines of which a workbook is made: the values of a row."""

    def check_fits(self, first: AnyTable) -> None:
        self._needs_texts(isinstance(self._table, JsonTable))

    def header(self) -> str:
        openpyxl_module()
        return _line([*self.columns, *self._added])

    def row(self, row: Row, cells: Sequence[str], layout: TableLayout) -> str:
        values = [*map(_excel_value, self._values(row, layout)), *self._new_values(cells)]
        if row.number > LAST_ROW:
            raise DataError(
                f"{self._table.name}: has more than {LAST_ROW:,} rows, the most of a sheet in Excel; name the output .csv or "
                ".parquet"
            )
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
        if longest > LONGEST_CELL:
            raise DataError(
                f"{self._table.name}: {place_of(row)} has a cell with {longest:,} characters, but a cell in Excel holds "
                f"{LONGEST_CELL:,}; name the output .csv or .parquet"
            )
        return _line(values)

    def blank(self, row: Row) -> str:
        return "[]\n"


def form_of(target: str, table: AnyTable, first: AnyTable, added: Sequence[str]) -> OutputForm | None:
    """Returns the form of an output by its name, None for delimited text.

    What has no name that says it, such as standard output, has the form of the first input if that is JSON.
    """
    suffix = plain_suffix(target)
    if suffix == PARQUET:
        return ParquetForm(table, added)
    if suffix == EXCEL:
        return ExcelForm(table, added)
    if suffix in JSON_LINES or (target and isinstance(first, JsonTable) and suffix not in (".csv", ".tsv")):
        return JsonLinesForm(table, added)
    return None


def is_delimited(target: str, table: AnyTable) -> bool:
    """Returns whether an output is delimited text."""
    return form_of(target, table, table, ()) is None


def finisher_of(target: Path) -> Callable[[Path, Path], None] | None:
    """Returns what makes the output of the lines of a complete job, as `finish(lines, output)`; None if they are it."""
    compression = compression_of(target)
    if compression is not None:
        return lambda lines, output: compress_file(lines, output, compression)
    return {PARQUET: _write_parquet, EXCEL: _write_workbook}.get(target.suffix.lower())


def _type_of(name: str) -> type[str] | type[float] | type[int]:
    """Returns the type of the cells of an added column."""
    if isinstance(name, WholeNumberColumn):
        return int
    return float if isinstance(name, NumberColumn) else str


def _is_unreadable(row: Row) -> bool:
    return row.fault is not None and (row.fault.kind in ("quote", "length", "json") or not row.fields)


def _line(value: Any) -> str:
    return _json(value) + "\n"


def _json(value: Any, errors: str = "replace") -> str:
    """Returns JSON in one line. `errors` is what becomes of half characters and of bytes that are not UTF-8.

    A row with such texts has an error already.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, default=_json_value)
    return text if text.isascii() else text.encode("utf-8", errors).decode("utf-8")


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None if value != value else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _json_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    with suppress(AttributeError):
        return value.isoformat()
    return str(value)


# --- Excel -----------------------------------------------------------------------------------------------------------
def _excel_value(value: Any) -> Any:
    """Returns what a cell can hold, as JSON can: a date, a time, or both become a dict with the name of the type."""
    if isinstance(value, datetime.datetime):
        is_known = value.tzinfo is None and value.date() >= _FIRST_DAY
        return {"datetime": value.isoformat(timespec="microseconds")} if is_known else value.isoformat()
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()} if value >= _FIRST_DAY else value.isoformat()
    if isinstance(value, datetime.time):
        return {"time": value.isoformat()}
    if is_missing(value):
        return None
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        return str(value)
    if isinstance(value, int | float):
        return value  # infinity becomes text in JSON
    return _json(value) if isinstance(value, dict | list | tuple) else str(value)


_TIMES: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
}


def _write_workbook(lines: Path, output: Path) -> None:
    openpyxl = openpyxl_module()
    from openpyxl.cell import WriteOnlyCell

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")

    def cell_of(value: Any) -> Any:
        if isinstance(value, dict):
            [(kind, text)] = value.items()
            return _TIMES[kind](text)
        if isinstance(value, float) and float(f"{value:.16g}") != value:
            cell = WriteOnlyCell(sheet)
            cell._value = repr(value)  # openpyxl writes only 16 of its digits
            return cell
        if not isinstance(value, str):
            return value
        cell = WriteOnlyCell(sheet)
        # Not through `cell.value`, which makes formulas of some texts and truncates those that escapes make longer.
        cell._value = text_in_sheet(value)
        cell.data_type = "s"
        return cell

    for number, line in enumerate(_read_lines(lines), start=1):
        if number > LAST_ROW:
            raise RunError(
                f"the output has more than {LAST_ROW:,} rows, the most of a sheet in Excel; start again with an output that "
                "ends in .csv or .parquet"
            )
        sheet.append([cell_of(value) for value in line])
    book.save(output)
    _sync(output)


# --- Parquet ---------------------------------------------------------------------------------------------------------
def _write_parquet(lines: Path, output: Path) -> None:
    rows = _read_lines(lines)
    about = next(rows)
    first = next(rows, None)
    arrow = pyarrow_modules()
    types = [{"float": arrow.float64(), "int": arrow.int64()}.get(name, arrow.string()) for name in about["types"]]
    if "schema" in about:
        schema = arrow.ipc.read_schema(arrow.py_buffer(base64.b64decode(about["schema"])))
    else:
        schema = arrow.schema([(name, arrow.string()) for name in about["columns"]])
    for name, kind in zip(about["added"], types, strict=True):
        schema = schema.append(arrow.field(name, kind))
    writer = _ParquetWriter(arrow, output, schema, about.get("compression", "snappy"))
    try:
        if "schema" in about:
            _add_columns(arrow, writer, schema, first, rows, types)
        else:
            _write_whole(arrow, writer, schema, first, rows)
    finally:
        writer.close()
    _sync(output)


def _write_whole(arrow: Any, writer: _ParquetWriter, schema: Any, first: Any, rows: Iterator[Any]) -> None:
    chunk: list[list[Any]] = []
    size = 0

    def flush() -> None:
        columns = [arrow.array([row[place] for row in chunk], field.type) for place, field in enumerate(schema)]
        writer.add(arrow.record_batch(columns, schema=schema))
        chunk.clear()

    for row in [first] if first is not None else []:
        chunk.append(row)
    for row in rows:
        chunk.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(chunk) >= _GROUP_ROWS or size >= _GROUP_BYTES:
            flush()
            size = 0
    flush()


def _add_columns(
    arrow: Any, writer: _ParquetWriter, schema: Any, first: Any, rows: Iterator[Any], types: Sequence[Any]
) -> None:
    """Writes the row groups of the inputs, read once more, with new columns of these types."""
    line = first
    while line is not None:
        path, seen = str(line["file"]), str(line["group"])
        group = int(seen.partition(" ")[0])
        table = ParquetTable(path, copied(path) or Path(path))
        try:
            if table.digest_of_group(group) != seen:
                raise RunError(
                    f"{path}: was changed while it was classified; restore it and use resume=True (--resume), or start again "
                    "with force=True (--force)"
                )
            for batch in table.batches(group):
                cells = []
                for _ in range(batch.num_rows):
                    cells.append(line["cells"] if isinstance(line, dict) else line)
                    line = next(rows, None)
                new = [arrow.array([row[place] for row in cells], kind) for place, kind in enumerate(types)]
                writer.add(arrow.RecordBatch.from_arrays([*batch.columns, *new], schema=schema))
        finally:
            table.close()


class _ParquetWriter:
    """Writes batches in row groups of bounded size."""

    def __init__(self, arrow: Any, output: Path, schema: Any, compression: str) -> None:
        self._arrow = arrow
        self._writer = arrow.parquet.ParquetWriter(output, schema, compression=compression)
        self._batches: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, batch: Any) -> None:
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(self._arrow.Table.from_batches(self._batches), row_group_size=self._rows or None)
        self._batches, self._rows, self._bytes = [], 0, 0


def _read_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
