"""The record of a run that has just trained: what `metrics.json` says about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textclf.data.examples import Dataset
from textclf.encoders.interface import AnyEncoder
from textclf.recipe.settings import Recipe
from textclf.runs.record.facts import facts_of_run
from textclf.runs.tasks.classification.exporting import ExportResult
from textclf.runs.tasks.classification.measuring import Measured, over_seeds
from textclf.runs.tasks.classification.record import ClassificationMetrics
from textclf.terminal.progress import Progress

if TYPE_CHECKING:
    from textclf.runs.tasks.classification.engines import Training


def record_of(
    recipe: Recipe,
    dataset: Dataset,
    checkpoint: AnyEncoder,
    training: Training,
    result: ExportResult,
    measured: Measured,
    warnings: Sequence[str],
    progress: Progress,
) -> ClassificationMetrics:
    """The record of a text classifier's run. `warnings` are those about its results; names of folders are left out."""
    return ClassificationMetrics.model_validate(
        {
            **facts_of_run(
                recipe,
                dataset,
                checkpoint,
                engine=training.facts,
                winner=training.winner,
                precision=training.precision,
                warnings=[*training.winner.warnings, *result.warnings, *warnings],
            ),
            "labels": list(dataset.labels),
            "seeds": over_seeds(training.results, progress),
            "calibration": measured.calibration,
            "rejection": measured.rejection,
            "export": result.record(),
            **({"long_texts": long_texts} if (long_texts := result.long_texts) is not None else {}),
            **measured.splits,
        }
    )
