"""The values that both pages of a question answering run show: the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textclf.classify.question_answering.evaluation import AnswerMetrics
from textclf.classify.question_answering.metrics import AnswerScores
from textclf.runs.pages.page_template import WEIGHTS, file_of
from textclf.runs.record.metrics_file import Engine, Seeds
from textclf.runs.record.private_paths import short_names, without_folders
from textclf.runs.tasks.question_answering.record import AnswerCalibration, AnsweringMetrics
from textclf.tflite.question_answering import TASK_LIBRARY_LENGTH


@dataclass(frozen=True)
class AnsweringPageValues:
    """The values of a page. `headline` holds the metrics of `split`, which the page reports first; `right` of its questions
    are exact matches. `kinds` are the questions with and without an answer, if there are both."""

    metrics: AnsweringMetrics
    warnings: list[str]
    findings: list[str]
    stopped: str | None
    model_maker: Engine | None
    """None if textclf trained the model itself."""

    layers: int | None
    calibration: AnswerCalibration | None
    seeds: Seeds | None
    weights: str | None
    withheld: str | None
    measured: dict[str, AnswerMetrics]
    split: str
    headline: AnswerMetrics
    right: int
    kinds: list[tuple[str, str, AnswerScores]]
    files: list[tuple[str, str]]
    source: str
    is_builtin: bool
    recipe: Mapping[str, Any] | None
    rows_file: str | None
    max_length: int
    question_length: int
    phone_length: int

    @classmethod
    def of(cls, metrics: AnsweringMetrics) -> AnsweringPageValues:
        measured = metrics.measured
        split, headline = next(iter(measured.items()))
        names = short_names([Path(name) for name in metrics.files])
        recipe = without_folders(metrics.recipe)
        encoder = recipe["encoder"] if recipe else {}
        return cls(
            metrics=metrics,
            warnings=list(metrics.warnings),
            findings=[finding for finding in metrics.findings if finding not in metrics.warnings],
            stopped=metrics.stopped,
            model_maker=metrics.engine if metrics.engine.name == "model-maker" else None,
            layers=metrics.encoder.configured("num_hidden_layers"),
            calibration=metrics.calibration,
            seeds=metrics.seeds,
            weights=WEIGHTS.get(metrics.export.quantization or ""),
            withheld=metrics.export.withheld,
            measured=measured,
            split=split,
            headline=headline,
            right=round(headline.server.exact_match * headline.server.count),
            kinds=_kinds(headline),
            files=[(names[Path(name)], digest) for name, digest in metrics.files.items()],
            source=without_folders(metrics.encoder.source),
            is_builtin=metrics.encoder.source.split(":")[0] == "builtin",
            recipe=recipe,
            rows_file=file_of(split, recipe),
            max_length=encoder.get("max_length", TASK_LIBRARY_LENGTH),
            question_length=encoder.get("question_length", 64),
            phone_length=TASK_LIBRARY_LENGTH,
        )


def _kinds(metrics: AnswerMetrics) -> list[tuple[str, str, AnswerScores]]:
    kinds = []
    for place, one in metrics.by_place.items():
        if one.has_answer is not None and one.no_answer is not None:
            kinds += [(place, "with an answer", one.has_answer), (place, "without an answer", one.no_answer)]
    return kinds
