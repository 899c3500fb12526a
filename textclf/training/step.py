"""One optimiser step as compiled functions: padded rows with labels and weights in, changed variables and the loss out.

The rows of a step may be computed in parts, one after the other, whose gradients are added up: the memory of a small
batch, the result of a large one. With several replicas (one for each GPU), each takes its share of a part's rows, and all
change their copy of the variables by the same sum of gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from textclf.data.tokens.encoded import Tokens
from textclf.encoders.mobilebert import Dropout, Product
from textclf.recipe.settings import TrainingSettings
from textclf.training.model import TOKENS_SIGNATURE, PooledClassifier
from textclf.training.optimizer import AdamW

# Parts of a step whose dropout seeds share the first number; further parts, up to 256 times as many, change it by so much
# that no number of replicas, each of which adds its index, leads to another's.
_PARTS_A_BLOCK = 256

_BLOCK_DISTANCE = 65_536


class Part(NamedTuple):
    """Some rows of a step: their tokens, label indices int32 [rows] and weights float32 [rows]."""

    tokens: Tokens
    labels: np.ndarray
    weights: np.ndarray


class TrainingStep:
    """Call it with the parts of a step, for any number of rows and any length.

    Make it, the classifier and the optimiser inside the scope of the distribution strategy that it should use.
    """

    def __init__(
        self, classifier: PooledClassifier, optimizer: AdamW, settings: TrainingSettings, product: Product
    ) -> None:
        self._strategy = tf.distribute.get_strategy()
        self._classifier = classifier
        self._optimizer = optimizer
        self._settings = settings
        self._product = product
        rows = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
        part = [Part(TOKENS_SIGNATURE, *rows), tf.TensorSpec([], tf.float32)]
        seed, rate = tf.TensorSpec([2], tf.int32), tf.TensorSpec([], tf.float32)
        # Both kinds of step call it, so that it is traced once.
        self._gradients = tf.function(self._part_gradients, input_signature=[*part, seed])
        self._whole = tf.function(self._step_at_once, input_signature=[*part, seed, rate])
        self._add = tf.function(self._add_part, input_signature=[*part, seed])
        self._apply = tf.function(self._apply_sums, input_signature=[rate])
        self._sums: dict[str, tf.Variable] = {}

    def __call__(self, parts: Sequence[Part], learning_rate: float, seed: int, number: int) -> tuple[float, float]:
        """Changes the variables; returns the mean loss and the gradients' norm before clipping.

        `seed` and the step's `number` decide what dropout drops.
        """
        rate, rows = np.float32(learning_rate), np.float32(sum(len(part.labels) for part in parts))
        seeds = [self._dropout_seed(seed, number, index) for index in range(len(parts))]
        parts = [self._one_row_each(part) for part in parts]
        if len(parts) == 1:
            loss, norm = self._whole(parts[0], rows, seeds[0], rate)
            return float(loss), float(norm)
        if not self._sums:
            with self._strategy.scope():
                self._sums = {
                    name: tf.Variable(tf.zeros_like(variable)) for name, variable in self._trained_variables().items()
                }
        loss = sum(float(self._add(part, rows, part_seed)) for part, part_seed in zip(parts, seeds, strict=True))
        return loss, float(self._apply(rate))

    def _dropout_seed(self, seed: int, number: int, part: int) -> np.ndarray:
        # Each layer of each part of each step draws with a number of its own.
        layers = self._classifier.layers + 1
        block, place = divmod(part, _PARTS_A_BLOCK)
        wide = [seed + block * _BLOCK_DISTANCE, (number * _PARTS_A_BLOCK + place) * layers]
        return np.array(wide, np.uint64).astype(np.uint32).view(np.int32)

    def _trained_variables(self) -> dict[str, tf.Variable]:
        """The variables that a gradient reaches."""
        variables, frozen = self._classifier.variables, self._settings.frozen_layers
        below: tuple[str, ...] = ("embeddings/",) if frozen is not None else ()
        if frozen is not None and frozen >= self._classifier.layers:
            below += ("layers/",)
        return {name: variable for name, variable in variables.items() if not (below and name.startswith(below))}

    def _part_gradients(self, part: Part, rows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The part's share in the step's mean loss, and its gradients by variable."""
        settings, attention_rate = self._settings, self._classifier.encoder.attention_dropout
        attention = Dropout(attention_rate, seed) if attention_rate else None
        head = Dropout(settings.dropout, seed) if settings.dropout else None
        with tf.GradientTape() as tape:
            logits = self._classifier.logits(part.tokens, attention, head, self._product, settings.frozen_layers)
            count = logits.shape[1]
            targets = (
                tf.one_hot(part.labels, count) * (1.0 - settings.label_smoothing) + settings.label_smoothing / count
            )
            losses = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
            loss = tf.reduce_sum(losses * part.weights) / rows
        trained = self._trained_variables()
        gradients = tape.gradient(loss, trained)
        # A variable that this configuration does not use has none.
        return loss, {
            name: tf.convert_to_tensor(gradient) for name, gradient in gradients.items() if gradient is not None
        }

    def _summed_gradients(self, part: Part, rows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The same for this replica's share of the part, the gradients summed over all replicas."""
        loss, gradients = self._gradients(*self._share(part, rows, seed))
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return loss, gradients

    def _step_at_once(
        self, part: Part, rows: tf.Tensor, seed: tf.Tensor, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        def step() -> tuple[tf.Tensor, tf.Tensor]:
            loss, gradients = self._summed_gradients(part, rows, seed)
            return loss, self._optimizer.apply(gradients, learning_rate)

        losses, norms = self._strategy.run(step)
        return self._sum(losses), self._first(norms)

    def _add_part(self, part: Part, rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        def add() -> tf.Tensor:
            loss, gradients = self._summed_gradients(part, rows, seed)
            for name, gradient in gradients.items():
                tf.raw_ops.AssignAddVariableOp(resource=self._sums[name].handle, value=gradient)
            return loss

        return self._sum(self._strategy.run(add))

    def _apply_sums(self, learning_rate: tf.Tensor) -> tf.Tensor:
        def apply() -> tf.Tensor:
            norm = self._optimizer.apply(
                {name: tf.identity(total) for name, total in self._sums.items()}, learning_rate
            )
            for total in self._sums.values():
                tf.raw_ops.AssignVariableOp(resource=total.handle, value=tf.zeros_like(total))
            return norm

        return self._first(self._strategy.run(apply))

    # --- Replicas ----------------------------------------------------------------------------------------------------

    def _one_row_each(self, part: Part) -> Part:
        """A part of fewer rows than replicas with copies of its first row, of weight 0: none may stand idle."""
        missing = self._strategy.num_replicas_in_sync - len(part.labels)
        if missing <= 0:
            return part
        filled: Part = tf.nest.map_structure(
            lambda array: np.concatenate([array, np.repeat(array[:1], missing, axis=0)]), part
        )
        filled.weights[-missing:] = 0.0
        return filled

    @staticmethod
    def _share(part: Part, rows: tf.Tensor, seed: tf.Tensor) -> tuple[Part, tf.Tensor, tf.Tensor]:
        """Of a part, the mean's row count and the dropout seed: what the replica that asks has to compute."""
        replica = tf.distribute.get_replica_context()
        count = replica.num_replicas_in_sync
        if count == 1:
            return part, rows, seed
        index = replica.replica_id_in_sync_group
        # Dropout draws with the seed's second number and up to a few hundred after it; the first keeps replicas apart.
        own = tf.nest.map_structure(lambda array: array[index::count], part)
        return own, rows, seed + tf.stack([index, 0])

    def _sum(self, values: tf.Tensor) -> tf.Tensor:
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    def _first(self, values: tf.Tensor) -> tf.Tensor:
        return self._strategy.experimental_local_results(values)[0]
