"""The rows of a split with their predictions: a table for the report, which is bounded, and `predictions.csv` with all rows."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from textclf.data.examples import Split
from textclf.files.writing import write_text
from textclf.runs.pages.formats import percent, shortened
from textclf.runs.pages.page_template import template_file

PREDICTIONS = "predictions.csv"

ROWS_SHOWN = 5000
"""The most rows in a report. A browser filters them without a pause, and a page with texts of usual length has 2 MB."""

_LONGEST_TEXT = 600

# This many rows of each pair of labels are in the page before others fill it.
_ROWS_OF_EACH_PAIR = 20


class Column(NamedTuple):
    """A column of the table: its title, its kind (`number`, `text`, `label` or `given`), and what precedes its values on a
    narrow screen, where there are no titles."""

    title: str
    kind: str
    short: str = ""


@dataclass(frozen=True)
class PredictedRows:
    """Every row of a split with its prediction.

    `true` and `predicted` are the indices of each row's labels in `labels`, which the table can be filtered by; for questions
    they are empty. `order` are all rows, int [rows], in the order of their interest. `cells` returns a row of the report's
    table, `fields` one of `predictions.csv` below `header`.
    """

    columns: Sequence[Column]
    labels: Sequence[str]
    true: Sequence[tuple[int, ...]]
    predicted: Sequence[tuple[int, ...]]
    is_right: np.ndarray
    order: np.ndarray
    cells: Callable[[int], tuple[str, ...]]
    header: tuple[str, ...]
    fields: Callable[[int], tuple[object, ...]]


def classified_rows(split: Split, probabilities: np.ndarray, labels: Sequence[str]) -> PredictedRows:
    """Returns the rows of a split that a model with one label for each text classified.

    `probabilities` are float [rows, labels] in the order of the split. The most certain mistakes come first, then the correct
    predictions, the least certain first.
    """
    predicted, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    is_right = predicted == split.labels

    def cells(row: int) -> tuple[str, ...]:
        given, true = labels[predicted[row]], labels[split.labels[row]]
        return str(split.rows[row]), joined_texts(split, row), given, true, percent(float(scores[row]))

    def fields(row: int) -> tuple[object, ...]:
        given, true = labels[predicted[row]], labels[split.labels[row]]
        return split.rows[row], *split.texts[row], true, given, f"{scores[row]:.6f}"

    return PredictedRows(
        columns=(
            Column("Row", "number", "row"),
            Column("Text", "text"),
            Column("Predicted", "given", "predicted"),
            Column("In the data", "label", "in the data"),
            Column("Probability", "number", "probability"),
        ),
        labels=labels,
        true=[(label,) for label in split.labels.tolist()],
        predicted=[(label,) for label in predicted.tolist()],
        is_right=is_right,
        order=np.lexsort((np.where(is_right, scores, -scores), is_right)),
        cells=cells,
        header=("row", *text_fields(split), "true_label", "predicted_label", "predicted_score"),
        fields=fields,
    )


def text_fields(split: Split) -> tuple[str, ...]:
    """Returns the columns of the texts in `predictions.csv`."""
    return ("text", "second_text")[: len(split.texts[0])]


def joined_texts(split: Split, row: int) -> str:
    """Returns the beginning of a row's texts, each on a line."""
    return shown_text("\n".join(split.texts[row]))


def shown_text(text: str) -> str:
    """Returns the beginning of a text, as a report shows it."""
    return shortened(text, _LONGEST_TEXT)


# --- The table of the report -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class RowGroup:
    """Rows of the table that have the same true and predicted labels; `rows` is their number in the split."""

    true: tuple[int, ...]
    predicted: tuple[int, ...]
    is_right: bool
    cells: list[tuple[str, ...]]
    rows: int

    @property
    def left_out(self) -> int:
        return self.rows - len(self.cells)


@dataclass(frozen=True)
class RowTable:
    """The table of a report: `shown` of `rows` rows, in groups in the order of their labels. `labels` are empty for questions."""

    columns: Sequence[Column]
    labels: Sequence[str]
    groups: list[RowGroup]
    shown: int
    rows: int

    @property
    def cells(self) -> set[tuple[int, int]]:
        """The pairs of one true and one predicted label that have a group."""
        return {
            (group.true[0], group.predicted[0]) for group in self.groups if len(group.true) == len(group.predicted) == 1
        }


def row_table(found: PredictedRows, limit: int = ROWS_SHOWN) -> RowTable:
    """Returns the table with at most `limit` rows: the first of each pair of labels, then the wrong ones, then the others."""
    keys = [(found.true[row], found.predicted[row], bool(found.is_right[row])) for row in range(len(found.is_right))]
    counts = Counter(keys)
    ranks: Counter[Any] = Counter()
    ranked: list[tuple[tuple[int, int], int]] = []
    for place, row in enumerate(found.order.tolist()):
        rank = ranks[keys[row]]
        ranks[keys[row]] += 1
        ranked.append(((0, rank) if rank < _ROWS_OF_EACH_PAIR else (1, place), row))
    cells: defaultdict[Any, list[tuple[str, ...]]] = defaultdict(list)
    for _, row in sorted(ranked, key=lambda one: one[0])[:limit]:
        cells[keys[row]].append(found.cells(row))
    groups = [
        RowGroup(true, given, right, cells[true, given, right], counts[true, given, right])
        for true, given, right in sorted(cells)
    ]
    return RowTable(found.columns, found.labels, groups, min(limit, len(keys)), len(keys))


def rows_on_page(found: PredictedRows, pairs: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Returns what the template `rows.html` needs: the table, and its script with the hash that the page's policy allows.

    `pairs` are true and predicted labels whose rows the page links.
    """
    from markupsafe import Markup

    script = template_file("rows.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    label_index = {label: index for index, label in enumerate(found.labels)}
    return {
        "table": row_table(found),
        "label_index": label_index,
        "pair_links": [(label_index[true], label_index[predicted]) for true, predicted in pairs],
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "predictions_file": PREDICTIONS,
    }


# --- The file with all rows ------------------------------------------------------------------------------------------
def write_predictions(folder: Path, _: Any, found: PredictedRows) -> None:
    """Writes `predictions.csv` into the run folder: every row, in the order of the data. Other pages need the metrics."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(found.header)
    writer.writerows(found.fields(row) for row in range(len(found.is_right)))
    write_text(folder / PREDICTIONS, stream.getvalue())
