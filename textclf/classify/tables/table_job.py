"""Adds the results of a model to tables of any size. Reading, computing and writing run in parallel, window by window.

The order of rows, every other column and the dialect are kept. Memory does not grow with the input. A killed job can be
resumed. What is added is the concern of a `RowModel`: labels in `job`, answers in `question_answering/job`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from textclf.classify.tables.journal import JobState, Output, open_output
from textclf.classify.tables.rows import ClassifiedRows, TableLayout, Tally, is_blank, place_of, rows_text
from textclf.classify.tables.windows import TableOptions, Window, WindowSize, check_in_place, encoded, read_windows
from textclf.data.tables.files import DamagedInputError, expand_inputs, size_of_inputs
from textclf.data.tables.frames import is_rows
from textclf.data.tables.table import Row
from textclf.errors import ArgumentError, DataError, RunError, TextclfError
from textclf.files.copies import local_copies
from textclf.files.locations import Location
from textclf.terminal.progress import Progress, RowsBar

# The number of windows that are read ahead, so that no core waits.
_WINDOWS_UNDER_WAY = 3

Finish: TypeAlias = Callable[[], ClassifiedRows]
"""Waits for the results of a chunk of rows, and returns the rows as text of the output, and counts."""


class RowModel(Protocol):
    """An open model and the columns that it adds to tables."""

    @property
    def path(self) -> Path:
        """The file of the model."""

    @property
    def num_threads(self) -> int: ...

    @property
    def seconds_in_interpreters(self) -> float:
        """The time spent inside LiteRT so far, summed over the interpreters."""

    @property
    def added(self) -> list[str]:
        """The names of the added columns, in their order."""

    @property
    def values(self) -> Sequence[str]:
        """The texts that the model may write into these columns besides those of the table."""

    @property
    def window_size(self) -> WindowSize | None:
        """How many rows are computed at once; None for the sizes of a classifier."""

    @property
    def done(self) -> str:
        """What has happened to a row that has a result, for messages: `classified`."""

    @property
    def keeps_errors(self) -> bool:
        """Whether one of the columns is for the reason why a row has no result; otherwise such a row stops the job."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that affect the output, the model's hash among them. A job is resumed only with equal ones."""

    def problem_of(self, row: Row, layout: TableLayout) -> tuple[str, str] | None:
        """Returns why a row gets no result: a word to count by, and a message."""

    def begin(self, layout: TableLayout, rows: Sequence[Row]) -> Finish:
        """Starts to compute the results of a chunk of rows and returns at once."""


class TableTask(Protocol):
    """What is done with the rows of tables, without the model. It can be pickled, so that other processes do it too."""

    @property
    def tables(self) -> TableOptions: ...

    def open(self, content: bytes, name: str, path: Path, num_threads: int) -> RowModel:
        """Returns the open model of this file's content. `name` and `path` say in messages where it comes from."""


class JobInterruptedError(KeyboardInterrupt):
    """A job was interrupted, for example by Ctrl-C. The message says what was done and how to continue."""


def checked_inputs(inputs: str | Path | Sequence[str | Path], use_in_memory: str) -> list[str | Location]:
    """Returns the paths and Locations of all inputs.

    Raises ArgumentError for a table in memory; `use_in_memory` says what to do with it.
    """
    if not isinstance(inputs, str | os.PathLike) and is_rows(inputs) and len(inputs):
        raise ArgumentError(f"inputs is a table in memory, expected files; {use_in_memory}")
    return expand_inputs([inputs] if isinstance(inputs, str | os.PathLike) else list(inputs))


def check_ways(*, force: bool, resume: bool) -> None:
    if force and resume:
        raise ArgumentError("force (--force) starts again and resume (--resume) continues: give one of the two")


def summary_values(
    tally: Tally,
    output: str,
    *,
    seconds: float,
    seconds_before: float,
    rows_before: int,
    interpreter_share: float,
) -> dict[str, Any]:
    """Returns the numbers of a summary that every job has. This run took `seconds`; earlier runs of the job took
    `seconds_before` and wrote `rows_before` of the rows."""
    return {
        "output": output,
        "rows": tally.rows,
        "seconds": round(seconds_before + seconds, 3),
        "rows_per_second": round((tally.rows - rows_before) / seconds, 1),
        "interpreter_share": round(interpreter_share, 4),
        "blank_lines": tally.blank_lines,
        "truncated": tally.truncated,
        "uneven_rows": tally.uneven_rows,
        "errors": dict(tally.errors.most_common()),
    }


@local_copies()
def run_table_job(
    model: RowModel,
    paths: Sequence[str | Location],
    tables: TableOptions,
    target: str,
    *,
    force: bool,
    resume: bool,
    quiet: bool,
) -> TableJob:
    """Writes the rows of all inputs with the model's columns to `target`, and returns the finished job.

    Raises DataError for inputs that cannot be read, RunError for an output that cannot be written, and
    JobInterruptedError.
    """
    check_in_place(paths, tables, target)
    opening = open_output(target, settings=model.settings, force=force, resume=resume, model=model.path, inputs=paths)
    with opening as opened:
        progress = Progress(quiet=quiet)
        with progress.during("Copying the remote inputs"):
            size = size_of_inputs(paths)
        windows = read_windows(
            paths,
            tables,
            target=target,
            added=model.added,
            labels=model.values,
            rows_done=opened.committed.rows_read if opened.committed else 0,
            size=model.window_size,
        )
        job = TableJob(model, windows, opened)
        with progress.rows_bar(size, job.rows_before) as bar:
            job.run(bar)
    return job


class TableJob:
    """A run of a job, with its progress."""

    def __init__(self, model: RowModel, windows: Iterator[Window], output: Output) -> None:
        self._model = model
        self._windows = windows
        self._output = output
        self.tally = Tally()
        self._done: Window | None = None
        self._seconds_before = 0.0
        self._started = time.monotonic()
        if output.committed is not None:
            self.tally = output.committed.tally.copy()
            self._seconds_before = output.committed.seconds
        self.rows_before = self.tally.rows

    def run(self, bar: RowsBar) -> None:
        state = self._output.committed
        try:
            if state is None or not self._output.complete:
                if state is not None:
                    self._skip(state)
                self._answer(bar)
                state = self._state() if self._done else state
            assert state is not None
            self._output.finish(state)
        except KeyboardInterrupt:
            raise JobInterruptedError(self._interrupted(self._output.keep())) from None
        except BaseException:
            self._output.keep()
            raise

    def _interrupted(self, kept: int) -> str:
        if not self._output.resumable:
            return f"interrupted after {rows_text(self.tally.rows)}; an output that is not a file cannot be resumed"
        return f"interrupted after {rows_text(kept)}; run the same command with --resume (resume=True) to continue"

    @property
    def seconds(self) -> float:
        """The time of this run so far."""
        return time.monotonic() - self._started

    def results(self, target: str) -> dict[str, Any]:
        """Returns the numbers of a summary that every kind of model has."""
        seconds = self.seconds
        busy = self._model.seconds_in_interpreters / (seconds * self._model.num_threads)
        return summary_values(
            self.tally,
            target,
            seconds=seconds,
            seconds_before=self._seconds_before,
            rows_before=self.rows_before,
            interpreter_share=busy,
        )

    def _skip(self, state: JobState) -> None:
        """Skips the rows that an earlier run has written, and checks that they are unchanged."""
        read = 0
        for window in self._windows:
            read += len(window.rows)
            if read >= state.rows_read:
                if read == state.rows_read and window.digest == state.digest:
                    return
                break
        raise RunError(
            f"the input's first {state.tally.rows:,} rows are not those that the interrupted job has {self._model.done}; "
            "restore the input, or start again with force=True (--force)"
        )

    def _answer(self, bar: RowsBar) -> None:
        under_way: deque[tuple[Window, Finish]] = deque()
        problem: TextclfError | None = None
        try:
            for window in self._windows:
                if not self._model.keeps_errors:
                    self._refuse_problems(window)
                under_way.append((window, self._model.begin(window.layout, window.rows)))
                while len(under_way) > (0 if window.is_last_for_now else _WINDOWS_UNDER_WAY):
                    self._write(*under_way.popleft(), bar)
        except DataError as error:
            problem = error
        if problem is None or not isinstance(problem, DamagedInputError):
            # Rows before a problem are kept: the job can continue from there when it is solved.
            while under_way:
                self._write(*under_way.popleft(), bar)
        if problem is not None:
            self._output.keep()
            raise self._with_what_is_kept(problem)

    def _with_what_is_kept(self, problem: TextclfError) -> TextclfError:
        if not (self.tally.rows and self._output.resumable):
            return problem
        if isinstance(problem, DamagedInputError):
            return DamagedInputError(f"{problem}, then start this job again with force=True (--force)")
        kept = f"the {self.tally.rows:,} rows before it are done" if self.tally.rows > 1 else "one row is done"
        return DataError(
            f"{problem}; {kept}: correct it and continue with resume=True (--resume), or start again with force=True "
            "(--force)"
        )

    def _write(self, window: Window, finish: Finish, bar: RowsBar) -> None:
        written = finish()
        self._output.write(window.header + encoded(written.text, window.codec))
        self.tally.add(written.tally)
        self._done = window
        if window.rows:
            self._output.commit(self._state())
        bar.update(self.tally.rows, window.position)

    def _state(self) -> JobState:
        assert self._done is not None
        seconds = self._seconds_before + time.monotonic() - self._started
        return JobState(self._done.digest, round(seconds, 3), self.tally.copy())

    def _refuse_problems(self, window: Window) -> None:
        for row in window.rows:
            problem = None if is_blank(row) else self._model.problem_of(row, window.layout)
            if problem is not None:
                raise DataError(
                    f"{window.name}: {place_of(row)} {problem[1]}; correct it, or leave out strict (--strict)"
                )
