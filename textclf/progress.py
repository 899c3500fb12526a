"""What a person sees while work goes on: plain lines and one live bar on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Bar:
    """A live bar; `advance` also takes what stands behind it."""

    def __init__(self, bars: RichProgress, total: int, done: int) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=total, completed=done, status="")

    def advance(self, status: str) -> None:
        self._bars.update(self._task, advance=1, status=status)


class Progress:
    """Shows nothing at all when `quiet`; without a terminal the bar is left out and the lines stay."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        columns = (
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        hidden = not self._console.is_terminal
        with RichProgress(*columns, console=self._console, transient=True, disable=hidden) as bars:
            yield Bar(bars, total, done)
