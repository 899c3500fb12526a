"""Every metric, in one place: probabilities and true labels in, numbers and what they warn of out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FEW_MEASURED_ROWS = 50
"""Below this many rows, the 95 % confidence interval of an accuracy is up to 28 points wide and more."""


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
    """`confusion_cells` holds [true label, given label, rows] for each pair of label indices that occurs, in order: what
    a matrix holds without its zeros, which with many labels are nearly all. `loss` is the mean cross-entropy in nats."""

    rows: int
    accuracy: float
    macro_f1: float
    loss: float
    per_label: list[LabelMetrics]
    confusion_cells: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        """What `metrics.json` holds of a split."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Metrics:
        """The inverse of `as_dict`; also reads the whole matrix `confusion` of earlier versions."""
        fields = dict(values)
        fields["per_label"] = [LabelMetrics(**label) for label in values["per_label"]]
        if "confusion" in fields:
            fields["confusion_cells"] = _cells(np.array(fields.pop("confusion"), np.int64))
        return cls(**fields)

    def scores(self) -> dict[str, float]:
        """The three numbers for the whole."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "loss": self.loss}

    @property
    def right_rows(self) -> int:
        """Rows that got their true label."""
        return sum(rows for true, given, rows in self.confusion_cells if true == given)

    def confusion_matrix(self) -> np.ndarray:
        """int64 [labels, labels]: at [i, j] the rows of true label i that were given label j."""
        matrix = np.zeros((len(self.per_label), len(self.per_label)), np.int64)
        for true, given, rows in self.confusion_cells:
            matrix[true, given] = rows
        return matrix


def _cells(matrix: np.ndarray) -> list[list[int]]:
    true, given = np.nonzero(matrix)
    cells: list[list[int]] = np.stack([true, given, matrix[true, given]], axis=1).tolist()
    return cells


def evaluate(probabilities: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Metrics:
    """Probabilities float [rows, labels] and true label indices int [rows] → metrics.

    Macro-F1 is the plain mean of F1 over the labels that occur, truly or as a prediction.
    """
    count = len(labels)
    predicted = probabilities.argmax(axis=1)
    pairs, pair_rows = np.unique(truth.astype(np.int64) * count + predicted, return_counts=True)
    true_counts, predicted_counts = (np.bincount(indices, minlength=count) for indices in (truth, predicted))
    hits = np.bincount(truth[predicted == truth], minlength=count)
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
        confusion_cells=np.stack([pairs // count, pairs % count, pair_rows], axis=1).tolist(),
    )


def accuracy_interval(metrics: Metrics) -> tuple[float, float]:
    """The 95 % confidence interval of the accuracy, in 0..1 (Wilson's score interval, JASA 22, 1927, p. 209–212)."""
    z, rows, accuracy = 1.959964, metrics.rows, metrics.accuracy
    middle = accuracy + z * z / (2 * rows)
    reach = z * math.sqrt(accuracy * (1 - accuracy) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def guessing_warning(metrics: Metrics, split: str) -> str | None:
    """Says that a model is not better than its commonest label, where it is not; `split` names the measured rows."""
    commonest = max(metrics.per_label, key=lambda label: label.support)
    share = commonest.support / metrics.rows
    if metrics.accuracy > share or metrics.accuracy == 1:
        return None
    return (
        f"the model is not better than always predicting `{commonest.label}` ({share:.1%} of the {split} rows): its "
        f"accuracy is {metrics.accuracy:.1%}. Check that the texts tell the labels apart and are in a language that the "
        "encoder knows; then train for more epochs, with a higher training.learning_rate, or on more rows"
    )


def result_warnings(measured: Mapping[str, Metrics], reported: str) -> list[str]:
    """What a person has to know before trusting the numbers of the splits that were measured; `reported` is the one that
    stands for the whole."""
    guessing = guessing_warning(measured[reported], reported)
    warnings = [] if guessing is None else [guessing]
    for split, found in measured.items():
        if found.rows < FEW_MEASURED_ROWS:
            low, high = accuracy_interval(found)
            warnings.append(
                f"the accuracy of {found.accuracy:.1%} was measured on only {found.rows} {split} rows and is very uncertain "
                f"(95 % confidence interval: {100 * low:.1f}–{100 * high:.1f} %); measure on more rows before you rely on it"
            )
    return warnings


def metrics_json(metrics: Mapping[str, Any]) -> str:
    """The text of `metrics.json`: indented, each cell of a confusion matrix on one line."""
    text = json.dumps(metrics, indent=2, ensure_ascii=False)
    return re.sub(r"\[\n\s+(\d+),\n\s+(\d+),\n\s+(\d+)\n\s+\]", r"[\1, \2, \3]", text) + "\n"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits [..., labels] → probabilities."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities
