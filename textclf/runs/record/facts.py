"""The part of the record of a run that has just trained that is the same for every task."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from textclf import __version__
from textclf.data.examples import Dataset
from textclf.encoders.interface import AnyEncoder
from textclf.recipe.settings import Recipe
from textclf.runs.record.metrics_file import Seeds, SeedTraining, Spread
from textclf.runs.record.private_paths import short_names, with_short_names, without_folders

if TYPE_CHECKING:
    from textclf.training.loop import SeedResult

_RECORDED_PACKAGES = ("tensorflow", "ai-edge-litert", "numpy")


def facts_of_run(
    recipe: Recipe,
    dataset: Dataset,
    checkpoint: AnyEncoder,
    *,
    engine: Mapping[str, Any],
    winner: SeedResult,
    precision: str,
    warnings: list[str],
) -> dict[str, Any]:
    """What is recorded whatever the task: the values of a `RunMetrics` but for the export and the measurements.

    `engine` is the section of that name, `winner` the training whose model is exported, and `warnings` are all of the run.
    """
    names = short_names(dataset.files)
    return {
        "name": recipe.name,
        "versions": {
            "python": platform.python_version(),
            "textclf": __version__,
            **{package: _version(package) for package in _RECORDED_PACKAGES},
        },
        "engine": engine,
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
        "precision": precision,
        "history": winner.history,
        "best_epoch": winner.best_epoch,
        "recipe": without_folders(recipe.model_dump(mode="json")),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def seeds_of(results: Sequence[SeedResult]) -> Seeds | None:
    """The scores of every training, and the mean and the standard deviation of each score; None for a single seed."""
    if len(results) == 1:
        return None
    first = results[0].scores
    spreads = {
        split: {score: _spread([result.scores[split][score] for result in results]) for score in first[split]}
        for split in first
    }
    trainings = [SeedTraining.model_validate(result, from_attributes=True) for result in results]
    return Seeds.model_validate({"trainings": trainings, **spreads})


def _spread(scores: Sequence[float]) -> Spread:
    values = np.array(scores)
    return Spread(mean=float(values.mean()), deviation=float(values.std(ddof=1)))
