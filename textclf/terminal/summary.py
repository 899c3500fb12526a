"""The end of a command on a terminal: a small box with what was made, and below it the commands that come next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textclf.terminal.door import printable, result_screen, write_styled
from textclf.terminal.screen import Kind, Part, Screen, Style, mark_of
from textclf.terminal.wrapping import wrapped

_WIDEST = 100

_SIDES = 4
"""The cells that the sides of a box take."""


@dataclass(frozen=True)
class Summary:
    """`facts` are names and values; `next_steps` are what to do and the command that does it."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    kind: Kind = "success"
    next_steps: Sequence[tuple[str, str]] = ()


def show_summary(make: Callable[[], Summary]) -> bool:
    """Shows what `make` returns on standard output, if that is a terminal with styles, and returns whether it is.

    Elsewhere, nothing is made or written.
    """
    screen = result_screen()
    if not screen.is_styled or screen.width is None:
        return False
    summary = make()
    write_styled([*_box(summary, screen, screen.width), *_next_steps(summary, screen.width)])
    return True


def _box(summary: Summary, screen: Screen, width: int) -> list[list[Part]]:
    room = min(width, _WIDEST) - _SIDES
    lines = _content(summary, screen, room)
    used = max(_cells(line) for line in lines)
    across, side, corners = ("─", "│", "╭╮╰╯") if screen.has_symbols else ("-", "|", "++++")
    if used > room:
        # A path is wider than the box, and is to be copied whole: lines above and below are enough.
        rule: list[Part] = [(across * min(width, _WIDEST), Style.QUIET)]
        return [rule, *lines, rule]
    bar = across * (used + _SIDES - 2)
    framed: list[list[Part]] = [
        [(f"{side} ", Style.QUIET), *line, (" " * (used - _cells(line)) + f" {side}", Style.QUIET)] for line in lines
    ]
    return [
        [(f"{corners[0]}{bar}{corners[1]}", Style.QUIET)],
        *framed,
        [(f"{corners[2]}{bar}{corners[3]}", Style.QUIET)],
    ]


def _content(summary: Summary, screen: Screen, room: int) -> list[list[Part]]:
    from rich.cells import cell_len

    mark = mark_of(summary.kind, screen)
    first, *others = wrapped(printable(summary.title), room, first=cell_len(mark[0]), hanging=2)
    lines: list[list[Part]] = [[mark, (first, Style.TITLE)]]
    for line in others:
        lines.append([(line, Style.TITLE)])
    facts = [(printable(name), printable(value)) for name, value in summary.facts]
    names = max((cell_len(name) for name, _ in facts), default=0) + 2
    values = [wrapped(value, room - names) for _, value in facts]
    is_stacked = any(cell_len(part) > room - names for value in values for part in value)
    for (name, text), value in zip(facts, values, strict=True):
        if is_stacked:
            lines.append([(name, Style.QUIET)])
            for part in wrapped(text, room - 2):
                lines.append([("  ", None), (part, None)])
        else:
            for label, part in zip([name, *[""] * (len(value) - 1)], value, strict=True):
                lines.append([(label + " " * (names - cell_len(label)), Style.QUIET), (part, None)])
    return lines


def _next_steps(summary: Summary, width: int) -> list[list[Part]]:
    """Commands stand outside of the box and are never wrapped, so they can be copied."""
    lines: list[list[Part]] = []
    for what, command in summary.next_steps:
        lines += [[(line, Style.QUIET)] for line in wrapped(f"{printable(what)}:", width)]
        lines.append([("  ", None), (printable(command), Style.COMMAND)])
    return lines


def _cells(line: Sequence[Part]) -> int:
    from rich.cells import cell_len

    return sum(cell_len(text) for text, _ in line)
