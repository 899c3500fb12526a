"""A model in training, whatever its task: an encoder and a head, as variables that an optimiser changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from textclf.data.tokens.encoded import Tokens
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.mobilebert import Dropout
from textclf.encoders.trainable import trainable
from textclf.recipe.settings import TrainingSettings

TOKENS_SIGNATURE = Tokens(*[tf.TensorSpec([None, None], tf.int32)] * 3)
"""Any number of rows of any length, for `compiled`."""


def compiled(function: Callable[..., Any], signature: Sequence[Any]) -> Any:
    """`tf.function` without its translation of Python's `if` and `for`: none here depends on a tensor, and at the first
    training of a process the translation takes more than a second."""
    traced: Callable[..., Any] = tf.function(function, input_signature=signature, autograph=False)
    return traced


class Part(NamedTuple):
    """Some rows of a step: their tokens, what the task learns for each (label indices int32 [rows] in classification),
    and weights float32 [rows]."""

    tokens: Tokens
    targets: np.ndarray
    weights: np.ndarray


class TaskModel:
    """An encoder with a head. A task's class adds the head: `fresh_head`, `row_losses` and `targets_signature`.

    `variables` are what the optimiser changes, those of the head under names of `head/…`; `constants` belong to the head
    and change only between trainings. `width` and `layers` are those of the encoder.
    """

    evaluation_batch = 64
    """Rows that are computed at once if no gradients are needed."""

    targets_signature: tf.TensorSpec
    """The targets of a part, for `compiled`."""

    def __init__(self, checkpoint: AnyEncoder, seed: int) -> None:
        self.encoder = trainable(checkpoint)
        self.width, self.layers = checkpoint.width, checkpoint.layers
        self.variables = {name: tf.Variable(array, name=name) for name, array in self._fresh(seed).items()}
        self.constants: dict[str, tf.Variable] = {}

    def fresh_head(self, seed: int) -> dict[str, np.ndarray]:
        """Returns the arrays of an untrained head, by names of `head/…`."""
        raise NotImplementedError

    def row_losses(
        self,
        part: Part,
        settings: TrainingSettings,
        attention_dropout: Dropout | None,
        head_dropout: Dropout | None,
        dtype: tf.DType,
    ) -> tf.Tensor:
        """Returns the loss of each row, float32 [rows], before weights. Runs inside a tf.function."""
        raise NotImplementedError

    def start_again(self, seed: int) -> None:
        """Restores the encoder's own weights and a fresh head; `constants` stay."""
        for name, array in self._fresh(seed).items():
            self.variables[name].assign(array)

    def _fresh(self, seed: int) -> dict[str, np.ndarray]:
        arrays = {**self.encoder.fresh(seed), **self.fresh_head(seed)}
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    def pooled(
        self,
        tokens: Tokens,
        dropout: Dropout | None = None,
        dtype: tf.DType = tf.float32,
        frozen_layers: int | None = None,
    ) -> tf.Tensor:
        """Tokens [rows, length] → the encoder's vectors float32 [rows, width]; the arguments as in `encode_pooled`."""
        return self.encoder.pooled(self.variables, tokens, dropout, dtype, frozen_layers)

    def not_finite(self) -> str | None:
        """Returns the name of the first array of `state` with NaN or infinity, or None."""
        for name, variable in {**self.variables, **self.constants}.items():
            if not bool(tf.reduce_all(tf.math.is_finite(variable))):
                return name
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Returns every array by name: the variables and the constants."""
        return {name: variable.numpy() for name, variable in {**self.variables, **self.constants}.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of `state`."""
        for name, variable in {**self.variables, **self.constants}.items():
            variable.assign(state[name])

    def head(self) -> dict[str, np.ndarray]:
        """Returns the arrays of `state` that do not belong to the encoder."""
        own = {name: variable for name, variable in self.variables.items() if name.startswith("head/")}
        return {name: variable.numpy() for name, variable in {**own, **self.constants}.items()}

    def encoder_weights(self) -> dict[str, np.ndarray]:
        """Returns the encoder's arrays by checkpoint name."""
        arrays = {name: variable.numpy() for name, variable in self.variables.items() if not name.startswith("head/")}
        return self.encoder.weights(arrays)
