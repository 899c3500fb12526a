"""Tables of any size → the same tables with labels: read, classified and written window by window, all at once.

Order, every other column and the way in which they are written stay as they are; memory does not grow with the input;
a job that is killed goes on where it stopped. What happens to a chunk of rows is in `batch_rows`, files and standard
streams in `batch_files`, killing and resuming in `batch_journal`.
"""

from __future__ import annotations

import codecs
import difflib
import hashlib
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from textclf.batch_files import expand_inputs, size_of_inputs
from textclf.batch_journal import Output, open_output
from textclf.batch_rows import (
    BegunRows,
    ResultOptions,
    Tally,
    added_columns,
    begin_rows,
    finish_rows,
    is_blank,
    problem_of,
)
from textclf.batch_windows import TableOptions, Window, encoded, read_windows
from textclf.errors import DataError, RunError, TextclfError
from textclf.evaluation import Metrics, evaluate
from textclf.predictor import Classifier
from textclf.progress import Progress, RowsBar
from textclf.tables import Row

# Windows that are read ahead of the one that is being written, so that no core waits.
_WINDOWS_UNDER_WAY = 3


@dataclass(frozen=True)
class BatchSummary:
    """What a job did.

    `rows` are the rows written, of which those in `errors` (by reason) got no label; `labels` counts the others by
    label. `truncated` texts were longer than the model reads, `rejected` ones below the bound; `blank_lines` passed as
    they were. `seconds` of all runs of the job, `rows_per_second` and `interpreter_share` (0 to 1, of the threads' time)
    of the last. `accuracy` (0 to 1) and `confusion[i][j]`, rows of true label i with label j, where labels were present;
    `unknown_truths` rows had a label that the model does not know.
    """

    output: str
    rows: int
    seconds: float
    rows_per_second: float
    interpreter_share: float
    blank_lines: int
    truncated: int
    rejected: int
    errors: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    accuracy: float | None = None
    confusion: list[list[int]] | None = None
    unknown_truths: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """What was measured, without what was not asked for."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def as_text(self) -> str:
        """For a person: what was done, and what was not."""
        lines = [
            f"{self.output}: {sum(self.labels.values()):,} of {_rows(self.rows)} classified in {self.seconds:.1f} s, "
            f"{self.rows_per_second:,.0f} a second"
        ]
        if self.truncated:
            lines.append(f"{_rows(self.truncated)} with more text than the model reads; the rest did not count")
        if self.rejected:
            lines.append(f"{_rows(self.rejected)} too uncertain for a label")
        if self.confusion is not None:
            accuracy = "none" if self.accuracy is None else f"{self.accuracy:.1%}"
            lines.append(f"accuracy {accuracy} on {_rows(sum(map(sum, self.confusion)))}")
        if self.unknown_truths:
            lines.append(f"{_rows(self.unknown_truths)} with a true label that the model does not know")
        if self.errors:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.errors.items())
            lines.append(f"{_rows(sum(self.errors.values()))} without a label, for the reasons in `error`: {reasons}")
        return "\n".join(lines)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def classify_file(
    model: str | Path,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    text_columns: Sequence[str] = (),
    scores: bool = False,
    top_k: int = 1,
    reject_below: float | None = None,
    strict: bool = False,
    where_label: bool = False,
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    num_threads: int | None = None,
    force: bool = False,
    resume: bool = False,
    quiet: bool = True,
) -> BatchSummary:
    """Writes the rows of all inputs, one behind the other, with their labels to `output`.

    Inputs are paths, patterns or `-` for standard input, plain or compressed with gzip or zstd; an output is compressed
    when its name ends in .gz or .zst, and `-` is standard output. Added are the columns `predicted_label`,
    `predicted_score`, with `top_k` > 1 `predicted_label_2` and so on, with `scores` one `score:<label>` a label, and
    `error`: a row that cannot be classified keeps its place, gets an empty label and the reason there. With `strict`
    there is no such column, and the first such row ends the job. A label whose probability is lower than `reject_below`,
    by default the model's own bound, gives way to the model's label for "none of these", or to none. `where_label`
    compares with the column of the true label, `label_column` or the one of the training. With `resume` an interrupted
    job goes on, and one that never began begins. Raises DataError for inputs that cannot be read, and RunError for an
    output that cannot be written.
    """
    if top_k < 1 or (reject_below is not None and not 0.0 <= reject_below <= 1.0):
        raise ValueError(f"top_k is {top_k} and reject_below {reject_below}, expected 1 or more, and 0 to 1")
    if force and resume:
        raise ValueError("force starts again and resume goes on: give one of the two")
    where_label = where_label or label_column is not None
    paths = expand_inputs([inputs] if isinstance(inputs, str | os.PathLike) else list(inputs))
    target = os.fspath(output)
    classifier = Classifier(model, num_threads)
    tables = _table_options(classifier, text_columns, label_column if where_label else "", delimiter, encoding)
    bound = classifier.reject_below if reject_below is None else reject_below
    results = ResultOptions(scores, top_k, bound, errors=not strict)
    settings = {
        "inputs": paths,
        "model": hashlib.sha256(classifier.path.read_bytes()).hexdigest(),
        **asdict(tables),
        **asdict(results),
    }
    added = added_columns(classifier.labels, results)
    try:
        with open_output(target, settings=settings, force=force, resume=resume) as opened:
            windows = read_windows(paths, tables, target=target, added=added, labels=classifier.labels)
            job = _Job(classifier, windows, results, opened, compares=where_label)
            with Progress(quiet=quiet).rows_bar(size_of_inputs(paths), job.rows_before) as bar:
                job.run(bar)
            return job.summary(target)
    finally:
        classifier.close()


def evaluate_file(
    model: str | Path,
    data: str | Path,
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    quiet: bool = True,
) -> Metrics:
    """The model's quality on the labelled rows of a table; rows without text are left out, as in training, and said.

    Raises DataError for a row that cannot be read, a label that the model does not know, and a table without rows.
    """
    classifier = Classifier(model)
    options = _table_options(classifier, text_columns, label_column, delimiter, encoding)
    truth: list[int] = []
    probabilities = [np.zeros((0, len(classifier.labels)), np.float32)]
    left_out = 0
    try:
        for window in read_windows([os.fspath(data)], options):
            with_text = [row for row in window.rows if not is_blank(row) and _has_text(window, row)]
            left_out += sum(not is_blank(row) for row in window.rows) - len(with_text)
            truth += [_truth(window, row, classifier) for row in with_text]
            probabilities.append(begin_rows(classifier, window.layout, with_text).pending.result())
    finally:
        classifier.close()
    if not truth:
        raise DataError(f"{data}: has no rows to evaluate; it needs rows with a text and a label below the header")
    if left_out:
        Progress(quiet=quiet).say(f"{data}: {left_out:,} rows without text left out")
    return evaluate(np.concatenate(probabilities), np.array(truth), classifier.labels)


def _table_options(
    classifier: Classifier, text_columns: Sequence[str], label_column: str | None, delimiter: str | None, encoding: str
) -> TableOptions:
    """`label_column`: None for the one of the training, "" for none at all. Raises DataError where it is not known."""
    label = classifier.label_column if label_column is None else label_column or None
    if label_column is None and label is None:
        raise DataError(
            f"{classifier.path}: the model does not know the column of the true label; name it with --label"
        )
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise DataError(f"`{encoding}` is not an encoding; expected one such as utf-8, cp1252 or utf-16") from None
    trained, given = classifier.text_columns, tuple(text_columns)
    if given and trained and len(given) != len(trained):
        raise DataError(
            f"{classifier.path}: the model was trained on {' and '.join(trained)}, but --text names "
            f"{' and '.join(given)}; name {'one column' if len(trained) == 1 else 'two columns'}"
        )
    if len(given) > 2:
        raise DataError(f"--text names {len(given)} columns; a model reads one text or two")
    wanted_by = "--text" if given else "the column that the model was trained on; name another with --text"
    return TableOptions(given or trained, wanted_by, label, delimiter, encoding)


def _has_text(window: Window, row: Row) -> bool:
    """False for a row without text; raises DataError for one that cannot be read."""
    problem = problem_of(row, window.layout)
    if problem is not None and problem[0] not in ("empty", "header", "end_mark"):
        raise DataError(f"{window.name}: {_place(row)} {problem[1]}")
    return problem is None


def _truth(window: Window, row: Row, classifier: Classifier) -> int:
    assert window.layout.label_column is not None
    label = row.fields[window.layout.label_column]
    if label not in classifier.labels:
        near = difflib.get_close_matches(label, classifier.labels, n=1)
        known = f"did you mean `{near[0]}`?" if near else f"it knows {', '.join(classifier.labels[:20])}"
        raise DataError(f"{window.name}: {_place(row)} has the label `{label}`, which the model does not know; {known}")
    return classifier.labels.index(label)


def _place(row: Row) -> str:
    return f"row {row.number}" if row.number == row.line else f"row {row.number} (line {row.line})"


# --- The job ---------------------------------------------------------------------------------------------------------


class _Job:
    """One run of a job: what it works with, and how far it has come."""

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
            self._tally = Tally.from_dict(output.committed["tally"])
            self._seconds_before = output.committed["seconds"]
        self.rows_before = self._tally.rows

    def run(self, bar: RowsBar) -> None:
        state = self._output.committed
        if state is None or not self._output.complete:
            if state is not None:
                self._skip(state)
            self._classify(bar)
            state = self._state() if self._done else state
        assert state is not None
        self._output.finish(state)

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
            errors=dict(tally.errors.most_common()),
            labels=dict(tally.labels.most_common()),
        )
        if not self._compares:
            return summary
        counts = [[tally.confusion.get(i, Counter())[j] for j in range(len(labels))] for i in range(len(labels))]
        compared = sum(map(sum, counts))
        accuracy = sum(counts[i][i] for i in range(len(labels))) / compared if compared else None
        return replace(summary, accuracy=accuracy, confusion=counts, unknown_truths=tally.unknown_truths)

    def _skip(self, state: Mapping[str, Any]) -> None:
        """Reads over what an earlier run has classified, and makes sure that it is the same."""
        for window in self._windows:
            if window.number == state["window"]:
                if window.digest == state["digest"]:
                    return
                break
        raise RunError(
            f"the input's first {state['tally']['rows']:,} rows are not those that the interrupted job has classified; "
            "restore the input, or start again with --force"
        )

    def _classify(self, bar: RowsBar) -> None:
        under_way: deque[tuple[Window, BegunRows]] = deque()
        problem: TextclfError | None = None
        try:
            for window in self._windows:
                if not self._results.errors:
                    _refuse_problems(window)
                under_way.append((window, begin_rows(self._classifier, window.layout, window.rows)))
                if len(under_way) > _WINDOWS_UNDER_WAY:
                    self._write(*under_way.popleft(), bar)
        except TextclfError as error:
            problem = error
        # What was read before a problem is worth keeping: the job goes on from there once it is solved.
        while under_way:
            self._write(*under_way.popleft(), bar)
        if problem is not None:
            if self._tally.rows and self._output.resumable:
                self._output.commit(self._state(), now=True)
                kept = (
                    f"the {self._tally.rows:,} rows before it are done" if self._tally.rows > 1 else "one row is done"
                )
                problem = DataError(f"{problem}; {kept}: mend it and go on with --resume, or start again with --force")
            raise problem

    def _write(self, window: Window, begun: BegunRows, bar: RowsBar) -> None:
        classified = finish_rows(self._classifier, self._results, begun)
        self._output.write(window.header + encoded(classified.text, window.codec))
        self._tally.add(classified.tally)
        self._done = window
        if window.number:
            self._output.commit(self._state())
        bar.update(self._tally.rows, window.position)

    def _state(self) -> dict[str, Any]:
        assert self._done is not None
        seconds = self._seconds_before + time.monotonic() - self._started
        return {
            "window": self._done.number,
            "digest": self._done.digest,
            "seconds": round(seconds, 3),
            "tally": self._tally.as_dict(),
        }


def _refuse_problems(window: Window) -> None:
    for row in window.rows:
        problem = None if is_blank(row) else problem_of(row, window.layout)
        if problem is not None:
            raise DataError(f"{window.name}: {_place(row)} {problem[1]}; correct it, or leave out --strict")
