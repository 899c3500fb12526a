"""The rows of a split with what a model predicts for them: with what is missing and what is wrong in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textclf.classify.multi_label.metrics import LabelSetMetrics, predicted_sets
from textclf.data.examples import Split
from textclf.runs.pages.formats import percent
from textclf.runs.pages.rows import Column, PredictedRows, joined_texts, text_fields

MISTAKES = 30

CONFUSED_PAIRS = 25


@dataclass(frozen=True)
class LabelSetMistake:
    """A row with wrong labels; `row` is its number in a spreadsheet.

    `right` labels are predicted and true, `wrong` only predicted, `missing` only true; the latter two have the model's
    probability.
    """

    row: int
    text: str
    right: list[str]
    wrong: list[tuple[str, float]]
    missing: list[tuple[str, float]]


@dataclass(frozen=True)
class ConfusedLabels:
    """In `rows` rows, `missing` is right and not predicted while `wrong` is predicted and not right; `share` is their part of
    all rows of `missing`, in 0..1."""

    missing: str
    wrong: str
    rows: int
    share: float


def worst_mistakes(
    split: Split, probabilities: np.ndarray, thresholds: np.ndarray, labels: Sequence[str], limit: int = MISTAKES
) -> list[LabelSetMistake]:
    """Returns the wrong rows of a split, the most confident mistake first, at most `limit`.

    `probabilities` are float [rows, labels] in the order of the split.
    """
    predicted, truth = predicted_sets(probabilities, thresholds), split.labels
    wrong = np.flatnonzero((predicted != truth).any(axis=1))
    doubts = _doubts(probabilities, truth)[wrong]
    return [
        LabelSetMistake(
            row=split.rows[row],
            text="\n".join(split.texts[row]),
            right=[label for label, _ in _named(labels, probabilities[row], predicted[row] & truth[row])],
            wrong=_named(labels, probabilities[row], predicted[row] & ~truth[row]),
            missing=_named(labels, probabilities[row], truth[row] & ~predicted[row]),
        )
        for row in wrong[np.argsort(-doubts, kind="stable")][:limit]
    ]


def labelled_rows(
    split: Split, probabilities: np.ndarray, thresholds: np.ndarray, labels: Sequence[str], separator: str
) -> PredictedRows:
    """Returns the rows of a split with their predicted labels: those with the most certain mistake first, then those whose
    labels are all correct, the least certain first.

    `probabilities` are float [rows, labels] in the order of the split. In a field, the `separator` is between labels.
    """
    predicted, truth = predicted_sets(probabilities, thresholds), split.labels.astype(bool)
    is_right = (predicted == truth).all(axis=1)

    def shown(row: int, chosen: np.ndarray) -> str:
        return ", ".join(f"{label} ({percent(score)})" for label, score in _named(labels, probabilities[row], chosen))

    def cells(row: int) -> tuple[str, ...]:
        given, true = predicted[row], truth[row]
        found = (shown(row, chosen) for chosen in (given & ~true, true & ~given, given & true))
        return str(split.rows[row]), joined_texts(split, row), *found

    def fields(row: int) -> tuple[object, ...]:
        sets = (
            separator.join(labels[index] for index in np.flatnonzero(one[row]).tolist()) for one in (truth, predicted)
        )
        return split.rows[row], *split.texts[row], *sets

    return PredictedRows(
        columns=(
            Column("Row", "number", "row"),
            Column("Text", "text"),
            Column("Wrong", "given", "wrong"),
            Column("Missing", "label", "missing"),
            Column("Right", "label", "right"),
        ),
        labels=labels,
        true=[tuple(np.flatnonzero(row).tolist()) for row in truth],
        predicted=[tuple(np.flatnonzero(row).tolist()) for row in predicted],
        is_right=is_right,
        order=np.lexsort((-_doubts(probabilities, truth), is_right)),
        cells=cells,
        header=("row", *text_fields(split), "true_labels", "predicted_labels"),
        fields=fields,
    )


def _doubts(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns for each row how certain the model is of its worst label, in 0..1."""
    worst: np.ndarray = np.where(truth, 1 - probabilities, probabilities).max(axis=1)
    return worst


def _named(labels: Sequence[str], probabilities: np.ndarray, chosen: np.ndarray) -> list[tuple[str, float]]:
    """Returns the chosen labels of a row with their probabilities."""
    return [(labels[index], float(probabilities[index])) for index in np.flatnonzero(chosen).tolist()]


def most_confused(metrics: LabelSetMetrics, limit: int = CONFUSED_PAIRS) -> list[ConfusedLabels]:
    """Returns the pairs of a missing and a wrong label with the most rows, the largest first, at most `limit`."""
    labels = metrics.per_label
    pairs = sorted(metrics.confusions, key=lambda pair: -pair[2])[:limit]
    return [
        ConfusedLabels(labels[missing].label, labels[wrong].label, rows, rows / labels[missing].support)
        for missing, wrong, rows in pairs
    ]
