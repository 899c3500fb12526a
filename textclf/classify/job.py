"""Adds labels to tables of any size. Reading, classifying and writing run in parallel, window by window.

The order of rows, every other column and the dialect are kept. Memory does not grow with the input. A killed job can be
resumed. The module `rows` handles a chunk of rows, `windows` the inputs, and `journal` interruption and resuming.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from textclf.classify.classifier import NOT_A_NUMBER, Classifier, are_numbers
from textclf.classify.journal import JobState, Output, open_output
from textclf.classify.metrics import Metrics, evaluate
from textclf.classify.rows import (
    BegunRows,
    ResultOptions,
    Tally,
    UnknownLabels,
    added_columns,
    begin_rows,
    finish_rows,
    is_blank,
    place_of,
    problem_of,
    rows_text,
    true_label,
)
from textclf.classify.texts import column_names
from textclf.classify.training_files import is_training_file
from textclf.classify.windows import TableOptions, Window, encoded, read_windows
from textclf.data.tables.files import DamagedInputError, expand_inputs, size_of_inputs
from textclf.data.tables.frames import FrameTable, Rows, frame_table, is_rows
from textclf.errors import ArgumentError, DataError, ModelError, RunError, TextclfError
from textclf.recipe.values import all_columns, checked_delimiter, checked_encoding
from textclf.terminal.progress import Progress, RowsBar

logger = logging.getLogger(__name__)

# The number of windows that are read ahead, so that no core waits.
_WINDOWS_UNDER_WAY = 3


@dataclass(frozen=True)
class BatchSummary:
    """The summary of a job.

    `rows` is the number of written rows. `errors` counts, by reason, the rows without a label; `labels` counts the
    others by label. `truncated` texts were longer than the model reads, and `rejected` texts were below the threshold.
    `blank_lines` were written unchanged. `uneven_rows` lacked cells at the end that are not needed, or had additional
    empty cells. `seconds` is the time of all runs of the job; `rows_per_second` and `interpreter_share` (0 to 1, of the
    threads' time) are those of the last run. With true labels there are `accuracy` (0 to 1) and `confusion[i][j]`, the
    rows of true label i with label j. `unknown_truths` rows had a true label that the model does not know;
    `unknown_labels` describes these labels.
    """

    output: str
    rows: int
    seconds: float
    rows_per_second: float
    interpreter_share: float
    blank_lines: int
    truncated: int
    rejected: int
    uneven_rows: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    accuracy: float | None = None
    confusion: list[list[int]] | None = None
    unknown_truths: int | None = None
    unknown_labels: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the results as a dictionary, without those that were not requested."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def as_text(self) -> str:
        """Returns the summary for a person."""
        lines = [
            f"{self.output}: {sum(self.labels.values()):,} of {rows_text(self.rows)} classified in {self.seconds:.1f} s, "
            f"{self.rows_per_second:,.0f} rows per second"
        ]
        if self.truncated:
            lines.append(
                f"{rows_text(self.truncated)} with more text than the model reads; only the beginning was used"
            )
        if self.uneven_rows:
            lines.append(f"{rows_text(self.uneven_rows)} with fewer or more cells than the header; no text was missing")
        if self.rejected:
            lines.append(f"{rows_text(self.rejected)} too uncertain for a label")
        if self.confusion is not None:
            accuracy = "none" if self.accuracy is None else f"{self.accuracy:.1%}"
            lines.append(f"accuracy {accuracy} on {rows_text(sum(map(sum, self.confusion)))}")
        if self.unknown_truths:
            lines.append(
                f"{rows_text(self.unknown_truths)} with a true label that the model does not know, not compared: "
                f"{self.unknown_labels}"
            )
        if self.errors:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.errors.items())
            lines.append(
                f"{rows_text(sum(self.errors.values()))} without a label, for the reasons in the column of errors: {reasons}"
            )
        return "\n".join(lines)


class JobInterruptedError(KeyboardInterrupt):
    """A job was interrupted, for example by Ctrl-C. The message says what was done and how to continue."""


def classify_file(
    model: str | Path,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    text_columns: str | Sequence[str] = (),
    scores: bool = False,
    top_k: int = 1,
    reject_below: float | None = None,
    strict: bool = False,
    where_label: bool = False,
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    column_prefix: str = "",
    num_threads: int | None = None,
    force: bool = False,
    resume: bool = False,
    quiet: bool = True,
) -> BatchSummary:
    """Writes the rows of all inputs, one input after the other, with their labels to `output`.

    For a table in memory use `Classifier.classify_frame`, which returns a copy with labels.

    Inputs are paths, patterns or `-` for standard input: delimited text, JSON Lines and JSON arrays, plain or compressed with
    gzip, zstd, bzip2 or xz, Parquet files and Excel workbooks (of which `sheet` is read, default: the first that is visible).
    `columns` names all columns of tables without a header; the output gets a header with them. An output is
    compressed if its name ends in .gz or .zst, and `-` is standard output. The job adds the columns `predicted_label`,
    `predicted_score` and `error`, with `top_k` > 1 also `predicted_label_2` and so on, and with `scores` one column
    `score:<label>` for each label. `column_prefix` is put before these names. A row that cannot be classified keeps its
    place, with an empty label and the reason in `error`. With `strict` there is no column `error`, and the first such
    row stops the job. A label with a probability below `reject_below` (default: the model's threshold) is replaced by
    the model's label for "none of these", or left empty. `where_label` compares with the true labels in `label_column`
    (default: the label column of the training). `resume` continues an interrupted job, or starts a new one. Raises
    DataError for inputs that cannot be read, RunError for an output that cannot be written, and JobInterruptedError, a
    KeyboardInterrupt.
    """
    if not top_k >= 1:
        raise ArgumentError(f"top_k (--top-k) is {top_k}; give 1 or more")
    if reject_below is not None and not 0.0 <= reject_below <= 1.0:
        raise ArgumentError(f"reject_below (--reject-below) is {reject_below}; give a probability from 0 to 1")
    if force and resume:
        raise ArgumentError("force (--force) starts again and resume (--resume) continues: give one of the two")
    where_label = where_label or label_column is not None
    if not isinstance(inputs, str | os.PathLike) and is_rows(inputs) and len(inputs):
        raise ArgumentError(
            "inputs is a table in memory, expected files; use Classifier(model).classify_frame(frame), which returns a copy "
            "of the frame with the labels"
        )
    paths = expand_inputs([inputs] if isinstance(inputs, str | os.PathLike) else list(inputs))
    target = os.fspath(output)
    with Classifier(model, num_threads) as classifier:
        label = label_column if where_label else ""
        tables = _table_options(classifier, column_names(text_columns), label, delimiter, encoding)
        tables = replace(tables, sheet=sheet, columns=_all_columns(columns))
        bound = classifier.reject_below if reject_below is None else reject_below
        results = ResultOptions(scores, top_k, bound, errors=not strict, column_prefix=column_prefix)
        added = added_columns(classifier.labels, results)
        settings = _settings(classifier, paths, tables, results)
        opening = open_output(
            target, settings=settings, force=force, resume=resume, model=classifier.path, inputs=paths
        )
        with opening as opened:
            windows = read_windows(
                paths,
                tables,
                target=target,
                added=added,
                labels=[*classifier.labels, classifier.reject_label],
                rows_done=opened.committed.rows_read if opened.committed else 0,
            )
            job = _Job(classifier, windows, results, opened, compares=where_label)
            with Progress(quiet=quiet).rows_bar(size_of_inputs(paths), job.rows_before) as bar:
                job.run(bar)
            summary = job.summary(target)
    if summary.unknown_truths and not any(map(any, summary.confusion or ())):
        raise DataError(
            f"{target}: complete, but there is no accuracy: the model knows none of the true labels in column "
            f"`{tables.label_column}`: {summary.unknown_labels}"
        )
    return summary


def _settings(
    classifier: Classifier, paths: Sequence[str], tables: TableOptions, results: ResultOptions
) -> dict[str, Any]:
    """Returns all settings that affect the output. Settings of newer versions are left out if they have no effect."""
    settings = {"inputs": list(paths), "model": classifier.sha256, **asdict(tables), **asdict(results)}
    del settings["text_wanted_by"]
    for name in ("column_prefix", "sheet", "columns"):
        if not settings[name]:
            del settings[name]
    return settings


@dataclass(frozen=True)
class FileMetrics(Metrics):
    """The metrics of a file's rows, and the numbers of rows that were left out: without text, or with an unknown label."""

    rows_without_text: int = 0
    rows_with_unknown_label: int = 0


def evaluate_file(
    model: str | Path,
    data: str | Path | Rows,
    *,
    text_columns: str | Sequence[str] = (),
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    quiet: bool = True,
) -> FileMetrics:
    """Returns the model's quality on the labelled rows of a table: a file, a pandas DataFrame or a list of dicts.

    Messages number the rows of a file as a spreadsheet does, and those of a table in memory by position, from 0.
    Rows without text are left out, as in training, as are rows with a label that the model does not know; a warning is
    logged for both, and for the file that the model was trained on. Raises DataError for a row that cannot be read, and
    for a table without rows or without a known label.
    """
    with Classifier(model) as classifier:
        options = _table_options(classifier, column_names(text_columns), label_column, delimiter, encoding)
        options = replace(options, sheet=sheet, columns=_all_columns(columns))
        source: str | FrameTable
        if isinstance(data, str | os.PathLike):
            source = path = os.fspath(data)
        else:
            path = "data"
            source = frame_table(data, path, options.text_columns, options.label_column)
            options = replace(options, delimiter=",", encoding="utf-8", sheet=None, columns=())
        evaluation = _Evaluation(classifier)
        with Progress(quiet=quiet).rows_bar(size_of_inputs([path])) as bar:
            for window in read_windows([source], options):
                evaluation.add(window)
                bar.update(len(evaluation.truth), window.position)
        if source is path and is_training_file(classifier.path, path):
            logger.warning(
                "%s: the model was trained on this file, so the results are too optimistic; use rows that it has not seen",
                path,
            )
        return evaluation.metrics(path)


class _Evaluation:
    """The rows of a table that can be measured, and the rows that were left out."""

    def __init__(self, classifier: Classifier) -> None:
        self.truth: list[int] = []
        self._classifier = classifier
        self._indices = {label: index for index, label in enumerate(classifier.labels)}
        self._probabilities = [np.zeros((0, len(classifier.labels)), np.float32)]
        self._without_text = 0
        self._unknown = UnknownLabels()

    def add(self, window: Window) -> None:
        kept = []
        for row in window.rows:
            problem = problem_of(row, window.layout)
            if is_blank(row):
                continue
            if problem is not None and problem[0] == "empty":
                self._without_text += 1
            elif problem is not None and problem[0] in ("header", "end_mark"):
                continue
            elif problem is not None:
                raise DataError(f"{window.name}: {place_of(row)} {problem[1]}")
            elif (label := true_label(row, window.layout)) not in self._indices:
                self._unknown.add(label, place_of(row))
            else:
                kept.append(row)
                self.truth.append(self._indices[label])
        probabilities = begin_rows(self._classifier, window.layout, kept).pending.result()
        bad = np.flatnonzero(~are_numbers(probabilities))
        if len(bad):
            raise ModelError(
                f"{window.name}: for {place_of(kept[bad[0]])} the model's output {NOT_A_NUMBER}; the model is damaged or "
                "its training diverged: train or export it again"
            )
        self._probabilities.append(probabilities)

    def metrics(self, name: str) -> FileMetrics:
        if self._unknown.count:
            described = (
                f"{rows_text(self._unknown.count)} with a label that the model does not know: "
                f"{self._unknown.described(self._classifier.labels)}"
            )
            if not self.truth:
                raise DataError(f"{name}: no row has a label that the model knows; {described}")
            logger.warning("%s: %s; measured on the other %s", name, described, rows_text(len(self.truth)))
        if not self.truth:
            raise DataError(f"{name}: has no rows to evaluate; it needs rows with a text and a label below the header")
        if self._without_text:
            logger.warning("%s: %s without text left out", name, rows_text(self._without_text))
        measured = evaluate(np.concatenate(self._probabilities), np.array(self.truth), self._classifier.labels)
        values = {each.name: getattr(measured, each.name) for each in fields(measured)}
        return FileMetrics(**values, rows_without_text=self._without_text, rows_with_unknown_label=self._unknown.count)


def _table_options(
    classifier: Classifier, text_columns: Sequence[str], label_column: str | None, delimiter: str | None, encoding: str
) -> TableOptions:
    """`label_column`: None for the label column of the training, "" for none. Raises DataError if it is not known."""
    label = classifier.label_column if label_column is None else label_column or None
    if label_column is None and label is None:
        raise DataError(
            f"{classifier.name}: the model does not know the column of the true label; name it in label_column (--label)"
        )
    separator = _checked("delimiter (--delimiter)", checked_delimiter, delimiter)
    codec = _checked("encoding (--encoding)", checked_encoding, encoding)
    trained, given = classifier.text_columns, tuple(text_columns)
    if given and trained and len(given) != len(trained):
        raise DataError(
            f"{classifier.name}: the model was trained on {' and '.join(trained)}, but text_columns (--text) names "
            f"{' and '.join(given)}; name {'one column' if len(trained) == 1 else 'two columns'}"
        )
    if len(given) > 2:
        raise DataError(f"text_columns (--text) names {len(given)} columns; a model reads one text or two")
    wanted_by = (
        "text_columns (--text)"
        if given
        else "the column that the model was trained on; name another in text_columns (--text)"
    )
    return TableOptions(given or trained, wanted_by, label, separator, codec)


def _all_columns(columns: Sequence[str]) -> tuple[str, ...]:
    given = [columns] if isinstance(columns, str) else list(columns)
    return _checked("columns (--columns)", all_columns, given or None) or ()


def _checked(name: str, check: Callable[[object], Any], value: object) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise ArgumentError(f"{name} {error}") from None


# --- The job ---------------------------------------------------------------------------------------------------------
class _Job:
    """A run of a job, with its settings and its progress."""

    def __init__(
        self,
        classifier: Classifier,
        windows: Iterator[Window],
        results: ResultOptions,
        output: Output,
        *,
        compares: bool,
    ) -> None:
        self._compares = compares
        self._classifier = classifier
        self._windows = windows
        self._results = results
        self._output = output
        self._tally = Tally()
        self._done: Window | None = None
        self._seconds_before = 0.0
        self._started = time.monotonic()
        if output.committed is not None:
            self._tally = output.committed.tally.copy()
            self._seconds_before = output.committed.seconds
        self.rows_before = self._tally.rows

    def run(self, bar: RowsBar) -> None:
        state = self._output.committed
        try:
            if state is None or not self._output.complete:
                if state is not None:
                    self._skip(state)
                self._classify(bar)
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
            return f"interrupted after {rows_text(self._tally.rows)}; an output that is not a file cannot be resumed"
        return f"interrupted after {rows_text(kept)}; run the same command with --resume (resume=True) to continue"

    def summary(self, target: str) -> BatchSummary:
        tally, labels = self._tally, self._classifier.labels
        seconds = time.monotonic() - self._started
        busy = self._classifier.seconds_in_interpreters / (seconds * self._classifier.num_threads)
        summary = BatchSummary(
            output=target,
            rows=tally.rows,
            seconds=round(self._seconds_before + seconds, 3),
            rows_per_second=round((tally.rows - self.rows_before) / seconds, 1),
            interpreter_share=round(busy, 4),
            blank_lines=tally.blank_lines,
            truncated=tally.truncated,
            rejected=tally.rejected,
            uneven_rows=tally.uneven_rows,
            errors=dict(tally.errors.most_common()),
            labels=dict(tally.labels.most_common()),
        )
        if not self._compares:
            return summary
        counts = [[tally.confusion.get(i, Counter())[j] for j in range(len(labels))] for i in range(len(labels))]
        compared = sum(map(sum, counts))
        accuracy = sum(counts[i][i] for i in range(len(labels))) / compared if compared else None
        unknown = tally.unknown_truths
        return replace(
            summary,
            accuracy=accuracy,
            confusion=counts,
            unknown_truths=unknown.count,
            unknown_labels=unknown.described(labels) if unknown.count else None,
        )

    def _skip(self, state: JobState) -> None:
        """Skips the rows that an earlier run has classified, and checks that they are unchanged."""
        read = 0
        for window in self._windows:
            read += len(window.rows)
            if read >= state.rows_read:
                if read == state.rows_read and window.digest == state.digest:
                    return
                break
        raise RunError(
            f"the input's first {state.tally.rows:,} rows are not those that the interrupted job has classified; "
            "restore the input, or start again with force=True (--force)"
        )

    def _classify(self, bar: RowsBar) -> None:
        under_way: deque[tuple[Window, BegunRows]] = deque()
        problem: TextclfError | None = None
        try:
            for window in self._windows:
                if not self._results.errors:
                    _refuse_problems(window)
                under_way.append((window, begin_rows(self._classifier, window.layout, window.rows)))
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
        if not (self._tally.rows and self._output.resumable):
            return problem
        if isinstance(problem, DamagedInputError):
            return DamagedInputError(f"{problem}, then start this job again with force=True (--force)")
        kept = f"the {self._tally.rows:,} rows before it are done" if self._tally.rows > 1 else "one row is done"
        return DataError(
            f"{problem}; {kept}: correct it and continue with resume=True (--resume), or start again with force=True "
            "(--force)"
        )

    def _write(self, window: Window, begun: BegunRows, bar: RowsBar) -> None:
        classified = finish_rows(self._classifier, self._results, begun)
        self._output.write(window.header + encoded(classified.text, window.codec))
        self._tally.add(classified.tally)
        self._done = window
        if window.rows:
            self._output.commit(self._state())
        bar.update(self._tally.rows, window.position)

    def _state(self) -> JobState:
        assert self._done is not None
        seconds = self._seconds_before + time.monotonic() - self._started
        return JobState(self._done.digest, round(seconds, 3), self._tally.copy())


def _refuse_problems(window: Window) -> None:
    for row in window.rows:
        problem = None if is_blank(row) else problem_of(row, window.layout)
        if problem is not None:
            raise DataError(f"{window.name}: {place_of(row)} {problem[1]}; correct it, or leave out strict (--strict)")
