"""The values that both pages of a run with several labels show: the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textclf.classify.multi_label.metrics import LabelSetLabel, LabelSetMetrics
from textclf.runs.pages.page_template import FEW_ROWS, WEAK_F1, WEIGHTS, file_of
from textclf.runs.record.metrics_file import Seeds
from textclf.runs.record.private_paths import short_names, without_folders
from textclf.runs.tasks.multi_label.long_texts import LabelSetLongTexts, LabelSetSplitWindows
from textclf.runs.tasks.multi_label.record import LabelSetCalibration, LabelSetRunMetrics, LabelSetThresholds


@dataclass(frozen=True)
class LabelSetPageValues:
    """The values of a page. `headline` holds the metrics of `split`, which the page reports first; `is_calibrated` is False if
    all logits are as trained."""

    metrics: LabelSetRunMetrics
    warnings: list[str]
    findings: list[str]
    stopped: str | None
    layers: int | None
    calibration: LabelSetCalibration
    is_calibrated: bool
    thresholds: LabelSetThresholds
    seeds: Seeds | None
    weights: str | None
    withheld: str | None
    measured: dict[str, LabelSetMetrics]
    split: str
    headline: LabelSetMetrics
    files: list[tuple[str, str]]
    source: str
    is_builtin: bool
    recipe: Mapping[str, Any] | None
    rows_file: str | None
    long_texts: LabelSetLongTexts | None
    first_window: LabelSetSplitWindows | None
    """What an app sees of the reported split; None unless the model reads windows."""

    is_pair: bool
    rare: list[str]
    weak: list[LabelSetLabel]
    few_rows: int = FEW_ROWS
    model_maker: None = None

    @classmethod
    def of(cls, metrics: LabelSetRunMetrics) -> LabelSetPageValues:
        measured = metrics.measured
        split, headline = next(iter(measured.items()))
        names = short_names([Path(name) for name in metrics.files])
        recipe = without_folders(metrics.recipe)
        return cls(
            metrics=metrics,
            warnings=list(metrics.warnings),
            findings=[finding for finding in metrics.findings if finding not in metrics.warnings],
            stopped=metrics.stopped,
            layers=metrics.encoder.configured("num_hidden_layers"),
            calibration=metrics.calibration,
            is_calibrated=len(metrics.calibration.left) < len(metrics.labels),
            thresholds=metrics.thresholds,
            seeds=metrics.seeds,
            weights=WEIGHTS.get(metrics.export.quantization or ""),
            withheld=metrics.export.withheld,
            measured=measured,
            split=split,
            headline=headline,
            files=[(names[Path(name)], digest) for name, digest in metrics.files.items()],
            source=without_folders(metrics.encoder.source),
            is_builtin=metrics.encoder.source.split(":")[0] == "builtin",
            recipe=recipe,
            rows_file=file_of(split, recipe),
            long_texts=metrics.long_texts,
            first_window=metrics.long_texts.splits.get(split) if metrics.long_texts is not None else None,
            is_pair=recipe is not None and len(recipe["dataset"]["text"]) == 2,
            rare=[label.label for label in headline.per_label if label.support < FEW_ROWS],
            weak=[label for label in headline.per_label if label.support >= FEW_ROWS and label.f1 < WEAK_F1],
        )
