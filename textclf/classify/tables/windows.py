"""Reads the inputs of a batch job as a sequence of windows: chunks of rows with everything that is needed to write
them.

The windows depend only on the inputs, so that a resumed job reads the same windows again.
"""

from __future__ import annotations

import codecs
import hashlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from textclf.classify.tables.forms import OutputForm, form_of, is_delimited
from textclf.classify.tables.rows import TableLayout, extended
from textclf.data.tables.column_names import listed
from textclf.data.tables.files import STANDARD_STREAM, InputFile, is_pipe, is_same_file, plain_suffix
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.formats.text_folder import TextFolder
from textclf.data.tables.formats.workbook import SheetTable
from textclf.data.tables.frames import FrameTable
from textclf.data.tables.opening import AnyTable, ReadOptions, open_any
from textclf.data.tables.parts import TablePart, find_parts, selected
from textclf.data.tables.table import Dialect, Row
from textclf.errors import DataError, RunError
from textclf.files.locations import Location

_log = logging.getLogger(__name__)

# Windows start small, so that results come at once, and grow until changes of the interpreters' shape cost little.
FIRST_WINDOW_ROWS = 64

WINDOW_ROWS = 4096

_WINDOW_CHARACTERS = 1 << 22

# For an input whose rows arrive over time: the pause (seconds) that ends a window, and the longest wait of a row.
_PAUSE = 0.05

_LONGEST_WAIT = 0.3

# How a file that begins with such a mark is written again.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark has the same first bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Encodings that would put a mark before every window.
_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


# What `surrogateescape` makes of bytes that are not in the encoding.
_UNDECODED = re.compile("([\udc80-\udcff]+)")


class WindowSize(NamedTuple):
    """The most rows of the first window, which doubles from window to window up to `rows`, and the characters at which a
    window ends."""

    first_rows: int
    rows: int
    characters: int


@dataclass(frozen=True)
class TableOptions:
    """How inputs are read: columns by name, and `label_column` only if true labels are compared.

    With `label_lists`, its cells may be lists of labels. `flag_columns` are, in place of it, a column of 0 and 1 for each label
    of the model.

    `text_wanted_by` says in messages where the names of the text columns come from. Without a `delimiter` it is
    detected. `sheet` is that of workbooks, `columns` the names of all columns of tables without a header.
    """

    text_columns: tuple[str, ...]
    text_wanted_by: str
    label_column: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    sheet: str | None = None
    columns: tuple[str, ...] = ()
    label_lists: bool = False
    flag_columns: tuple[str, ...] = ()

    @property
    def reading(self) -> ReadOptions:
        return ReadOptions(self.delimiter, self.encoding, self.sheet, self.columns)

    @property
    def wanted(self) -> list[str]:
        """The columns that are needed, the label last."""
        return [*self.text_columns, *self.flag_columns, *([self.label_column] if self.label_column else [])]


@dataclass(frozen=True)
class Window:
    """Some rows of one input, in order.

    `header` is what is written before them in the output: empty but for the first window, which has no rows. `digest`
    is of everything read up to the window's end, `position` the bytes of the input files read by then.
    `is_last_for_now`: the next row has not arrived yet, so that these should not wait for it.
    """

    number: int
    name: str
    rows: Sequence[Row]
    layout: TableLayout
    codec: str
    header: bytes
    digest: str
    position: int
    is_last_for_now: bool = False


def read_windows(
    paths: Sequence[str | Path | FrameTable],
    options: TableOptions,
    *,
    target: str = "",
    added: Sequence[str] = (),
    labels: Sequence[str] = (),
    rows_done: int = 0,
    size: WindowSize | None = None,
) -> Iterator[Window]:
    """The rows of all inputs. `added` are the columns that the output `target` will have besides, `labels` their
    values.

    A window ends after `rows_done` rows, the rows of an earlier run. Raises DataError for inputs that cannot
    be read or do not match, and for columns that already exist.
    """
    size = size or WindowSize(FIRST_WINDOW_ROWS, WINDOW_ROWS, _WINDOW_CHARACTERS)
    columns = columns_of_all(paths, options, target)
    digest = hashlib.blake2b(digest_size=16)
    number = position = rows_read = 0
    first: _Opened | None = None
    for path in paths:
        with _opened(path, options, target) as opened:
            if first is None:
                opened.append_columns(columns)
                _check_added(opened, added, labels)
                digest.update(opened.header_row())
                yield _header_window(opened, added, digest.hexdigest())
                first = opened
            opened.log_notes(is_first=first is opened)
            layout = replace(opened.layout_like(first), form=opened.form(first, added))
            for rows, is_last_for_now in _grouped(opened.table, number, rows_done - rows_read, size):
                number += 1
                rows_read += len(rows)
                digest.update(b"".join(map(_digestible, rows)))
                place = position + opened.position
                yield Window(
                    number,
                    opened.table.name,
                    rows,
                    layout,
                    first.codec,
                    b"",
                    digest.hexdigest(),
                    place,
                    is_last_for_now,
                )
            position += opened.position


@dataclass(frozen=True)
class Partition:
    """Some rows of a job's inputs: a part of the file `path`. `number` is its place among all partitions, from 0."""

    number: int
    path: str | Location
    part: TablePart


def read_partition(
    partition: Partition,
    first_path: str | Location,
    columns: Sequence[str],
    options: TableOptions,
    *,
    target: str,
    added: Sequence[str] = (),
    labels: Sequence[str] = (),
    size: WindowSize | None = None,
) -> Iterator[Window]:
    """Yields the rows of one partition as `read_windows` yields those of all inputs, of which `first_path` is the first.

    `columns` are the `columns_of_all` inputs. Raises DataError for a file that has changed since it was divided.
    """
    size = size or WindowSize(FIRST_WINDOW_ROWS, WINDOW_ROWS, _WINDOW_CHARACTERS)
    with ExitStack() as stack:
        first = opened = stack.enter_context(_opened(first_path, options, target))
        first.append_columns(columns)
        _check_added(first, added, labels)
        yield _header_window(first, added, "")
        if partition.path != first_path:
            opened = stack.enter_context(_opened(partition.path, options, target))
        layout = replace(opened.layout_like(first), form=opened.form(first, added))
        stack.enter_context(selected(partition.path, opened.table, partition.part))
        for number, (rows, _) in enumerate(_grouped(opened.table, 0, 0, size), start=1):
            yield Window(number, opened.table.name, rows, layout, first.codec, b"", "", opened.position)


def check_output(
    first_path: str | Location,
    columns: Sequence[str],
    options: TableOptions,
    *,
    target: str,
    added: Sequence[str],
    labels: Sequence[str],
) -> None:
    """Raises DataError where `read_partition` would refuse every partition, because a column exists already or a label cannot
    be written."""
    with _opened(first_path, options, target) as first:
        first.append_columns(columns)
        _check_added(first, added, labels)


def parts_of(path: str | Location, options: TableOptions, rows_a_part: int) -> list[TablePart]:
    """Returns the parts of an input, as `find_parts` does."""
    return find_parts(path, options.reading, options.wanted, rows_a_part)


def check_in_place(paths: Sequence[str | Path], options: TableOptions, target: str) -> None:
    """Raises RunError where the output replaces an input workbook that has more than the rows of the output."""
    for path in paths:
        if not (path.address == target if isinstance(path, Location) else is_same_file(path, target)):
            continue
        with _opened(path, options, target) as opened:
            if isinstance(opened.table, SheetTable) and (lost := _not_written(opened.table)):
                raise RunError(
                    f"{opened.table.name}: is an input and would be replaced by the output, which has only the rows of one "
                    f"sheet: {lost} would be lost; name another output"
                )


def _not_written(table: SheetTable) -> str:
    parts = [f"the sheets {listed(table.other_sheets)}"] if table.other_sheets else []
    parts += ["the rows above the header"] * any(note.kind == "title_lines" for note in table.notes)
    return " and ".join(parts)


def columns_of_all(paths: Sequence[str | Path | FrameTable], options: TableOptions, target: str) -> list[str]:
    """Returns the columns of the output's rows: the first input's, then what others have besides; none if there is one
    input.

    Raises DataError now rather than hours later for a file that does not fit to the first. Pipes can be read only once,
    so that they must have the columns of the files.
    """
    files = [path for path in paths if isinstance(path, FrameTable) or (path != STANDARD_STREAM and not is_pipe(path))]
    first: _Opened | None = None
    for path in files if len(paths) > 1 else ():
        with _opened(path, options, target) as opened:
            if first is None:
                first = opened
            elif len(files) == len(paths):
                first.append_columns(opened.table.columns)
            opened.layout_like(first)
            opened.form(first, ())
    return first.columns if first is not None else []


def _header_window(opened: _Opened, added: Sequence[str], digest: str) -> Window:
    return Window(0, opened.table.name, (), opened.layout, opened.codec, opened.header(added), digest, 0)


def encoded(text: str, codec: str) -> bytes:
    """Returns text as bytes; bytes that could not be decoded become themselves again, and a character that the encoding does not
    have becomes a question mark."""
    try:
        return text.encode(codec, "surrogateescape")
    except UnicodeEncodeError:
        return b"".join(_encoded_part(part, codec) for part in _UNDECODED.split(text))


def _encoded_part(part: str, codec: str) -> bytes:
    if _UNDECODED.fullmatch(part) and len(part) % len("?".encode(codec)) == 0:
        return part.encode("ascii", "surrogateescape")
    return part.encode(codec, "replace")


def _digestible(row: Row) -> bytes:
    return row.raw.encode("utf-8", "surrogatepass")


def _grouped(
    table: AnyTable, windows_before: int, rows_done: int, size: WindowSize
) -> Iterator[tuple[list[Row], bool]]:
    """The rows of windows, and whether the next row has not arrived."""
    number = windows_before
    rows: list[Row] = []
    characters = 0
    begun, is_live = 0.0, table.is_live
    for rows_read, row in enumerate(table, start=1):
        if is_live and not rows:
            begun = time.monotonic()
        rows.append(row)
        characters += len(row.raw) + (row.record.size if row.record is not None else 0)
        pauses = is_live and (table.waits(_PAUSE) or time.monotonic() - begun > _LONGEST_WAIT)
        is_full = len(rows) >= min(size.first_rows << min(number, 16), size.rows) or characters >= size.characters
        if pauses or is_full or rows_read == rows_done:
            yield rows, pauses
            number += 1
            rows, characters = [], 0
    if rows:
        yield rows, False


@contextmanager
def _opened(path: str | Path | FrameTable, options: TableOptions, target: str) -> Iterator[_Opened]:
    with open_any(path, options.reading, options.wanted) as (table, file):
        if isinstance(table, TextFolder) and len(options.text_columns) != 1:
            raise DataError(f"{table.name}: a folder of text files has one text in each row, but the model reads two")
        if options.sheet is not None and not isinstance(table, SheetTable):
            raise DataError(
                f"{table.name}: is not an Excel workbook, but a sheet is named (--sheet); leave that out, or classify this input "
                "alone"
            )
        if isinstance(table, RecordTable):
            table.reads_others = table.texts_of_others = bool(target)
        yield _Opened(table, file, options, target)


class _Opened:
    """An input's table, and how it is written. `columns` are the columns of the output without the added columns."""

    def __init__(self, table: AnyTable, file: InputFile | None, options: TableOptions, target: str) -> None:
        self.table = table
        self._file = file
        self._target = target
        self.mark, self.codec = b"", "utf-8"
        if is_delimited(target, table):
            self.mark, self.codec = _codec(table.encoding, b"" if file is None else file.start)
        self.layout = _layout(table, options, target)
        self.columns = list(table.columns)

    @property
    def position(self) -> int:
        return 0 if self._file is None else self._file.position

    def log_notes(self, *, is_first: bool) -> None:
        """Logs what of the input is not read or, where there is an output, not written."""
        writes_titles = is_first and self.table.above_header != "" and is_delimited(self._target, self.table)
        for note in self.table.notes:
            if note.kind in ("sheet", "other_files") or (
                note.kind == "title_lines" and self._target and not writes_titles
            ):
                _log.warning("%s", note.message.replace("dataset.sheet", "sheet"))

    def append_columns(self, names: Sequence[str]) -> None:
        self.columns += [name for name in names if name not in self.columns]
        self.layout = replace(self.layout, output_width=len(self.columns))

    def header_row(self) -> bytes:
        """Returns what a resumed job compares."""
        more = self.columns[len(self.table.columns) :]
        return _digestible(self.table.header) + "".join(f"\n{name}" for name in more).encode("utf-8", "surrogatepass")

    def form(self, first: _Opened, added: Sequence[str]) -> OutputForm | None:
        """Returns how the rows are written behind those of the first table, if not as delimited text."""
        form = form_of(self._target, self.table, first.table, added)
        if form is not None:
            form.check_fits(first.table)
            form.columns = first.columns
        return form

    def header(self, added: Sequence[str]) -> bytes:
        form = self.form(self, added)
        if form is not None:
            return form.header().encode()
        header = self.table.header
        # A line `sep=;` before the header is not a row, but spreadsheets need it.
        separator = f"sep={self.layout.target.delimiter}{self.layout.line_end}" if self.table.separator_line else ""
        more = [*self.columns[len(self.table.columns) :], *added]
        own_layout = replace(self.layout, output_width=self.layout.width)
        text = separator + self.table.above_header + (extended(header, more, own_layout) if more else header.raw)
        return self.mark + encoded(text, self.codec)

    def layout_like(self, first: _Opened) -> TableLayout:
        """Returns the layout for writing behind the first table's rows; raises DataError where that cannot be."""
        places = self._places(first)
        if self.codec != first.codec:
            raise DataError(
                f"{self.table.name}: is {self.codec}, but {first.table.name} is {first.codec}; "
                "inputs of one output need the same encoding: convert one, or classify it alone"
            )
        return replace(
            self.layout,
            target=first.layout.target,
            line_end=first.layout.line_end,
            output_width=len(first.columns),
            places=None if places == tuple(range(len(places))) else places,
        )

    def _places(self, first: _Opened) -> tuple[int, ...]:
        """Returns where this table's columns are in the output.

        One of the inputs may have more columns than another.
        """
        own = self.table.columns
        if own == first.table.columns:
            return tuple(range(len(own)))
        places = tuple(first.columns.index(name) for name in own if name in first.columns)
        common = [place for place in places if place < len(first.table.columns)]
        repeated = len(set(own)) < len(own) or len(set(first.columns)) < len(first.columns)
        if len(places) < len(own) or repeated or not common or common != sorted(common):
            raise DataError(
                f"{self.table.name}: has the columns {_names(self.table)}, but {first.table.name} has "
                f"{_names(first.table)}; inputs of one output need columns in the same order (files, but not pipes, may "
                "have some more than others)"
            )
        return places


def _codec(encoding: str, start: bytes) -> tuple[bytes, str]:
    """Returns the byte order mark of an output and the encoding of what follows it."""
    for mark, codec in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return mark, codec
    name = codecs.lookup(encoding).name
    return b"", _WITHOUT_MARK.get(name, name)


def _layout(table: AnyTable, options: TableOptions, target: str) -> TableLayout:
    if not options.text_columns:
        raise DataError(
            f"{table.name}: the model does not say which column holds its text; name it in text_columns (--text), "
            f"there are {_names(table)}"
        )
    header, true_label = table.header.raw, "the true label, label_column (--label)"
    text_columns = tuple(table.column(name, options.text_wanted_by) for name in options.text_columns)
    label_column = None if options.label_column is None else table.column(options.label_column, true_label)
    if options.label_lists and label_column is not None and isinstance(table, RecordTable):
        table.columns_of_lists = (label_column,)
    return TableLayout(
        source=table.dialect,
        target=_target_dialect(table, options.delimiter, plain_suffix(target)),
        width=len(table.columns),
        text_columns=text_columns,
        label_column=label_column,
        flag_columns=tuple(
            table.column(name, f"{true_label}; each label of the model has one") for name in options.flag_columns
        ),
        line_end=header[len(header.rstrip("\r\n")) :] or "\n",
        output_width=len(table.columns),
        name=table.name,
    )


def _target_dialect(table: AnyTable, given: str | None, suffix: str) -> Dialect:
    """Returns the dialect of the table, unless the output's name requires another one or the table has no delimiter."""
    own = table.dialect
    if isinstance(table, RecordTable):
        return Dialect("\t" if suffix == ".tsv" else given or ",")
    if suffix == ".tsv":
        delimiter = "\t"
    elif (len(table.columns) == 1 and given is None) or (suffix == ".csv" and own.delimiter == "\t"):
        delimiter = ","
    else:
        delimiter = own.delimiter
    return own if delimiter == own.delimiter else Dialect(delimiter)


def _check_added(opened: _Opened, added: Sequence[str], labels: Sequence[str]) -> None:
    table = opened.table
    taken = [name for name in added if name in opened.columns]
    if taken:
        raise DataError(
            f"{table.name}: has a column `{taken[0]}` already; put a prefix before the added columns with "
            "column_prefix (--prefix), or rename or remove that one"
        )
    for name in added:
        try:
            name.encode(opened.codec)
        except UnicodeEncodeError:
            raise DataError(
                f"{table.name}: is {opened.codec}, in which the column `{name}` cannot be written; convert it to UTF-8"
            ) from None
    for label in labels:
        try:
            label.encode(opened.codec)
        except UnicodeEncodeError:
            raise DataError(
                f"{table.name}: is {opened.codec}, in which the label `{label}` cannot be written; convert it to UTF-8"
            ) from None


def _names(table: AnyTable) -> str:
    shown = ", ".join(f"`{column}`" for column in table.columns[:20])
    return f"{shown} and {len(table.columns) - 20} more" if len(table.columns) > 20 else shown
