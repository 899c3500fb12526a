"""The model that finds answers, in training: for each token, how well an answer starts and ends with it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import tensorflow as tf

from textclf.data.tokens.encoded import Tokens
from textclf.encoders.formats.question_head import QuestionHead
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.mobilebert import Dropout
from textclf.recipe.settings import TrainingSettings
from textclf.training.features import fresh_kernel, standardisation
from textclf.training.model import TOKENS_SIGNATURE, Part, TaskModel, compiled
from textclf.training.question_answering.measures import PADDING_LOGIT


class SpanModel(TaskModel):
    """State of each token → standardised features → dense → the logits of the start and of the end.

    The original encoder's first token has states up to 1e7, its other tokens a few units. So the first token and the
    others are standardised separately; a fresh head then begins at the loss of guessing. A head that came with the encoder
    keeps its standardisation, which is none for published ones.
    """

    # Windows are long, so a core's cache holds few.
    evaluation_batch = 16

    targets_signature = tf.TensorSpec([None, 2], tf.int32)

    def __init__(self, checkpoint: AnyEncoder, seed: int) -> None:
        super().__init__(checkpoint, seed)
        shape = [2, self.width]
        self.feature_mean = tf.Variable(tf.zeros(shape), trainable=False)
        self.feature_scale = tf.Variable(tf.ones(shape), trainable=False)
        self.constants = {"features/mean": self.feature_mean, "features/scale": self.feature_scale}
        self._states = compiled(self._token_states, [TOKENS_SIGNATURE])
        signature = [tf.TensorSpec([None, None, self.width], tf.float32), tf.TensorSpec([None, None], tf.int32)]
        self._spans = compiled(self._span_logits, signature)

    @cached_property
    def published(self) -> QuestionHead | None:
        """The head that came with the encoder."""
        return self.encoder.question_head()

    def fresh_head(self, seed: int) -> dict[str, np.ndarray]:
        if self.published is not None:
            return {"head/kernel": self.published.kernel, "head/bias": self.published.bias}
        return {"head/kernel": fresh_kernel(seed, self.width, 2), "head/bias": np.zeros(2)}

    def _token_states(
        self,
        tokens: Tokens,
        dropout: Dropout | None = None,
        dtype: tf.DType = tf.float32,
        frozen_layers: int | None = None,
    ) -> tf.Tensor:
        return self.encoder.states(self.variables, tokens, dropout, dtype, frozen_layers)

    def logits(
        self,
        tokens: Tokens,
        attention_dropout: Dropout | None = None,
        dtype: tf.DType = tf.float32,
        frozen_layers: int | None = None,
    ) -> tf.Tensor:
        """Tokens [rows, length] → logits float32 [rows, length, 2]; padding has `PADDING_LOGIT`."""
        return self._span_logits(self._token_states(tokens, attention_dropout, dtype, frozen_layers), tokens.mask)

    def _span_logits(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        mean, scale = self.feature_mean, self.feature_scale
        first, others = (states[:, :1] - mean[0]) * scale[0], (states[:, 1:] - mean[1]) * scale[1]
        features = tf.reshape(tf.concat([first, others], axis=1), [-1, self.width])
        logits = tf.matmul(features, self.variables["head/kernel"]) + self.variables["head/bias"]
        logits = tf.reshape(logits, tf.concat([tf.shape(mask), [2]], axis=0))
        return tf.where(tf.cast(mask, tf.bool)[:, :, None], logits, PADDING_LOGIT)

    def row_losses(
        self,
        part: Part,
        settings: TrainingSettings,
        attention_dropout: Dropout | None,
        head_dropout: Dropout | None,
        dtype: tf.DType,
    ) -> tf.Tensor:
        """The mean of the two cross-entropies in nats, over the positions of the window (run_squad.py, `compute_loss`).

        `run_squad.py` drops no features before the head, so `head_dropout` is not used.
        """
        logits = self.logits(part.tokens, attention_dropout, dtype, settings.frozen_layers)
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=part.targets[:, end], logits=logits[:, :, end])
            for end in range(2)
        ]
        return (losses[0] + losses[1]) / 2.0

    def predict_logits(self, tokens: Tokens) -> np.ndarray:
        """Returns logits float32 [rows, length, 2] without dropout."""
        # The encoder's graph is that of `token_states`: to trace it takes about a second.
        logits: np.ndarray = self._spans(self._states(tokens), tokens.mask).numpy()
        return logits

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Returns the encoder's states of these rows, float32 [rows, length, width]."""
        states: np.ndarray = self._states(tokens).numpy()
        return states

    def standardize(self, first_tokens: np.ndarray, other_tokens: np.ndarray) -> None:
        """Sets the feature standardisation from the states of some first and some other tokens, each [tokens, width]."""
        means, scales = zip(standardisation(first_tokens), standardisation(other_tokens), strict=True)
        self.feature_mean.assign(np.stack(means))
        self.feature_scale.assign(np.stack(scales))

    def cool_head(self, temperature: float) -> None:
        """Divides the logits by a temperature."""
        for name in ("head/kernel", "head/bias"):
            self.variables[name].assign(self.variables[name] / temperature)

    def keep_standardisation(self, head: QuestionHead) -> None:
        """Sets the feature standardisation with which a published head was trained."""
        self.feature_mean.assign(head.mean)
        self.feature_scale.assign(head.scale)
