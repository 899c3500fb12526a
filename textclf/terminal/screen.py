"""What a stream can show, and how styled lines become characters for it. Styles come from code, never from data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TextIO

Kind = Literal["plain", "success", "note", "warning", "error"]
"""What a line tells."""

_SYMBOLS = "✓⚠ℹ✗│─╭╮╰╯"


class Style(Enum):
    """The styles of textclf; the values are those of the escape sequence Select Graphic Rendition (ECMA-48)."""

    SUCCESS = "1;32"
    NOTE = "1;34"
    WARNING = "1;33"
    ERROR = "1;31"
    TITLE = "1"
    QUIET = "2"
    COMMAND = "36"


Part = tuple[str, Style | None]
"""A text without control characters, and its style."""

WORDS: dict[Kind, str] = {
    "plain": "",
    "success": "",
    "note": "Note: ",
    "warning": "Warning: ",
    "error": "Error: ",
}
"""What stands before a line where the screen has no marks."""

_MARKS: dict[Kind, tuple[str, Style]] = {
    "success": ("✓ ", Style.SUCCESS),
    "note": ("ℹ ", Style.NOTE),
    "warning": ("⚠ ", Style.WARNING),
    "error": ("✗ ", Style.ERROR),
}


@dataclass(frozen=True)
class Screen:
    """`width` is None for a file or a pipe, which get plain lines of any length. A screen that `is_styled` gets
    colours, marks and boxes, and one that `has_symbols` can show ✓, ⚠ and the lines of a box."""

    width: int | None = None
    is_styled: bool = False
    has_symbols: bool = False


PLAIN = Screen()


def screen_of(stream: TextIO | None) -> Screen:
    """Returns what the stream can show now. NO_COLOR (https://no-color.org) and TERM=dumb turn styles off."""
    # While Rich shows a bar, it replaces standard error by another stream.
    stream = getattr(stream, "rich_proxied_file", stream)
    try:
        if stream is None or not stream.isatty() or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
            return PLAIN
    except (OSError, ValueError):  # closed
        return PLAIN
    is_styled = not os.environ.get("NO_COLOR") and _understands_escapes()
    return Screen(_width(stream), is_styled, is_styled and _can_encode(stream))


def _width(stream: TextIO) -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _understands_escapes() -> bool:
    if sys.platform != "win32":
        return True
    from rich.console import detect_legacy_windows

    return not detect_legacy_windows()


def _can_encode(stream: TextIO) -> bool:
    try:
        _SYMBOLS.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# --- Lines -----------------------------------------------------------------------------------------------------------
def mark_of(kind: Kind, screen: Screen) -> Part:
    """Returns what stands before a line of this kind: a mark such as ⚠, or a word."""
    if screen.has_symbols and kind in _MARKS:
        return _MARKS[kind]
    return WORDS[kind], _MARKS[kind][1] if screen.is_styled and kind in _MARKS else None


def styled(lines: Iterable[Sequence[Part]]) -> str:
    """Returns the characters for a screen that is styled."""
    return "\n".join(
        "".join(text if style is None or not text else f"\x1b[{style.value}m{text}\x1b[0m" for text, style in line)
        for line in lines
    )
