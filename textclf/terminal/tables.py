"""Aligns columns, and fits a table into the terminal's width."""

from __future__ import annotations

from collections.abc import Sequence

from textclf.terminal.door import printable, result_screen

_GAP = 2

_NARROWEST = 12
"""The cells to which a column of texts is narrowed at most."""


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left_columns: int = 1) -> str:
    """Makes each column as wide as its widest cell on the terminal.

    Columns after the first `left_columns` are right-aligned. On a terminal that is narrower than the table, texts in the
    left columns are wrapped. If that is not enough, the other columns follow each other in several tables. Numbers are
    never broken.
    """
    from rich.cells import cell_len

    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(header))]
    screen_width = result_screen().width
    if screen_width is None or sum(widths) + _GAP * (len(widths) - 1) <= screen_width:
        return _table(lines, widths, left_columns)
    others = widths[left_columns:]
    room = screen_width - sum(_GAP + width for width in others)
    left = _narrowed(widths[:left_columns], room)
    if sum(left) + _GAP * (left_columns - 1) <= room:
        return _table(lines, [*left, *others], left_columns)
    tables = []
    for block in _blocks(others, screen_width - sum(left) - _GAP * (left_columns - 1)):
        columns = [*range(left_columns), *(left_columns + index for index in block)]
        part = [[line[column] for column in columns] for line in lines]
        tables.append(_table(part, [*left, *(others[index] for index in block)], left_columns))
    return "\n\n".join(tables)


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """The widest column gives way first."""
    widths = list(widths)
    while sum(widths) + _GAP * (len(widths) - 1) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _blocks(widths: Sequence[int], room: int) -> list[list[int]]:
    """The indices of the columns that stand beside each other; at least one in each block."""
    blocks: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(widths):
        if blocks[-1] and used + _GAP + width > room:
            blocks.append([])
            used = 0
        blocks[-1].append(index)
        used += _GAP + width
    return blocks


def _table(lines: Sequence[Sequence[str]], widths: Sequence[int], left_columns: int) -> str:
    return "\n".join(text for line in lines for text in _row(line, widths, left_columns))


def _row(line: Sequence[str], widths: Sequence[int], left_columns: int) -> list[str]:
    from rich.cells import cell_len, chop_cells

    from textclf.terminal.wrapping import wrapped

    cells = [
        [part for piece in wrapped(cell, width) for part in (chop_cells(piece, width) or [""])]
        if column < left_columns
        else [cell]
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    texts = []
    for number in range(max(map(len, cells))):
        parts = []
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            text = cell[number] if number < len(cell) else ""
            space = " " * (width - cell_len(text))
            parts.append(text + space if column < left_columns else space + text)
        texts.append((" " * _GAP).join(parts).rstrip())
    return texts
