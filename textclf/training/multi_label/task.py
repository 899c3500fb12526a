"""Several labels per row in training: the head and its loss, the first head, and how an epoch is measured and compared.

`MultiLabel` is the `TrainingTask` of this task. It differs from `Classification` in what a row's labels are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from textclf.classify.combining import combine_windows
from textclf.classify.multi_label.metrics import LabelSetMetrics, mean_loss, measure_label_sets, sigmoid
from textclf.data.examples import Split
from textclf.data.multi_label.label_sets import set_text, strata_of
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.mobilebert import Dropout
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.classification.measured_rows import measured_rows
from textclf.training.classification.task import Classification, PooledClassifier
from textclf.training.model import Part
from textclf.training.multi_label.head import fit_best_head
from textclf.training.multi_label.thresholds import DEFAULT_THRESHOLD, best_f1_thresholds
from textclf.training.multi_label.weights import SideWeights, guessing_loss, side_weights
from textclf.training.watching.watchers import Trouble, after_epoch


class JudgedRows(NamedTuple):
    """Logits float32 [rows, labels] and true labels bool [rows, labels] of rows on which the head was not fitted."""

    logits: np.ndarray
    truth: np.ndarray


class PooledLabelSets(PooledClassifier):
    """Pooled output → standardised features → dropout → dense → sigmoid: each label is a decision of its own."""

    targets_signature = tf.TensorSpec([None, None], tf.float32)

    def __init__(self, checkpoint: AnyEncoder, label_count: int, seed: int, weights: SideWeights) -> None:
        super().__init__(checkpoint, label_count, seed)
        self._with_label, self._without_label = (tf.constant(side) for side in weights)

    def row_losses(
        self,
        part: Part,
        settings: TrainingSettings,
        attention_dropout: Dropout | None,
        head_dropout: Dropout | None,
        dtype: tf.DType,
    ) -> tf.Tensor:
        """Binary cross-entropy in nats, the weighted mean over the labels."""
        logits = self.logits(part.tokens, attention_dropout, head_dropout, dtype, settings.frozen_layers)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=part.targets, logits=logits)
        weights = part.targets * self._with_label + (1.0 - part.targets) * self._without_label
        return tf.reduce_mean(losses * weights, axis=1)


class MultiLabel(Classification):
    """The `TrainingTask` of several labels per row.

    The best epoch is that of the lowest validation loss, weighted as in training. It counts every label of every row and
    needs no thresholds, which are chosen only when the training is complete. Macro-F1 would need them in each epoch; of
    rare labels, a handful of validation rows would decide them, and with them the epoch.
    """

    def _learn(self, train: Split, checkpoint: AnyEncoder, seed: int) -> None:
        rows, positives = len(train.labels), train.labels.sum(axis=0)
        self._weights = side_weights(self._settings.class_weights, self._labels, positives, rows)
        self._text_weights = np.ones(rows, np.float32)
        self.targets = train.labels.astype(np.float32)[self._windows.texts]
        self.row_weights = self._windows.weights(self._text_weights)
        self.guessing = guessing_loss(positives, rows, self._weights)
        self.model = PooledLabelSets(checkpoint, len(self._labels), seed, self._weights)
        self._thresholds: np.ndarray | None = None
        self.cross_validated: JudgedRows | None = None
        """The training rows, as a head that was fitted to other rows judges them; only if the fitted head is the model."""

    def _rows_to_measure(self) -> np.ndarray:
        # With one stratum, the rows are spread evenly over the data.
        return measured_rows(np.zeros(len(self._text_weights), np.int64), len(self._labels))

    def fit_first_head(self, progress: Progress) -> bool:
        """Does what `Classification.fit_first_head` does, with a logistic regression for each label."""
        if self._settings.head != "fitted" or not self.model.layers:
            return False
        rows, labels = self._measured_rows, self._labels
        pooled = combine_windows(self._pooled_outputs(progress), self._windows.chosen(rows)[1])
        targets = self._data.dataset.train.labels[rows] > 0
        strata = strata_of([set_text(labels[index] for index in np.flatnonzero(row)) for row in targets])
        with progress.during(f"Fitting the first head: {len(rows):,} rows, {len(labels):,} labels"):
            features = (pooled - self.model.feature_mean.numpy()) * self.model.feature_scale.numpy()
            head = fit_best_head(features, targets, self._weights, np.array(strata))
            self.model.variables["head/kernel"].assign(head.kernel)
            self.model.variables["head/bias"].assign(head.bias)
        if not self._settings.epoch_count and head.cross_validated is not None:
            self.cross_validated = JudgedRows(head.cross_validated, targets)
        return True

    # --- After an epoch ----------------------------------------------------------------------------------------------

    def epoch_entry(self, epoch: int, training_loss: float | None, logits: np.ndarray) -> dict[str, Any]:
        truth = self._data.dataset.validation.labels
        found = self._measured(logits, truth)
        return {
            "epoch": epoch,
            "training_loss": training_loss,
            "validation_loss": mean_loss(logits, truth, *self._weights),
            "validation_micro_f1": found.micro_f1,
            "validation_macro_f1": found.macro_f1,
            "validation_mean_average_precision": found.mean_average_precision,
        }

    def epoch_troubles(self, history: Sequence[Mapping[str, Any]], logits: np.ndarray) -> list[Trouble]:
        truth = self._data.dataset.validation.labels
        sets = np.unique(sigmoid(logits) >= DEFAULT_THRESHOLD, axis=0)
        # That no row gets a label is usual in the first epochs: rare labels are improbable, and have lower thresholds.
        predicted = [", ".join(self._labels[index] for index in np.flatnonzero(one)) for one in sets if one.any()]
        if len(sets) > 1 or not predicted:
            predicted = ["", ""]
        trained = [entry for entry in history if entry["epoch"] > 0]
        return after_epoch(trained, predicted, len(np.unique(truth, axis=0)), self.guessing)

    def epoch_line(self, entry: Mapping[str, Any]) -> str:
        which = f"Epoch {entry['epoch']}/{self._settings.epoch_count}" if entry["epoch"] else "Fitted last layer"
        return (
            f"{which}: validation loss {entry['validation_loss']:.4f}, micro-F1 {entry['validation_micro_f1']:.1%}, macro-F1 "
            f"{entry['validation_macro_f1']:.1%}, mean average precision {entry['validation_mean_average_precision']:.1%}"
        )

    def quality(self, entry: Mapping[str, Any]) -> tuple[float, float]:
        return -entry["validation_loss"], entry["validation_mean_average_precision"]

    def scores(self, split: Split, logits: np.ndarray) -> dict[str, float]:
        """Returns micro_f1, macro_f1 and loss of a split, with the thresholds of the validation rows, which come first."""
        if split.name == "validation":
            self._thresholds = best_f1_thresholds(sigmoid(logits), split.labels).values
        return self._measured(logits, split.labels, self._thresholds).scores()

    def _measured(self, logits: np.ndarray, truth: np.ndarray, thresholds: np.ndarray | None = None) -> LabelSetMetrics:
        probabilities = sigmoid(logits)
        if thresholds is None:
            thresholds = best_f1_thresholds(probabilities, truth).values
        return measure_label_sets(probabilities, truth, thresholds, self._labels)
