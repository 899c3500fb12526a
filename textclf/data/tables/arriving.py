"""Reads the lines of a stream whose writer is still writing, such as a pipe. A thread reads ahead, so that the reader
can see whether another line is available now."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

# Characters that are read ahead. This bounds the memory if the writer is faster than the reader.
_CHARACTERS_AHEAD = 1 << 22


class ArrivingLines:
    """Called as a `readline`: the next line with its end, "" at the end of the stream."""

    def __init__(self, readline: Callable[[int], str], longest: int) -> None:
        """Lines are read with `readline(longest)`, from now on and in a thread."""
        self._readline = readline
        self._longest = longest
        self._lines: deque[str | BaseException] = deque()
        self._size = 0
        self._is_closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read_ahead, name="textclf-lines", daemon=True).start()

    def __call__(self, longest: int) -> str:
        """`longest` is the one that was given at the start. What went wrong with the stream is raised again here."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines)
            line = self._lines[0]
            if isinstance(line, BaseException):
                raise line
            if line:  # the end of the stream is final
                self._lines.popleft()
                self._size -= len(line)
                self._changed.notify_all()
            return line

    def waits(self, seconds: float) -> bool:
        """Returns whether no line comes within this time; the end of the stream counts as one."""
        if self._lines:
            return False
        with self._changed:
            return not self._changed.wait_for(lambda: self._lines, seconds)

    def close(self) -> None:
        """Stops the thread as soon as its read returns."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _read_ahead(self) -> None:
        line: str | BaseException = " "
        while line and not isinstance(line, BaseException):
            try:
                line = self._readline(self._longest)
            except BaseException as error:
                line = error
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._size <= _CHARACTERS_AHEAD)
                if self._is_closed:
                    return
                self._lines.append(line)
                self._size += len(line) if isinstance(line, str) else 0
                self._changed.notify_all()
