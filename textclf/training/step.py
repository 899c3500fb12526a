"""One optimiser step as compiled functions: takes padded rows, changes the variables and returns the loss.

The rows of a step may be computed in parts, one after the other, whose gradients are summed: this needs the memory of a
small batch and has the result of a large one. With several replicas (one for each GPU), each computes its share of a
part's rows, and all change their copy of the variables by the same sum of gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from textclf.encoders.mobilebert import Dropout
from textclf.recipe.settings import TrainingSettings
from textclf.training.model import TOKENS_SIGNATURE, Part, TaskModel, compiled
from textclf.training.optimizer import AdamW

# The dropout seeds of this many parts of a step share their first number. For each further block of parts (up to 256), it
# grows by the distance, which is larger than any number of replicas, because each replica adds its index.
_PARTS_A_BLOCK = 256

_BLOCK_DISTANCE = 65_536


class TrainingStep:
    """Call it with the parts of a step, for any number of rows and any length.

    Make it, the model and the optimiser inside the scope of the distribution strategy that it should use.
    """

    def __init__(self, model: TaskModel, optimizer: AdamW, settings: TrainingSettings, dtype: tf.DType) -> None:
        self._strategy = tf.distribute.get_strategy()
        self._model = model
        self._optimizer = optimizer
        self._settings = settings
        self._dtype = dtype
        weights = tf.TensorSpec([None], tf.float32)
        part = [Part(TOKENS_SIGNATURE, model.targets_signature, weights), tf.TensorSpec([], tf.float32)]
        seed, rate = tf.TensorSpec([2], tf.int32), tf.TensorSpec([], tf.float32)
        # Both kinds of step call it, so that it is traced once.
        self._gradients = compiled(self._part_gradients, [*part, seed])
        self._whole = compiled(self._step_at_once, [*part, seed, rate])
        self._add = compiled(self._add_part, [*part, seed])
        self._apply = compiled(self._apply_sums, [rate])
        self._sums: dict[str, tf.Variable] = {}
        self._tracing: Future[None] | None = None

    def trace_meanwhile(self) -> None:
        """Begins to trace the step in a thread, which takes seconds of one core. The first call waits for its end."""
        executor = ThreadPoolExecutor(1, "tracing")
        self._tracing = executor.submit(self._trace)
        executor.shutdown(wait=False)

    def _trace(self) -> None:
        # A thread has no scope of its own.
        with self._strategy.scope():
            self._whole.get_concrete_function()

    def __call__(self, parts: Sequence[Part], learning_rate: float, seed: int, number: int) -> tuple[float, float]:
        """Changes the variables; returns the mean loss and the gradients' norm before clipping.

        `seed` and the step's `number` decide what dropout drops.
        """
        if self._tracing is not None:
            self._tracing.result()
            self._tracing = None
        rate, rows = np.float32(learning_rate), np.float32(sum(len(part.weights) for part in parts))
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
        # Each layer of each part of each step draws with another number.
        layers = self._model.layers + 1
        block, place = divmod(part, _PARTS_A_BLOCK)
        wide = [seed + block * _BLOCK_DISTANCE, (number * _PARTS_A_BLOCK + place) * layers]
        return np.array(wide, np.uint64).astype(np.uint32).view(np.int32)

    def _trained_variables(self) -> dict[str, tf.Variable]:
        """The variables that a gradient reaches."""
        variables, frozen = self._model.variables, self._settings.frozen_layers
        below: tuple[str, ...] = ("embeddings/",) if frozen is not None else ()
        if frozen is not None and frozen >= self._model.layers:
            below += ("layers/",)
        return {name: variable for name, variable in variables.items() if not (below and name.startswith(below))}

    def _part_gradients(self, part: Part, rows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Returns the part's share of the step's mean loss, and its gradients by variable."""
        settings, attention_rate = self._settings, self._model.encoder.attention_dropout
        attention = Dropout(attention_rate, seed) if attention_rate else None
        head = Dropout(settings.dropout, seed) if settings.dropout else None
        with tf.GradientTape() as tape:
            losses = self._model.row_losses(part, settings, attention, head, self._dtype)
            loss = tf.reduce_sum(losses * part.weights) / rows
        trained = self._trained_variables()
        gradients = tape.gradient(loss, trained)
        # A variable that this configuration does not use has no gradient.
        return loss, {
            name: tf.convert_to_tensor(gradient) for name, gradient in gradients.items() if gradient is not None
        }

    def _summed_gradients(self, part: Part, rows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Does the same for this replica's share of the part, and sums the gradients over all replicas."""
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
        """Fills a part of fewer rows than replicas with copies of its first row, of weight 0: no replica may be idle."""
        missing = self._strategy.num_replicas_in_sync - len(part.weights)
        if missing <= 0:
            return part
        filled: Part = tf.nest.map_structure(
            lambda array: np.concatenate([array, np.repeat(array[:1], missing, axis=0)]), part
        )
        filled.weights[-missing:] = 0.0
        return filled

    @staticmethod
    def _share(part: Part, rows: tf.Tensor, seed: tf.Tensor) -> tuple[Part, tf.Tensor, tf.Tensor]:
        """Returns this replica's share of the rows, the mean's row count and this replica's dropout seed."""
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
