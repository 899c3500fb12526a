"""Splits the lines of a delimited text into rows of fields, with a dialect. Memory and time are bounded.

`Feed` reads lines and can take a row back; `parse` yields the fields of each row, its raw text and what is wrong with
its quotation marks.
"""

from __future__ import annotations

import csv
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from textclf.data.tables.arriving import ArrivingLines
from textclf.errors import DataError

FaultKind = Literal["blank", "fields", "encoding", "quote", "nul", "length", "header", "end_mark", "json", "type"]

_STAND_IN = "\ufdd0"
"""Replaces a delimiter of several characters, which the csv module cannot read. Unicode text never contains it."""

_CREDIT = 16

# For a live table: the pause (seconds) after which the available rows are used, and the longest time to wait for them.
_PAUSE = 0.1

_LONGEST_LOOK = 0.5


class Fault(NamedTuple):
    """The fault of a row: a kind for counting, and a message that follows "row 5"."""

    kind: FaultKind
    message: str


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Quotes inside quotes are doubled or, with `backslash`, escaped as Spark and MySQL do. Without `quotes` a quotation
    mark is an ordinary character, as in many tab-separated files. `skip_space`: a space follows each delimiter.
    `quote` is the quotation mark. A delimiter may have several characters.
    """

    delimiter: str
    quotes: bool = True
    backslash: bool = False
    skip_space: bool = False
    quote: str = '"'


class Feed:
    """The lines of a table, kept since the start of a row so that a row that goes wrong can be taken back.

    All lines but the first of a faulty row are read again. To keep the time from growing with the square of the file,
    at most `credit` characters may be read again, and 16 more for each character that was read successfully.
    """

    def __init__(self, readline: Callable[[int], str], name: str, encoding: str, longest: int, credit: int) -> None:
        self.encoding = encoding
        self.separator_line = ""
        self.taken: list[str] = []
        self._dialect = Dialect(",")
        self._is_header_read = False
        self._rewrites = True
        self._readline = readline
        self.arriving = readline if isinstance(readline, ArrivingLines) else None
        self._waiting: deque[str] = deque()
        self._size = 0
        self._name = name
        self._longest = longest
        self._credit = credit
        self._limit = min(longest, credit)

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else self._read()
        if not line:
            raise StopIteration
        self.taken.append(line)
        self._size += len(line)
        if self._size > self._limit and (len(self.taken) > 1 or self._size > self._longest):
            raise TooLongError
        if "\0" in line:  # the csv module of Python 3.10 stops here; the row gets a fault
            line = line.replace("\0", "\ufffd")
        return self._rewritten(line) if self._rewrites else line

    def use(self, dialect: Dialect) -> None:
        """Rewrite lines so that the csv module reads this dialect."""
        self._dialect = dialect
        self._rewrites = not self._is_header_read or dialect.backslash or len(dialect.delimiter) > 1

    def end_header(self) -> None:
        """From here on, a byte order mark at the start of a row is an ordinary character."""
        self._is_header_read = True
        self.use(self._dialect)

    @property
    def credit(self) -> int:
        """The credit with which another feed, begun at the next row, reads the rows as this one does."""
        return self._credit + (_CREDIT * self._size if self._credit < self._longest else 0)

    def start_row(self) -> None:
        if self._credit < self._longest:
            self._credit += _CREDIT * self._size
            self._limit = min(self._longest, self._credit)
        self.taken = []
        self._size = 0

    def take_back_all_but_one(self) -> None:
        """After a faulty row, its first line becomes one row and the other lines are read again."""
        self._credit = max(0, self._credit - self._size)
        self._limit = min(self._longest, self._credit)
        self._waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]
        self._size = len(self.taken[0])

    def look_ahead(self, size: int) -> tuple[list[str], bool]:
        """Returns whole lines from here on, about `size` characters, which are read again; and whether these are all
        lines.

        Of a live table, only what arrives before the first pause.
        """
        lines: list[str] = []
        paused, end = False, 0.0
        while size > 0 and not paused and (line := self._read()):
            lines.append(line)
            size -= len(line)
            end = end or time.monotonic() + _LONGEST_LOOK
            paused = len(lines) > 1 and (self.waits(_PAUSE) or (self.arriving is not None and time.monotonic() > end))
        self._waiting.extend(lines)
        return lines, size > 0 and not paused

    def waits(self, seconds: float) -> bool:
        """Returns whether the next line of a live table does not come within this time."""
        return self.arriving is not None and not self._waiting and self.arriving.waits(seconds)

    def take_separator_line(self) -> None:
        """Skip the first line, which sets the delimiter and is not a row."""
        self.separator_line = self._waiting.popleft()

    def _rewritten(self, line: str) -> str:
        dialect = self._dialect
        if not self._is_header_read and len(self.taken) == 1:
            line = line.lstrip("\ufeff")
        if dialect.backslash and "\\" in line:
            line = _with_doubled_quotes(line, dialect.quote)
        return line.replace(dialect.delimiter, _STAND_IN) if len(dialect.delimiter) > 1 else line

    def _read(self) -> str:
        """Returns the next line with its line end.

        If a line is too long, returns only its start, which is still too long.
        """
        try:
            line = self._readline(self._longest + 1)
            rest = line
            while len(rest) > self._longest and not rest.endswith(("\n", "\r")):
                rest = self._readline(self._longest + 1)
        except UnicodeError as error:
            reason = getattr(error, "reason", None) or error
            raise DataError(
                f"{self._name}: cannot be read as {self.encoding} ({reason}); "
                "set the file's encoding (utf-16-le or utf-16-be where the byte order mark is missing), "
                "or save the file as CSV with UTF-8"
            ) from None
        except (OSError, EOFError) as error:
            raise DataError(
                f"{self._name}: reading stopped ({error}); check the disk, or the stream's other end"
            ) from None
        return line


class TooLongError(Exception):
    """The row is longer than the limit."""


def _with_doubled_quotes(line: str, quote: str) -> str:
    r"""Rewrites `\"` as `""` and `\\` as `\`; other backslashes, as in `C:\data`, are kept."""
    return re.sub(rf"\\([{quote}\\])", lambda escaped: quote * 2 if escaped[1] == quote else "\\", line)


def parse(feed: Feed, dialect: Dialect, longest: int) -> Iterator[tuple[list[str], str, int, Fault | None]]:
    """Yields the fields, raw text, number of lines and fault of each row.

    A row whose quotes do not match ends after its first line, so that one stray quote does not swallow the rows below.
    """
    feed.use(dialect)
    several = dialect.delimiter if len(dialect.delimiter) > 1 else ""
    reader = _csv_reader(feed, dialect)
    while True:
        feed.start_row()
        fault = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, TooLongError) as error:
            # A single line that is too long is treated as one field; otherwise its quotes are the fault.
            alone = isinstance(error, TooLongError) and len(feed.taken) == 1
            fault = Fault("length", _length_message(longest)) if alone else Fault("quote", _quote_message(dialect))
            feed.take_back_all_but_one()
            fields = [feed.taken[0].rstrip("\r\n")]
            reader = _csv_reader(feed, dialect)
        else:
            if several:
                fields = [field.replace(_STAND_IN, several) for field in fields]
        raw = feed.taken[0] if len(feed.taken) == 1 else "".join(feed.taken)
        yield fields, raw, len(feed.taken), fault


def _length_message(longest: int) -> str:
    return f"is longer than {longest:,} characters; shorten it or leave it out"


def _quote_message(dialect: Dialect) -> str:
    mark = dialect.quote
    return (
        "has a quotation mark that is not closed properly; put the field in quotation marks "
        f"and write each quotation mark inside it twice ({mark}{mark})"
    )


def _csv_reader(lines: Iterator[str], dialect: Dialect) -> Iterator[list[str]]:
    return csv.reader(
        lines,
        delimiter=dialect.delimiter if len(dialect.delimiter) == 1 else _STAND_IN,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE,
        skipinitialspace=dialect.skip_space,
        strict=True,
    )
