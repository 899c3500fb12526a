"""AdamW as MobileBERT was fine-tuned with: gradients in, variables changed (google-research mobilebert/optimization.py).

No bias correction; decoupled weight decay that exempts biases and the normalisations' gammas and betas; gradients
clipped by their joint norm; the learning rate rises linearly during warm-up and then falls linearly to zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-6
_WITHOUT_DECAY = ("bias", "gamma", "beta")


def scheduled_learning_rate(step: int, total_steps: int, peak: float, warmup: float) -> float:
    """The learning rate of step 0, 1, …: `warmup` is the share of `total_steps` during which it rises."""
    warmup_steps = round(total_steps * warmup)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (total_steps - step) / max(total_steps - warmup_steps, 1)


class AdamW:
    """Keeps two moments for each variable."""

    def __init__(self, variables: Mapping[str, tf.Variable], weight_decay: float, clip_norm: float) -> None:
        self.variables = variables
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self._first = {name: tf.Variable(tf.zeros_like(variable)) for name, variable in variables.items()}
        self._second = {name: tf.Variable(tf.zeros_like(variable)) for name, variable in variables.items()}

    def apply(self, gradients: Mapping[str, tf.Tensor], learning_rate: tf.Tensor) -> tf.Tensor:
        """One update; returns the joint norm of the gradients before clipping. Runs inside a tf.function."""
        dense = {name: tf.convert_to_tensor(gradient) for name, gradient in gradients.items()}
        norm = tf.linalg.global_norm(list(dense.values()))
        factor = self.clip_norm / tf.maximum(norm, self.clip_norm)
        for name, gradient in dense.items():
            gradient *= factor
            variable = self.variables[name]
            first = self._first[name].assign(_BETA_1 * self._first[name] + (1 - _BETA_1) * gradient)
            second = self._second[name].assign(_BETA_2 * self._second[name] + (1 - _BETA_2) * tf.square(gradient))
            update = first / (tf.sqrt(second) + _EPSILON)
            if not name.endswith(_WITHOUT_DECAY):
                update += self.weight_decay * variable
            variable.assign_sub(learning_rate * update)
        return norm

    def state(self) -> dict[str, np.ndarray]:
        """The moments by name."""
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
