"""`report.html` and `MODEL_CARD.md` of a run with several labels per row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from textclf.data.examples import Split
from textclf.files.writing import write_text
from textclf.runs.pages.charts import Quality, draw_charts
from textclf.runs.pages.model_card import architecture_of, front_matter, write_card
from textclf.runs.pages.page_template import render
from textclf.runs.pages.rows import PREDICTIONS, PredictedRows, rows_on_page, shown_text, write_predictions
from textclf.runs.pages.writing import Pages
from textclf.runs.record.training_log import read_steps
from textclf.runs.tasks.multi_label.mistakes import LabelSetMistake, labelled_rows, most_confused, worst_mistakes
from textclf.runs.tasks.multi_label.page_values import LabelSetPageValues
from textclf.runs.tasks.multi_label.record import LabelSetRunMetrics

_QUALITY = Quality("validation_micro_f1", "validation_macro_f1", "Micro-F1 and macro-F1")


def pages_of(
    split: Split, probabilities: np.ndarray, thresholds: np.ndarray, labels: Sequence[str], separator: str
) -> Pages:
    """Returns what writes the pages of a run; `probabilities` are those of the reported split, float [rows, labels]. In tables,
    the `separator` is between the labels of a row."""
    mistakes = worst_mistakes(split, probabilities, thresholds, labels)
    predicted = labelled_rows(split, probabilities, thresholds, labels, separator)
    return {
        "report.html": partial(write_report, mistakes=mistakes, predicted=predicted),
        PREDICTIONS: partial(write_predictions, found=predicted),
        "MODEL_CARD.md": write_model_card,
    }


def write_report(
    folder: Path, metrics: LabelSetRunMetrics, mistakes: Sequence[LabelSetMistake], predicted: PredictedRows
) -> None:
    """Writes `report.html` into the run folder, with the rows `predicted`. The training curves come from the folder's
    `log.jsonl`."""
    import yaml

    values = LabelSetPageValues.of(metrics)
    recipe = yaml.safe_dump(values.recipe, sort_keys=False, allow_unicode=True, width=100) if values.recipe else None
    pairs = most_confused(values.headline)
    page = render(
        "label_sets_report.html",
        values,
        escape=True,
        charts=draw_charts(read_steps(folder), metrics.history, metrics.best_epoch, _QUALITY),
        pairs=pairs,
        mistakes=mistakes,
        shortened=shown_text,
        recipe_text=recipe,
        **rows_on_page(predicted, [(pair.missing, pair.wrong) for pair in pairs]),
    )
    write_text(folder / "report.html", page)


def write_model_card(folder: Path, metrics: LabelSetRunMetrics) -> None:
    """Writes `MODEL_CARD.md` into the run folder."""
    values = LabelSetPageValues.of(metrics)
    headline = values.headline
    results = [
        {"type": "f1", "name": "Micro-F1", "value": round(headline.micro_f1, 4)},
        {"type": "f1", "name": "Macro-F1", "value": round(headline.macro_f1, 4)},
    ]
    task = ("text-classification", "Multi-label text classification")
    tags = [
        "text-classification", "multi-label-classification", *architecture_of(values), "tflite", "litert", "mediapipe", "textclf",
    ]  # fmt: skip
    write_card(folder, "label_sets_model_card.md", values, front_matter(values, task, "csv", results, tags, ["f1"]))
