"""What all tables that are not delimited text have in common. They look like `Table` to whoever reads their rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from textclf.data.half_characters import first_half
from textclf.data.tables.column_names import listed, matching_columns, meant_column, visible
from textclf.data.tables.lines import Dialect
from textclf.data.tables.table import LONGEST_ROW, Fault, Note, Row
from textclf.errors import DataError

NO_TEXT_DIALECT = Dialect("\x1f")
"""The dialect of a table that is not delimited text. No output has it, so that rows are written from their fields."""

NUL_MESSAGE = "holds a NUL character; remove it"


class FileRow(int):
    """The number of a row of one of several files. In messages it also names the file: `3 of b.csv`."""

    shown: str

    @classmethod
    def of(cls, number: int, shown: str) -> FileRow:
        row = cls(number)
        row.shown = shown
        return row

    def __str__(self) -> str:
        return self.shown


class ListCell(str):
    """A cell that holds a list: its text is the list as JSON, and `values` are its elements."""

    values: Sequence[Any]

    @classmethod
    def of(cls, values: Sequence[Any]) -> ListCell:
        cell = cls(json_text(values))
        cell.values = values
        return cell


class RecordTable:
    """An open table. Iterate over it once for its rows.

    `what` is its format for messages. `reads_others`: set it to False, before the rows are read, if only the columns
    that were asked for are needed. `texts_of_others`: set it to True if `Row.fields` must contain every column.
    `columns_of_lists`: the places of the columns in which a list is no fault but a `ListCell`. `counts_positions`: as in
    `Table`.
    """

    what = "a table"
    encoding = "utf-8"
    dialect = NO_TEXT_DIALECT
    separator_line = ""
    above_header = ""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.header = Row(0, 0, list(columns), json.dumps(list(columns)), None)
        self.notes: list[Note] = []
        self.columns_asked_for: list[int] = []
        self.counts_positions = False
        self.reads_others = True
        self.texts_of_others = False
        self.columns_of_lists: Collection[int] = ()

    def __iter__(self) -> Iterator[Row]:
        raise NotImplementedError

    @property
    def is_live(self) -> bool:
        return False

    def stop(self) -> None:
        """Stops reading ahead in a live table."""

    def waits(self, seconds: float) -> bool:
        """Returns whether the next row of a live table does not begin within this time."""
        return False

    def column(self, name: str, wanted_by: str) -> int:
        """Returns the index of a column, as `Table.column` does."""
        found = matching_columns(name, self.columns)
        if len(found) == 1:
            self.columns_asked_for.append(found[0])
            return found[0]
        if found:
            raise DataError(
                f"{self.name}: {len(found)} columns are called `{visible(name)}` ({wanted_by}); rename all but one"
            )
        remedy = self._remedy_for_missing(name)
        raise DataError(
            f"{self.name}: there is no {self._column_word} `{visible(name)}` ({wanted_by}); the {self._column_word}s "
            f"are {listed(self.columns)}; {remedy}"
        )

    _column_word = "column"

    def _remedy_for_missing(self, name: str) -> str:
        if (meant := meant_column(name, self.columns)) is None:
            return "name one of these"
        column, difference = meant
        return f"did you mean `{visible(column)}`?" + (f" ({difference})" if difference else "")

    def _fault_of(self, fields: Sequence[str]) -> Fault | None:
        """Returns what is wrong with the texts of the columns that were asked for."""
        for column in self.columns_asked_for:
            if (fault := fault_of_text(fields[column], self.columns[column])) is not None:
                return fault
        return None


def fault_of_text(text: str, column: str) -> Fault | None:
    if isinstance(text, ListCell) and any("\0" in value for value in text.values if isinstance(value, str)):
        return Fault("nul", NUL_MESSAGE)
    if len(text) > LONGEST_ROW:
        return Fault("length", f"is longer than {LONGEST_ROW:,} characters in `{visible(column)}`; shorten it")
    if "\0" in text:
        return Fault("nul", NUL_MESSAGE)
    if (what := no_text_in(text)) is not None:
        return Fault("type", f"holds {what} in `{visible(column)}`; write the text again")
    return None


def no_text_in(text: str) -> str | None:
    """Returns what in a text is no character, as it is called in messages; None if there is nothing."""
    if (place := first_half(text)) is None:
        return None
    half = ord(text[place])
    return "bytes that are not UTF-8" if 0xDC80 <= half <= 0xDCFF else f"half of a character (U+{half:04X})"


def json_text(value: Any) -> str:
    """Returns a nested value as JSON in one line."""
    return json.dumps(value, ensure_ascii=False, default=str)
