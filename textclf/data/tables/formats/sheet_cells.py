"""Reads the cells of a sheet of an Excel workbook row by row, with the parser of openpyxl.

Takes an open sheet and yields the number and the values of each row. A cell that shows an error, or whose formula has no
stored value, is an `OddCell`, so that it is not taken for a text or for an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

LAST_ROW = 1_048_576
"""The number of rows of a sheet in Excel."""

LAST_COLUMN = 16_384

# XML has a carriage return, but every reader makes a line feed of it.
_NOT_IN_XML = "\x00-\x08\x0b-\x1f\ufffe\uffff"

# A character that is written as `_x000D_` (ST_Xstring of ECMA-376, part 1, 22.9.2.19), or the beginning of a text that would be
# read as such a character.
_TO_ESCAPE = re.compile(f"[{_NOT_IN_XML}]|_(?=x[0-9A-Fa-f]{{4}}[_{_NOT_IN_XML}])")

# Halves of characters stay as they are written.
_ESCAPED = re.compile("_x(?![Dd][89A-Fa-f])([0-9A-Fa-f]{4})_")


class OddCell(str):
    """The text of a cell that has no value to read: `#N/A`, or nothing. `place` is the cell, such as B5."""

    what: str
    remedy: str
    place: str

    @classmethod
    def of(cls, text: str, place: str, what: str, remedy: str) -> OddCell:
        cell = cls(text)
        cell.place, cell.what, cell.remedy = place, what, remedy
        return cell


class TooManyRowsError(ValueError):
    """A row below the last that Excel knows."""


def text_in_sheet(text: str) -> str:
    """Returns a text as a workbook stores it: with the characters that XML does not have as `_xFFFF_`."""
    return _TO_ESCAPE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)


def _text_of(stored: str) -> str:
    """Returns a text that a workbook stores."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), stored) if "_x" in stored else stored


def open_book(path: Path) -> Any:
    """Returns a workbook of openpyxl whose sheets are read as a stream. Raises errors of many kinds for a damaged file."""
    from openpyxl.reader.excel import ExcelReader
    from openpyxl.xml.constants import SHARED_STRINGS

    class Reader(ExcelReader):  # type: ignore[misc]
        def read_strings(self) -> None:
            if (part := self.package.find(SHARED_STRINGS)) is not None:
                with self.archive.open(part.PartName[1:]) as source:
                    self.shared_strings = list(_shared_strings(source))

    reader = Reader(path, read_only=True, data_only=True, keep_links=False)
    reader.read()
    return reader.wb


def _shared_strings(source: BinaryIO) -> Iterator[str]:
    """Yields the texts that the cells of all sheets share. openpyxl's own function returns `_x000D_` as it is written."""
    from openpyxl.cell.text import Text
    from openpyxl.xml.constants import SHEET_MAIN_NS
    from openpyxl.xml.functions import iterparse

    for _, element in iterparse(source):
        if element.tag == f"{{{SHEET_MAIN_NS}}}si":
            yield _text_of(Text.from_tree(element).content)
            element.clear()


def cells_of(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """Yields the number and the cells of each row, without empty cells at the end; a row that is left out is empty.

    Raises TooManyRowsError, and errors of many kinds for a damaged sheet.
    """
    number = 0
    book = sheet.parent
    with sheet._get_source() as source:
        parser = _parser_class()(
            source,
            sheet._shared_strings,
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,
            timedelta_formats=book._timedelta_formats,
        )
        for index, cells in parser.parse():
            if index <= number:
                raise ValueError(f"row {index:,} is behind row {number:,}")
            if index > LAST_ROW:
                raise TooManyRowsError
            yield from ((empty, []) for empty in range(number + 1, index))
            number = index
            yield number, _values(cells)


def _values(cells: Sequence[dict[str, Any]]) -> list[Any]:
    width = max((cell["column"] for cell in cells if not _is_empty(cell["value"])), default=0)
    if width > LAST_COLUMN:
        raise ValueError(f"a cell is in column {width:,}, but Excel has {LAST_COLUMN:,}")
    values: list[Any] = [None] * width
    for cell in cells:
        if cell["column"] <= width:
            values[cell["column"] - 1] = cell["value"]
    return values


def _is_empty(value: Any) -> bool:
    return value is None or (value == "" and not isinstance(value, OddCell))


def _parser_class() -> Any:
    from openpyxl.worksheet._reader import FORMULA_TAG, VALUE_TAG, WorkSheetParser

    class Parser(WorkSheetParser):  # type: ignore[misc]
        def parse_cell(self, element: Any) -> dict[str, Any]:
            cell: dict[str, Any] = super().parse_cell(element)
            if element.get("t") in ("inlineStr", "str") and isinstance(cell["value"], str):
                cell["value"] = _text_of(cell["value"])
            place = element.get("r") or f"row {self.row_counter}"
            # A formula whose value is an empty text is stored with `<v></v>` and the type of texts.
            if cell["value"] is None and element.find(FORMULA_TAG) is not None:
                if element.get("t") != "str" or element.find(VALUE_TAG) is None:
                    remedy = "open the workbook in a spreadsheet program and save it, or write the value"
                    cell["value"] = OddCell.of("", place, "a formula without a stored value", remedy)
            elif cell["data_type"] == "e":
                cell["value"] = OddCell.of(
                    str(cell["value"]), place, f"the error {cell['value']}", "correct the cell, or empty it"
                )
            return cell

    return Parser
