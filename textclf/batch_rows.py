"""A chunk of a table's rows → the same rows with labels, as text, and a tally of what was found in them.

Nothing here opens a file or keeps anything between chunks: `classify_rows` gives the same for the same chunk wherever
it runs, so that it can also be one task of a distributed engine. `begin_rows` and `finish_rows` are its two halves, for
those who read on while the interpreters work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textclf.predictor import Classifier, Pending
from textclf.tables import Dialect, Row

ERROR_COLUMN = "error"


@dataclass(frozen=True)
class ResultOptions:
    """Which columns are added. `reject_below`: labels whose probability (0 to 1) is lower give way to the reject label."""

    scores: bool = False
    top_k: int = 1
    reject_below: float = 0.0
    errors: bool = True


@dataclass(frozen=True)
class TableLayout:
    """How the rows of one table are to be read, and written.

    `width` is the number of its columns; `text_columns` and `label_column` are indices; `target` is how the output is
    written and `line_end` what ends a row that has none.
    """

    source: Dialect
    target: Dialect
    width: int
    text_columns: tuple[int, ...]
    label_column: int | None
    line_end: str


@dataclass
class Tally:
    """Counts over rows, for adding up.

    `rows` are all rows, `labels` those that got a label, by label; `errors` those that got none, by reason; `truncated`
    texts of which only the first part was read; `rejected` those below the bound; `blank_lines` are no rows.
    `confusion[i][j]` counts rows of true label i with label j; `unknown_truths` rows with a true label not in the model.
    """

    rows: int = 0
    blank_lines: int = 0
    truncated: int = 0
    rejected: int = 0
    unknown_truths: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    confusion: dict[int, Counter[int]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.rows += other.rows
        self.blank_lines += other.blank_lines
        self.truncated += other.truncated
        self.rejected += other.rejected
        self.unknown_truths += other.unknown_truths
        self.labels.update(other.labels)
        self.errors.update(other.errors)
        for truth, counts in other.confusion.items():
            self.confusion.setdefault(truth, Counter()).update(counts)

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "blank_lines": self.blank_lines,
            "truncated": self.truncated,
            "rejected": self.rejected,
            "unknown_truths": self.unknown_truths,
            "labels": dict(self.labels),
            "errors": dict(self.errors),
            "confusion": {str(truth): {str(k): n for k, n in row.items()} for truth, row in self.confusion.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tally:
        confusion = {int(i): Counter({int(j): n for j, n in row.items()}) for i, row in values["confusion"].items()}
        counters = {"labels": Counter(values["labels"]), "errors": Counter(values["errors"]), "confusion": confusion}
        return cls(**{**values, **counters})


@dataclass(frozen=True)
class BegunRows:
    """A chunk whose texts are on their way; `usable` are the positions of its rows that have texts."""

    rows: Sequence[Row]
    layout: TableLayout
    usable: Sequence[int]
    pending: Pending


@dataclass(frozen=True)
class ClassifiedRows:
    """The chunk's rows as text of the output, and what was counted."""

    text: str
    tally: Tally


def classify_rows(
    classifier: Classifier, layout: TableLayout, options: ResultOptions, rows: Sequence[Row]
) -> ClassifiedRows:
    """Every row of the chunk, in its order, with the columns of `added_columns` behind its own."""
    return finish_rows(classifier, options, begin_rows(classifier, layout, rows))


def begin_rows(classifier: Classifier, layout: TableLayout, rows: Sequence[Row]) -> BegunRows:
    usable = [position for position, row in enumerate(rows) if problem_of(row, layout) is None and not is_blank(row)]
    texts = [tuple(rows[position].fields[column] for column in layout.text_columns) for position in usable]
    return BegunRows(rows, layout, usable, classifier.submit(texts))


def finish_rows(classifier: Classifier, options: ResultOptions, begun: BegunRows) -> ClassifiedRows:
    probabilities = begun.pending.result()
    tally = Tally(truncated=int(begun.pending.truncated.sum()))
    results = iter(_results(classifier, options, probabilities))
    usable = set(begun.usable)
    no_result = [""] * (len(added_columns(classifier.labels, options)) - options.errors)
    lines = []
    for position, row in enumerate(begun.rows):
        if is_blank(row):
            tally.blank_lines += 1
            lines.append(_blank_line(row, begun.layout))
            continue
        tally.rows += 1
        if position in usable:
            result = next(results)
            _count(tally, classifier, result, row, begun.layout)
            cells = [*result.cells, ""] if options.errors else result.cells
        else:
            reason, message = problem_of(row, begun.layout) or ("", "")
            tally.errors[reason] += 1
            cells = [*no_result, f"{reason}: {message}"]
        lines.append(extended(row, cells, begun.layout))
    return ClassifiedRows("".join(lines), tally)


def added_columns(labels: Sequence[str], options: ResultOptions) -> list[str]:
    """The names of the columns that a job adds, in their order."""
    names = ["predicted_label", "predicted_score"]
    for rank in range(2, min(options.top_k, len(labels)) + 1):
        names += [f"predicted_label_{rank}", f"predicted_score_{rank}"]
    if options.scores:
        names += [f"score:{label}" for label in labels]
    return [*names, ERROR_COLUMN] if options.errors else names


def is_blank(row: Row) -> bool:
    """A line with nothing on it: no program reads it as a row, so it stays as it is."""
    return row.fault is not None and row.fault.kind == "blank" and len(row.fields) <= 1 and not row.raw.strip()


def problem_of(row: Row, layout: TableLayout) -> tuple[str, str] | None:
    """Why a row gets no label: a word to count by, and a message."""
    if row.fault is not None and row.fault.kind == "length":
        return "length", f"{row.fault.message}; only its beginning stands here"
    if row.fault is not None and row.fault.kind != "blank":
        return row.fault.kind, row.fault.message
    if len(row.fields) <= max(layout.text_columns):
        return "fields", f"has {len(row.fields)} fields, but the header has {layout.width} columns"
    if not all(row.fields[column].strip() for column in layout.text_columns):
        return "empty", "has no text"
    return None


def extended(row: Row, cells: Sequence[str], layout: TableLayout) -> str:
    """The row as it stands in the file, with more cells behind it.

    Only a row that would no longer be read right is written anew: its fields are cut to the table's columns, surplus
    ones joined in the last, and of one whose quotes do not fit everything stands in the first.
    """
    body = row.raw.rstrip("\r\n")
    line_end = row.raw[len(body) :] or layout.line_end
    if row.fault is not None and row.fault.kind in ("quote", "length"):
        own = _cells([body] + [""] * (layout.width - 1), layout.target)
    elif len(row.fields) != layout.width:
        own = _cells(_fitted(row.fields, layout), layout.target)
    elif layout.source != layout.target:
        own = _cells(row.fields, layout.target)
    else:
        own = body
    return f"{own}{layout.target.delimiter}{_cells(cells, layout.target)}{line_end}"


def _fitted(fields: Sequence[str], layout: TableLayout) -> list[str]:
    last = layout.width - 1
    if len(fields) > layout.width and not any(fields[layout.width :]):  # only a delimiter too many
        return list(fields[: layout.width])
    if len(fields) > layout.width:
        return [*fields[:last], layout.source.delimiter.join(fields[last:])]
    return [*fields, *[""] * (layout.width - len(fields))]


def _cells(values: Sequence[str], dialect: Dialect) -> str:
    return dialect.delimiter.join(_cell(value, dialect) for value in values)


def _cell(value: str, dialect: Dialect) -> str:
    quote = dialect.quote
    needs_quotes = any(mark in value for mark in (*dialect.delimiter, quote, "\n", "\r"))
    if not dialect.quotes:
        # Such a table has no way to write these; they become spaces.
        return value.replace(dialect.delimiter, " ").translate({ord(mark): " " for mark in "\n\r"})
    if dialect.backslash and (needs_quotes or "\\" in value):
        return quote + value.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote
    return quote + value.replace(quote, quote * 2) + quote if needs_quotes else value


def _blank_line(row: Row, layout: TableLayout) -> str:
    return row.raw if row.raw.endswith(("\n", "\r")) else row.raw + layout.line_end


@dataclass(frozen=True)
class _Result:
    """The cells of one row and the index of its label, None for a reject label that is none of the model's."""

    cells: list[str]
    label: str
    index: int | None
    rejected: bool


def _results(classifier: Classifier, options: ResultOptions, probabilities: np.ndarray) -> list[_Result]:
    labels = classifier.labels
    reject_index = labels.index(classifier.reject_label) if classifier.reject_label in labels else None
    count = min(options.top_k, len(labels))
    # A stable order: of equal probabilities the first label wins, as everywhere.
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :count].tolist()
    results = []
    for row, best in zip(probabilities.tolist(), ranked, strict=True):
        rejected = row[best[0]] < options.reject_below
        label = classifier.reject_label if rejected else labels[best[0]]
        cells = [label, f"{row[best[0]]:.6f}"]
        for index in best[1:]:
            cells += [labels[index], f"{row[index]:.6f}"]
        if options.scores:
            cells += [f"{value:.6f}" for value in row]
        results.append(_Result(cells, label, reject_index if rejected else best[0], rejected))
    return results


def _count(tally: Tally, classifier: Classifier, result: _Result, row: Row, layout: TableLayout) -> None:
    tally.labels[result.label] += 1
    tally.rejected += result.rejected
    if layout.label_column is None:
        return
    truth = row.fields[layout.label_column]
    if truth not in classifier.labels:
        tally.unknown_truths += 1
    elif result.index is not None:
        tally.confusion.setdefault(classifier.labels.index(truth), Counter())[result.index] += 1
