"""Aligns columns for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textclf.terminal.door import printable

if TYPE_CHECKING:
    pass


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left_columns: int = 1) -> str:
    """Makes each column as wide as its widest cell on the terminal.

    Columns after the first `left_columns` are right-aligned.
    """
    from rich.cells import cell_len

    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(header))]

    def aligned(line: Sequence[str]) -> str:
        cells = []
        for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(cell + space if column < left_columns else space + cell)
        return "  ".join(cells).rstrip()

    return "\n".join(aligned(line) for line in lines)
