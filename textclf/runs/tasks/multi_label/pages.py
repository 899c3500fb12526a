"""`report.html` and `MODEL_CARD.md` of a run with several labels per row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from textclf.files.writing import write_text
from textclf.runs.pages.charts import Quality, draw_charts
from textclf.runs.pages.formats import shortened
from textclf.runs.pages.model_card import architecture_of, front_matter, write_card
from textclf.runs.pages.page_template import render
from textclf.runs.pages.writing import Pages
from textclf.runs.record.training_log import read_steps
from textclf.runs.tasks.multi_label.mistakes import LabelSetMistake, most_confused
from textclf.runs.tasks.multi_label.page_values import LabelSetPageValues
from textclf.runs.tasks.multi_label.record import LabelSetRunMetrics

_QUALITY = Quality("validation_micro_f1", "validation_macro_f1", "Micro-F1 and macro-F1")

_LONGEST_TEXT = 600


def pages_of(mistakes: Sequence[LabelSetMistake]) -> Pages:
    """Returns what writes the pages of a run, with these rows in the report."""
    return {"report.html": partial(write_report, mistakes=mistakes), "MODEL_CARD.md": write_model_card}


def write_report(folder: Path, metrics: LabelSetRunMetrics, mistakes: Sequence[LabelSetMistake]) -> None:
    """Writes `report.html` into the run folder. The training curves come from the folder's `log.jsonl`."""
    import yaml

    values = LabelSetPageValues.of(metrics)
    recipe = yaml.safe_dump(values.recipe, sort_keys=False, allow_unicode=True, width=100) if values.recipe else None
    page = render(
        "label_sets_report.html",
        values,
        escape=True,
        charts=draw_charts(read_steps(folder), metrics.history, metrics.best_epoch, _QUALITY),
        pairs=most_confused(values.headline),
        mistakes=mistakes,
        shortened=lambda text: shortened(text, _LONGEST_TEXT),
        recipe_text=recipe,
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
