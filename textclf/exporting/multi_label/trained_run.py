"""Reads a finished run with several labels per row from its folder, to export it again or to compare with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.classify.multi_label.metrics import sigmoid
from textclf.errors import RunError
from textclf.exporting.trained_run import TrainedRun, load_trained_run
from textclf.recipe.settings import Recipe
from textclf.training.saved.run_folder import load_state


@dataclass(frozen=True)
class TrainedLabelSets:
    """The trained weights of a run, whose head includes the calibration, and the thresholds float64 [labels]."""

    run: TrainedRun
    thresholds: np.ndarray

    @property
    def recipe(self) -> Recipe:
        return self.run.recipe

    def probabilities(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Returns the trained model's probabilities float32 [texts, labels], computed by TensorFlow."""
        return sigmoid(self.run.logits(texts))


def load_trained_label_sets(folder: Path, overrides: Sequence[str] = ()) -> TrainedLabelSets:
    """Reads a finished run. `overrides` such as `quantization=int4` change the section export of its recipe.

    Raises RunError for a folder that is not a finished run, and RecipeError for overrides of other settings.
    """
    run = load_trained_run(folder, overrides)
    path = folder / "checkpoints" / "best" / "head.safetensors"
    _, facts = load_state(path)
    thresholds = facts.get("thresholds")
    fits = isinstance(thresholds, list) and len(thresholds) == len(run.labels)
    if not fits or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in thresholds or ()):
        raise RunError(
            f"{path}: its thresholds are damaged; expected a number from 0 to 1 for each of {len(run.labels)} labels; train again"
        )
    return TrainedLabelSets(run, np.array(thresholds, np.float64))
