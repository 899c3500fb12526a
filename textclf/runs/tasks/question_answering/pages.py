"""`report.html` and `MODEL_CARD.md` of a question answering run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from textclf.classify.question_answering.evaluation import MeasuredAnswers
from textclf.data.question_answering.questions import QuestionSplit
from textclf.files.writing import write_text
from textclf.runs.pages.charts import Quality, draw_charts
from textclf.runs.pages.model_card import front_matter, write_card
from textclf.runs.pages.page_template import render
from textclf.runs.pages.rows import PREDICTIONS, PredictedRows, rows_on_page, write_predictions
from textclf.runs.pages.writing import Pages
from textclf.runs.record.training_log import read_steps
from textclf.runs.tasks.question_answering.examples import Examples, answered_rows, examples_of
from textclf.runs.tasks.question_answering.page_values import AnsweringPageValues
from textclf.runs.tasks.question_answering.record import AnsweringMetrics

_QUALITY = Quality("validation_f1", "validation_exact_match", "F1 and exact match")


def pages_of(split: QuestionSplit, measured: MeasuredAnswers) -> Pages:
    """Returns what writes the pages of a run, with the questions of the reported split."""
    predicted = answered_rows(split, measured)
    return {
        "report.html": partial(write_report, examples=examples_of(split, measured), predicted=predicted),
        PREDICTIONS: partial(write_predictions, found=predicted),
        "MODEL_CARD.md": write_model_card,
    }


def write_report(folder: Path, metrics: AnsweringMetrics, examples: Examples, predicted: PredictedRows) -> None:
    """Writes `report.html` into the run folder, with the questions `predicted`. The training curves come from the folder's
    `log.jsonl`."""
    import yaml

    values = AnsweringPageValues.of(metrics)
    recipe = yaml.safe_dump(values.recipe, sort_keys=False, allow_unicode=True, width=100) if values.recipe else None
    page = render(
        "answers_report.html",
        values,
        escape=True,
        charts=draw_charts(read_steps(folder), metrics.history, metrics.best_epoch, _QUALITY),
        examples=examples,
        recipe_text=recipe,
        **rows_on_page(predicted),
    )
    write_text(folder / "report.html", page)


def write_model_card(folder: Path, metrics: AnsweringMetrics) -> None:
    """Writes `MODEL_CARD.md` into the run folder."""
    values = AnsweringPageValues.of(metrics)
    headline = values.headline
    results = [
        {"type": "exact_match", "name": "Exact match", "value": round(headline.server.exact_match, 4)},
        {"type": "f1", "name": "F1", "value": round(headline.server.f1, 4)},
    ]
    if headline.phone is not None:
        results += [
            {"type": "exact_match", "name": "Exact match on a phone", "value": round(headline.phone.exact_match, 4)},
            {"type": "f1", "name": "F1 on a phone", "value": round(headline.phone.f1, 4)},
        ]
    task, tags = (
        ("question-answering", "Question answering"),
        ["question-answering", "mobilebert", "tflite", "litert", "textclf"],
    )
    facts = front_matter(values, task, "squad", results, tags, ["exact_match", "f1"])
    write_card(folder, "answers_model_card.md", values, facts)
