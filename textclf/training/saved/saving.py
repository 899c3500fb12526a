"""Saves a training while it runs, and restores it: progress, weights and the optimiser's moments in one file."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.errors import RunError
from textclf.recipe.settings import Recipe
from textclf.training.model import TaskModel
from textclf.training.optimizer import AdamW
from textclf.training.saved.fingerprint import START_AGAIN, check_same_training, encoder_facts, training_fingerprint
from textclf.training.saved.run_folder import RunFolder, load_state, save_state
from textclf.training.watching.watchers import RECENT_STEPS

SECONDS_BETWEEN_SAVES = 60.0
"""A killed run loses at most this much work."""


@dataclass
class TrainingProgress:
    """How far a run is: what a saved state holds besides arrays. All fields but the first two belong to one seed.

    `step` counts the steps of all epochs, `batch` those of the epoch; `epoch` counts complete epochs. `epoch_loss` is the
    sum of the loss over the rows of the epoch. `warnings` holds a message by watcher, and `stopped` the reason for an
    early end.
    """

    seed_index: int = 0
    finished: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_epoch: int = 0
    epoch_loss: float = 0.0
    recent_losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    warnings: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None

    def count_step(self, loss: float, rows: int) -> None:
        """Counts a step with its mean loss over this many rows."""
        self.step += 1
        self.batch += 1
        self.epoch_loss += loss * rows
        self.recent_losses = [*self.recent_losses, loss][-RECENT_STEPS:]

    def count_epoch(self) -> None:
        """Counts a complete epoch; the next one begins."""
        self.epoch += 1
        self.batch = 0
        self.epoch_loss = 0.0


class Saving:
    """The saved state of a training, `checkpoints/last.safetensors` in its run folder."""

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        checkpoint: AnyEncoder,
        folder: RunFolder,
        model: TaskModel,
        optimizer: AdamW,
        seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
    ) -> None:
        self._recipe, self._data, self._checkpoint, self._folder = recipe, data, checkpoint, folder
        self._model, self._optimizer = model, optimizer
        self._encoder = encoder_facts(recipe, checkpoint)
        self._fingerprint = training_fingerprint(recipe, data, self._encoder["sha256"])
        self._seconds_between_saves = seconds_between_saves
        self._saved = time.monotonic()

    @property
    def exists(self) -> bool:
        return self._folder.last_state.exists()

    def save(self, progress: TrainingProgress) -> None:
        facts = {"training": self._fingerprint, "encoder": self._encoder, "progress": asdict(progress)}
        save_state(self._folder.last_state, self._arrays(), facts)
        self._saved = time.monotonic()

    def save_if_due(self, progress: TrainingProgress) -> None:
        if time.monotonic() - self._saved > self._seconds_between_saves:
            self.save(progress)

    def restore(self) -> TrainingProgress:
        """Restores model and optimiser, and returns the progress. Raises RunError if the state is damaged or belongs to
        another training."""
        file = self._folder.last_state
        arrays, facts = load_state(file)
        check_same_training(facts, self._recipe, self._data, self._checkpoint, self._folder.target)
        shapes = {name: array.shape for name, array in self._arrays().items()}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise RunError(f"{file}: its arrays are not those of this training; {START_AGAIN}")
        try:
            progress = TrainingProgress(**facts["progress"])
        except (KeyError, TypeError) as error:
            raise RunError(f"{file}: its facts are damaged ({error}); {START_AGAIN}") from error
        self._model.load_state(_without_prefix(arrays, "model/"))
        self._optimizer.load_state(_without_prefix(arrays, "optimizer/"))
        return progress

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {f"model/{name}": array for name, array in self._model.state().items()}
        arrays.update({f"optimizer/{name}": array for name, array in self._optimizer.state().items()})
        return arrays


def _without_prefix(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
