"""Reads a JSON file that may be large, damaged or hostile: takes bytes and returns plain values, or one error with the place.

At most `LARGEST` bytes are read. Nothing in the file is executed; values that JSON does not have (NaN) are refused.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, BinaryIO

from textclf.data.findings.finding import visible
from textclf.data.tables.other_formats import binary_format
from textclf.errors import DataError

LARGEST = 1 << 29

_CHUNK = 1 << 20

_SHOWN = 20

_MOST_DIGITS = 100

# A text, which is skipped, or a value that is refused.
_REFUSED = re.compile(rf'"(?:[^"\\]|\\.)*"|(NaN|-?Infinity|-?[0-9]{{{_MOST_DIGITS + 1},}})', re.DOTALL)

# Each takes up to 64 bytes of memory.
_MOST_VALUES = 1 << 25

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))

_WIDE_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class RepeatedKey(dict[str, Any]):
    """An object in which a key occurs twice; `key` is the first of these. The last value counts."""

    key = ""


def read_json(name: str, stream: BinaryIO, encoding: str = "utf-8", largest: int = LARGEST) -> Any:
    """Returns the value in a file. A byte order mark goes before `encoding`.

    Raises DataError, with line and column, for anything else than one JSON value, for text in another encoding, and for
    more than `largest` bytes.
    """
    raw = _read(name, stream, largest)
    if not raw.strip(b"\0 \t\r\n"):
        raise DataError(f"{name}: the file is empty; it needs an object with the key `data`")
    if found := binary_format(raw[:4096]):
        raise DataError(f"{name}: is {found[0]}, not JSON; name a SQuAD file as JSON, or a table as CSV")
    codec = next((codec for mark, codec in (*_MARKS, *_WIDE_MARKS) if raw.startswith(mark)), encoding)
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError as error:
        line, column = raw.count(b"\n", 0, error.start) + 1, error.start - raw.rfind(b"\n", 0, error.start)
        raise DataError(
            f"{name}: line {line:,}, byte {column:,} of the line holds 0x{raw[error.start]:02x}, which is not {codec}; save "
            "the file as UTF-8, or set dataset.encoding"
        ) from None
    del raw
    if sum(map(text.count, "{[,")) > _MOST_VALUES:
        raise DataError(
            f"{name}: has more than {_MOST_VALUES:,} lists, objects and values, which no SQuAD file of this size has; "
            "check what wrote it"
        )
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}: {_syntax_message(error)}") from None
    except RecursionError:
        raise DataError(f"{name}: lists or objects are nested too deeply; a SQuAD file has seven levels") from None
    except ValueError as error:
        raise DataError(f"{name}: {_place_of_value(text)}{error}; correct the value") from None


def _read(name: str, stream: BinaryIO, largest: int) -> bytes:
    chunks, size = [], 0
    try:
        while chunk := stream.read(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > largest:
                raise DataError(
                    f"{name}: has more than {largest >> 20:,} MiB; split it into several files with one `data` list each, "
                    "and train on one of them"
                )
    except (OSError, EOFError) as error:
        raise DataError(f"{name}: reading stopped ({error}); check the file and the disk") from None
    return b"".join(chunks)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    repeated, seen = RepeatedKey(values), set()
    for key, _ in pairs:
        if key in seen:
            repeated.key = key
            break
        seen.add(key)
    return repeated


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"holds the word {word}, which JSON does not have")


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"holds a whole number of {len(digits):,} digits")
    return int(digits)


def _place_of_value(text: str) -> str:
    """Returns the line and the column of the first value that was refused, in words before what is wrong with it."""
    found = next((one for one in _REFUSED.finditer(text) if one[1]), None)
    if found is None:
        return ""
    line, column = text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
    return f"line {line:,}, column {column:,} "


def _syntax_message(error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno:,}, column {error.colno:,}"
    rest = error.doc[error.pos : error.pos + _SHOWN]
    if not rest.strip():
        return f"{place}: the JSON ends too early ({error.msg}); the file is incomplete: get it again"
    if error.msg == "Extra data":
        return (
            f"{place}: a second JSON value begins ({visible(rest)}); a SQuAD file is one object with the key `data`, not "
            "JSON Lines"
        )
    return f"{place}: this is not JSON ({error.msg}) at {visible(rest)}; correct it, or write the file again with a program"
