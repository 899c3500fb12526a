"""Examines all faulty rows of a table together, and says what they are or what corrects all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from textclf.data.tables.column_names import plain_name
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.opening import AnyTable
from textclf.data.tables.table import Row

_ROWS_EXAMINED = 2000

_LAST_ROWS = 5

_ROWS_TO_JUDGE = 20

_OTHER_QUOTES = "“„«‘‚`´"


@dataclass
class FaultyRows:
    """The rows with one kind of fault: their number, the first row, and what they have in common.

    Only the row numbers need memory that grows with the number of rows.
    """

    first: Row
    numbers: list[int] = field(default_factory=list)
    _examined: list[list[str]] = field(default_factory=list)
    _last: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.numbers.append(row.number)
        if len(self._examined) < _ROWS_EXAMINED:
            self._examined.append([cell[:80] for cell in row.fields[:100]])
        self._last = [*self._last[1 - _LAST_ROWS :], row._replace(fields=row.fields[:1], raw="")]

    def remedy(self, table: AnyTable, rows: int, last_row: int) -> str | None:
        """Returns the remedy that corrects all these rows, or None if the remedy of the first row is enough.

        `rows` is the number of all rows of the table that are not blank, `last_row` the number of its last row.
        """
        fault = self.first.fault
        assert fault is not None
        if fault.kind != "fields":
            return None
        if isinstance(table, RecordTable) or not table.has_header:
            return None
        columns = len(table.columns)
        if headers := self._other_headers(table):
            return (
                f"row {headers[0]} looks like the header of another table: tables with different columns were joined; "
                "give them the same columns, then join them again"
            )
        if len(self.first.fields) > columns:
            return self._remedy_for_long(table, rows)
        return self._remedy_for_short(table, last_row)

    def _other_headers(self, table: AnyTable) -> list[int]:
        names = {plain_name(table.columns[index]) for index in table.columns_asked_for}
        if not names or len(table.columns) < 2:
            return []
        rows = zip(self.numbers, self._examined, strict=False)
        return [number for number, cells in rows if names <= {plain_name(cell) for cell in cells}]

    def _remedy_for_long(self, table: AnyTable, rows: int) -> str:
        columns, delimiter = len(table.columns), table.dialect.delimiter
        quotes = [mark for mark in _OTHER_QUOTES if self._share_with_quotes(mark) > 0.5]
        if quotes:
            mark = quotes[0]
            return (
                f"most of these rows have quotation marks of another kind ({mark}) around fields: replace them with "
                'straight ones (")'
            )
        firsts = [cells[0] for cells in self._examined]
        one_more = self._share(lambda cells: len(cells) == columns + 1) > 0.95
        if len(self.numbers) == rows and one_more and len(set(firsts)) == len(firsts):
            header = delimiter.join(["row", *table.columns])
            return (
                "every row of the file has one field more than the header: if the first field of each row is a row name, "
                f"as R writes it, give it a name in the header (`{header}`); if it is text that holds the delimiter, put "
                "the text in quotation marks"
            )
        share = f"{len(self.numbers):,} of {rows:,} rows are so: " if len(self.numbers) > 1 else ""
        return (
            f"{share}put fields that hold the delimiter in quotation marks, or write the table with another delimiter, "
            "such as a tab (spreadsheets and pandas add the quotation marks when they write CSV)"
        )

    def _remedy_for_short(self, table: AnyTable, last_row: int) -> str | None:
        if self.numbers[0] > last_row - _LAST_ROWS:
            return "if this is a summary at the end of the table and no data, delete it; otherwise add what is missing"
        if self._share(lambda cells: len(cells) == 1) > 0.5:
            lines = "most of these lines hold" if len(self.numbers) > 1 else "this line holds"
            they = "they are" if len(self.numbers) > 1 else "it is"
            parts = "parts" if len(self.numbers) > 1 else "part"
            return (
                f"{lines} no delimiter: if {they} {parts} of a text with line breaks, put the whole text "
                f"in quotation marks; if {they} no data, delete {'them' if len(self.numbers) > 1 else 'it'}"
            )
        return None

    def _share(self, condition: Callable[[list[str]], bool]) -> float:
        return sum(map(condition, self._examined)) / len(self._examined)

    def _share_with_quotes(self, mark: str) -> float:
        return self._share(lambda cells: any(cell.startswith(mark) for cell in cells))


def lone_labels(labels: Sequence[str]) -> set[str]:
    """Returns the labels that occur once, if there are few of them: their rows may not be data."""
    counts = Counter(labels)
    once = {label for label, count in counts.items() if count == 1}
    return once if len(labels) >= _ROWS_TO_JUDGE and len(once) <= 2 and len(counts) - len(once) > 1 else set()
