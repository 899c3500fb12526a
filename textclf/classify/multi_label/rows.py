"""Adds several labels to a chunk of a table's rows, as `classify/tables/rows.py` adds one."""

from __future__ import annotations

from collections.abc import Sequence

from textclf.classify.classifier import Classifier, are_numbers
from textclf.classify.tables.rows import (
    ERROR_COLUMN,
    BegunRows,
    ClassifiedRows,
    NumberColumn,
    ResultOptions,
    RowResults,
    TableLayout,
    Tally,
    cell_of,
    place_of,
    problem_of,
    written_rows,
)
from textclf.data.multi_label.label_sets import flag_of, parts_of
from textclf.data.tables.table import Row
from textclf.errors import ArgumentError

LABELS_COLUMN = "predicted_labels"


def check_options(model: str, *, top_k: int) -> None:
    """Raises ArgumentError for options of `classify_file` that mean nothing for several labels."""
    if top_k > 1:
        raise ArgumentError(
            f"{model}: top_k (--top-k) is {top_k}, but the model gives a row any number of labels; use scores (--scores) for the "
            "probability of every label"
        )


def label_set_columns(labels: Sequence[str], options: ResultOptions) -> list[str]:
    """Returns the names of the columns that a job adds, in their order."""
    names = [LABELS_COLUMN]
    if options.scores:
        names += [NumberColumn(f"{options.column_prefix}score:{label}") for label in labels]
    names[0] = options.column_prefix + names[0]
    return [*names, options.column_prefix + ERROR_COLUMN] if options.errors else names


def finish_label_sets(classifier: Classifier, options: ResultOptions, begun: BegunRows) -> ClassifiedRows:
    """Waits for the probabilities of a chunk and returns its rows with their labels, joined by the model's separator.

    The tally counts a row for each of its labels, and as rejected if it has none. True labels are compared if the layout has
    their columns. Raises ModelError for an output that is not a number, if there is no column for the reason.
    """
    probabilities = begun.pending.result()
    tally = Tally(truncated=int(begun.pending.truncated.sum()))
    cells: dict[int, list[str] | None] = {}
    choices = classifier.choose(probabilities, options.reject_below)
    usable = are_numbers(probabilities).tolist()
    for position, choice, row, is_usable in zip(begun.usable, choices, probabilities.tolist(), usable, strict=True):
        scores = [f"{value:.6f}" for value in row] if options.scores else []
        cells[position] = [choice.label, *scores] if is_usable else None
        if is_usable:
            tally.labels.update(choice.labels)
            tally.rejected += not choice.labels
            _compare(tally, classifier, choice.labels, begun.rows[position], begun.layout)
    width = len(label_set_columns(classifier.labels, options)) - options.errors
    results = RowResults(cells, width, errors=options.errors, result="label", problem_of=problem_of)
    return written_rows(begun.rows, begun.layout, results, tally)


def _compare(tally: Tally, classifier: Classifier, predicted: Sequence[str], row: Row, layout: TableLayout) -> None:
    """Counts the labels of a row beside its true ones, if these are known. A row without true labels is one to which none
    applies."""
    if layout.flag_columns:
        cells = [cell_of(row, column) for column in layout.flag_columns]
        unknown = next((cell for cell in cells if flag_of(cell) is None), None)
        truth = [label for label, cell in zip(classifier.labels, cells, strict=True) if flag_of(cell)]
    elif layout.label_column is not None:
        truth = parts_of(cell_of(row, layout.label_column), classifier.label_separator)
        unknown = next((label for label in truth if label not in classifier.labels), None)
    else:
        return
    if unknown is None:
        tally.label_sets.count(predicted, truth)
    else:
        tally.unknown_truths.add(unknown, f"{layout.name} {place_of(row)}")
