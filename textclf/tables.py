"""Delimited text as spreadsheets, pandas, Spark and databases write it: a file or stream in, rows out, one by one.

Memory does not grow with the file. A row that cannot be read right comes out too, with its fault: training refuses such
rows, a batch job passes them on. Values are text exactly as it is written; nothing becomes a number or missing.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import os
import re
import time
import typing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple

from textclf.arriving import ArrivingLines
from textclf.errors import DataError

LONGEST_ROW = 1 << 24
"""Characters. A row that goes on beyond this has lost its closing quote (or memory would grow with the file)."""

SAMPLE = 1 << 18
"""Characters from the start of a table by which its delimiter is found."""

# Of a live table: the pause (seconds) after which what has arrived is looked at, and how long it may take to arrive.
_PAUSE = 0.1
_LONGEST_LOOK = 0.5

DELIMITERS = (",", ";", "\t", "|")

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins alike
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

OTHER_FORMATS = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "save the sheet as CSV, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with unzstd"),
    (b"PAR1", "a Parquet file", "write it out as CSV"),
    (b"%PDF", "a PDF", "export the table as CSV"),
    (b"SQLite format 3", "a SQLite database", "export the table as CSV"),
    (b'{"', "JSON", "write it out as CSV"),
    (b"<!DOCTYPE", "a web page, perhaps in place of a download", "download the table itself"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file with git lfs pull"),
)

FaultKind = Literal["blank", "fields", "encoding", "quote", "nul", "length"]

_UNDECODABLE = re.compile("[\udc80-\udcff]")
"""What the error handler `surrogateescape` makes of bytes that are not in the encoding."""


class Fault(NamedTuple):
    """Why a row is not right: a kind to count by, and a message that follows "row 5"."""

    kind: FaultKind
    message: str


class Row(NamedTuple):
    """One row of a table.

    `number` is the spreadsheet's (the header is row 1, a line break inside quotes does not count), `line` the physical
    line on which the row starts, `raw` its text in the file with the line end: encoded with the table's encoding and
    `surrogateescape` it gives the file's bytes. Of a row with a fault, `fields` is only what could be made of it.
    """

    number: int
    line: int
    fields: list[str]
    raw: str
    fault: Fault | None


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Quotes inside quotes are doubled or, with `backslash`, escaped as Spark and MySQL do. Without `quotes` a quotation
    mark is a character like any other, as in many tab-separated files. `skip_space`: a space follows each delimiter.
    """

    delimiter: str
    quotes: bool = True
    backslash: bool = False
    skip_space: bool = False


class Table:
    """An open table: `columns` at once, rows when iterated over (once). Made by `open_table`; a context manager."""

    def __init__(self, name: str, feed: _Feed, dialect: Dialect, close: Callable[[], object]) -> None:
        self.name = name
        self.encoding = feed.encoding
        self.dialect = dialect
        self._close = close
        self._feed = feed
        self._rows = self._numbered(feed)
        self.header = self._read_header()
        self.columns = tuple(self.header.fields)

    def __iter__(self) -> Iterator[Row]:
        """The rows after the header, faulty and blank ones included."""
        return self._rows

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    @property
    def is_live(self) -> bool:
        return self._feed.arriving is not None

    def stop(self) -> None:
        """Ends reading ahead in a live table; the stream stays open."""
        if self._feed.arriving is not None:
            self._feed.arriving.close()

    def waits(self, seconds: float) -> bool:
        """Whether the next row of a live table does not begin within this time; never for one that is not live."""
        return self._feed.waits(seconds)

    def column(self, name: str, wanted_by: str) -> int:
        """The index of a column, 0 for the first; spaces around its name do not matter.

        `wanted_by` says in messages where the name comes from, such as a key of the recipe or an option.
        Raises DataError when there is none or more than one of this name.
        """
        found = [index for index, column in enumerate(self.columns) if column == name]
        found = found or [index for index, column in enumerate(self.columns) if column.strip() == name.strip()]
        if len(found) == 1:
            return found[0]
        if found:
            places = " and ".join(_column_letter(index) for index in found)
            raise DataError(
                f"{self.name}: {len(found)} columns ({places}) are called `{name}` ({wanted_by}); rename all but one"
            )
        near = difflib.get_close_matches(name.lower(), [column.lower() for column in self.columns], n=1)
        meant = [column for column in self.columns if near and column.lower() == near[0]]
        if len(self.columns) == 1 and any(delimiter in self.columns[0] for delimiter in DELIMITERS):
            remedy = f"the delimiter {self.dialect.delimiter!r} does not separate them: name the right one, or none"
        elif meant:
            remedy = f"did you mean `{meant[0]}`?"
        else:
            remedy = "name one of these; if they are not names but a first row of data, add a header row to the file"
        shown = ", ".join(f"`{_shortened(column)}`" for column in self.columns[:20])
        more = f" and {len(self.columns) - 20} more" if len(self.columns) > 20 else ""
        raise DataError(
            f"{self.name}: there is no column `{name}` ({wanted_by}); the columns are {shown}{more}; {remedy}"
        )

    def _read_header(self) -> Row:
        header = next((row for row in self._rows if row.fault is None or row.fault.kind != "blank"), None)
        if header is None:
            raise DataError(f"{self.name}: the file has no rows; it needs a header row with the names of the columns")
        if header.fault and header.fault.kind == "nul":
            raise DataError(
                f"{self.name}: the header holds NUL characters, so this is not {self.encoding} text; "
                "name the file's encoding (perhaps utf-16-le), or save it as CSV with UTF-8"
            )
        if header.fault:
            raise DataError(f"{self.name}: row {header.number} (the header) {header.fault.message}")
        return header

    def _numbered(self, feed: _Feed) -> Iterator[Row]:
        expected, line = None, 1 + feed.lines_before
        for number, (fields, raw, lines, quoting_fault) in enumerate(_parse(feed, self.dialect), start=1):
            fault = quoting_fault or self._fault(fields, raw, expected)
            yield Row(number, line, fields, raw, fault)
            expected = expected or (None if fault else len(fields))
            line += lines

    def _fault(self, fields: list[str], raw: str, expected: int | None) -> Fault | None:
        """What is wrong with a row whose quotes are right; the first row that has nothing wrong is the header."""
        if not any(fields) or raw.isspace():
            return Fault("blank", "is blank")
        if "\0" in raw:
            return Fault("nul", _NUL_MESSAGE)
        if not raw.isascii() and (undecodable := _UNDECODABLE.search(raw)):
            return Fault("encoding", _encoding_message(raw, ord(undecodable[0]) - 0xDC00, self.encoding))
        if expected is not None and len(fields) != expected:
            return Fault("fields", _fields_message(len(fields), expected))
        return None


def open_table(
    source: str | os.PathLike[str] | BinaryIO,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    wanted: Sequence[str] = (),
    name: str | None = None,
    live: bool = False,
) -> Table:
    """Open a table: a path, or a binary stream that is read forwards only (and is left open).

    Without a `delimiter` the one of `,` `;` tab `|` is taken that gives the `wanted` columns, then the one that cuts
    the rows most evenly. A byte order mark goes before `encoding`. `name` stands for the table in messages.
    Of a `live` stream, whose rows arrive over time, the delimiter is found in what arrives first.

    Raises DataError when the file cannot be opened, is empty, is not text or has no readable header.
    """
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    name = name or (shown_path(path) if path else str(getattr(source, "name", "the input")))
    stream = _open_file(path, name) if path else typing.cast("BinaryIO", source)
    close = stream.close if path else lambda: None
    try:
        feed = _open_feed(stream, encoding, name, live)
        sample = feed.look_ahead(SAMPLE)
        given = re.fullmatch(r'"?sep=(.)"?[\r\n]*', next(iter(sample.lines), ""), re.IGNORECASE)
        if given:  # Excel's own way of naming the delimiter; the line is no row
            next(feed)
            feed.lines_before = 1
            sample, delimiter = replace(sample, lines=sample.lines[1:]), delimiter or given[1]
        dialect = _find_dialect(sample, (delimiter,) if delimiter else DELIMITERS, wanted)
        return Table(name, feed, dialect, close)
    except BaseException:
        close()
        raise


def shown_path(path: Path) -> str:
    """A path as messages show it: relative to the current directory where it lies below."""
    with suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def first_undecodable_byte(path: Path, encoding: str) -> int | None:
    """The offset (from 0) of the first byte of a file that is not in the encoding; None when all are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(1 << 20)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                # The decoder puts what it kept of the chunk before in front.
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
        raise DataError(f"{name}: this is a folder; name the CSV file in it{_tables_in(path)}") from None
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


def _open_feed(stream: BinaryIO, encoding: str, name: str, live: bool) -> _Feed:
    buffered = io.BufferedReader(_Forwards(stream), 1 << 16)
    start = buffered.peek(64)
    if not start:
        raise DataError(f"{name}: the file is empty; it needs a header row with the names of the columns, and rows")
    for magic, what, remedy in OTHER_FORMATS:
        if start.startswith(magic):
            raise DataError(f"{name}: this is {what}, not delimited text; {remedy}")
    encoding = next((codec for mark, codec in BYTE_ORDER_MARKS if start.startswith(mark)), encoding)
    csv.field_size_limit(max(csv.field_size_limit(), 2 * LONGEST_ROW))
    # Line ends stay as they are: they belong to the values where they stand inside quotes.
    text = io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline="")
    return _Feed(ArrivingLines(text.readline, LONGEST_ROW + 1) if live else text.readline, name, encoding)


class _Forwards(io.RawIOBase):
    """A stream that is read and never closed, whatever becomes of the readers around it."""

    def __init__(self, stream: BinaryIO) -> None:
        # `readinto1` gives what is there; `readinto` of a pipe may wait until the buffer is full.
        self._readinto = getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._readinto(buffer)


# --- Reading ---------------------------------------------------------------------------------------------------------


class _TooLongError(Exception):
    """A row that goes on beyond LONGEST_ROW."""


class _Feed:
    """The lines of a table, kept since the start of a row so that a row that goes wrong can be taken back."""

    def __init__(self, readline: Callable[[int], str], name: str, encoding: str) -> None:
        self.encoding = encoding
        self.lines_before = 0
        self.taken: list[str] = []
        self.backslash = False
        self._readline = readline
        self.arriving = readline if isinstance(readline, ArrivingLines) else None
        self._waiting: deque[str] = deque()
        self._size = 0
        self._name = name

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else self._read()
        if not line:
            raise StopIteration
        self.taken.append(line)
        self._size += len(line)
        if self._size > LONGEST_ROW:
            raise _TooLongError
        if "\0" in line:  # the csv module of Python 3.10 stops there; the row gets a fault
            line = line.replace("\0", "\ufffd")
        return _with_doubled_quotes(line) if self.backslash and "\\" in line else line

    def start_row(self) -> None:
        self.taken = []
        self._size = 0

    def take_back_all_but_one(self) -> None:
        """After a row that went wrong: its first line stands alone, the others are read again."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def look_ahead(self, size: int) -> _Sample:
        """Whole lines from here on, about `size` characters; they are read again."""
        lines: list[str] = []
        paused, end = False, 0.0
        while size > 0 and not paused and (line := self._read()):
            lines.append(line)
            size -= len(line)
            end = end or time.monotonic() + _LONGEST_LOOK
            paused = len(lines) > 1 and (self.waits(_PAUSE) or (self.arriving is not None and time.monotonic() > end))
        self._waiting.extend(lines)
        return _Sample(lines, is_whole=size > 0 and not paused)

    def waits(self, seconds: float) -> bool:
        """Whether the next line of a live table does not come within this time."""
        return self.arriving is not None and not self._waiting and self.arriving.waits(seconds)

    def _read(self) -> str:
        """The next line with its end; of one beyond LONGEST_ROW only the start, which is too long all the same."""
        try:
            line = self._readline(LONGEST_ROW + 1)
            rest = line
            while len(rest) > LONGEST_ROW and not rest.endswith(("\n", "\r")):
                rest = self._readline(LONGEST_ROW + 1)
        except UnicodeError as error:
            reason = getattr(error, "reason", None) or error
            raise DataError(
                f"{self._name}: cannot be read as {self.encoding} ({reason}); "
                "name the file's encoding (utf-16-le or utf-16-be where the byte order mark is missing), "
                "or save it as CSV with UTF-8"
            ) from None
        except (OSError, EOFError) as error:
            raise DataError(
                f"{self._name}: reading stopped ({error}); check the disk, or the stream's other end"
            ) from None
        return line


def _with_doubled_quotes(line: str) -> str:
    r"""`\"` as `""` and `\\` as `\`; other backslashes, as in `C:\data`, are only themselves."""
    return re.sub(r'\\(["\\])', lambda escaped: '""' if escaped[1] == '"' else "\\", line)


def _parse(feed: _Feed, dialect: Dialect) -> Iterator[tuple[list[str], str, int, Fault | None]]:
    """The fields, raw text, number of lines and fault of each row.

    A row whose quotes do not fit is cut after its first line, so that one stray quote does not swallow the rows below.
    """
    feed.backslash = dialect.backslash
    reader = _csv_reader(feed, dialect)
    while True:
        feed.start_row()
        fault = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLongError) as error:
            # A single line that is too long is one field for all we know; else its quotes are the matter.
            alone = isinstance(error, _TooLongError) and len(feed.taken) == 1
            fault = Fault("length", _LENGTH_MESSAGE) if alone else Fault("quote", _QUOTE_MESSAGE)
            feed.take_back_all_but_one()
            fields = [feed.taken[0].rstrip("\r\n")]
            reader = _csv_reader(feed, dialect)
        raw = feed.taken[0] if len(feed.taken) == 1 else "".join(feed.taken)
        yield fields, raw, len(feed.taken), fault


_LENGTH_MESSAGE = f"is longer than {LONGEST_ROW:,} characters; shorten it or leave it out"
_QUOTE_MESSAGE = (
    "has a quotation mark that is not closed properly; put the field in quotation marks "
    'and write each quotation mark inside it twice ("")'
)
_NUL_MESSAGE = "holds a NUL character; remove it, or name the file's encoding if it is not the right one"


def _csv_reader(lines: Iterator[str], dialect: Dialect) -> Iterator[list[str]]:
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE,
        skipinitialspace=dialect.skip_space,
        strict=True,
    )


def _fields_message(found: int, expected: int) -> str:
    fields = "1 field" if found == 1 else f"{found} fields"
    header = "1 column" if expected == 1 else f"{expected} columns"
    remedy = "put fields that hold the delimiter in quotation marks" if found > expected else "add what is missing"
    return f"has {fields}, but the header has {header}; {remedy}"


def _encoding_message(raw: str, byte: int, encoding: str) -> str:
    return (
        f"holds the byte 0x{byte:02x}, which is not {encoding.removesuffix('-sig')}; name the file's encoding "
        f"(perhaps {guessed_encoding(raw, encoding)}), or save it as CSV with UTF-8"
    )


def guessed_encoding(raw: str, encoding: str) -> str:
    """What a row that is not in `encoding` may be in: Western European Windows text where that is possible."""
    for codec in ("utf-8", "cp1252"):
        with suppress(UnicodeError):
            raw.encode(encoding, errors="surrogateescape").decode(codec)
            return codec
    return "latin-1"


def _column_letter(index: int) -> str:
    """A for the first column, AA after Z, as spreadsheets count."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


# --- Finding the dialect ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    """The first lines of a table; `is_whole` when there are no others."""

    lines: Sequence[str]
    is_whole: bool


class _SampleEndsError(Exception):
    """The end of a sample is reached, maybe inside a row."""


def _find_dialect(sample: _Sample, delimiters: Sequence[str], wanted: Sequence[str]) -> Dialect:
    """The way of writing that fits the first lines best; of equal ones the first."""
    ways = [Dialect(delimiter) for delimiter in delimiters]
    if any('\\"' in line for line in sample.lines):
        ways += [Dialect(delimiter, backslash=True) for delimiter in delimiters]
    if "\t" in delimiters and any("\t" in line and '"' not in line for line in sample.lines[:1]):
        ways.append(Dialect("\t", quotes=False))
    best = max(ways, key=lambda way: _fitness(sample, way, wanted))
    header = next((row for row in _rows_of_sample(sample, best) if row), [])
    spaced = len(header) > 1 and all(field.startswith(" ") for field in header[1:])
    return replace(best, skip_space=spaced)


def _fitness(sample: _Sample, dialect: Dialect, wanted: Sequence[str]) -> tuple[int, bool, float, int]:
    """How well a dialect fits, to be compared: wanted columns found; rows cut at all; share of rows like the header;
    columns.

    A file of one column is cut by none, so a comma in its texts must not count as a delimiter: more than a tenth of the
    rows have to have as many fields as the header before cutting counts (many may be ragged).
    """
    rows = [row for row in _rows_of_sample(sample, dialect) if row is None or any(row)]
    if not rows or rows[0] is None:
        return 0, False, 0.0, 0
    header, body = rows[0], rows[1:]
    names = {field.strip() for field in header}
    share = sum(row is not None and len(row) == len(header) for row in body) / len(body) if body else 1.0
    found = sum(name.strip() in names for name in wanted)
    return found, len(header) > 1 and share > 0.1, share, len(header)


def _rows_of_sample(sample: _Sample, dialect: Dialect) -> Iterator[list[str] | None]:
    """The fields of each row, None where the quotes do not fit; a row that the end of the sample cuts is left out."""
    lines = iter(sample.lines)

    def readline(_: int) -> str:
        line = next(lines, "")
        if not line and not sample.is_whole:
            raise _SampleEndsError
        return line

    with suppress(_SampleEndsError):
        for fields, _, _, fault in _parse(_Feed(readline, "", ""), dialect):
            yield None if fault else fields
