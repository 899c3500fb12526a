"""The record of a run that has just trained: what `metrics.json` says about it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

from textclf import __version__
from textclf.data.examples import Dataset
from textclf.encoders.interface import AnyEncoder
from textclf.recipe.settings import Recipe
from textclf.runs.classification.exporting import ExportResult
from textclf.runs.classification.measuring import Measured, over_seeds
from textclf.runs.classification.record import ClassificationMetrics
from textclf.runs.record.private_paths import short_names, with_short_names, without_folders
from textclf.terminal.progress import Progress

if TYPE_CHECKING:
    from textclf.runs.classification.engines import Training

_RECORDED_PACKAGES = ("tensorflow", "ai-edge-litert", "numpy")


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
            **_facts(recipe, dataset, checkpoint, training, [*training.winner.warnings, *result.warnings, *warnings]),
            "labels": list(dataset.labels),
            "seeds": over_seeds(training.results, progress),
            "calibration": measured.calibration,
            "rejection": measured.rejection,
            "export": result.record(),
            **measured.splits,
        }
    )


def _facts(
    recipe: Recipe, dataset: Dataset, checkpoint: AnyEncoder, training: Training, warnings: list[str]
) -> dict[str, Any]:
    """What is recorded whatever the task."""
    names = short_names(dataset.files)
    winner = training.winner
    return {
        "name": recipe.name,
        "versions": {
            "python": platform.python_version(),
            "textclf": __version__,
            **{package: _version(package) for package in _RECORDED_PACKAGES},
        },
        "engine": training.facts,
        "seed": winner.seed,
        "files": {names[path]: digest for path, digest in dataset.files.items()},
        "encoder": {
            "source": without_folders(recipe.encoder.source),
            "format": checkpoint.format,
            "sha256": checkpoint.fingerprint(),
            **asdict(checkpoint.config),
        },
        "rows": {split.name: len(split.rows) for split in dataset.splits},
        "findings": [*(with_short_names(str(finding), names) for finding in dataset.findings), *warnings],
        "warnings": warnings,
        "stopped": winner.stopped,
        "precision": training.precision,
        "history": winner.history,
        "best_epoch": winner.best_epoch,
        "recipe": without_folders(recipe.model_dump(mode="json")),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
