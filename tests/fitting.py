"""The training of a recipe alone, without the export: what the loop's own tests run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textclf.data.dataset import load_dataset
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import ReadDataset, load_recipe_data, prepare_data
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Progress
from textclf.training.classification.task import Classification
from textclf.training.loop import Fitted, fit
from textclf.training.saved.run_folder import open_run_folder
from textclf.training.step import TrainingStep


def fit_into(
    run_dir: Path, recipe: Recipe, *, resume: bool = False, read: ReadDataset = load_dataset, **arguments: Any
) -> Fitted:
    """Trains into the unfinished folder of `run_dir`; `read` is the reader of the task, `arguments` are those of `fit`."""
    with open_run_folder(run_dir, force=False, resume=resume) as folder:
        recipe, dataset = load_recipe_data(recipe, read=read)
        checkpoint = kind_of(recipe).load(recipe.encoder, dataset)
        data = prepare_data(recipe, dataset, checkpoint.tokenizer(recipe.encoder))
        arguments = {"task": Classification, **arguments}
        return fit(recipe, data, checkpoint, folder, Progress(quiet=True), time.monotonic(), **arguments)


def interrupted_at(step: int, action: Callable[[], object]) -> type[TrainingStep]:
    """A step that does something before it computes the step of this number (from 0)."""

    class Interrupted(TrainingStep):
        def __call__(self, parts: Any, learning_rate: float, seed: int, number: int) -> tuple[float, float]:
            if number == step:
                action()
            return super().__call__(parts, learning_rate, seed, number)

    return Interrupted


if __name__ == "__main__":
    fit_into(Path(sys.argv[1]), load_recipe(sys.argv[2]), seconds_between_saves=0.0)
