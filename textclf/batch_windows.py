"""The inputs of a batch job as one sequence of windows: files in, chunks of rows with all that is needed to write them.

Which rows stand in which window depends on the inputs alone, so that a resumed job meets the same windows again.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from textclf.batch_files import STANDARD_STREAM, InputFile, is_pipe, open_input, plain_suffix
from textclf.batch_rows import ERROR_COLUMN, TableLayout, extended
from textclf.errors import DataError
from textclf.tables import Dialect, Row, Table, open_table

# Windows begin small, so that results come at once, and grow to where a change of the interpreters' shape costs little.
_FIRST_WINDOW_ROWS = 64
_WINDOW_ROWS = 4096
_WINDOW_CHARACTERS = 1 << 22

# How a file that begins with such a mark is written again.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark begins alike
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Encodings that would put a mark before every window.
_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


@dataclass(frozen=True)
class TableOptions:
    """How inputs are read: columns by name, `label_column` only where it is to be compared.

    `text_wanted_by` says in messages where the names of the text columns come from. Without a `delimiter` it is found.
    """

    text_columns: tuple[str, ...]
    text_wanted_by: str
    label_column: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Window:
    """Some rows of one input, in order.

    `header` is what stands before them in the output: empty but for the first window, which has no rows. `digest` is of
    everything read up to the window's end, `position` the bytes of the input files read by then.
    """

    number: int
    name: str
    rows: Sequence[Row]
    layout: TableLayout
    codec: str
    header: bytes
    digest: str
    position: int


def read_windows(
    paths: Sequence[str],
    options: TableOptions,
    *,
    target: str = "",
    added: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Iterator[Window]:
    """The rows of all inputs. `added` are the columns that the output `target` will have besides, `labels` their values.

    Raises DataError for what cannot be read, for inputs that do not fit together, and for columns that are there already.
    """
    _check_that_inputs_fit(paths, options, target)
    digest = hashlib.blake2b(digest_size=16)
    number = position = 0
    first: _Opened | None = None
    for path in paths:
        with open_input(path) as file:
            opened = _Opened(file, options, target)
            if first is None:
                _check_added(opened, added, labels)
                digest.update(_digestible(opened.table.header))
                yield Window(0, file.name, (), opened.layout, opened.codec, opened.header(added), digest.hexdigest(), 0)
                first = opened
            layout = opened.layout_like(first)
            for rows in _grouped(opened.table, number):
                number += 1
                digest.update(b"".join(map(_digestible, rows)))
                yield Window(
                    number, file.name, rows, layout, first.codec, b"", digest.hexdigest(), position + file.position
                )
            position += file.position


def _check_that_inputs_fit(paths: Sequence[str], options: TableOptions, target: str) -> None:
    """Raises DataError now rather than hours later for a file that does not fit to the first; pipes are read only once."""
    files = [path for path in paths if path != STANDARD_STREAM and not is_pipe(path)]
    first: _Opened | None = None
    for path in files if len(files) > 1 else ():
        with open_input(path) as file:
            opened = _Opened(file, options, target)
            first = first or opened
            opened.layout_like(first)


def encoded(text: str, codec: str) -> bytes:
    """Text as bytes; bytes that could not be decoded become themselves again."""
    try:
        return text.encode(codec, "surrogateescape")
    except UnicodeEncodeError:
        # Only what is no text in its own encoding comes here, and it is marked as an error already.
        return text.encode(codec, "replace")


def _digestible(row: Row) -> bytes:
    return row.raw.encode("utf-8", "surrogatepass")


def _grouped(table: Table, windows_before: int) -> Iterator[list[Row]]:
    number = windows_before
    rows: list[Row] = []
    characters = 0
    for row in table:
        rows.append(row)
        characters += len(row.raw)
        if len(rows) >= min(_FIRST_WINDOW_ROWS << min(number, 16), _WINDOW_ROWS) or characters >= _WINDOW_CHARACTERS:
            yield rows
            number += 1
            rows, characters = [], 0
    if rows:
        yield rows


class _Opened:
    """One input's table, and how it is written again."""

    def __init__(self, file: InputFile, options: TableOptions, target: str) -> None:
        self.table = open_table(file.stream, options.delimiter, options.encoding, _wanted(options), file.name)
        self.mark, self.codec = _codec(self.table.encoding, file.start)
        self.layout = _layout(self.table, options, target)

    def header(self, added: Sequence[str]) -> bytes:
        header = self.table.header
        # A line `sep=;` before it is no row, but spreadsheets need it.
        separator = f"sep={self.layout.target.delimiter}{self.layout.line_end}" if self.table.separator_line else ""
        text = separator + self.table.above_header + (extended(header, added, self.layout) if added else header.raw)
        return self.mark + encoded(text, self.codec)

    def layout_like(self, first: _Opened) -> TableLayout:
        """The layout for writing behind the first table's rows; raises DataError where that cannot be."""
        if self.table.columns != first.table.columns:
            raise DataError(
                f"{self.table.name}: has the columns {_names(self.table)}, but {first.table.name} has "
                f"{_names(first.table)}; inputs of one output need the same columns in the same order"
            )
        if self.codec != first.codec:
            raise DataError(
                f"{self.table.name}: is {self.codec}, but {first.table.name} is {first.codec}; "
                "inputs of one output need the same encoding: convert one, or classify it alone"
            )
        own, others = self.layout, first.layout
        return TableLayout(own.source, others.target, own.width, own.text_columns, own.label_column, others.line_end)


def _wanted(options: TableOptions) -> list[str]:
    return [*options.text_columns, *([options.label_column] if options.label_column else [])]


def _codec(encoding: str, start: bytes) -> tuple[bytes, str]:
    """The byte order mark of an output and the encoding of what follows it."""
    for mark, codec in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return mark, codec
    name = codecs.lookup(encoding).name
    return b"", _WITHOUT_MARK.get(name, name)


def _layout(table: Table, options: TableOptions, target: str) -> TableLayout:
    if not options.text_columns:
        raise DataError(
            f"{table.name}: the model does not say which column holds its text; name it with --text, "
            f"there are {_names(table)}"
        )
    label_column = options.label_column
    header = table.header.raw
    return TableLayout(
        source=table.dialect,
        target=_target_dialect(table, options.delimiter, plain_suffix(target)),
        width=len(table.columns),
        text_columns=tuple(table.column(name, options.text_wanted_by) for name in options.text_columns),
        label_column=None if label_column is None else table.column(label_column, "the true label; see --label"),
        line_end=header[len(header.rstrip("\r\n")) :] or "\n",
    )


def _target_dialect(table: Table, given: str | None, suffix: str) -> Dialect:
    """As the table is written, unless the output's name says otherwise or the table has no delimiter of its own."""
    own = table.dialect
    if suffix == ".tsv":
        delimiter = "\t"
    elif (len(table.columns) == 1 and given is None) or (suffix == ".csv" and own.delimiter == "\t"):
        delimiter = ","
    else:
        delimiter = own.delimiter
    return own if delimiter == own.delimiter else Dialect(delimiter)


def _check_added(opened: _Opened, added: Sequence[str], labels: Sequence[str]) -> None:
    table = opened.table
    taken = [name for name in added if name in table.columns]
    if taken:
        otherwise = ", or use --strict, which needs none" if taken == [ERROR_COLUMN] else ""
        raise DataError(f"{table.name}: has a column `{taken[0]}` already; rename or remove it{otherwise}")
    for label in labels:
        try:
            label.encode(opened.codec)
        except UnicodeEncodeError:
            raise DataError(
                f"{table.name}: is {opened.codec}, in which the label `{label}` cannot be written; convert it to UTF-8"
            ) from None


def _names(table: Table) -> str:
    shown = ", ".join(f"`{column}`" for column in table.columns[:20])
    return f"{shown} and {len(table.columns) - 20} more" if len(table.columns) > 20 else shown
