"""Shows progress on standard error: plain lines and one live bar."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from textclf.terminal.door import error_stream, printable, printable_lines

# Shorter work needs no line in a log.
_SECONDS_BEFORE_LINE = 2.0


class Bar:
    """A live progress bar. `advance` also sets the text after the bar."""

    def __init__(self, bars: RichProgress, total: int, done: int) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=total, completed=done, status="")

    def advance(self, status: str) -> None:
        self._bars.update(self._task, advance=1, status=printable(status))


class RowsBar:
    """The progress of a job over files: rows done, rows per second, the share of the input's bytes, the time left.

    Without a terminal, it prints one plain line per minute, for the logs of long jobs.
    """

    _SECONDS_BETWEEN_LINES = 60.0

    def __init__(self, progress: Progress, bars: RichProgress, total_bytes: int | None, rows_before: int) -> None:
        self._progress = progress
        self._bars = bars
        self._total = total_bytes
        self._task = bars.add_task("", total=total_bytes, status="")
        self._started = self._last_line = time.monotonic()
        self._rows_before = rows_before

    def update(self, rows: int, bytes_read: int) -> None:
        now = time.monotonic()
        rate = (rows - self._rows_before) / max(now - self._started, 1e-9)
        status = f"{rows:,} rows, {rate:,.0f} per second"
        self._bars.update(self._task, completed=bytes_read, status=status)
        if self._bars.disable and now - self._last_line >= self._SECONDS_BETWEEN_LINES:
            share = f", {bytes_read / self._total:.0%} of the input" if self._total else ""
            self._progress.say(f"{status}{share}")
            self._last_line = now


class Progress:
    """Shows nothing if `quiet`. Without a terminal it shows lines but no bar."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(file=error_stream(), quiet=quiet, highlight=False, soft_wrap=True, emoji=False)
        self._hidden = quiet or not self._console.is_terminal

    def say(self, line: str) -> None:
        self._console.print(printable_lines(line), markup=False)

    @contextmanager
    def during(self, line: str) -> Iterator[None]:
        """Shows `line` during work without steps.

        Without a terminal, the line is shown only if the work takes some seconds.
        """
        if self._console.is_terminal:
            with self._console.status(escape(printable(line))):
                yield
            return
        timer = threading.Timer(_SECONDS_BEFORE_LINE, self.say, [line])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        columns = (
            _plain(printable(label).replace("{", "{{").replace("}", "}}")),
            BarColumn(),
            MofNCompleteColumn(),
            _plain("{task.fields[status]}"),
            TimeRemainingColumn(),
            _plain("left"),
        )
        with self._bars(*columns) as bars:
            yield Bar(bars, total, done)

    @contextmanager
    def rows_bar(self, total_bytes: int | None, rows_before: int = 0) -> Iterator[RowsBar]:
        """Shows a bar over the bytes of the input (None: unknown size). `rows_before` rows were classified earlier."""
        columns = (
            BarColumn(),
            _plain("{task.percentage:>3.0f}%" if total_bytes else ""),
            _plain("{task.fields[status]}"),
            TimeRemainingColumn(),
            _plain("left" if total_bytes else ""),
        )
        with self._bars(*columns) as bars:
            yield RowsBar(self, bars, total_bytes, rows_before)

    def _bars(self, *columns: ProgressColumn) -> RichProgress:
        # Standard output belongs to the caller and may be a pipe.
        return RichProgress(
            *columns, console=self._console, transient=True, disable=self._hidden, redirect_stdout=False
        )


def _plain(text: str) -> TextColumn:
    """Returns a column that shows brackets as text."""
    return TextColumn(text, markup=False)
