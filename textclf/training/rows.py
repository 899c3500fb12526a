"""The training rows as the loop takes them: batches by epoch, and each batch in parts that memory can hold."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from textclf.data.tokens.batching import Batch, padded_length, part_count, training_batches
from textclf.encoders.prepare import PreparedData
from textclf.recipe.settings import TrainingSettings
from textclf.training.model import Part


class TrainingRows:
    """`targets` is what the task learns, an array [rows, …]; `weights`, float32 [rows], is how much each row counts.

    With `spare_memory`, a CPU computes large batches in parts even if `training.accumulate` does not say so.
    """

    def __init__(
        self,
        data: PreparedData,
        settings: TrainingSettings,
        targets: np.ndarray,
        weights: np.ndarray,
        *,
        spare_memory: bool,
    ) -> None:
        self._data, self._settings = data, settings
        self._targets, self._weights = targets, weights
        self._lengths = data.encoded["train"].lengths
        self._spare_memory = spare_memory and not tf.config.list_physical_devices("GPU")

    def __len__(self) -> int:
        return len(self._lengths)

    def batches(self, seed: int, epoch: int) -> list[Batch]:
        """Returns the batches of an epoch (from 0), in their order."""
        return training_batches(self._lengths, self._settings.batch_size, self._data.max_length, seed=seed, epoch=epoch)

    def parts(self, batch: Batch) -> list[Part]:
        """Returns the rows of a batch in parts, each padded no further than its own rows need."""
        count = max(self._settings.accumulate, part_count(batch) if self._spare_memory else 1)
        parts = []
        for rows in np.array_split(batch.rows, min(count, len(batch.rows))):
            length = padded_length(int(self._lengths[rows].max()), self._data.max_length)
            tokens = self._data.batch("train", Batch(rows, length))
            parts.append(Part(tokens, self._targets[rows], self._weights[rows]))
        return parts
