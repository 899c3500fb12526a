"""Computes all metrics of models with several labels per row, from probabilities, true labels and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textclf.classify.metrics import FEW_MEASURED_ROWS, interval_text

_RESAMPLES = 2000

# The most numbers that are resampled at once.
_RESAMPLED = 1 << 22

# Probabilities are kept this far from 0 and 1 in a loss, about what float32 can represent.
_LEAST = 1e-7


@dataclass(frozen=True)
class LabelSetLabel:
    """The metrics of a label: fractions in 0..1.

    The label is predicted at a probability of `threshold` or more. `support` is the number of rows with the label,
    `predicted` that of rows for which it is predicted. `average_precision` does not depend on the threshold (None without
    a row with the label).
    """

    label: str
    threshold: float
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int
    average_precision: float | None


@dataclass(frozen=True)
class LabelSetMetrics:
    """How good predicted sets of labels are, in 0..1.

    `micro_f1` counts every decision about a label of a row, `macro_f1` is the mean over the labels that occur, `sample_f1`
    the mean over the rows; `micro_f1_interval` is the 95 % confidence interval of the first. `mean_average_precision`, the
    mean over the labels with a row, does not depend on thresholds. `exact_match` is the share of rows with exactly the right
    labels, `hamming_loss` the share of wrong decisions. `loss` is the mean binary cross-entropy in nats. `confusions` has
    [missing label, wrong label, rows]: in this many rows the first label is right and not predicted, while the second is
    predicted and wrong. `true_labels` and `predicted_labels` are the mean numbers of labels of a row.
    """

    rows: int
    micro_f1: float
    micro_f1_interval: tuple[float, float]
    macro_f1: float
    sample_f1: float
    mean_average_precision: float
    exact_match: float
    hamming_loss: float
    loss: float
    true_labels: float
    predicted_labels: float
    per_label: list[LabelSetLabel]
    confusions: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        """Returns the values of a split in `metrics.json`."""
        return {**asdict(self), "micro_f1_interval": list(self.micro_f1_interval)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelSetMetrics:
        """Returns the inverse of `as_dict`."""
        fields = dict(values)
        fields["per_label"] = [LabelSetLabel(**label) for label in values["per_label"]]
        low, high = values["micro_f1_interval"]
        fields["micro_f1_interval"] = (low, high)
        return cls(**fields)

    def scores(self) -> dict[str, float]:
        """Returns the overall numbers by which trainings are compared."""
        return {"micro_f1": self.micro_f1, "macro_f1": self.macro_f1, "loss": self.loss}

    @property
    def exact_rows(self) -> int:
        """The number of rows with exactly the right labels."""
        return round(self.exact_match * self.rows)


def measure_label_sets(
    probabilities: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, labels: Sequence[str]
) -> LabelSetMetrics:
    """Takes probabilities float [rows, labels], true labels bool [rows, labels] and thresholds [labels].

    A label that has no row and is never predicted counts for no mean. A row without labels for which none is predicted is
    right and has a sample F1 of 1.
    """
    predicted = predicted_sets(probabilities, thresholds)
    right, wrong, missed = predicted & truth, predicted & ~truth, truth & ~predicted
    f1 = f1_of(right.sum(axis=0), wrong.sum(axis=0), missed.sum(axis=0))
    occurs = predicted.any(axis=0) | truth.any(axis=0)
    of_rows = [part.sum(axis=1) for part in (right, wrong, missed)]
    precisions = [
        average_precision(probabilities[:, index], truth[:, index]) if truth[:, index].any() else None
        for index in range(len(labels))
    ]
    known = [precision for precision in precisions if precision is not None]
    return LabelSetMetrics(
        rows=len(truth),
        micro_f1=float(f1_of(*(part.sum() for part in of_rows))),
        micro_f1_interval=micro_f1_interval(*of_rows),
        macro_f1=float(f1[occurs].mean()) if occurs.any() else 1.0,
        sample_f1=float(f1_of(*of_rows).mean()),
        mean_average_precision=float(np.mean(known)) if known else 0.0,
        exact_match=float((predicted == truth).all(axis=1).mean()),
        hamming_loss=float((predicted != truth).mean()),
        loss=cross_entropy(probabilities, truth),
        true_labels=float(truth.sum(axis=1).mean()),
        predicted_labels=float(predicted.sum(axis=1).mean()),
        per_label=[
            LabelSetLabel(
                label=label,
                threshold=float(thresholds[index]),
                precision=float(right[:, index].sum() / max(predicted[:, index].sum(), 1)),
                recall=float(right[:, index].sum() / max(truth[:, index].sum(), 1)),
                f1=float(f1[index]),
                support=int(truth[:, index].sum()),
                predicted=int(predicted[:, index].sum()),
                average_precision=precisions[index],
            )
            for index, label in enumerate(labels)
        ],
        confusions=_confusions(missed, wrong),
    )


def predicted_sets(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Returns which labels are predicted, bool [rows, labels]. Only this function applies thresholds.

    A probability that is not a number predicts nothing.
    """
    predicted: np.ndarray = probabilities >= np.asarray(thresholds, np.float32)
    return predicted


def f1_of(right: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Returns F1 from numbers of right, wrong and missed predictions; 1 where there are none of them."""
    total = 2 * right + wrong + missed
    scores: np.ndarray = np.where(total > 0, 2 * right / np.maximum(total, 1), 1.0)
    return scores


def average_precision(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean precision at the rows with the label, most probable first; equal probabilities count together."""
    order = np.argsort(-probabilities, kind="stable")
    scores, hits = probabilities[order], np.cumsum(truth[order])
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def micro_f1_interval(right: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % confidence interval of micro-F1 from the numbers of each row, int [rows].

    It is that of the percentiles of 2,000 samples of the rows with replacement (Efron, Annals of Statistics 7, 1979, p.
    1–26), the same for equal rows.
    """
    return _interval(_resampled_f1(np.stack([right, wrong, missed], axis=1)))


def micro_f1_difference_interval(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % confidence interval of the second model's micro-F1 minus the first's, from the labels that they predict
    and the true ones, bool [rows, labels]: that of the same samples of the rows for both."""
    ours, theirs = (
        _resampled_f1(np.stack([(given & truth).sum(1), (given & ~truth).sum(1), (truth & ~given).sum(1)], axis=1))
        for given in (first, second)
    )
    return _interval(theirs - ours)


def _resampled_f1(numbers: np.ndarray) -> np.ndarray:
    """Returns the micro-F1 of samples of rows of [right, wrong, missed], the same rows for equally many."""
    random, scores = np.random.default_rng(0), list[np.ndarray]()
    at_once = max(1, _RESAMPLED // len(numbers))
    for start in range(0, _RESAMPLES, at_once):
        chosen = random.integers(len(numbers), size=(min(at_once, _RESAMPLES - start), len(numbers)))
        scores.append(f1_of(*numbers[chosen].sum(axis=1).T))
    return np.concatenate(scores)


def _interval(scores: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def _confusions(missed: np.ndarray, wrong: np.ndarray) -> list[list[int]]:
    """Returns [missing label, wrong label, rows] for each pair that occurs in a row, in order."""
    # In float64, which is exact here: NumPy multiplies integers hundreds of times more slowly.
    together = missed.astype(np.float64).T @ wrong.astype(np.float64)
    first, second = np.nonzero(together)
    pairs: list[list[int]] = np.stack([first, second, together[first, second].astype(np.int64)], axis=1).tolist()
    return pairs


def result_warnings(measured: Mapping[str, LabelSetMetrics], reported: str) -> list[str]:
    """Returns warnings that a person needs before trusting the numbers of the measured splits; `reported` is the one that
    stands for the whole."""
    headline, warnings = measured[reported], []
    guess = _f1_of_guessing(headline)
    if headline.micro_f1 <= guess and headline.micro_f1 < 1:
        warnings.append(
            f"the model is not better than predicting the same labels for every row: micro-F1 {headline.micro_f1:.1%}, and "
            f"{guess:.1%} without reading the texts. Check that the texts tell the labels apart and are in a language that the "
            "encoder knows; then train for more epochs, with a higher training.learning_rate, or on more rows"
        )
    never = [label.label for label in headline.per_label if label.support and not label.predicted]
    if never and len(never) < len(headline.per_label):
        shown = ", ".join(f"`{label}`" for label in never[:5]) + (
            f" and {len(never) - 5:,} more" if len(never) > 5 else ""
        )
        warnings.append(
            f"{shown}: predicted for no {reported} row, although some have the label; add rows with it, or set "
            "training.class_weights=balanced"
        )
    for split, found in measured.items():
        if found.rows < FEW_MEASURED_ROWS:
            warnings.append(
                f"the micro-F1 of {found.micro_f1:.1%} was measured on only {found.rows} {split} rows and is very uncertain "
                f"({interval_text(found.micro_f1_interval)}); measure on more rows before you rely on it"
            )
    return warnings


def _f1_of_guessing(metrics: LabelSetMetrics) -> float:
    """Returns the best micro-F1 of predicting the same labels for every row: the most frequent ones."""
    counts = np.sort([label.support for label in metrics.per_label])[::-1]
    hits = np.cumsum(counts)
    given = metrics.rows * np.arange(1, len(counts) + 1)
    return float((2 * hits / np.maximum(given + counts.sum(), 1)).max())


# --- Numbers ---------------------------------------------------------------------------------------------------------
def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Takes logits and returns probabilities of the same shape, without overflow."""
    probabilities: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return probabilities


def cross_entropy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean binary cross-entropy in nats."""
    kept = np.clip(probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
    return float(-np.where(truth, np.log(kept), np.log1p(-kept)).mean())


def mean_loss(logits: np.ndarray, truth: np.ndarray, with_label: np.ndarray, without_label: np.ndarray) -> float:
    """Returns the mean binary cross-entropy in nats of logits float [rows, labels], with the weights of the rows that have a
    label and of those that do not, [labels] each."""
    signed = np.where(truth, -logits, logits).astype(np.float64)
    return float((np.logaddexp(0.0, signed) * np.where(truth, with_label, without_label)).mean())
