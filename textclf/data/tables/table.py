"""Reads delimited text as spreadsheets, pandas, Spark, R and databases write it, and yields its rows in order.

Memory does not grow with the file. A row that cannot be read correctly is yielded with its fault: training refuses such
rows, and a batch job writes them unchanged. Values are text exactly as it is written; nothing becomes a number or
missing. `Table.notes` describes what differs from a plain CSV, such as titles above the header.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import os
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol

from textclf.data.tables.arriving import ArrivingLines
from textclf.data.tables.column_names import column_letter, listed, matching_columns, meant_column, visible
from textclf.data.tables.dialect import DELIMITERS, Layout, Sample, find_layout
from textclf.data.tables.encoding import Evidence
from textclf.data.tables.lines import Dialect, Fault, FaultKind, Feed, parse
from textclf.data.tables.other_formats import binary_format, text_format
from textclf.errors import DataError
from textclf.files.locations import Location

__all__ = ["Dialect", "Fault", "FaultKind", "Note", "Row", "RowPlace", "Table", "open_table", "shown_path"]

LONGEST_ROW = 1 << 24
"""The longest row in characters.

A longer row has probably lost its closing quote, and memory would grow with the file.
"""

SAMPLE = 1 << 18
"""The delimiter, the header and the encoding are detected from this many characters at the start of a table."""

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark has the same first bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_PEEKED = 4096

_UNDECODABLE = re.compile("[\udc80-\udcff]")
"""The characters that the error handler `surrogateescape` writes for bytes that are not in the encoding."""


class Row(NamedTuple):
    """One row of a table.

    `number` is the spreadsheet's (the first row of the file is row 1, a line break inside quotes does not count),
    `line` the physical line on which the row starts, `raw` its text in the file with the line end: encoded with the
    table's encoding and `surrogateescape` it gives the file's bytes. Of a row with a fault, `fields` is only what could
    be made of it. Without a fault there may still be fewer fields than columns, or more: cells that are missing at the
    end are empty, those beyond the last column are, too. `record` has the values with their types, if they have any.
    """

    number: int
    line: int
    fields: list[str]
    raw: str
    fault: Fault | None
    record: Record | None = None


class Record(Protocol):
    """The values of a row of a table that is not delimited text: `size` bytes in memory beside the row's `raw`."""

    size: int

    def values(self) -> Sequence[Any]:
        """Returns the value of each column with its type, such as an int, None for an empty cell."""


class RowPlace(NamedTuple):
    """Where a row begins: its first byte in the file, its number and line as in `Row`, and the `credit` of the feed there."""

    start: int
    number: int
    line: int
    credit: int


class Note(NamedTuple):
    """A difference from a plain CSV: a kind to search for, a sentence, and the numbers of the rows."""

    kind: str
    message: str
    rows: tuple[int, ...] = ()


class Table:
    """An open table. `columns` is available at once; iterate over the table once for its rows. `open_table` makes it.

    `above_header` is the raw text of titles and blank lines above the header (without a line such as `sep=;`, which is
    `separator_line`). `notes` are the differences that were detected when the table was opened.
    """

    def __init__(
        self,
        name: str,
        feed: Feed,
        layout: Layout,
        evidence: Evidence,
        close: Callable[[], object],
        columns: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.encoding = feed.encoding
        self.dialect = layout.dialect
        self.separator_line = feed.separator_line
        self.above_header = ""
        self.notes: list[Note] = []
        self._layout = layout
        self._evidence = evidence
        self._close = close
        self._header_names: list[str] = []
        self._longest_header = -1
        self.counts_positions = False
        """Whether rows are numbered by position from 0, as those of a table in memory; set it before they are read."""
        self.columns_asked_for: list[int] = []
        self._last_needed = 0
        self._width = 0
        self.has_header = not columns
        self._feed = feed
        self._rows = self._numbered(feed)
        self.header = self._given_header(feed, columns) if columns else self._read_header(feed)
        self.columns = tuple(self.header.fields)

    def __iter__(self) -> Iterator[Row]:
        """Yields the rows after the header, including faulty and blank rows."""
        return map(_at_position, self._rows) if self.counts_positions else self._rows

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def row_places(self, size_of: Callable[[str], int], mark: int) -> Iterator[RowPlace]:
        """Reads all rows. Yields where each begins, and at last where the next one would begin.

        `size_of` returns the bytes of a text in the file, which begins with `mark` bytes that are not text.
        """
        start = mark + size_of(self.separator_line + self.above_header + (self.header.raw if self.has_header else ""))
        credit = self._feed.credit
        for row in self._rows:
            yield RowPlace(start, row.number, row.line, credit)
            start += size_of(row.raw)
            credit = self._feed.credit
        yield RowPlace(start, 0, 0, credit)

    def select(self, stream: BinaryIO, place: RowPlace, rows: int) -> None:
        """Makes the table yield only this many rows from this place on. `stream` begins there, and is left open."""
        self._feed = feed_at(stream, self.encoding, self.name, place.credit)
        self._rows = islice(self._numbered(self._feed, place.number, place.line), rows)

    @property
    def is_live(self) -> bool:
        return self._feed.arriving is not None

    def stop(self) -> None:
        """Stops reading ahead in a live table. The stream stays open."""
        if self._feed.arriving is not None:
            self._feed.arriving.close()

    def waits(self, seconds: float) -> bool:
        """Returns whether the next row of a live table does not begin within this time; never for one that is not live."""
        return self._feed.waits(seconds)

    def column(self, name: str, wanted_by: str) -> int:
        """Returns the index of a column, 0 for the first; spaces around its name do not matter.

        Ask for every column before the rows are read: cells behind the last of them may be missing in a row.
        `wanted_by` says in messages where the name comes from, such as a key of the recipe or an option.
        Raises DataError when there is none or more than one of this name.
        """
        found = matching_columns(name, self.columns)
        if len(found) == 1:
            self.columns_asked_for.append(found[0])
            self._last_needed = max(self.columns_asked_for)
            return found[0]
        if found:
            places = " and ".join(column_letter(index) for index in found)
            raise DataError(
                f"{self.name}: {len(found)} columns ({places}) are called `{visible(name)}` ({wanted_by}); "
                "rename all but one"
            )
        raise DataError(
            f"{self.name}: there is no column `{visible(name)}` ({wanted_by}); the columns are {listed(self.columns)}; "
            f"{self._remedy_for_missing(name)}"
        )

    def _remedy_for_missing(self, name: str) -> str:
        meant = meant_column(name, self.columns)
        if self._layout.names_below is not None:
            number = self._layout.names_below + 1
            return (
                f"row {number} holds these names, but the rows above it could be data: move row {number} to the top, or "
                "delete the rows above it"
            )
        if len(self.columns) == 1 and any(delimiter in self.columns[0] for delimiter in DELIMITERS):
            if self._header_is_quoted:
                return (
                    "each line is in quotation marks as a whole, so it is read as one field; remove the quotation marks "
                    'at the beginning and end of each line, and write "" inside the lines as "'
                )
            return f"the delimiter {self.dialect.delimiter!r} does not separate them: name the right one, or none"
        if meant:
            column, difference = meant
            return f"did you mean `{visible(column)}`?" + (f" ({difference})" if difference else "")
        return "name one of these; if they are not names but a first row of data, add a header row to the file"

    def _given_header(self, feed: Feed, columns: Sequence[str]) -> Row:
        """Returns the header of a table whose first row is already a row."""
        feed.end_header()
        self._header_names = [_plain_cell(name) for name in columns]
        self._longest_header = sum(map(len, columns)) + 4 * len(columns) + 8
        self._header_is_quoted = False
        self._width = len(columns)
        self._last_needed = self._width - 1
        mark, delimiter = self.dialect.quote, self.dialect.delimiter
        written = [
            f"{mark}{name.replace(mark, mark * 2)}{mark}" if mark in name or delimiter in name else name
            for name in columns
        ]
        return Row(0, 0, list(columns), delimiter.join(written) + "\n", None)

    def _read_header(self, feed: Feed) -> Row:
        above: list[Row] = []
        for header in self._rows:
            wanted = self._layout.header
            if header.number > wanted if wanted is not None else header.fault is None or header.fault.kind != "blank":
                break
            above.append(header)
        else:
            raise DataError(f"{self.name}: the file has no rows; it needs a header row with the names of the columns")
        if header.fault:
            raise DataError(self._message_for_header(header))
        feed.end_header()
        self.above_header = "".join(row.raw for row in above)
        titles = [row for row in above if row.fault is None or row.fault.kind != "blank"]
        names = [field.lstrip("\ufeff") for field in header.fields] if self._layout.row_names else header.fields
        self._header_names = [_plain_cell(name) for name in names]
        self._longest_header = len(header.raw) + 8
        self._header_is_quoted = header.raw.lstrip("\ufeff").startswith(self.dialect.quote)
        self._note_layout(header, titles)
        if self._layout.row_names:
            header = header._replace(fields=["", *header.fields])
        self._width = len(header.fields)
        self._last_needed = self._width - 1
        return header

    def _message_for_header(self, header: Row) -> str:
        assert header.fault is not None
        if header.fault.kind == "nul":
            return f"{self.name}: the header holds NUL characters, so this is not {self.encoding} text; " + (
                f"set the file's encoding (perhaps {wide}), or save it as CSV with UTF-8"
                if (wide := _wide_encoding(header.raw))
                else "it is perhaps no text at all; export the table as CSV with UTF-8"
            )
        return f"{self.name}: row {header.number} (the header) {header.fault.message}"

    def _note_layout(self, header: Row, titles: Sequence[Row]) -> None:
        dialect = self.dialect
        if titles:
            first, last = titles[0].number, titles[-1].number
            rows = f"row {first}" if first == last else f"rows {first} to {last}"
            shown = visible(titles[0].raw.strip().strip('"'))
            message = f"{self.name}: {rows} above the header (row {header.number}) left out: `{shown}`"
            self.notes.append(Note("title_lines", message, tuple(row.number for row in titles)))
        if dialect.quote == "'":
            message = f"{self.name}: single quotation marks (') around fields are read as quotation marks"
            self.notes.append(Note("single_quotes", message))
        if dialect.delimiter not in DELIMITERS and self._layout.is_detected:
            message = f"{self.name}: the columns are separated by `{visible(dialect.delimiter)}`"
            self.notes.append(Note("unusual_delimiter", message))
        if self._layout.row_names:
            message = (
                f"{self.name}: each row begins with a number for which the header has no name, as R writes row names; "
                "the names of the header belong to the fields behind it"
            )
            self.notes.append(Note("row_names", message))
        if header.raw.startswith("\ufeff"):
            message = f"{self.name}: begins with more than one byte order mark; they are left out"
            self.notes.append(Note("byte_order_marks", message))

    def _numbered(self, feed: Feed, first: int = 1, line: int = 1) -> Iterator[Row]:
        line += bool(feed.separator_line)
        rows = parse(feed, self.dialect, LONGEST_ROW)
        for number, (fields, raw, lines, quoting_fault) in enumerate(rows, start=first):
            fault = quoting_fault
            # Most rows need no closer check.
            if fault is None and (
                len(fields) != self._width
                or len(raw) <= self._longest_header
                or not raw.isascii()
                or "\0" in raw
                or not any(fields)
                or raw.isspace()
            ):
                fault = self._fault(fields, raw)
            yield Row(number, line, fields, raw, fault)
            line += lines

    def _fault(self, fields: list[str], raw: str) -> Fault | None:
        """Returns the fault of a row whose quotes match."""
        if not any(fields) or raw.isspace():
            return Fault("blank", "is blank")
        if "\0" in raw:
            return Fault("nul", _NUL_MESSAGE)
        if not raw.isascii() and (undecodable := _UNDECODABLE.search(raw)):
            return Fault("encoding", self._encoding_message(ord(undecodable[0]) - 0xDC00))
        if len(raw) <= self._longest_header and self._repeats_header(fields):
            return Fault("header", "repeats the header; delete this row")
        if raw.startswith("\x1a") and raw.strip() == "\x1a":
            return Fault("end_mark", "is the end-of-file mark of DOS (Ctrl-Z); delete it")
        count, expected = len(fields), self._width
        if expected and count != expected and (any(fields[expected:]) or count <= self._last_needed):
            return Fault("fields", _fields_message(count, expected, self.has_header))
        return None

    def _repeats_header(self, fields: list[str]) -> bool:
        own, names = [_plain_cell(field) for field in fields], self._header_names
        while len(own) > len(names) and not own[-1]:
            own.pop()
        return own == names or (len(names) > 1 and [n.casefold() for n in own] == [n.casefold() for n in names])

    def _encoding_message(self, byte: int) -> str:
        return (
            f"holds the byte 0x{byte:02x}, which is not {self.encoding.removesuffix('-sig')}; {self._encoding_remedy}"
        )

    @cached_property
    def _encoding_remedy(self) -> str:
        """This is decided once, from the first lines of the file: a batch job writes rows before it has seen all
        others."""
        if self._evidence.is_mixed:
            return f"other rows are {self.encoding.removesuffix('-sig')}: correct this row"
        verdict = self._evidence.verdict()
        if verdict is None or self.encoding == "utf-8-sig":
            return "set the file's encoding, or save it as CSV with UTF-8"
        return (
            f"set the file's encoding ({verdict.encoding} fits the first rows: `{verdict.example}`), "
            "or save it as CSV with UTF-8"
        )


def open_table(
    source: str | os.PathLike[str] | BinaryIO,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    wanted: Sequence[str] = (),
    name: str | None = None,
    live: bool = False,
    columns: Sequence[str] = (),
) -> Table:
    """Open a table: a path, or a binary stream that is read forwards only (and is left open).

    Without a `delimiter` the one of `,` `;` tab `|` is taken that gives the `wanted` columns, then the one that cuts
    the rows most evenly; if none does, the text between their names in the header. The header is the first row that is
    not blank, or one with the `wanted` columns below title lines. A byte order mark goes before `encoding`. `name` is
    the name of the table in messages. For a `live` stream, whose rows arrive over time, all this is detected from the
    first rows that arrive. With `columns`, the names of all columns, the table has no header: its first row is row 1.

    Raises DataError when the file cannot be opened, is empty, is not text, is in another format or plainly in another
    encoding, or has no readable header.
    """
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    name = name or (shown_path(path) if path else str(getattr(source, "name", "the input")))
    stream = _open_file(path, name) if path else typing.cast("BinaryIO", source)
    close = stream.close if path else lambda: None
    try:
        feed = open_feed(stream, encoding, name, live)
        lines, is_whole = feed.look_ahead(SAMPLE)
        given = re.fullmatch(r'\ufeff*"?sep=(.)"?[\r\n]*', next(iter(lines), ""), re.IGNORECASE)
        if given:  # Excel's own way of naming the delimiter; the line is not a row
            feed.take_separator_line()
            lines, delimiter = lines[1:], delimiter or given[1]
        layout = find_layout(Sample(lines, is_whole), delimiter, () if columns else wanted)
        if columns:
            layout = Layout(layout.dialect, is_detected=layout.is_detected)
        evidence = _evidence(lines, feed.encoding)
        _check_encoding(evidence, name)
        _check_format(lines, name, layout, wanted)
        return Table(name, feed, layout, evidence, close, columns)
    except BaseException:
        close()
        raise


def _at_position(row: Row) -> Row:
    return row._replace(number=row.number - 2, line=row.number - 2)


def shown_path(path: Path) -> str:
    """Returns a path for messages: relative if it is inside the current directory. An address has no secret part."""
    if isinstance(path, Location):
        return str(path)
    with suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def first_undecodable_byte(stream: BinaryIO, encoding: str) -> int | None:
    """Returns the offset (from 0) of the first byte of a stream that is not in the encoding; None when all are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    while True:
        chunk = stream.read(1 << 20)
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # The decoder prepends what it kept of the previous chunk.
            return offset - (len(error.object) - len(chunk)) + error.start
        if not chunk:
            return None
        offset += len(chunk)


# --- Opening ---------------------------------------------------------------------------------------------------------
def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file; {_similar_file(path)}") from None
    except IsADirectoryError:
        raise DataError(f"{name}: this is a folder; name a table in it{_tables_in(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name}: cannot be read ({reason}); check the path and its permissions") from None


def _similar_file(path: Path) -> str:
    try:
        siblings = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return f"there is no folder {path.parent} either: check the path"
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {shown_path(path.parent / near[0])}?" if near else f"check the path{_tables_in(path.parent)}"


def _tables_in(folder: Path) -> str:
    tables = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in (".csv", ".tsv", ".txt"))
    return f" (there are {', '.join(tables[:5])})" if tables else ""


def open_text(stream: BinaryIO, encoding: str, name: str) -> tuple[io.TextIOWrapper, str]:
    """Returns the characters of a stream and their encoding. Raises DataError if it is empty or is not text.

    A byte order mark goes before `encoding`. Bytes that are not in the encoding become surrogates. Line ends are kept.
    """
    buffered = io.BufferedReader(_Forwards(stream), 1 << 16)
    try:
        start = buffered.peek(_PEEKED)[:_PEEKED]
    except (OSError, EOFError) as error:
        raise DataError(f"{name}: reading stopped ({error}); check the disk, or the stream's other end") from None
    if not start:
        raise DataError(f"{name}: the file is empty; it needs a header row with the names of the columns, and rows")
    if found := binary_format(start):
        raise DataError(f"{name}: this is {found[0]}, not delimited text; {found[1]}")
    encoding = next((codec for mark, codec in BYTE_ORDER_MARKS if start.startswith(mark)), encoding)
    # Line ends are kept: inside quotes they belong to the values.
    return io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline=""), encoding


def open_feed(stream: BinaryIO, encoding: str, name: str, live: bool) -> Feed:
    """Returns the lines of a stream, as `open_text` reads it."""
    text, encoding = open_text(stream, encoding, name)
    csv.field_size_limit(max(csv.field_size_limit(), 2 * LONGEST_ROW))
    readline = ArrivingLines(text.readline, LONGEST_ROW + 1) if live else text.readline
    return Feed(readline, name, encoding, LONGEST_ROW, LONGEST_ROW)


def feed_at(stream: BinaryIO, encoding: str, name: str, credit: int) -> Feed:
    """Returns the lines of a stream that begins at a row behind the header of a table."""
    # There, a byte order mark is an ordinary character.
    codec = "utf-8" if encoding == "utf-8-sig" else encoding
    buffered = io.BufferedReader(_Forwards(stream), 1 << 16)
    text = io.TextIOWrapper(buffered, codec, errors="surrogateescape", newline="")
    csv.field_size_limit(max(csv.field_size_limit(), 2 * LONGEST_ROW))
    feed = Feed(text.readline, name, encoding, LONGEST_ROW, credit)
    feed.end_header()
    return feed


def _evidence(lines: Sequence[str], encoding: str) -> Evidence:
    """Returns the evidence of the first lines about the encoding."""
    evidence = Evidence(encoding)
    if not encoding.lower().startswith("utf-8") or any(
        not line.isascii() and _UNDECODABLE.search(line) for line in lines
    ):
        for line in lines:
            evidence.add(line)
    return evidence


def _check_encoding(evidence: Evidence, name: str) -> None:
    doubt = evidence.doubt()
    if doubt is None or doubt.encoding != "utf-8" or evidence.undecodable:
        return
    garbled = doubt.example.encode("utf-8").decode(evidence.encoding, "replace")
    raise DataError(
        f"{name}: is UTF-8, not {evidence.encoding}: `{doubt.example}` would be read as `{garbled}`; "
        "set the encoding to utf-8 (dataset.encoding, --encoding), and convert files that are not UTF-8"
    )


def _check_format(lines: Sequence[str], name: str, layout: Layout, wanted: Sequence[str]) -> None:
    """Raises DataError for text in another format, such as JSON, unless it has the wanted columns."""
    if found := text_format(lines, name, has_columns=bool(wanted) and layout.found_all):
        raise DataError(f"{name}: this is {found[0]}, not delimited text; {found[1]}")


class _Forwards(io.RawIOBase):
    """A stream that is read and never closed, whatever becomes of the readers around it."""

    def __init__(self, stream: BinaryIO) -> None:
        # `readinto1` gives what is there; `readinto` of a pipe may wait until the buffer is full.
        self._readinto: Callable[[Any], int | None] = getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._readinto(buffer)


# --- Messages --------------------------------------------------------------------------------------------------------
_NUL_MESSAGE = "holds a NUL character; remove it, or set the file's encoding if it is not the right one"


def _fields_message(found: int, expected: int, has_header: bool) -> str:
    fields = "1 field" if found == 1 else f"{found} fields"
    header = "1 column" if expected == 1 else f"{expected} columns"
    if not has_header:
        return f"has {fields}, but {header} are named (dataset.columns, --columns); name all columns of the file"
    remedy = "put fields that hold the delimiter in quotation marks" if found > expected else "add what is missing"
    return f"has {fields}, but the header has {header}; {remedy}"


def _plain_cell(cell: str) -> str:
    """Returns a cell normalised to compare it with the header: without a byte order mark, quotation marks and spaces
    around it."""
    return cell.lstrip("\ufeff").strip().strip("\"'").strip()


def _wide_encoding(raw: str) -> str | None:
    """Returns which encoding of two or four bytes a character has NUL characters in these places, or None if this is not
    text."""
    written = [character for character in raw[:400] if character != "\0"]
    if not written or sum(map(_is_text, written)) < 0.9 * len(written):
        return None
    places = [index for index, character in enumerate(raw[:400]) if character == "\0"]
    if len(places) > 0.9 * len(raw[:400]):
        return None
    if len(places) > 0.6 * len(raw[:400]):
        return "utf-32-le" if places[0] else "utf-32-be"
    return "utf-16-le" if sum(index % 2 for index in places) * 2 > len(places) else "utf-16-be"


def _is_text(character: str) -> bool:
    return character.isprintable() or character in "\t\r\n"
