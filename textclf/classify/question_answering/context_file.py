"""Reads the context of a question from a text file: takes a path and returns the text, or an error that says what it is."""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO, cast

from textclf.data.tables.files import open_input
from textclf.data.tables.other_formats import binary_format
from textclf.errors import DataError

LARGEST = 1 << 24
"""In bytes, as the longest row of a table."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_context(path: str, encoding: str = "utf-8") -> str:
    """Returns the text of a file, or of standard input for `-`; compressed files are unpacked. A byte order mark goes
    before `encoding`.

    Raises DataError for a file that cannot be read, is empty, is not text in this encoding, or has more than `LARGEST`
    bytes.
    """
    with open_input(path) as opened:
        name = opened.name
        try:
            raw = cast("BinaryIO", opened.stream).read(LARGEST + 1)
        except (OSError, EOFError) as error:
            raise DataError(f"{name}: cannot be read ({error}); check the file, or make it again") from error
    if len(raw) > LARGEST:
        raise DataError(f"{name}: has more than {LARGEST:,} bytes; split it, and ask about each part")
    if found := binary_format(raw[:4096]):
        raise DataError(f"{name}: is {found[0]}, not plain text; save it as plain text (.txt)")
    codec = next((codec for mark, codec in _MARKS if raw.startswith(mark)), encoding)
    try:
        text = io.TextIOWrapper(io.BytesIO(raw), encoding=codec, newline="").read()
    except UnicodeError as error:
        place = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{name}: is not {codec}{place}; save it as UTF-8, or name its encoding (--encoding)") from None
    if "\0" in text:
        raise DataError(f"{name}: contains NUL characters, so it is not plain text; save it as plain text (.txt)")
    if not text.strip():
        raise DataError(f"{name}: is empty; name a file with the text that contains the answer")
    return text
