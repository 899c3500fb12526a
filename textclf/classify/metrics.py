"""Computes all metrics and warnings about them from probabilities and true labels."""

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
    """The metrics of a label: fractions in 0..1; `support` is the number of rows with this true label."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Metrics:
    """`confusion_cells` has [true label, predicted label, rows] for each pair of label indices that occurs, in order: a
    matrix without its zeros. With many labels, nearly all cells are zeros. `loss` is the mean cross-entropy in
    nats."""

    rows: int
    accuracy: float
    macro_f1: float
    loss: float
    per_label: list[LabelMetrics]
    confusion_cells: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        """Returns the values of a split in `metrics.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Metrics:
        """Returns the inverse of `as_dict`; also reads the whole matrix `confusion` of earlier versions."""
        fields = dict(values)
        fields["per_label"] = [LabelMetrics(**label) for label in values["per_label"]]
        if "confusion" in fields:
            fields["confusion_cells"] = _cells(np.array(fields.pop("confusion"), np.int64))
        return cls(**fields)

    def scores(self) -> dict[str, float]:
        """Returns the three overall numbers."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "loss": self.loss}

    @property
    def right_rows(self) -> int:
        """The number of rows with the correct label."""
        return sum(rows for true, given, rows in self.confusion_cells if true == given)

    def confusion_matrix(self) -> np.ndarray:
        """int64 [labels, labels]: at [i, j] the number of rows of true label i with predicted label j."""
        matrix = np.zeros((len(self.per_label), len(self.per_label)), np.int64)
        for true, given, rows in self.confusion_cells:
            matrix[true, given] = rows
        return matrix


def _cells(matrix: np.ndarray) -> list[list[int]]:
    true, given = np.nonzero(matrix)
    cells: list[list[int]] = np.stack([true, given, matrix[true, given]], axis=1).tolist()
    return cells


def evaluate(probabilities: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Metrics:
    """Takes probabilities float [rows, labels] and true label indices int [rows], and returns metrics.

    Macro-F1 is the unweighted mean of F1 over the labels that occur as a true label or a prediction.
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
    """Returns the 95 % confidence interval of the accuracy, in 0..1."""
    return share_interval(metrics.accuracy, metrics.rows)


def share_interval(accuracy: float, rows: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval of the share of right rows, in 0..1 (Wilson's score interval, JASA 22, 1927,
    p. 209–212)."""
    z = 1.959964
    middle = accuracy + z * z / (2 * rows)
    reach = z * math.sqrt(accuracy * (1 - accuracy) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def interval_text(interval: tuple[float, float]) -> str:
    """`95 % confidence interval: 91.8–95.2 %`."""
    return f"95 % confidence interval: {100 * interval[0]:.1f}–{100 * interval[1]:.1f} %"


def accuracy_difference_interval(rows: int, gained: int, lost: int) -> tuple[float, float]:
    """The 95 % confidence interval of the difference of two accuracies on the same rows, in -1..1.

    `gained` rows are right with the second model only, `lost` rows with the first only. Wald's interval for paired
    proportions with half a row added to each of the four cells (Agresti and Min, Statistics in Medicine 24, 2005,
    p. 729-740), which also holds for few rows.
    """
    gained_more, lost_more, all_rows = gained + 0.5, lost + 0.5, rows + 2
    middle = (gained_more - lost_more) / all_rows
    reach = 1.959964 * math.sqrt(gained_more + lost_more - (gained_more - lost_more) ** 2 / all_rows) / all_rows
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """The two-sided p-value of McNemar's exact test, in 0..1: how probable a split at least as uneven is by chance.

    `gained` rows are right with the second model only, `lost` rows with the first only. If the models were equally good,
    each of these rows would be either with probability 1/2, so `lost` would be binomially distributed (McNemar,
    Psychometrika 12, 1947, p. 153-157, with this distribution itself in place of its approximation by chi-squared).
    """
    rows, fewer = gained + lost, min(gained, lost)
    # In logarithms, since the numbers of ways have thousands of digits.
    logarithms = (
        math.lgamma(rows + 1) - math.lgamma(count + 1) - math.lgamma(rows - count + 1) - rows * math.log(2)
        for count in range(fewer + 1)
    )
    return min(1.0, 2 * math.fsum(map(math.exp, logarithms)))


def guessing_warning(metrics: Metrics, split: str) -> str | None:
    """Returns a warning if a model is not better than its most frequent label. `split` names the measured rows."""
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
    """Returns warnings that a person needs before trusting the numbers of the measured splits; `reported` is the
    one that stands for the whole."""
    guessing = guessing_warning(measured[reported], reported)
    warnings = [] if guessing is None else [guessing]
    for split, found in measured.items():
        if found.rows < FEW_MEASURED_ROWS:
            warnings.append(
                f"the accuracy of {found.accuracy:.1%} was measured on only {found.rows} {split} rows and is very uncertain "
                f"({interval_text(accuracy_interval(found))}); measure on more rows before you rely on it"
            )
    return warnings


def metrics_json(metrics: Mapping[str, Any]) -> str:
    """Returns the text of `metrics.json`: indented, each cell of a confusion matrix on one line."""
    text = json.dumps(metrics, indent=2, ensure_ascii=False)
    return re.sub(r"\[\n\s+(\d+),\n\s+(\d+),\n\s+(\d+)\n\s+\]", r"[\1, \2, \3]", text) + "\n"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Takes logits [..., labels] and returns probabilities."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities
