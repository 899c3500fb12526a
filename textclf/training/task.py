"""What the training loop asks of a task: the model, what the training rows teach, and how an epoch is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from textclf.data.examples import Split
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.model import TaskModel
from textclf.training.watching.watchers import Trouble


class TrainingTask(Protocol):
    """One training of one task. `Classification` is that of text classification."""

    @property
    def model(self) -> TaskModel:
        """The encoder and the head that are trained."""

    @property
    def summary(self) -> str:
        """What is predicted, for the line that announces the training: `3 labels`."""

    @property
    def untrained(self) -> str:
        """What a training without epochs does, in the same line: `only the last layer`."""

    @property
    def targets(self) -> np.ndarray:
        """What the model learns for each training row, as the model's `targets_signature` describes it."""

    @property
    def row_weights(self) -> np.ndarray:
        """How much each training row counts, float32 [rows]; 1 on average."""

    @property
    def guessing(self) -> float:
        """The training loss, in nats, of the best model that does not read the text."""

    def standardize(self, progress: Progress) -> None:
        """Sets the model's constants from the untrained encoder, once for all seeds."""

    def fit_first_head(self, progress: Progress) -> bool:
        """Fits a first head to the untrained encoder, if the recipe asks for it. Called before the first step of each seed.

        Returns whether it did. Then the model can already predict, and it is measured as epoch 0.
        """

    def logits(self, split: str) -> np.ndarray:
        """Returns the outputs of the model as it is now, float32 [rows, …], in the order of the split."""

    def epoch_entry(self, epoch: int, training_loss: float | None, logits: np.ndarray) -> dict[str, Any]:
        """Returns the numbers that the history keeps of an epoch, `validation_loss` among them; `logits` are those of the
        validation rows. Epoch 0, the first head, has no training loss."""

    def epoch_troubles(self, history: Sequence[Mapping[str, Any]], logits: np.ndarray) -> list[Trouble]:
        """Returns what the watchers detect after an epoch; `logits` are those of the validation rows."""

    def epoch_line(self, entry: Mapping[str, Any]) -> str:
        """Returns the line that is shown at the end of an epoch."""

    def quality(self, entry: Mapping[str, Any]) -> tuple[float, ...]:
        """Returns what makes an epoch the best; larger is better."""

    def scores(self, split: Split, logits: np.ndarray) -> dict[str, float]:
        """Returns the numbers by which several seeds are compared."""


MakeTask: TypeAlias = Callable[[PreparedData, AnyEncoder, TrainingSettings, int], TrainingTask]
"""Data, encoder, settings and the first seed → a training. Called inside the scope of the distribution strategy."""
