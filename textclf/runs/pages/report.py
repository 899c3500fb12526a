"""`report.html`: the results of a run as one page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textclf.classify.metrics import LabelMetrics, Metrics
from textclf.files.writing import write_text
from textclf.runs.pages.charts import draw_charts
from textclf.runs.pages.mistakes import Mistake, most_confused
from textclf.runs.pages.page_template import PageValues, render
from textclf.runs.pages.rows import PredictedRows, rows_on_page, shown_text
from textclf.runs.record.training_log import read_steps
from textclf.runs.tasks.classification.record import ClassificationMetrics

# The largest confusion matrix that can be read on a page.
_GRID_LABELS = 20

_WEAKEST_LABELS = 20


def write_report(
    folder: Path, metrics: ClassificationMetrics, mistakes: Sequence[Mistake], predicted: PredictedRows
) -> None:
    """Writes `report.html` into the run folder, with the rows `predicted`. The training curves come from the folder's
    `log.jsonl`."""
    import yaml

    values = PageValues.of(metrics)
    headline = values.headline
    by_weakness = sorted((label for label in headline.per_label if label.support), key=lambda label: label.f1)
    has_grid = len(headline.per_label) <= _GRID_LABELS
    pairs = most_confused(headline)
    recipe = yaml.safe_dump(values.recipe, sort_keys=False, allow_unicode=True, width=100) if values.recipe else None
    page = render(
        "report.html",
        values,
        escape=True,
        charts=draw_charts(read_steps(folder), metrics.history, metrics.best_epoch),
        grid=_grid(headline) if has_grid else None,
        pairs=pairs,
        weakest=None if has_grid else by_weakness[:_WEAKEST_LABELS],
        mistakes=mistakes,
        shortened=shown_text,
        recipe_text=recipe,
        **rows_on_page(predicted, [(pair.label, pair.predicted) for pair in pairs]),
    )
    write_text(folder / "report.html", page)


def _grid(metrics: Metrics) -> list[tuple[LabelMetrics, list[tuple[int, float]]]]:
    """Each true label with its cells: the number of rows, and their share of the label's rows."""
    return [
        (label, [(count, count / max(label.support, 1)) for count in counts])
        for label, counts in zip(metrics.per_label, metrics.confusion_matrix().tolist(), strict=True)
    ]
