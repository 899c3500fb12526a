"""Text classification in training: its head and loss, its first head, and how an epoch is measured and compared.

`Classification` is the `TrainingTask` of this task, and its model the `TaskModel`: the loop and the step know nothing
else of labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from textclf.classify.combining import combine_windows
from textclf.classify.metrics import Metrics, evaluate, softmax
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.tokens.batching import Batch, evaluation_batches
from textclf.data.tokens.encoded import Tokens
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.mobilebert import Dropout
from textclf.encoders.prepare import PreparedData
from textclf.errors import EncoderError
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.classification.class_weights import label_weights
from textclf.training.classification.head import FittedHead, fit_best_head
from textclf.training.classification.measured_rows import measured_rows
from textclf.training.classification.window_rows import windows_of
from textclf.training.features import fresh_kernel, standardisation
from textclf.training.model import TOKENS_SIGNATURE, Part, TaskModel, compiled
from textclf.training.watching.watchers import Trouble, after_epoch, guessing_loss


class PooledClassifier(TaskModel):
    """Pooled output → standardised features → dropout → dense → softmax.

    The original encoder's first-token state reaches 1e7, and a fresh head would start at an absurd loss. With features of
    mean 0 and deviation 1, every encoder starts at ln(labels). The standardisation is linear and is folded into the head
    of the exported model.
    """

    targets_signature = tf.TensorSpec([None], tf.int32)

    def __init__(self, checkpoint: AnyEncoder, label_count: int, seed: int) -> None:
        self._label_count = label_count
        super().__init__(checkpoint, seed)
        self.feature_mean = tf.Variable(tf.zeros(self.width), trainable=False)
        self.feature_scale = tf.Variable(tf.ones(self.width), trainable=False)
        self.constants = {"features/mean": self.feature_mean, "features/scale": self.feature_scale}
        self._features = compiled(self.pooled, [TOKENS_SIGNATURE])
        self._classified = compiled(self._classify, [tf.TensorSpec([None, self.width], tf.float32)])

    def fresh_head(self, seed: int) -> dict[str, np.ndarray]:
        return {
            "head/kernel": fresh_kernel(seed, self.width, self._label_count),
            "head/bias": np.zeros(self._label_count),
        }

    def logits(
        self,
        tokens: Tokens,
        attention_dropout: Dropout | None = None,
        head_dropout: Dropout | None = None,
        dtype: tf.DType = tf.float32,
        frozen_layers: int | None = None,
    ) -> tf.Tensor:
        """Tokens [rows, length] → logits float32 [rows, labels]; `frozen_layers` as in `encode_pooled`."""
        return self._classify(self.pooled(tokens, attention_dropout, dtype, frozen_layers), head_dropout)

    def _classify(self, pooled: tf.Tensor, head_dropout: Dropout | None = None) -> tf.Tensor:
        """Pooled outputs [rows, width] → logits [rows, labels]."""
        features = (pooled - self.feature_mean) * self.feature_scale
        if head_dropout is not None:
            features = head_dropout(features, tf.constant(self.layers))
        return tf.matmul(features, self.variables["head/kernel"]) + self.variables["head/bias"]

    def row_losses(
        self,
        part: Part,
        settings: TrainingSettings,
        attention_dropout: Dropout | None,
        head_dropout: Dropout | None,
        dtype: tf.DType,
    ) -> tf.Tensor:
        """Cross-entropy in nats, with `training.label_smoothing`."""
        logits = self.logits(part.tokens, attention_dropout, head_dropout, dtype, settings.frozen_layers)
        count, smoothing = logits.shape[1], settings.label_smoothing
        targets = tf.one_hot(part.targets, count) * (1.0 - smoothing) + smoothing / count
        return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)

    def pooled_outputs(self, tokens: Tokens) -> np.ndarray:
        """Returns the encoder's vectors of these rows, float32 [rows, width]."""
        features: np.ndarray = self._features(tokens).numpy()
        return features

    def predict_logits(self, tokens: Tokens) -> np.ndarray:
        """Returns logits float32 [rows, labels] without dropout."""
        # The encoder's graph is that of `pooled_outputs`: to trace it takes about a second.
        logits: np.ndarray = self._classified(self._features(tokens)).numpy()
        return logits

    def standardize(self, pooled_outputs: np.ndarray) -> None:
        """Sets the feature standardisation from the pooled outputs of some rows."""
        mean, scale = standardisation(pooled_outputs)
        self.feature_mean.assign(mean)
        self.feature_scale.assign(scale)

    def fit_head(self, pooled_outputs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> FittedHead:
        """Replaces the head by one that fits the untrained encoder; label indices and weights are by row."""
        features = (pooled_outputs - self.feature_mean.numpy()) * self.feature_scale.numpy()
        head = fit_best_head(features, labels, weights, self._label_count)
        self.variables["head/kernel"].assign(head.kernel)
        self.variables["head/bias"].assign(head.bias)
        return head


class Classification:
    """The `TrainingTask` of text classification.

    Raises RecipeError for class
    weights that do not fit the labels, and EncoderError for an encoder with weights that are not finite.
    """

    def __init__(self, data: PreparedData, checkpoint: AnyEncoder, settings: TrainingSettings, seed: int) -> None:
        self._data, self._settings, self._labels = data, settings, data.dataset.labels
        self._windows = windows_of(data, "train")
        self.model: PooledClassifier
        self.targets: np.ndarray
        self.row_weights: np.ndarray
        self.guessing: float
        self._learn(data.dataset.train, checkpoint, seed)
        self.summary = counted(len(self._labels), "label")
        # Without epochs, the head is all that learns.
        self._measured_rows = self._rows_to_measure() if settings.epoch_count else np.arange(len(self._text_weights))
        self._cross_validated: Metrics | None = None
        self._pooled: np.ndarray | None = None

    def _learn(self, train: Split, checkpoint: AnyEncoder, seed: int) -> None:
        """Makes the model, and sets what it learns from the training rows."""
        row_counts = np.bincount(train.labels, minlength=len(self._labels))
        weights = label_weights(self._settings.class_weights, self._labels, row_counts)
        self._text_weights = weights[train.labels]
        self.targets = train.labels[self._windows.texts]
        self.row_weights = self._windows.weights(self._text_weights)
        self.guessing = guessing_loss(row_counts, weights, self._settings.label_smoothing)
        self.model = PooledClassifier(checkpoint, len(self._labels), seed)

    def _rows_to_measure(self) -> np.ndarray:
        """Returns the training rows to which the first head is fitted."""
        return measured_rows(self._data.dataset.train.labels, len(self._labels))

    # --- Before the first step ---------------------------------------------------------------------------------------

    def standardize(self, progress: Progress) -> None:
        """Sets the feature standardisation from the untrained encoder."""
        self.model.standardize(self._pooled_outputs(progress))

    def fit_first_head(self, progress: Progress) -> bool:
        """Fits a first head to the untrained encoder if the recipe asks for it and the encoder was pretrained, and returns
        whether it did."""
        if self._settings.head != "fitted" or not self.model.layers:
            return False
        rows, labels = self._measured_rows, self._data.dataset.train.labels
        # The logits of a text are the mean of its windows' logits, which are those of the mean of their vectors.
        pooled = combine_windows(self._pooled_outputs(progress), self._windows.chosen(rows)[1])
        with progress.during(f"Fitting the first head: {len(rows):,} rows, {len(self._labels):,} labels"):
            head = self.model.fit_head(pooled, labels[rows], self._text_weights[rows])
        if head.cross_validated is not None:
            self._cross_validated = evaluate(softmax(head.cross_validated), labels[rows], self._labels)
        return True

    def _pooled_outputs(self, progress: Progress) -> np.ndarray:
        """The untrained encoder's vectors of the measured rows, float32 [rows, width]; of texts in windows, those of the
        windows."""
        if self._pooled is None:
            rows = self._measured_rows
            windows, texts = self._windows.chosen(rows)
            lengths = self._data.encoded["train"].lengths[windows]
            pooled = np.zeros((len(windows), self.model.width), np.float32)
            with progress.during(f"Computing the encoder's outputs for {len(rows):,} training rows"):
                for batch in evaluation_batches(lengths, self.model.evaluation_batch, self._data.max_length):
                    tokens = self._data.batch("train", Batch(windows[batch.rows], batch.length))
                    pooled[batch.rows] = self.model.pooled_outputs(tokens)
            bad = np.unique(texts[~np.isfinite(pooled).all(axis=1)])
            if len(bad):
                raise EncoderError(
                    f"{self.model.encoder.checkpoint.path}: the encoder returns NaN or infinity for {len(bad):,} of "
                    f"{len(rows):,} training rows, first for row {self._data.dataset.train.rows[rows[bad[0]]]}, so no "
                    "classifier can be trained on it; check it with `textclf encoder SOURCE --golden`, or use another "
                    "encoder"
                )
            self._pooled = pooled
        return self._pooled

    # --- After an epoch ----------------------------------------------------------------------------------------------

    untrained = "only the last layer"

    def logits(self, split: str) -> np.ndarray:
        """Returns logits float32 [rows, labels] of the model as it is now, in the order of the split.

        Of a text in windows they are the mean of their logits.
        """
        lengths = self._data.encoded[split].lengths
        logits = np.zeros((len(lengths), len(self._labels)), np.float32)
        for batch in evaluation_batches(lengths, self.model.evaluation_batch, self._data.max_length):
            logits[batch.rows] = self.model.predict_logits(self._data.batch(split, batch))
        return windows_of(self._data, split).combined(logits)

    def epoch_entry(self, epoch: int, training_loss: float | None, logits: np.ndarray) -> dict[str, Any]:
        """Returns what the history keeps of an epoch; `logits` are those of the validation rows."""
        entry = epoch_entry(epoch, training_loss, self._metrics(self._data.dataset.validation, logits))
        if epoch == 0 and (found := self._cross_validated) is not None:
            entry |= {"cross_validated_rows": found.rows, "cross_validated_accuracy": found.accuracy}
        return entry

    def epoch_troubles(self, history: Sequence[Mapping[str, Any]], logits: np.ndarray) -> list[Trouble]:
        """Returns what the watchers detect after an epoch; `logits` are those of the validation rows."""
        probabilities, truth = softmax(logits), self._data.dataset.validation.labels
        predicted = [self._labels[index] for index in np.unique(probabilities.argmax(axis=1))]
        trained = [entry for entry in history if entry["epoch"] > 0]
        return after_epoch(trained, predicted, len(np.unique(truth)), self.guessing)

    def epoch_line(self, entry: Mapping[str, Any]) -> str:
        """Returns the line that is shown at the end of an epoch."""
        return epoch_line(entry, self._settings.epoch_count)

    def quality(self, entry: Mapping[str, Any]) -> tuple[float, float]:
        """Returns what makes an epoch the best; larger is better."""
        return quality(entry)

    def scores(self, split: Split, logits: np.ndarray) -> dict[str, float]:
        """Returns accuracy, macro_f1 and loss of a split."""
        return self._metrics(split, logits).scores()

    def _metrics(self, split: Split, logits: np.ndarray) -> Metrics:
        return evaluate(softmax(logits), split.labels, self._labels)


def epoch_entry(epoch: int, training_loss: float | None, metrics: Metrics) -> dict[str, Any]:
    """Returns what the history keeps of an epoch; `metrics` are those of validation. Epoch 0 has no training loss."""
    return {
        "epoch": epoch,
        "training_loss": training_loss,
        "validation_loss": metrics.loss,
        "validation_accuracy": metrics.accuracy,
        "validation_macro_f1": metrics.macro_f1,
    }


def epoch_line(entry: Mapping[str, Any], epochs: int) -> str:
    """Returns the line of an entry that `epoch_entry` made."""
    which = f"Epoch {entry['epoch']}/{epochs}" if entry["epoch"] else "Fitted last layer"
    return (
        f"{which}: validation loss {entry['validation_loss']:.4f}, accuracy "
        f"{entry['validation_accuracy']:.1%}, macro-F1 {entry['validation_macro_f1']:.1%}"
    )


def quality(entry: Mapping[str, Any]) -> tuple[float, float]:
    """Returns what makes an epoch the best: the highest validation accuracy; among equals the lowest loss."""
    return entry["validation_accuracy"], -entry["validation_loss"]
