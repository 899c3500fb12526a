"""Reads a sheet of an Excel workbook (.xlsx) as a table, with openpyxl and row by row.

Row numbers are those of the sheet. A cell has the text that Excel writes to a CSV, without number formats: `5`, `1.5`, `TRUE`,
`2024-05-01`. Of a formula the value is read that Excel has stored; nothing is computed. Of merged cells, the first has the
value; hidden rows and columns are read. A workbook is a zip archive of XML
files: their size and their beginning are checked before they are unpacked.
"""

from __future__ import annotations

import datetime
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from textclf import extras
from textclf.data.tables.column_names import column_letter, listed, plain_name, visible
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.formats.sheet_cells import LAST_ROW, OddCell, TooManyRowsError, cells_of, open_book
from textclf.data.tables.table import Fault, Note, Row
from textclf.errors import DataError

# openpyxl keeps the texts of all sheets in memory; the sheets themselves are read as a stream.
_LARGEST_PART, _LARGEST_SHEET = 1 << 29, 1 << 33

# The most that a part of more than this many bytes may be larger than in the archive.
_UNSUSPICIOUS, _HIGHEST_RATIO = 1 << 26, 250

_MOST_PARTS = 10_000

# How a part begins: an XML declaration, comments, the root element. A document type could define entities.
_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^<>]*\?>\s*)?(?:<!--.*?-->\s*)*<[A-Za-z]", re.DOTALL)

_BEGINNING_BYTES = 1 << 14

_ROWS_WITH_HEADER = 50

_log = logging.getLogger(__name__)


def openpyxl_module() -> Any:
    """Returns openpyxl. Raises MissingPackageError if it is not installed."""
    extras.require("openpyxl", "to read and write Excel workbooks")
    import openpyxl

    # It warns of styles and validations that it leaves out; they are no part of a table.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\.")
    return openpyxl


class SheetRecord:
    """The cells of a row with their types."""

    __slots__ = ("_cells", "size")

    def __init__(self, cells: Sequence[Any]) -> None:
        self._cells = cells
        self.size = 0  # counted with the row's text

    def values(self) -> Sequence[Any]:
        return self._cells


class SheetTable(RecordTable):
    """A sheet of a workbook: the one called `sheet`, or the first that is visible.

    The header is the first row with a cell, or a row below titles with all `wanted` columns; with `columns` there is no
    header. Raises DataError for a workbook that cannot be read, and for a sheet that does not exist or is empty.
    """

    what = "an Excel workbook"

    def __init__(
        self, name: str, path: Path, sheet: str | None, wanted: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> None:
        self._error_name = name
        _check_parts(name, path)
        openpyxl_module()
        try:
            self._book = open_book(path)
        except MemoryError:
            raise
        except Exception as error:  # openpyxl raises many kinds for a damaged file
            raise self._damaged(error) from None
        self._sheet = self._chosen(sheet)
        self._first_odd: OddCell | None = None
        self._odd_count = 0
        self._rows = self._cells()
        above: list[tuple[int, list[Any]]] = []
        if columns:
            names, self._header_row = list(columns), 0
        else:
            names, self._header_row, above = self._read_header(wanted)
        super().__init__(name, names)
        self.header = self.header._replace(number=self._header_row, line=self._header_row)
        self._add_notes(sheet, above)

    def __iter__(self) -> Iterator[Row]:
        for number, cells in self._rows:
            yield self._row(number, cells)
        first, count = self._first_odd, self._odd_count
        if first is not None and self.reads_others:
            _log.warning(
                "%s: %s in cell %s%s, in a column that is not used; it is written as %s",
                self.name,
                first.what,
                first.place,
                f" and {count - 1:,} other cells like it" if count > 1 else "",
                f"`{first}`" if first else "an empty cell",
            )

    @property
    def other_sheets(self) -> list[str]:
        """The names of the sheets that are not read, charts included."""
        return [name for name in self._book.sheetnames if name != self._sheet.title]

    def close(self) -> None:
        self._book.close()

    def _row(self, number: int, cells: list[Any]) -> Row:
        width = len(self.columns)
        raw = ascii(cells)
        texts = [_text(cell) for cell in cells]
        fields = [*texts[:width], *[""] * (width - len(texts))]
        fault = None
        if not any(texts) and not any(isinstance(cell, OddCell) for cell in cells):
            return Row(number, number, [], "", Fault("blank", "is blank"), SheetRecord([None] * width))
        if any(texts[width:]):
            place = next(index for index in range(width, len(texts)) if texts[index])
            fault = Fault(
                "type",
                f"has a cell outside of the table (column {column_letter(place)}); give its column a name in the header, or "
                "delete the cell",
            )
        elif self._header_row and [plain_name(text) for text in fields] == [plain_name(name) for name in self.columns]:
            fault = Fault("header", "repeats the header; delete this row")
        cells = [*cells[:width], *[None] * (width - len(cells))]
        fault = fault or self._fault_of_odd(cells) or self._fault_of(fields)
        return Row(number, number, fields, raw, fault, SheetRecord(cells))

    def _fault_of_odd(self, cells: Sequence[Any]) -> Fault | None:
        """Returns the fault of a cell without a value in the columns that were asked for, and remembers the others."""
        fault = None
        for column, cell in enumerate(cells):
            if not isinstance(cell, OddCell):
                continue
            if column not in self.columns_asked_for:
                self._odd_count += 1
                self._first_odd = cell if self._first_odd is None else self._first_odd
            elif fault is None:
                message = f"has {cell.what} in `{visible(self.columns[column])}` (cell {cell.place}); {cell.remedy}"
                fault = Fault("type", message)
        return fault

    def _chosen(self, sheet: str | None) -> Any:
        sheets = [one for one in self._book.worksheets if hasattr(one, "iter_rows")]
        titles = [one.title for one in sheets]
        if sheet is not None:
            found = [one for one in sheets if one.title == sheet] or [
                one for one in sheets if plain_name(one.title).casefold() == plain_name(sheet).casefold()
            ]
            if not found:
                raise DataError(
                    f"{self._error_name}: there is no sheet `{visible(sheet)}` (dataset.sheet, --sheet); the sheets are "
                    f"{listed(titles)}; name one of these"
                )
            return found[0]
        shown = [one for one in sheets if one.sheet_state == "visible"]
        if not shown:
            raise DataError(f"{self._error_name}: the workbook has no visible sheet with cells; name a sheet with rows")
        return shown[0]

    def _cells(self) -> Iterator[tuple[int, list[Any]]]:
        """Yields the number and the cells of each row, without empty cells at the end."""
        number = 0
        try:
            for number, cells in cells_of(self._sheet):
                yield number, cells
        except TooManyRowsError:
            raise DataError(
                f"{self._error_name}: sheet `{visible(self._sheet.title)}` has rows below row {LAST_ROW:,}, the last that "
                "Excel knows; write it again"
            ) from None
        except (DataError, MemoryError, GeneratorExit):
            raise
        except Exception as error:
            raise self._damaged(error, number) from None

    def _read_header(self, wanted: Sequence[str]) -> tuple[list[str], int, list[tuple[int, list[Any]]]]:
        ahead = list(islice(self._rows, _ROWS_WITH_HEADER))
        names = {plain_name(name) for name in wanted}
        filled = [place for place, (_, cells) in enumerate(ahead) if cells]
        if not filled:
            raise DataError(
                f"{self._error_name}: sheet `{visible(self._sheet.title)}` has no cells at its beginning; it needs a header "
                "row with the names of the columns, or name another sheet in dataset.sheet (--sheet); the sheets are "
                f"{listed([one.title for one in self._book.worksheets])}"
            )
        with_names = [
            place for place in filled if names and names <= {plain_name(_text(cell)) for cell in ahead[place][1]}
        ]
        header = (with_names or filled)[0]
        number, cells = ahead[header]
        self._rows = chain(ahead[header + 1 :], self._rows)
        return [_text(cell) for cell in cells], number, [row for row in ahead[:header] if row[1]]

    def _add_notes(self, sheet: str | None, above: Sequence[tuple[int, list[Any]]]) -> None:
        others = [one.title for one in self._book.worksheets if one.title != self._sheet.title]
        if sheet is None and others:
            message = (
                f"{self.name}: the sheet `{visible(self._sheet.title)}` is read, and not {listed(others)}; set dataset.sheet "
                "(--sheet) to choose another"
            )
            self.notes.append(Note("sheet", message))
        if above:
            numbers = tuple(number for number, _ in above)
            rows = f"row {numbers[0]}" if len(numbers) == 1 else f"rows {numbers[0]} to {numbers[-1]}"
            shown = visible(" ".join(filter(None, map(_text, above[0][1]))))
            message = f"{self.name}: {rows} above the header (row {self.header.number}) left out: `{shown}`"
            self.notes.append(Note("title_lines", message, numbers))

    def _damaged(self, error: BaseException, number: int = 0) -> DataError:
        where = f" below row {number:,}" if number else ""
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return DataError(
            f"{self._error_name}: the workbook cannot be read{where} ({reason}); open it in a spreadsheet program and save "
            "it again as .xlsx, or as CSV (UTF-8)"
        )


def is_workbook(path: Path) -> bool:
    """Returns whether a zip archive is an Excel workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return path.suffix.lower() == ".xlsx"  # a damaged one


def _check_parts(name: str, path: Path) -> None:
    """Raises DataError for an archive that is damaged, or that would need far more memory than its size suggests."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if len(parts) > _MOST_PARTS:
                raise DataError(
                    f"{name}: the workbook has {len(parts):,} parts; save it again as .xlsx, or as CSV (UTF-8)"
                )
            for part in parts:
                if part.filename.endswith((".xml", ".rels")):
                    _check_part(name, archive, part)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataError(
            f"{name}: the workbook cannot be read ({error}); make or fetch the file again, without a password"
        ) from None


def _check_part(name: str, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    largest = _LARGEST_SHEET if part.filename.startswith("xl/worksheets/") else _LARGEST_PART
    ratio = part.file_size / max(1, part.compress_size)
    if part.file_size > largest or (part.file_size > _UNSUSPICIOUS and ratio > _HIGHEST_RATIO):
        raise DataError(
            f"{name}: {part.filename} in the workbook unpacks to {part.file_size:,} bytes, {ratio:,.0f} times its size in the "
            "file, so it is not read; if the file is trusted, save the sheet as CSV (UTF-8)"
        )
    with archive.open(part) as file:
        beginning = file.read(_BEGINNING_BYTES)
    if beginning and not _BEGINNING.match(beginning):
        raise DataError(
            f"{name}: {part.filename} in the workbook does not begin as spreadsheet programs write it (a document type could "
            "define entities), so it is not read; save the sheet as CSV (UTF-8)"
        )


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime.datetime):
        return str(cell.date() if cell.time() == datetime.time() else cell)
    return str(cell)
