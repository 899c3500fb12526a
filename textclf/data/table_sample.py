"""Takes the path of a table and returns rows spread evenly over it, as `open_table` reads them, and how many there are.

All rows are read, and a bounded number is kept, so that a sorted file shows all its parts and memory does not grow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from textclf.data.multi_label.label_sets import kind_of_element
from textclf.data.reading import FileReader, encoding_errors
from textclf.data.tables.column_names import matching_columns
from textclf.data.tables.encoding import Evidence
from textclf.data.tables.files import open_input
from textclf.data.tables.formats.records import ListCell, RecordTable
from textclf.data.tables.opening import ReadOptions, open_any
from textclf.data.tables.table import BYTE_ORDER_MARKS, shown_path
from textclf.errors import DataError
from textclf.files.copies import local_copies

ROWS_KEPT = 20_000

# From this many bytes at the start of a file its encoding is detected. The header must be readable before its rows are.
_START = 1 << 20


@dataclass(frozen=True)
class TableSample:
    """Rows of a table.

    `rows` are the fields of at most ROWS_KEPT rows without a fault, each as long as `columns`, in the order of the file;
    `numbers` are their spreadsheet numbers. `total` is the number of such rows in the file. `encoding` is the one in
    which all rows can be read. `left_out` is the number of rows with a fault, such as missing cells. `sheet` and
    `named_columns` are those with which it was read. `lists` are the places of the columns with a list of texts in each cell
    that is not empty.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    numbers: list[int]
    total: int
    delimiter: str
    encoding: str
    left_out: int
    sheet: str | None = None
    named_columns: tuple[str, ...] = ()
    lists: frozenset[int] = frozenset()

    @property
    def shown(self) -> str:
        return shown_path(self.path)

    @property
    def is_whole(self) -> bool:
        return len(self.rows) == self.total

    def cells(self, column: int) -> list[str]:
        return [row[column] for row in self.rows]


@local_copies()
def sample_table(
    path: Path, wanted: Sequence[str] = (), sheet: str | None = None, columns: tuple[str, ...] = ()
) -> TableSample:
    """Reads a table, plain or compressed. `sheet` is that of a workbook, `columns` the names of a table without a header.

    The columns `wanted` help to find its header and delimiter, and rows without cells behind the last of them have no
    fault.

    A file that is not UTF-8 is read in the encoding that is detected from its rows. Raises DataError for a file that
    cannot be read, that is not a table, or that has no rows.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise DataError(f"{shown_path(path)}: not a regular file, but it is read more than once; save it to a file")
    encoding = _encoding_of_start(path) or "utf-8"
    sample, reader = _read(path, encoding, wanted, sheet, columns)
    if reader.undecodable is not None:
        verdict = reader.evidence.verdict()
        if verdict is None or reader.evidence.encoding == "utf-8-sig":
            raise DataError("\n".join(encoding_errors([reader])))
        sample, reader = _read(path, verdict.encoding, wanted, sheet, columns)
    if not sample.rows:
        errors = reader.errors()
        if errors and not wanted:
            errors.append(
                "If the names of the columns are further below in the file, name the columns with --text and --label"
            )
        raise DataError("\n".join(errors) or f"{sample.shown}: no rows below the header; add rows")
    return sample


def _encoding_of_start(path: Path) -> str | None:
    """Returns the encoding of a file that is not UTF-8, or None if its start does not show it."""
    evidence = Evidence("utf-8")
    with suppress(OSError), open_input(path) as file:
        start = file.stream.read(_START)
        if not start.startswith(tuple(mark for mark, _ in BYTE_ORDER_MARKS)):
            lines = start.split(b"\n")
            for line in lines[:-1] if len(start) == _START else lines:  # the last one may end inside a character
                evidence.add(line.decode("utf-8", "surrogateescape"))
    verdict = evidence.verdict() if evidence.undecodable else None
    return verdict.encoding if verdict else None


def _read(
    path: Path, encoding: str, wanted: Sequence[str], sheet: str | None, columns: tuple[str, ...]
) -> tuple[TableSample, FileReader]:
    rows: list[list[str]] = []
    numbers: list[int] = []
    step, total = 1, 0
    options = ReadOptions(None, encoding, sheet, columns)
    with open_any(path, options, wanted, shown_path(path)) as (table, _):
        if isinstance(table, RecordTable):
            table.texts_of_others = True
            table.columns_of_lists = range(len(table.columns))
        reader = FileReader(table, path, "dataset.train")
        width = len(table.columns)
        for name in wanted:
            if len(matching_columns(name, table.columns)) == 1:
                table.column(name, "dataset.text")
        for row in reader:
            if total % step == 0:
                rows.append(row.fields[:width])
                numbers.append(row.number)
                if len(rows) > ROWS_KEPT:
                    del rows[1::2], numbers[1::2]
                    step *= 2
            total += 1
    delimiter = table.dialect.delimiter
    lists = frozenset(index for index in range(width) if _holds_lists([row[index] for row in rows]))
    return TableSample(
        path, table.columns, rows, numbers, total, delimiter, encoding, reader.left_out, sheet, columns, lists
    ), reader


def _holds_lists(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(
        isinstance(cell, ListCell) and all(kind_of_element(value) is None for value in cell.values) for cell in filled
    )
