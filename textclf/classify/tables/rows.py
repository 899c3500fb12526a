"""Adds results to a chunk of a table's rows: returns the rows as text, and counts of what was found in them.

Nothing here opens a file or stores anything between chunks: `classify_rows` returns the same result for the same chunk
everywhere, so it can also be a task of a distributed engine. `begin_rows` and `finish_rows` are its two halves, for
callers that continue to read while the interpreters work. `written_rows` writes the results of any task.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from textclf.classify.classifier import NOT_A_NUMBER, Choice, Classifier, Pending, are_numbers
from textclf.classify.multi_label.counts import LabelSetCounts
from textclf.classify.texts import NO_TEXT
from textclf.data.tables.table import Dialect, Row
from textclf.errors import ModelError
from textclf.recipe.values import quoted

_Key = TypeVar("_Key")

ERROR_COLUMN = "error"

# The number of unknown labels that are stored by name, and the stored length of each.
_UNKNOWN_LABELS = 20

_UNKNOWN_CHARACTERS = 100


@dataclass(frozen=True)
class ResultOptions:
    """The columns to add. Labels with a probability (0 to 1) below `reject_below` are replaced by the reject label.

    For a model of several labels it is None or takes the place of their thresholds. `column_prefix` is put before the names
    of the added columns.
    """

    scores: bool = False
    top_k: int = 1
    reject_below: float | None = 0.0
    errors: bool = True
    column_prefix: str = ""


@dataclass(frozen=True)
class TableLayout:
    """How the rows of a table are read and written.

    `width` is the number of its columns; `text_columns`, `label_column` and `flag_columns` (a column of 0 and 1 for each
    label of the model) are indices; `target` is how the output is
    written and `line_end` what ends a row that has none. `places` are the columns of the output, of which there are
    `output_width`, in which the row's columns are written; None where they are the first ones, in their order. `name`
    is the table's, for messages. `form` is how the output is written if it is not delimited text.
    """

    source: Dialect
    target: Dialect
    width: int
    text_columns: tuple[int, ...]
    label_column: int | None
    line_end: str
    output_width: int
    places: tuple[int, ...] | None = None
    name: str = ""
    form: RowForm | None = None
    flag_columns: tuple[int, ...] = ()


class RowForm(Protocol):
    """How rows are written that are not delimited text: as lines of text with their line end."""

    def row(self, row: Row, cells: Sequence[str], layout: TableLayout) -> str: ...

    def blank(self, row: Row) -> str: ...


class NumberColumn(str):
    """The name of an added column whose cells are numbers."""


class WholeNumberColumn(NumberColumn):
    """The name of an added column whose cells are whole numbers."""


@dataclass
class Tally:
    """Counts over rows, which can be added.

    `rows` are all rows, `labels` those that got a label, by label (of a model that answers questions: `answer` or `no
    answer`); `errors` those that got none, by reason; `truncated` texts of which only the first part was read;
    `rejected` those below the bound; `blank_lines` are no rows; of
    `uneven_rows`, last cells that nobody needs are missing, or empty ones follow. `confusion[i][j]` counts rows of true
    label i with label j; `unknown_truths` rows with a true label not in the model. `label_sets` compares the rows of a model
    of several labels.
    """

    rows: int = 0
    blank_lines: int = 0
    truncated: int = 0
    rejected: int = 0
    uneven_rows: int = 0
    unknown_truths: UnknownLabels = field(default_factory=lambda: UnknownLabels())
    labels: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    confusion: dict[int, Counter[int]] = field(default_factory=dict)
    label_sets: LabelSetCounts = field(default_factory=LabelSetCounts)

    def add(self, other: Tally) -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unknown_truths.update(other.unknown_truths)
        self.labels.update(other.labels)
        self.errors.update(other.errors)
        for truth, counts in other.confusion.items():
            self.confusion.setdefault(truth, Counter()).update(counts)
        self.label_sets.update(other.label_sets)

    def copy(self) -> Tally:
        total = Tally()
        total.add(self)
        return total

    def as_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "unknown_truths": self.unknown_truths.count,
            "unknown_labels": {label: list(found) for label, found in self.unknown_truths.labels.items()},
            "labels": dict(self.labels),
            "errors": dict(self.errors),
            "confusion": {str(truth): {str(k): n for k, n in row.items()} for truth, row in self.confusion.items()},
            **({"label_sets": self.label_sets.as_dict()} if self.label_sets.rows else {}),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Tally:
        """Raises ValueError for what `as_dict` has not written, in this version or the first."""
        if not isinstance(values, dict) or not {"rows", "blank_lines", "labels", "errors", "confusion"} <= set(values):
            raise ValueError("no tally")
        confusion = {int(truth): _counter(row, int) for truth, row in _items(values["confusion"])}
        return cls(
            **{name: _count_of(values.get(name, 0)) for name in _COUNTS},
            unknown_truths=UnknownLabels.from_dict(values.get("unknown_truths", 0), values.get("unknown_labels", {})),
            labels=_counter(values["labels"], str),
            errors=_counter(values["errors"], str),
            confusion=confusion,
            label_sets=LabelSetCounts.from_dict(values["label_sets"]) if "label_sets" in values else LabelSetCounts(),
        )


_COUNTS = ("rows", "blank_lines", "truncated", "rejected", "uneven_rows")


@dataclass
class UnknownLabels:
    """True labels that the model does not know: the number of rows, and for the first labels their rows and first
    place."""

    count: int = 0
    labels: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, label: str, place: str) -> None:
        self.count += 1
        self._add(label[:_UNKNOWN_CHARACTERS], 1, place)

    def update(self, other: UnknownLabels) -> None:
        self.count += other.count
        for label, (count, place) in other.labels.items():
            self._add(label, count, place)

    def _add(self, label: str, count: int, place: str) -> None:
        if label in self.labels or len(self.labels) < _UNKNOWN_LABELS:
            before, first = self.labels.get(label, (0, place))
            self.labels[label] = before + count, first

    def described(self, known: Sequence[str]) -> str:
        """Returns the labels with their rows, and the `known` label that each may be."""
        shown = []
        for label, (count, place) in sorted(self.labels.items(), key=lambda item: -item[1][0])[:5]:
            meant = _near_label(label, known)
            hint = f"; did you mean {quoted(meant)}?" if meant is not None else ""
            shown.append(f"{quoted(label) if label.strip() else 'no label'} ({rows_text(count)}, first {place}{hint})")
        more = self.count - sum(count for count, _ in sorted(self.labels.values(), reverse=True)[:5])
        if more:
            shown.append(f"others ({rows_text(more)})")
        return (
            ", ".join(shown)
            if any("did you mean" in one for one in shown)
            else (f"{', '.join(shown)}; it knows {', '.join(map(quoted, known[:20]))}")
        )

    @classmethod
    def from_dict(cls, count: Any, labels: Any) -> UnknownLabels:
        found = cls(_count_of(count))
        for label, entry in _items(labels):
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)):
                raise ValueError("no unknown label")
            found.labels[label] = _count_of(entry[0]), entry[1]
        return found


def _near_label(label: str, known: Sequence[str]) -> str | None:
    """Returns the known label that was probably meant: the same number, or a similar spelling."""
    number = _number(label)
    if number is not None:
        return next((one for one in known if _number(one) == number), None)
    folded = {one.strip().casefold(): one for one in known}
    near = difflib.get_close_matches(label.strip().casefold(), folded, n=1)
    return folded[near[0]] if near else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def rows_text(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _items(values: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(values, dict):
        raise ValueError("no mapping")
    return values.items()


def _count_of(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("no count")
    return value


def _counter(values: Any, kind: Callable[[str], _Key]) -> Counter[_Key]:
    return Counter({kind(key): _count_of(count) for key, count in _items(values)})


@dataclass(frozen=True)
class BegunRows:
    """A chunk whose texts are being classified. `usable` are the positions of its rows with texts."""

    rows: Sequence[Row]
    layout: TableLayout
    usable: Sequence[int]
    pending: Pending


@dataclass(frozen=True)
class ClassifiedRows:
    """The chunk's rows as text of the output, and the counts."""

    text: str
    tally: Tally


def classify_rows(
    classifier: Classifier, layout: TableLayout, options: ResultOptions, rows: Sequence[Row]
) -> ClassifiedRows:
    """Returns every row of the chunk, in its order, with the columns of `added_columns` at its end."""
    return finish_rows(classifier, options, begin_rows(classifier, layout, rows))


def begin_rows(classifier: Classifier, layout: TableLayout, rows: Sequence[Row]) -> BegunRows:
    usable = [position for position, row in enumerate(rows) if problem_of(row, layout) is None and not is_blank(row)]
    texts = [tuple(rows[position].fields[column] for column in layout.text_columns) for position in usable]
    return BegunRows(rows, layout, usable, classifier.submit(texts))


def finish_rows(classifier: Classifier, options: ResultOptions, begun: BegunRows) -> ClassifiedRows:
    """Raises ModelError for an output that is not a number, if there is no column for the reason."""
    probabilities = begun.pending.result()
    tally = Tally(truncated=int(begun.pending.truncated.sum()))
    cells: dict[int, list[str] | None] = {}
    for position, result in zip(begun.usable, _results(classifier, options, probabilities), strict=True):
        cells[position] = None if result is None else result.cells
        if result is not None:
            _count(tally, classifier, result, begun.rows[position], begun.layout)
    results = RowResults(
        cells,
        len(added_columns(classifier.labels, options)) - options.errors,
        errors=options.errors,
        result="label",
        problem_of=problem_of,
    )
    return written_rows(begun.rows, begun.layout, results, tally)


@dataclass(frozen=True)
class RowResults:
    """What a model has found for a chunk of rows.

    `cells` are the new cells of the rows that were given to the model, by position; None for an output that is not a
    number. Every other row has a problem, which `problem_of` returns as a word to count by and a message. `width` is the
    number of cells. With `errors` there is one more, for the problem. `result` names what a row gets, for messages.
    """

    cells: Mapping[int, Sequence[str] | None]
    width: int
    errors: bool
    result: str
    problem_of: Callable[[Row, TableLayout], tuple[str, str] | None]


def written_rows(rows: Sequence[Row], layout: TableLayout, results: RowResults, tally: Tally) -> ClassifiedRows:
    """Returns the rows with their new cells at the end; `tally` already counts the results, and here the rows.

    Raises ModelError for an output that is not a number, if there is no column for the reason.
    """
    lines = []
    for position, row in enumerate(rows):
        if is_blank(row):
            tally.blank_lines += 1
            lines.append(_blank_line(row, layout))
            continue
        tally.rows += 1
        found = results.cells.get(position)
        if found is not None:
            tally.uneven_rows += len(row.fields) != layout.width
            cells = [*found, ""] if results.errors else found
        else:
            reason, message = results.problem_of(row, layout) or ("model", f"its output {NOT_A_NUMBER}")
            if not results.errors:
                raise ModelError(f"{layout.name}: {place_of(row)} gets no {results.result} from the model: {message}")
            tally.errors[reason] += 1
            cells = [*[""] * results.width, f"{reason}: {message}"]
        lines.append(extended(row, cells, layout))
    return ClassifiedRows("".join(lines), tally)


def added_columns(labels: Sequence[str], options: ResultOptions) -> list[str]:
    """Returns the names of the columns that a job adds, in their order."""
    prefix = options.column_prefix
    names = [f"{prefix}predicted_label", NumberColumn(f"{prefix}predicted_score")]
    for rank in range(2, min(options.top_k, len(labels)) + 1):
        names += [f"{prefix}predicted_label_{rank}", NumberColumn(f"{prefix}predicted_score_{rank}")]
    if options.scores:
        names += [NumberColumn(f"{prefix}score:{label}") for label in labels]
    if options.errors:
        names.append(prefix + ERROR_COLUMN)
    return names


def place_of(row: Row) -> str:
    return f"row {row.number}" if row.number == row.line else f"row {row.number} (line {row.line})"


def is_blank(row: Row) -> bool:
    """Returns whether a line is empty. No program reads it as a row, so it is written unchanged."""
    return row.fault is not None and row.fault.kind == "blank" and len(row.fields) <= 1 and not row.raw.strip()


def problem_of(row: Row, layout: TableLayout) -> tuple[str, str] | None:
    """Returns why a row gets no label: a word to count by, and a message."""
    if row.fault is not None or len(row.fields) != layout.width:
        fault = fault_of(row, layout)
        if fault is not None:
            return fault
    for column in layout.text_columns:
        if row.fields[column].strip():
            return None
    return "empty", NO_TEXT


def fault_of(row: Row, layout: TableLayout) -> tuple[str, str] | None:
    """Returns why a row cannot be read, whatever its texts: a word to count by, and a message."""
    fault = row.fault
    if fault is not None and fault.kind == "length":
        return "length", f"{fault.message}; only its beginning is kept here"
    if _is_uneven(row, layout):
        return None
    if fault is not None and fault.kind != "blank":
        return fault.kind, fault.message
    if len(row.fields) != layout.width:
        return "fields", f"has {len(row.fields)} fields, but the header has {layout.width} columns"
    return None


def _is_uneven(row: Row, layout: TableLayout) -> bool:
    """Returns whether nothing is wrong with a row but that cells which hold no text to classify are missing at its end,
    or empty ones follow.

    Spreadsheets leave out empty cells at the end of a row; other programs end each row with a delimiter.
    """
    if not (row.fault is None or row.fault.kind == "fields"):
        return False
    return max(layout.text_columns) < len(row.fields) and not any(row.fields[layout.width :])


def true_label(row: Row, layout: TableLayout) -> str:
    """Returns the cell of the true label, empty where a row ends before it."""
    assert layout.label_column is not None
    return cell_of(row, layout.label_column)


def cell_of(row: Row, column: int) -> str:
    """Returns a cell, empty where the row ends before it."""
    return row.fields[column] if column < len(row.fields) else ""


def extended(row: Row, cells: Sequence[str], layout: TableLayout) -> str:
    """Returns the row as it is in the file, with more cells at its end.

    Only a row that would no longer be read correctly is rewritten: its fields are reduced to the table's columns, with
    additional fields joined into the last. If the quotes of a row do not match, all its text is written into the first.
    """
    if layout.form is not None:
        return layout.form.row(row, cells, layout)
    body = row.raw.rstrip("\r\n")
    line_end = row.raw[len(body) :] or layout.line_end
    if (
        not _is_broken(row)
        and layout.places is None
        and layout.source == layout.target
        and 0 < len(row.fields) <= layout.width
    ):
        own = body + layout.target.delimiter * (layout.output_width - len(row.fields))
    else:
        own = _cells(placed_fields(row, layout), layout.target)
    return f"{own}{layout.target.delimiter}{_cells(cells, layout.target)}{line_end}"


def _is_broken(row: Row) -> bool:
    return row.fault is not None and (row.fault.kind in ("quote", "length", "json") or not row.fields)


def placed_fields(row: Row, layout: TableLayout) -> list[str]:
    """Returns the fields of a row in the columns of the output; the text of a broken row is in the first."""
    fields: Sequence[str] = [row.raw.rstrip("\r\n")] if _is_broken(row) else row.fields
    last = layout.width - 1
    if any(fields[layout.width :]):
        fields = [*fields[:last], layout.source.delimiter.join(fields[last:])]
    placed = [""] * layout.output_width
    for place, value in zip(layout.places or range(layout.width), fields, strict=False):
        placed[place] = value
    return placed


def _cells(values: Sequence[str], dialect: Dialect) -> str:
    return dialect.delimiter.join(_cell(value, dialect) for value in values)


def _cell(value: str, dialect: Dialect) -> str:
    quote = dialect.quote
    needs_quotes = any(mark in value for mark in (*dialect.delimiter, quote, "\n", "\r"))
    if not dialect.quotes:
        # Such a table cannot contain these characters; they become spaces.
        return value.replace(dialect.delimiter, " ").translate({ord(mark): " " for mark in "\n\r"})
    if dialect.backslash and (needs_quotes or "\\" in value):
        return quote + value.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote
    return quote + value.replace(quote, quote * 2) + quote if needs_quotes else value


def _blank_line(row: Row, layout: TableLayout) -> str:
    if layout.form is not None:
        return layout.form.blank(row)
    return row.raw if row.raw.endswith(("\n", "\r")) else row.raw + layout.line_end


@dataclass(frozen=True)
class _Result:
    """Returns the cells of a row and the index of its label, or None for a reject label that is not a label of the
    model."""

    cells: list[str]
    label: str
    index: int | None
    rejected: bool


def _results(classifier: Classifier, options: ResultOptions, probabilities: np.ndarray) -> list[_Result | None]:
    """Returns None for a row whose probabilities are not numbers."""
    labels = classifier.labels
    reject_index = labels.index(classifier.reject_label) if classifier.reject_label in labels else None
    count = min(options.top_k, len(labels))
    # A stable order: for equal probabilities the first label wins, as everywhere.
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :count].tolist()
    choices = classifier.choose(probabilities, options.reject_below)
    usable = are_numbers(probabilities).tolist()
    results: list[_Result | None] = []
    for row, best, choice, is_usable in zip(probabilities.tolist(), ranked, choices, usable, strict=True):
        index = reject_index if choice.rejected else choice.best
        cells = _result_cells(labels, options, row, best, choice)
        results.append(_Result(cells, choice.label, index, choice.rejected) if is_usable else None)
    return results


def _result_cells(
    labels: Sequence[str], options: ResultOptions, row: Sequence[float], ranked: Sequence[int], choice: Choice
) -> list[str]:
    cells = [choice.label, f"{row[choice.best]:.6f}"]
    for index in ranked[1:]:
        cells += [labels[index], f"{row[index]:.6f}"]
    if options.scores:
        cells += [f"{value:.6f}" for value in row]
    return cells


def _count(tally: Tally, classifier: Classifier, result: _Result, row: Row, layout: TableLayout) -> None:
    tally.labels[result.label] += 1
    tally.rejected += result.rejected
    if layout.label_column is None:
        return
    truth = true_label(row, layout)
    if truth not in classifier.labels:
        tally.unknown_truths.add(truth, f"{layout.name} {place_of(row)}")
    elif result.index is not None:
        tally.confusion.setdefault(classifier.labels.index(truth), Counter())[result.index] += 1
