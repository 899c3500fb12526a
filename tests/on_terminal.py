"""Runs a command of textclf on a pseudo terminal, as a person sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Shown:
    """What a program wrote to a terminal, with its escape sequences."""

    code: int
    raw: str

    @property
    def styled_lines(self) -> list[str]:
        """The lines that stay: what a line shows after the cursor went back replaces what it showed before."""
        lines: list[str] = []
        for line in self.raw.replace("\r\n", "\n").split("\n"):
            if ups := line.count("\x1b[1A"):
                del lines[len(lines) - ups :]
            shown = re.split(r"\r|\x1b\[2K|\x1b\[1A", line)[-1]
            lines.append(re.sub(r"\x1b\[[?0-9;]*[a-ln-zA-Z]", "", shown).rstrip())
        return lines

    @property
    def lines(self) -> list[str]:
        """The same without styles."""
        return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in self.styled_lines]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def on_terminal(
    arguments: Sequence[object],
    *,
    width: int = 80,
    folder: Path | None = None,
    code: str | None = None,
    **variables: str,
) -> Shown:
    """Runs `textclf` with the arguments, or the Python `code`, on a terminal `width` cells wide."""
    import fcntl
    import pty
    import struct
    import termios

    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "CI")}
    environment = {**inherited, "TERM": "xterm-256color", "PYTHONPATH": str(REPOSITORY), **variables}
    program = ["-c", code] if code is not None else ["-m", "textclf"]
    process = subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env=environment,
    )
    os.close(terminal)
    written = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux reports the end so
            break
        if not part:
            break
        written += part
    os.close(main)
    return Shown(process.wait(), written.decode("utf-8", "backslashreplace"))
