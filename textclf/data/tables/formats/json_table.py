"""Reads JSON Lines (one object on each line) and JSON arrays of objects as tables. Memory is bounded.

The columns are the keys of the first objects. A value that is not text is read as it is written: `1.50`, `true`; null
and a missing key are an empty cell. The number of a row is that of its line in JSON Lines, and its position from 1 in an
array.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from textclf.data.tables.column_names import listed, visible
from textclf.data.tables.formats.records import ListCell, RecordTable, fault_of_text, json_text
from textclf.data.tables.lines import Dialect, Feed, TooLongError
from textclf.data.tables.table import LONGEST_ROW, SAMPLE, Fault, Row, RowPlace, feed_at, open_feed, open_text
from textclf.errors import DataError

_UNDECODABLE = re.compile("[\udc80-\udcff]")

# The escape of half of a character, which is no text if its other half is missing.
_HALF = re.compile(r"\\u[dD][89abcdefABCDEF]")

_SPACE = re.compile(r"[ \t\r\n\ufeff]*")

_OUTSIDE = re.compile(r'["{}\[\]]')

# An object without lists and objects in it, as most are.
_FLAT = re.compile(r'\{[^{}\[\]"]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^{}\[\]"]*)*\}')

_INSIDE = re.compile(r'["\\]')

_END_OF_PLAIN = re.compile(r"[,\]\s]")

_PIECE = 1 << 16

_OBJECT = 'an object such as {"text": "…", "label": "…"}'

# The pause (seconds) in a live stream after which the columns are those of the objects that have arrived.
_PAUSE = 0.1


class _WrittenNumber(float):
    """A number with a point or an exponent, and how it is written."""

    written: str

    @classmethod
    def of(cls, text: str) -> _WrittenNumber:
        number = cls(text)
        number.written = text
        return number

    def __str__(self) -> str:
        return self.written


class _RepeatedKeyError(ValueError):
    """An object with a key twice."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_WrittenNumber.of, parse_constant=_WrittenNumber.of)
"""NaN, Infinity and -Infinity are no JSON, but Python and pandas write them: NaN is an empty cell, as null is."""


class JsonRecord:
    """The values of an object."""

    def __init__(self, values: dict[str, Any], columns: Sequence[str]) -> None:
        self.keys = values.keys()
        self._values = values
        self._columns = columns
        self.size = 0  # counted with the row's text

    def values(self) -> list[Any]:
        """Returns the values of the table's columns, None where there is none."""
        return [self._values.get(column) for column in self._columns]


class _Item(NamedTuple):
    """A value of the file: its number, its line, its text, and what is wrong with the text."""

    number: int
    line: int
    raw: str
    fault: Fault | None


class _Lines:
    """The lines of a JSON Lines file."""

    place = "line"

    def __init__(self, feed: Feed, first: int = 1) -> None:
        self._feed = feed
        self._first = first
        feed.use(Dialect(","))
        feed.end_header()

    def __iter__(self) -> Iterator[_Item]:
        feed, number = self._feed, self._first - 1
        while True:
            number += 1
            fault = None
            feed.start_row()
            try:
                next(feed)
            except StopIteration:
                return
            except TooLongError:
                fault = _too_long()
            raw = feed.taken[0]
            yield _Item(number, number, raw, fault or (Fault("blank", "is blank") if not raw.strip() else None))


class _Array:
    """The values of a JSON array, which may be in one line or in many."""

    place = "object"

    def __init__(self, text: io.TextIOBase, name: str) -> None:
        self._text = text
        self._name = name
        self._buffer = ""
        self._at = 0
        self._line = 1

    def __iter__(self) -> Iterator[_Item]:
        self._skip_space()
        self._at += 1  # the bracket, which was seen when the format was detected
        number = 0
        while self._next_character(number) != "]":
            number += 1
            line = self._line
            raw, fault = self._value(number)
            yield _Item(number, line, raw, fault)
            following = self._next_character(number)
            if following == ",":
                self._at += 1
                if self._next_character(number) == "]":
                    raise self._broken(number, "a comma stands before the end of the list")
            elif following != "]":
                raise self._broken(number, "a comma or ] is missing")
        self._at += 1
        self._skip_space()
        if self._at < len(self._buffer):
            raise DataError(f"{self._name}: line {self._line}: something follows the list; remove it")

    def _broken(self, number: int, what: str) -> DataError:
        return DataError(
            f"{self._name}: {what} behind object {number:,} (line {self._line}), so the list cannot be read further; "
            "correct the file, or write it again"
        )

    def _fill(self) -> bool:
        """Appends what follows to the buffer, of which only the part from here on is kept."""
        try:
            # In a long value the pieces grow, because each is appended to the part that is kept.
            piece = self._text.read(max(_PIECE, len(self._buffer) - self._at))
        except UnicodeError as error:
            raise DataError(f"{self._name}: cannot be read ({error}); set the file's encoding") from None
        except (OSError, EOFError) as error:
            raise DataError(f"{self._name}: reading stopped ({error}); check the disk") from None
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _advance(self, place: int) -> None:
        self._line += self._buffer.count("\n", self._at, place)
        self._at = place

    def _skip_space(self) -> None:
        while True:
            self._advance(_SPACE.match(self._buffer, self._at).end())  # type: ignore[union-attr]  # matches ""
            if self._at < len(self._buffer) or not self._fill():
                break

    def _next_character(self, number: int) -> str:
        self._skip_space()
        if self._at == len(self._buffer):
            raise self._ends(number)
        return self._buffer[self._at]

    def _ends(self, number: int) -> DataError:
        return DataError(
            f"{self._name}: the file ends inside the list, after object {number:,} (line {self._line}); it is cut off: "
            "make or fetch it again"
        )

    def _value(self, number: int) -> tuple[str, Fault | None]:
        """Returns the text of the value that begins here, without the part beyond the longest row."""
        if (flat := _FLAT.match(self._buffer, self._at)) is not None:
            self._advance(flat.end())
            return flat[0], None if len(flat[0]) <= LONGEST_ROW else _too_long()
        self._buffer, self._at = self._buffer[self._at :], 0
        scan, depth, inside = 0, 0, False
        kept, is_long = "", False
        plain = self._buffer[0] not in '"{['
        while True:
            found = (_END_OF_PLAIN if plain else _INSIDE if inside else _OUTSIDE).search(self._buffer, scan)
            if found is None or (inside and found[0] == "\\" and found.end() == len(self._buffer)):
                scan = len(self._buffer) if found is None else found.start()
                if scan > LONGEST_ROW:
                    kept, is_long = kept or self._buffer[:LONGEST_ROW], True
                    self._advance(scan)
                    scan = 0
                if not self._fill():
                    raise self._ends(number)
                continue
            scan = found.end()
            if plain:
                scan = found.start()
                break
            if inside:
                scan += found[0] == "\\"
                inside = found[0] == "\\"
            elif found[0] == '"':
                inside = True
            else:
                depth += 1 if found[0] in "{[" else -1
            if depth <= 0 and not inside:
                break
        raw = kept or self._buffer[:scan]
        self._advance(scan)
        return raw, _too_long() if is_long or len(raw) > LONGEST_ROW else None


class JsonTable(RecordTable):
    """A table of JSON objects. `open_json_lines` and `open_json_array` make it."""

    _column_word = "key"

    def __init__(self, name: str, items: _Lines | _Array, feed: Feed | None, encoding: str) -> None:
        self._items = iter(items)
        self._place = items.place
        self._feed = feed
        self._ahead: list[tuple[_Item, dict[str, Any] | None, Fault | None]] = []
        super().__init__(name, self._first_keys())
        if not self.columns:
            raise self._without_keys()
        self.encoding = encoding
        self.what = "JSON Lines" if feed is not None else "a JSON array"

    @property
    def is_live(self) -> bool:
        return self._feed is not None and self._feed.arriving is not None

    def stop(self) -> None:
        if self._feed is not None and self._feed.arriving is not None:
            self._feed.arriving.close()

    def waits(self, seconds: float) -> bool:
        return not self._ahead and self._feed is not None and self._feed.waits(seconds)

    def _first_keys(self) -> list[str]:
        """Reads the first objects and returns their keys."""
        keys: dict[str, None] = {}
        size = 0
        for item in self._items:
            values, fault = self._parsed(item)
            self._ahead.append((item, values, fault))
            keys.update(dict.fromkeys(values or ()))
            size += len(item.raw)
            if size > SAMPLE or (values and self._feed is not None and self._feed.waits(_PAUSE)):
                break
        return list(keys)

    def __iter__(self) -> Iterator[Row]:
        return map(_at_position, self._rows()) if self.counts_positions else self._rows()

    def _rows(self) -> Iterator[Row]:
        while self._ahead:
            yield self._row(*self._ahead.pop(0))
        for item in self._items:
            yield self._row(item, *self._parsed(item))

    @property
    def has_lines(self) -> bool:
        """Whether each row is a line, so that `row_places` and `select` can be used."""
        return self._feed is not None

    def row_places(self, size_of: Callable[[str], int], mark: int) -> Iterator[RowPlace]:
        """Reads all rows, as `Table.row_places` does."""
        assert self._feed is not None
        start, credit = mark, self._feed.credit
        ahead, self._ahead = [item for item, _, _ in self._ahead], []
        for items in (ahead, self._items):
            for item in items:
                yield RowPlace(start, item.number, item.line, credit)
                start += size_of(item.raw)
        yield RowPlace(start, 0, 0, credit)

    def select(self, stream: BinaryIO, place: RowPlace, rows: int) -> None:
        """Makes the table yield only this many rows from this place on, as `Table.select` does."""
        self._ahead = []
        self._feed = feed_at(stream, self.encoding, self.name, place.credit)
        self._items = islice(_Lines(self._feed, place.number), rows)

    def _without_keys(self) -> DataError:
        faulty = [(item, fault) for item, _, fault in self._ahead if fault is not None and fault.kind != "blank"]
        if not faulty:
            return DataError(f"{self.name}: there is no object with keys in it; expected {_OBJECT} for each row")
        item, fault = faulty[0]
        if self._feed is not None and item.raw.lstrip("\ufeff \t").startswith("{") and len(faulty) > 1:
            return DataError(
                f"{self.name}: this is JSON, but neither JSON Lines (an object on each line) nor a list of objects; write "
                f"each row on one line as {_OBJECT}"
            )
        line = f" (line {item.line})" if item.line != item.number else ""
        return DataError(f"{self.name}: row {item.number}{line} {fault.message}")

    def _remedy_for_missing(self, name: str) -> str:
        return f"{super()._remedy_for_missing(name)} (these are the keys of the first {len(self._ahead):,} rows)"

    def _parsed(self, item: _Item) -> tuple[dict[str, Any] | None, Fault | None]:
        """Returns the object in the text, or what is wrong with it."""
        if item.fault is not None:
            return None, item.fault
        if not item.raw.isascii() and (undecodable := _UNDECODABLE.search(item.raw)):
            byte = ord(undecodable[0]) - 0xDC00
            message = f"holds the byte 0x{byte:02x}, which is not {self.encoding}; JSON is UTF-8: write it again"
            return None, Fault("encoding", message)
        try:
            value = _DECODER.decode(item.raw.lstrip("\ufeff"))
        except _RepeatedKeyError as error:
            message = f"has the key `{visible(str(error))}` twice; remove one of them"
            return None, Fault("json", message)
        except json.JSONDecodeError as error:
            message = f"is not valid JSON ({error.msg}, character {error.pos + 1}); correct this {self._place}"
            return None, Fault("json", message)
        except ValueError:
            return None, Fault("json", "holds a number with thousands of digits; write it as text")
        except RecursionError:
            return None, Fault("json", _TOO_DEEP)
        if _is_deep(item.raw):
            return None, Fault("json", _TOO_DEEP)
        if not isinstance(value, dict):
            kind = _KINDS.get(type(value), "a number")
            return None, Fault("json", f"holds {kind}, not {_OBJECT}; write each row as an object")
        return value, None

    def _row(self, item: _Item, values: dict[str, Any] | None, fault: Fault | None) -> Row:
        if values is None:
            return Row(item.number, item.line, [], item.raw, fault)
        fields = [cell if isinstance(cell := values.get(column), str) else _text(cell) for column in self.columns]
        for column in self.columns_asked_for:
            name = self.columns[column]
            value = values.get(name)
            if isinstance(value, dict) or (isinstance(value, list) and column not in self.columns_of_lists):
                kind = "an object" if isinstance(value, dict) else "a list"
                fault = Fault("type", f"holds {kind} in `{visible(name)}`; expected text, or one number or word")
                break
            if fault is None:
                fault = fault_of_text(fields[column], name)
        if fault is None and self.texts_of_others and _HALF.search(item.raw):
            faults = map(fault_of_text, fields, self.columns)
            fault = next((one for one in faults if one is not None), None)
        if fault is None and self.texts_of_others and (more := [key for key in values if key not in self.columns]):
            message = (
                f"has the key {listed(more)}, which the first rows do not have, so there is no column for it; write the "
                "output as .jsonl, or give a row at the beginning this key"
            )
            fault = Fault("type", message)
        return Row(item.number, item.line, fields, item.raw, fault, JsonRecord(values, self.columns))


def _at_position(row: Row) -> Row:
    return row._replace(number=row.number - 1, line=row.line - 1)


_TOO_DEEP = "is nested too deeply; write a flat object"

_MOST_NESTED = 100


def _is_deep(text: str) -> bool:
    """Returns whether valid JSON is nested more deeply than all that handles its values can follow."""
    if text.count("[") + text.count("{") <= _MOST_NESTED:
        return False
    depth = 0
    for mark in re.sub(r'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+', "", text):
        depth += 1 if mark in "[{" else -1
        if depth > _MOST_NESTED:
            return True
    return False


_KINDS = {list: "a list", str: "text", bool: "true or false", type(None): "null"}


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ListCell.of(value)
    return str(value) if isinstance(value, int | float) else json_text(value)


def _too_long() -> Fault:
    return Fault("length", f"is longer than {LONGEST_ROW:,} characters; shorten it or leave it out")


def open_json_lines(stream: BinaryIO, encoding: str, name: str, live: bool = False) -> JsonTable:
    """Opens JSON Lines. Raises DataError for a stream that cannot be read."""
    feed = open_feed(stream, encoding, name, live)
    return JsonTable(name, _Lines(feed), feed, feed.encoding)


def open_json_array(stream: BinaryIO, encoding: str, name: str) -> JsonTable:
    """Opens a JSON array of objects. Raises DataError for a stream that cannot be read."""
    text, codec = open_text(stream, encoding, name)
    return JsonTable(name, _Array(text, name), None, codec)
