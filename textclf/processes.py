"""Child processes that may end badly: how one ended, and its last words, whatever it printed before."""

from __future__ import annotations

import os
import signal
from typing import IO

_LAST_WORDS = 2000


def ending(code: int) -> str:
    """How a process ended, by its exit code; systems write a signal, or the crash of a process, in ways of their own."""
    if code >= 0:
        return f"exit code {code:#x}" if code > 255 else f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def end_of(file: IO[bytes], size: int = _LAST_WORDS) -> str:
    """The last bytes that were written into a file, as text."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - size))
    return file.read().decode("utf-8", errors="replace")


def last_line(text: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
