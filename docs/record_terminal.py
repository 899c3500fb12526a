"""Runs textclf on a pseudo terminal and writes what stays on it as a picture: docs/terminal.svg.

python -m docs.record_terminal                          # what `make recording` runs; it takes minutes
python -m docs.record_terminal encoder=average-words    # within seconds, to look at the picture
"""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.on_terminal import on_terminal

RECIPE = "recipes/support_tickets.yaml"

RUN = "runs/support-tickets"

WIDTH = 92

PICTURE = Path(__file__).with_name("terminal.svg")


def main(overrides: list[str]) -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for arguments in (
        ["train", RECIPE, *overrides],
        ["classify", RUN, "--text-input", "where is my parcel", "--top-k", "3"],
    ):
        shown = on_terminal([*arguments, *(["--force"] if arguments[0] == "train" else [])], width=WIDTH)
        if shown.code != 0:
            sys.exit(shown.text)
        console.print(Text(f"$ {shlex.join(['textclf', *arguments])}", style="bold"))
        console.print(Text.from_ansi("\n".join(shown.styled_lines).rstrip("\n")))
        console.print()
    picture = console.export_svg(title="textclf", theme=MONOKAI, unique_id="textclf")
    # The picture is complete in itself: without the web font, the reader's monospaced font is used.
    PICTURE.write_text(re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
