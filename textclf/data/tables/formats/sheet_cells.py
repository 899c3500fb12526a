"""Reads the cells of a sheet of an Excel workbook row by row, with the parser of openpyxl.

Takes an open sheet and yields the number and the values of each row. A cell that shows an error, or whose formula has no
stored value, is an `OddCell`, so that it is not taken for a text or for an empty cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

LAST_ROW = 1_048_576
"""The number of rows of a sheet in Excel."""

LAST_COLUMN = 16_384


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
