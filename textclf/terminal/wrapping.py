"""Breaks lines between words, and never inside a number with its unit, a command, or what is in backticks."""

from __future__ import annotations

import re

_PIECE = re.compile(
    r"(?:(?<=: )|(?<=[Ss]ee ))textclf .+?(?=; |\. [A-Z]|$)"  # a command
    r"|[^\s`]*(?:`[^`]*`[^\s`]*)+"
    r"|\S*\d (?:%|ms|s|min|h|kB|KB|MB|GB|KiB|MiB|GiB)(?!\w)\S*"
    r"|[<>=≤≥±×→] \d\S*"
    r"|\S+"
)

_NAMED_VALUE = re.compile(r"\s*\S+(?: \S+)* {2,}(?=\S)")
"""The start of a line such as `labels        3: a, b, c`; its continuations begin below the value."""


def wrapped(text: str, width: int, *, first: int = 0, hanging: int = 0) -> list[str]:
    """Returns the lines of a text at most `width` cells wide; the first has `first` cells less.

    A piece that is wider than that stays whole, on a line of its own: terminals show it on several rows, and copy it as
    one line. Continuations are indented as the line is and by `hanging`, or to the value of a named value.
    """
    begin, *others = text.split("\n")
    lines = _wrapped_line(begin, width, first, hanging)
    return lines + [part for line in others for part in _wrapped_line(line, width, 0, hanging)]


def _wrapped_line(line: str, width: int, first: int, hanging: int) -> list[str]:
    from rich.cells import cell_len

    if first + cell_len(line) <= width:
        return [line]
    begin = line[: len(line) - len(line.lstrip())]
    indent = " " * (cell_len(begin) + hanging)
    named = _NAMED_VALUE.match(line)
    if named is not None and cell_len(named[0]) <= width // 2:
        begin, indent = named[0], " " * cell_len(named[0])
    lines: list[str] = []
    current, end = begin, len(begin)
    used, is_empty = first + cell_len(begin), True
    for found in _PIECE.finditer(line, len(begin)):
        gap, piece = line[end : found.start()], found[0]
        needed = cell_len(gap) + cell_len(piece)
        if not is_empty and gap and used + needed > width:
            lines.append(current.rstrip())
            current, used, gap = indent, len(indent), ""
            needed = cell_len(piece)
        current += gap + piece
        used += needed
        end, is_empty = found.end(), False
    return [*lines, current.rstrip()]
