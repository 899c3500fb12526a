"""AdamW as MobileBERT was fine-tuned with it (google-research mobilebert/optimization.py): gradients change variables.

There is no bias correction. Weight decay is decoupled and exempts biases and the normalisations' gammas and betas.
Gradients are clipped by their joint norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-6

_WITHOUT_DECAY = ("bias", "gamma", "beta")


class AdamW:
    """Keeps two moments for each variable.

    In stacked variables, layers below `decayed_from` are frozen and do not decay.
    """

    def __init__(
        self, variables: Mapping[str, tf.Variable], weight_decay: float, clip_norm: float, decayed_from: int = 0
    ) -> None:
        self.variables = variables
        self.weight_decay = weight_decay
        self.decayed_from = decayed_from
        self.clip_norm = clip_norm
        self._first = {name: tf.Variable(tf.zeros_like(variable)) for name, variable in variables.items()}
        self._second = {name: tf.Variable(tf.zeros_like(variable)) for name, variable in variables.items()}

    def apply(self, gradients: Mapping[str, tf.Tensor], learning_rate: tf.Tensor) -> tf.Tensor:
        """One update; returns the joint norm of the gradients before clipping. Runs inside a tf.function."""
        dense = {name: tf.convert_to_tensor(gradient) for name, gradient in gradients.items()}
        norm = tf.linalg.global_norm(list(dense.values()))
        factor = self.clip_norm / tf.maximum(norm, self.clip_norm)
        for name, gradient in dense.items():
            variable = self.variables[name]
            if self.weight_decay and not name.endswith(_WITHOUT_DECAY):
                kept = variable * self._kept_by_decay(name, learning_rate)
                tf.raw_ops.AssignVariableOp(resource=variable.handle, value=kept)
            # One pass over memory instead of twelve. Powers of 0 leave out the bias correction. A handle is that of the
            # replica's own copy; all copies change in the same way.
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._first[name].handle,
                v=self._second[name].handle,
                beta1_power=0.0,
                beta2_power=0.0,
                lr=learning_rate,
                beta1=_BETA_1,
                beta2=_BETA_2,
                epsilon=_EPSILON,
                grad=gradient * factor,
            )
        return norm

    def _kept_by_decay(self, name: str, learning_rate: tf.Tensor) -> tf.Tensor:
        """Returns the factor by which weight decay shrinks a variable: a number, or one for each layer of a stack."""
        lost = learning_rate * self.weight_decay
        if not (self.decayed_from and name.startswith("layers/")):
            return 1.0 - lost
        shape = self.variables[name].shape
        trained = (np.arange(shape[0]) >= self.decayed_from).astype(np.float32)
        return 1.0 - lost * trained.reshape([-1] + [1] * (len(shape) - 1))

    def reset(self) -> None:
        """Sets all moments to zero, as before the first update."""
        for slot in (*self._first.values(), *self._second.values()):
            slot.assign(tf.zeros_like(slot))

    def state(self) -> dict[str, np.ndarray]:
        """Returns the moments by name."""
        return {
            f"{moment}/{name}": slot.numpy()
            for moment, slots in (("first", self._first), ("second", self._second))
            for name, slot in slots.items()
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of `state`."""
        for moment, slots in (("first", self._first), ("second", self._second)):
            for name, slot in slots.items():
                slot.assign(state[f"{moment}/{name}"])
