"""Shows progress on standard error: plain lines, one live bar, and a spinner during work without steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from textclf.terminal.door import error_stream, message_screen, printable, write_message
from textclf.terminal.screen import WORDS, Kind

# Shorter work needs no line in a log.
_SECONDS_BEFORE_LINE = 2.0

# On narrower terminals, numbers take the place of the bar.
_WIDTH_WITH_BAR = 72

_BAR_WIDTH = 20


class Bar:
    """A live progress bar. `advance` also sets the text after the bar."""

    def __init__(self, bars: RichProgress, total: int, done: int) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=total, completed=done, status="")

    def advance(self, status: str) -> None:
        self._bars.update(self._task, advance=1, status=printable(status))

    def show(self, status: str) -> None:
        """Sets the text after the bar and leaves the bar as it is."""
        self._bars.update(self._task, status=printable(status))


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
    """Shows nothing if `quiet`. Without a terminal it shows lines but no bar and no spinner."""

    def __init__(self, *, quiet: bool = False) -> None:
        screen = message_screen()
        self._quiet = quiet
        self._is_live = not quiet and screen.width is not None
        self._is_wide = (screen.width or 0) >= _WIDTH_WITH_BAR
        self._spinner = "dots" if screen.has_symbols else "line"
        self._console = Console(
            file=error_stream(),
            quiet=quiet,
            force_terminal=self._is_live,
            highlight=False,
            soft_wrap=True,
            emoji=False,
        )
        self._bar: Bar | None = None

    def say(self, line: str) -> None:
        """Shows a line. A line that begins with `Warning: ` is shown as `warn` shows it."""
        if line.startswith(WORDS["warning"]):
            self._show(line.removeprefix(WORDS["warning"]), "warning")
        else:
            self._show(line, "plain")

    def warn(self, line: str) -> None:
        """Shows a warning, without `Warning: ` in `line`: a terminal shows it with ⚠, a log with that word."""
        self._show(line, "warning")

    def note(self, line: str) -> None:
        """Shows what is good to know: a terminal shows it with ℹ, a log with `Note: `."""
        self._show(line, "note")

    def _show(self, line: str, kind: Kind) -> None:
        if not self._quiet:
            write_message(line, kind)

    @contextmanager
    def during(self, line: str) -> Iterator[None]:
        """Shows `line`, a spinner and the time during work without steps; inside a bar, `line` stands after it.

        Without a terminal, the line is shown only if the work takes some seconds.
        """
        if self._is_live:
            with self.spinner(line):
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
    def spinner(self, line: str) -> Iterator[None]:
        """Does the same as `during`, but never shows anything without a terminal."""
        if self._bar is not None:
            self._bar.show(line)
            yield
            return
        if not self._is_live:
            yield
            return
        columns = (SpinnerColumn(self._spinner), _plain("{task.description}"), TimeElapsedColumn())
        with self._bars(*columns) as bars:
            bars.add_task(printable(line), total=None)
            yield

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        columns = (
            SpinnerColumn(self._spinner),
            _plain(printable(label).replace("{", "{{").replace("}", "}}")),
            *self._bar_columns(),
            MofNCompleteColumn(),
            _plain("{task.fields[status]}"),
            *self._time_left(known=True),
        )
        with self._bars(*columns) as bars:
            self._bar = Bar(bars, total, done)
            try:
                yield self._bar
            finally:
                self._bar = None

    @contextmanager
    def rows_bar(self, total_bytes: int | None, rows_before: int = 0) -> Iterator[RowsBar]:
        """Shows a bar over the bytes of the input (None: unknown size). `rows_before` rows were classified earlier."""
        columns = (
            *self._bar_columns(),
            _plain("{task.percentage:>3.0f}%" if total_bytes else ""),
            _plain("{task.fields[status]}"),
            *self._time_left(known=bool(total_bytes)),
        )
        with self._bars(*columns) as bars:
            yield RowsBar(self, bars, total_bytes, rows_before)

    def _bar_columns(self) -> tuple[ProgressColumn, ...]:
        return (BarColumn(bar_width=_BAR_WIDTH),) if self._is_wide else ()

    def _time_left(self, *, known: bool) -> tuple[ProgressColumn, ...]:
        return (TimeRemainingColumn(), _plain("left" if known else "")) if self._is_wide else ()

    def _bars(self, *columns: ProgressColumn) -> RichProgress:
        # Standard output belongs to the caller and may be a pipe.
        return RichProgress(
            *columns, console=self._console, transient=True, disable=not self._is_live, redirect_stdout=False
        )


def _plain(text: str) -> TextColumn:
    """Returns a column that shows brackets as text, on one line."""
    return TextColumn(text, markup=False)
