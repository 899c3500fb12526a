"""Every metric, in one place: probabilities and true labels in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LabelMetrics:
    """How one label fares: shares in 0..1, `support` in rows that truly carry it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Metrics:
    """`confusion[i][j]` counts rows of true label i that were given label j; `loss` is the mean cross-entropy in nats."""

    rows: int
    accuracy: float
    macro_f1: float
    loss: float
    per_label: list[LabelMetrics]
    confusion: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def scores(self) -> dict[str, float]:
        """The three numbers for the whole."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "loss": self.loss}


def evaluate(probabilities: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Metrics:
    """Probabilities float [rows, labels] and true label indices int [rows] → metrics.

    Macro-F1 is the plain mean of F1 over the labels that occur, truly or as a prediction.
    """
    count = len(labels)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    hits, true_counts, predicted_counts = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision = hits / np.maximum(predicted_counts, 1)
    recall = hits / np.maximum(true_counts, 1)
    f1 = 2 * hits / np.maximum(true_counts + predicted_counts, 1)
    occurs = true_counts + predicted_counts > 0
    chosen = np.maximum(probabilities[np.arange(len(truth)), truth].astype(np.float64), np.finfo(np.float32).tiny)
    return Metrics(
        rows=len(truth),
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(f1[occurs].mean()),
        loss=float(-np.log(chosen).mean()),
        per_label=[
            LabelMetrics(label, float(precision[i]), float(recall[i]), float(f1[i]), int(true_counts[i]))
            for i, label in enumerate(labels)
        ],
        confusion=confusion.tolist(),
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits [..., labels] → probabilities."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
