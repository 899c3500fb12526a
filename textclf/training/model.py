"""An encoder with a pooled classification head, as variables that can be trained.

Pooled output → standardised features → dropout → dense → softmax. The real encoder's first-token state reaches 1e7, with
which a fresh head starts at an absurd loss; features of mean 0 and deviation 1 start every encoder at ln(labels). The
standardisation is linear and is folded into the head of the exported model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from textclf.data.tokens.encoded import Tokens
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.mobilebert import Dropout, Product
from textclf.encoders.trainable import trainable
from textclf.training.head import fit_head

TOKENS_SIGNATURE = Tokens(*[tf.TensorSpec([None, None], tf.int32)] * 3)
"""Any number of rows of any length, for `tf.function`."""

# Standard deviation of a fresh dense layer's weights (bert_config.json, initializer_range).
_INITIALIZER_RANGE = 0.02


class PooledClassifier:
    """The trainable classifier; `variables` are what the optimiser changes, `width` and `layers` the encoder's."""

    def __init__(self, checkpoint: AnyEncoder, label_count: int, seed: int) -> None:
        self.encoder = trainable(checkpoint)
        self._label_count = label_count
        self.width, self.layers = checkpoint.width, checkpoint.layers
        self.variables = {name: tf.Variable(array, name=name) for name, array in self._fresh(seed).items()}
        self.feature_mean = tf.Variable(tf.zeros(self.width), trainable=False)
        self.feature_scale = tf.Variable(tf.ones(self.width), trainable=False)
        signature = [TOKENS_SIGNATURE]
        self._features = tf.function(self._pooled, input_signature=signature)
        self._logits = tf.function(self.logits, input_signature=signature)

    def start_again(self, seed: int) -> None:
        """Back to the encoder's own weights and a fresh head; the standardisation stays."""
        for name, array in self._fresh(seed).items():
            self.variables[name].assign(array)

    def _fresh(self, seed: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng([seed, 1])
        # Truncated at two deviations, as the original's initialiser.
        kernel = random.standard_normal((self.width, self._label_count))
        while (outside := np.abs(kernel) > 2).any():
            kernel[outside] = random.standard_normal(outside.sum())
        arrays = self.encoder.fresh(seed)
        arrays["head/kernel"] = kernel * _INITIALIZER_RANGE
        arrays["head/bias"] = np.zeros(self._label_count)
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    def logits(
        self,
        tokens: Tokens,
        attention_dropout: Dropout | None = None,
        head_dropout: Dropout | None = None,
        product: Product = tf.matmul,
        frozen_layers: int | None = None,
    ) -> tf.Tensor:
        """Tokens [rows, length] → logits float32 [rows, labels]; `frozen_layers` as in `encode_pooled`."""
        pooled = self._pooled(tokens, attention_dropout, product, frozen_layers)
        features = (pooled - self.feature_mean) * self.feature_scale
        if head_dropout is not None:
            features = head_dropout(features, tf.constant(self.layers))
        return tf.matmul(features, self.variables["head/kernel"]) + self.variables["head/bias"]

    def pooled_outputs(self, tokens: Tokens) -> np.ndarray:
        """What the encoder makes of these rows, float32 [rows, width]."""
        features: np.ndarray = self._features(tokens).numpy()
        return features

    def standardize(self, pooled_outputs: np.ndarray) -> None:
        """Sets the feature standardisation from the pooled outputs of some rows.

        A feature that does not vary is left unscaled rather than blown up.
        """
        pooled = pooled_outputs.astype(np.float64)
        deviation = pooled.std(axis=0)
        varies = deviation > 1e-6 * np.abs(pooled).max(initial=1e-6)
        self.feature_mean.assign(pooled.mean(axis=0))
        self.feature_scale.assign(np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 1.0))

    def fit_head(self, pooled_outputs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        """Replaces the head by the one that suits the encoder as it is; label indices and weights are by row."""
        features = (pooled_outputs - self.feature_mean.numpy()) * self.feature_scale.numpy()
        kernel, bias = fit_head(features, labels, weights, self._label_count)
        self.variables["head/kernel"].assign(kernel)
        self.variables["head/bias"].assign(bias)

    def predict_logits(self, tokens: Tokens) -> np.ndarray:
        """Logits float32 [rows, labels] without dropout."""
        logits: np.ndarray = self._logits(tokens).numpy()
        return logits

    def not_finite(self) -> str | None:
        """The name of the first array of `state` that holds NaN or infinity; None where none does."""
        arrays = {**self.variables, "features/mean": self.feature_mean, "features/scale": self.feature_scale}
        for name, variable in arrays.items():
            if not bool(tf.reduce_all(tf.math.is_finite(variable))):
                return name
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Every array by name: the variables, and the standardisation as `features/mean` and `features/scale`."""
        return {**{name: variable.numpy() for name, variable in self.variables.items()}, **self.head()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of `state`."""
        for name, variable in self.variables.items():
            variable.assign(state[name])
        self.feature_mean.assign(state["features/mean"])
        self.feature_scale.assign(state["features/scale"])

    def head(self) -> dict[str, np.ndarray]:
        """What `state` holds beside the encoder: head/kernel, head/bias, features/mean and features/scale."""
        arrays = {name: self.variables[name].numpy() for name in ("head/kernel", "head/bias")}
        return {**arrays, "features/mean": self.feature_mean.numpy(), "features/scale": self.feature_scale.numpy()}

    def encoder_weights(self) -> dict[str, np.ndarray]:
        """The encoder's arrays by checkpoint name."""
        arrays = {name: variable.numpy() for name, variable in self.variables.items() if not name.startswith("head/")}
        return self.encoder.weights(arrays)

    def _pooled(
        self,
        tokens: Tokens,
        dropout: Dropout | None = None,
        product: Product = tf.matmul,
        frozen_layers: int | None = None,
    ) -> tf.Tensor:
        return self.encoder.pooled(self.variables, tokens, dropout, product, frozen_layers)
