"""Adds labels to tables of any size, and measures a classifier on a table.

The module `table_job` runs the job, `rows` handles a chunk of rows, `windows` the inputs, and `journal` interruption and
resuming.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from textclf.classify.classifier import NOT_A_NUMBER, Classifier, are_numbers
from textclf.classify.metrics import Metrics, evaluate
from textclf.classify.multi_label.rows import check_options, finish_label_sets, label_set_columns
from textclf.classify.tables.rows import (
    ResultOptions,
    TableLayout,
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
from textclf.classify.tables.table_job import (
    Finish,
    check_ways,
    checked_inputs,
    run_table_job,
)
from textclf.classify.tables.windows import TableOptions, Window, read_windows
from textclf.classify.texts import checked_argument, column_names, named_columns
from textclf.classify.training_files import is_training_file
from textclf.data.tables.files import size_of_inputs
from textclf.data.tables.frames import FrameTable, Rows, frame_table
from textclf.data.tables.table import Row
from textclf.errors import ArgumentError, DataError, ModelError
from textclf.files.copies import local_copies
from textclf.files.locations import location_of
from textclf.recipe.values import checked_delimiter, checked_encoding
from textclf.terminal.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchSummary:
    """The summary of a job.

    `rows` is the number of written rows. `errors` counts, by reason, the rows without a label; `labels` counts the
    others by label. `truncated` texts were longer than the model reads, and `rejected` texts were below the threshold.
    `blank_lines` were written unchanged. `uneven_rows` lacked cells at the end that are not needed, or had additional
    empty cells. `seconds` is the time of all runs of the job; `rows_per_second` and `interpreter_share` (0 to 1, of the
    threads' time) are those of the last run. With true labels there are `accuracy` (0 to 1) and `confusion[i][j]`, the
    rows of true label i with label j. `unknown_truths` rows had a true label that the model does not know;
    `unknown_labels` describes these labels. Of a model of several labels, a row counts for each of its `labels`, and
    `without_label` rows have none; with true labels there are, in place of accuracy and confusion, `micro_f1`, `macro_f1` and
    `exact_match` (0 to 1) on `compared_rows`, and for each label the `decisions`: right, wrong and missed.
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
    without_label: int | None = None
    compared_rows: int | None = None
    micro_f1: float | None = None
    macro_f1: float | None = None
    exact_match: float | None = None
    decisions: dict[str, dict[str, int]] | None = None

    @property
    def classified(self) -> int:
        """The number of rows with a result."""
        return self.rows - sum(self.errors.values())

    def as_dict(self) -> dict[str, Any]:
        """Returns the results as a dictionary, without those that were not requested."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def as_text(self) -> str:
        """Returns the summary for a person."""
        lines = [
            f"{self.output}: {self.classified:,} of {rows_text(self.rows)} classified in {self.seconds:.1f} s, "
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
        if self.without_label:
            lines.append(f"{rows_text(self.without_label)} to which no label applies")
        if self.confusion is not None:
            accuracy = "none" if self.accuracy is None else f"{self.accuracy:.1%}"
            lines.append(f"accuracy {accuracy} on {rows_text(sum(map(sum, self.confusion)))}")
        if self.micro_f1 is not None and self.macro_f1 is not None and self.exact_match is not None:
            lines.append(
                f"micro-F1 {self.micro_f1:.1%}, macro-F1 {self.macro_f1:.1%}, exactly the right labels {self.exact_match:.1%} on "
                f"{rows_text(self.compared_rows or 0)}"
            )
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

    Inputs are paths, addresses such as `s3://bucket/in.csv`, patterns or `-` for standard input:
    delimited text, JSON Lines and JSON arrays, plain or compressed with
    gzip, zstd, bzip2 or xz, Parquet files and Excel workbooks (of which `sheet` is read, default: the first that is visible).
    `columns` names all columns of tables without a header; the output gets a header with them. An output is
    compressed if its name ends in .gz or .zst, and `-` is standard output. An output at an address is uploaded when it is
    complete. The job adds the columns `predicted_label`,
    `predicted_score` and `error`, with `top_k` > 1 also `predicted_label_2` and so on, and with `scores` one column
    `score:<label>` for each label. `column_prefix` is put before these names. A row that cannot be classified keeps its
    place, with an empty label and the reason in `error`. With `strict` there is no column `error`, and the first such
    row stops the job. A label with a probability below `reject_below` (default: the model's threshold) is replaced by
    the model's label for "none of these", or left empty. `where_label` compares with the true labels in `label_column`
    (default: the label column of the training). `resume` continues an interrupted job, or starts a new one.

    A model of several labels adds `predicted_labels` in place of `predicted_label` and `predicted_score`: all labels of a row
    with the model's separator between them, empty where none applies. `reject_below` then takes the place of the threshold
    of each label, and `top_k` is refused. `where_label` reads the true labels as the training did: from one column, as text
    with the model's separator or as lists, or from a column of 0 and 1 for each label; `label_column` names one column.

    Raises DataError for inputs that cannot be read, RunError for an output that cannot be written, and
    JobInterruptedError, a KeyboardInterrupt.
    """
    check_ways(force=force, resume=resume)
    paths = checked_inputs(
        inputs,
        "use Classifier(model).classify_frame(frame), which returns a copy of the frame with the labels",
    )
    target = os.fspath(output)
    with Classifier(model, num_threads) as classifier:
        labelling = labelling_of(
            classifier,
            text_columns=text_columns,
            scores=scores,
            top_k=top_k,
            reject_below=reject_below,
            strict=strict,
            where_label=where_label,
            label_column=label_column,
            delimiter=delimiter,
            encoding=encoding,
            sheet=sheet,
            columns=columns,
            column_prefix=column_prefix,
        )
        labelled = labelling.row_model(classifier, paths)
        job = run_table_job(labelled, paths, labelling.tables, target, force=force, resume=resume, quiet=quiet)
        summary = BatchSummary(**job.results(target), **labelling.results_of(job.tally, classifier.labels))
    labelling.check_compared(summary, target)
    return summary


def labelling_of(
    classifier: Classifier,
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
) -> Labelling:
    """Returns what `classify_file` does with rows for these arguments of it. Raises ArgumentError and DataError."""
    if not top_k >= 1:
        raise ArgumentError(f"top_k (--top-k) is {top_k}; give 1 or more")
    if reject_below is not None and not 0.0 <= reject_below <= 1.0:
        raise ArgumentError(f"reject_below (--reject-below) is {reject_below}; give a probability from 0 to 1")
    where_label = where_label or label_column is not None
    several = classifier.thresholds is not None
    if several:
        check_options(classifier.name, top_k=top_k)
    label = label_column if where_label else ""
    settings = classifier.metadata.settings or {}
    in_columns = several and where_label and label is None and settings.get("labels_in_columns", False)
    tables = _table_options(classifier, column_names(text_columns), "" if in_columns else label, delimiter, encoding)
    tables = replace(
        tables,
        sheet=sheet,
        columns=named_columns(columns),
        label_lists=several and tables.label_column is not None,
        flag_columns=tuple(classifier.labels) if in_columns else (),
    )
    bound = classifier.reject_below if reject_below is None and not several else reject_below
    results = ResultOptions(scores, top_k, bound, errors=not strict, column_prefix=column_prefix)
    return Labelling(tables, results, several_labels=several)


@dataclass(frozen=True)
class Labelling:
    """The `TableTask` of text classification: labels with `results`. True labels are compared if `tables` names them."""

    tables: TableOptions
    results: ResultOptions
    several_labels: bool = False

    def open(self, content: bytes, name: str, path: Path, num_threads: int) -> LabelledRows:
        return self.row_model(Classifier.of_content(content, name, path, num_threads))

    def row_model(self, classifier: Classifier, paths: Sequence[str | Path] = ()) -> LabelledRows:
        """`paths` are the inputs, for `settings`."""
        return LabelledRows(classifier, self.results, self._settings(classifier, paths))

    def _settings(self, classifier: Classifier, paths: Sequence[str | Path]) -> dict[str, Any]:
        """Returns all settings that affect the output. Settings of newer versions are left out if they have no effect."""
        settings = {
            "inputs": list(map(str, paths)),
            "model": classifier.sha256,
            **asdict(self.tables),
            **asdict(self.results),
        }
        del settings["text_wanted_by"]
        for name in ("column_prefix", "sheet", "columns", "label_lists", "flag_columns"):
            if not settings[name]:
                del settings[name]
        return settings

    def results_of(self, tally: Tally, labels: Sequence[str]) -> dict[str, Any]:
        """Returns the numbers of a `BatchSummary` that only labels have; `labels` are the model's."""
        results: dict[str, Any] = {"rejected": tally.rejected, "labels": dict(tally.labels.most_common())}
        if self.several_labels:
            results |= {"rejected": 0, "without_label": tally.rejected}
        if self.tables.label_column is None and not self.tables.flag_columns:
            return results
        unknown = tally.unknown_truths
        about = {
            "unknown_truths": unknown.count,
            "unknown_labels": unknown.described(labels) if unknown.count else None,
        }
        if self.several_labels:
            sets = tally.label_sets
            measured = {"micro_f1": sets.micro_f1, "macro_f1": sets.macro_f1, "exact_match": sets.exact_match}
            return {**results, "compared_rows": sets.rows, **measured, "decisions": sets.by_label(labels), **about}
        counts = [[tally.confusion.get(i, Counter())[j] for j in range(len(labels))] for i in range(len(labels))]
        compared = sum(map(sum, counts))
        return {
            **results,
            "accuracy": sum(counts[i][i] for i in range(len(labels))) / compared if compared else None,
            "confusion": counts,
            **about,
        }

    def check_compared(self, summary: BatchSummary, target: str) -> None:
        """Raises DataError if the model knows none of the true labels."""
        if summary.unknown_truths and not summary.compared_rows and not any(map(any, summary.confusion or ())):
            named = f"column `{self.tables.label_column}`" if self.tables.label_column else "the columns of the labels"
            score = "micro-F1" if self.several_labels else "accuracy"
            raise DataError(
                f"{target}: complete, but there is no {score}: the model knows none of the true labels in {named}: "
                f"{summary.unknown_labels}"
            )


@dataclass(frozen=True)
class FileMetrics(Metrics):
    """The metrics of a file's rows, and the numbers of rows that were left out: without text, or with an unknown label."""

    rows_without_text: int = 0
    rows_with_unknown_label: int = 0


@local_copies()
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
    """Returns the model's quality on the labelled rows of a table: a file, an address, or a table in memory.

    Messages number the rows of a file as a spreadsheet does, and those of a table in memory by position, from 0.
    Rows without text are left out, as in training, as are rows with a label that the model does not know; a warning is
    logged for both, and for the file that the model was trained on. Raises DataError for a row that cannot be read, and
    for a table without rows or without a known label.
    """
    with Classifier(model) as classifier:
        if classifier.thresholds is not None:
            raise ModelError(
                f"{classifier.name}: the model gives a text any number of labels; measure it with evaluate_label_sets "
                "(textclf evaluate)"
            )
        options = _table_options(classifier, column_names(text_columns), label_column, delimiter, encoding)
        options = replace(options, sheet=sheet, columns=named_columns(columns))
        source: str | Path | FrameTable
        if isinstance(data, str | os.PathLike):
            source = location_of(data) or os.fspath(data)
            path = str(source)
        else:
            path = "data"
            source = frame_table(data, path, options.text_columns, options.label_column)
            options = replace(options, delimiter=",", encoding="utf-8", sheet=None, columns=())
        evaluation = _Evaluation(classifier)
        with Progress(quiet=quiet).rows_bar(size_of_inputs([] if isinstance(source, FrameTable) else [source])) as bar:
            for window in read_windows([source], options):
                evaluation.add(window)
                bar.update(len(evaluation.truth), window.position)
        if not isinstance(source, FrameTable) and is_training_file(classifier.path, source):
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
    separator = checked_argument("delimiter (--delimiter)", checked_delimiter, delimiter)
    codec = checked_argument("encoding (--encoding)", checked_encoding, encoding)
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


# --- Labels for a job ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LabelledRows:
    """The `RowModel` of a text classifier; `settings` are all that affect the output."""

    classifier: Classifier
    results: ResultOptions
    settings: dict[str, Any]
    done = "classified"
    window_size = None

    @property
    def path(self) -> Path:
        return self.classifier.path

    @property
    def num_threads(self) -> int:
        return self.classifier.num_threads

    @property
    def seconds_in_interpreters(self) -> float:
        return self.classifier.seconds_in_interpreters

    @property
    def added(self) -> list[str]:
        if self.classifier.thresholds is not None:
            return label_set_columns(self.classifier.labels, self.results)
        return added_columns(self.classifier.labels, self.results)

    @property
    def values(self) -> list[str]:
        return [*self.classifier.labels, self.classifier.reject_label]

    @property
    def keeps_errors(self) -> bool:
        return self.results.errors

    def problem_of(self, row: Row, layout: TableLayout) -> tuple[str, str] | None:
        return problem_of(row, layout)

    def begin(self, layout: TableLayout, rows: Sequence[Row]) -> Finish:
        begun = begin_rows(self.classifier, layout, rows)
        finish = finish_rows if self.classifier.thresholds is None else finish_label_sets
        return lambda: finish(self.classifier, self.results, begun)
