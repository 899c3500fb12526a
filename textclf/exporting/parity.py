"""Compares the exported file with the trained model: their probabilities on the same real rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from textclf.data.findings.finding import counted
from textclf.errors import VerificationError
from textclf.tflite.graph.mobilebert import Quantization

# The allowed losses, as fractions of the rows, for 8 or 16 bits and for 4 bits. A float32 file may differ only by rounding.
MAX_CHANGED_LABELS, MAX_CHANGED_LABELS_OF_4_BITS = 0.01, 0.03

MAX_LOST_ACCURACY, MAX_LOST_ACCURACY_OF_4_BITS = 0.005, 0.01

MAX_FLOAT_DIFFERENCE = 1e-3

# If the probabilities of the two best labels are this close, the model is undecided, and either label is acceptable.
UNDECIDED_MARGIN = 0.05

NEARER = {"int4": "dynamic, float16 or none", "dynamic": "float16 or none", "float16": "none"}


@dataclass(frozen=True)
class Verification:
    """The exported file compared with the trained model: the number of rows, the largest difference of a probability, the
    rows whose label changed (and those of them on which the trained model was not undecided), and both accuracies (0 to 1).

    `doubt` is set if a bound is exceeded, but not by more than chance explains on this few rows. Then there is no verdict.
    """

    rows: int
    largest_difference: float
    changed_labels: int
    changed_decided_labels: int
    accuracy_trained: float
    accuracy_exported: float
    doubt: str | None = None

    @property
    def changed(self) -> str:
        """How much the export changed, for a terminal."""
        return f"{self.changed_labels:,} of {self.rows:,} predicted labels"

    @property
    def scores(self) -> list[tuple[str, float, float]]:
        """The accuracy of the trained model and of the file."""
        return [("Accuracy", self.accuracy_trained, self.accuracy_exported)]

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        return (
            f"compared with the trained model: {self.changed_labels:,} of {counted(self.rows, 'prediction')} changed "
            f"({self.changed_decided_labels:,} clearly), largest probability change {self.largest_difference:.4f}, "
            f"accuracy {self.accuracy_trained:.1%} → {self.accuracy_exported:.1%}"
        )


def verify_export(
    trained: np.ndarray,
    exported: np.ndarray,
    truth: np.ndarray,
    quantization: Quantization,
    *,
    max_changed_labels: float | None = None,
    max_lost_accuracy: float | None = None,
) -> Verification:
    """Takes probabilities float [rows, labels] of both models and the true label indices, and compares them.

    The bounds are fractions of the rows (default: those for the form). A single row of few exceeds any fraction, so one
    row may always change its label. The rows that become wrong may exceed those that become right by
    2 · √(changed labels). This is two standard deviations, because a label that changes by chance becomes right as often
    as wrong. Raises VerificationError, with the exceeded bounds, if the file differs more from the trained model.
    """
    max_changed_labels, max_lost_accuracy = allowed_losses(quantization, max_changed_labels, max_lost_accuracy)
    check_numbers("trained", trained)
    check_numbers("exported", exported)
    found = _compare(trained, exported, truth)
    rows = found.rows
    if quantization == "none" and not found.largest_difference <= MAX_FLOAT_DIFFERENCE:
        raise VerificationError(
            f"the exported model's probabilities differ from the trained model's by up to "
            f"{found.largest_difference:.4f}; expected at most {MAX_FLOAT_DIFFERENCE} without quantisation"
        )
    changed, lost = found.changed_decided_labels, round((found.accuracy_trained - found.accuracy_exported) * rows)
    broken = []
    # One row may always change. More than one must be within the bound.
    if not changed <= max(1, max_changed_labels * rows):
        broken.append(
            f"the exported model gives {changed} of {counted(rows, 'row')} clearly another label than the trained model (at "
            f"most {max_changed_labels:.1%} may change)"
        )
    lost_too_much = not lost <= max_lost_accuracy * rows
    if lost_too_much and not lost <= 2 * math.sqrt(found.changed_labels):
        broken.append(
            f"the accuracy is {found.accuracy_exported:.1%} after the export and {found.accuracy_trained:.1%} before, on "
            f"{counted(rows, 'row')} (at most {max_lost_accuracy:.1%} may be lost)"
        )
    if broken:
        nearer = NEARER.get(quantization)
        remedy = f"; export in a more exact form: set export.quantization to {nearer}" if nearer else ""
        raise VerificationError(f"{', and '.join(broken)}{remedy}")
    if not lost_too_much:
        return found
    return replace(
        found,
        doubt=f"the accuracy is {found.accuracy_exported:.1%} after the export and {found.accuracy_trained:.1%} before (at most "
        f"{max_lost_accuracy:.1%} may be lost), but {counted(rows, 'row')} are too few to distinguish this from chance; compare "
        "on more labelled rows: `textclf verify MODEL DATA --run RUN`",
    )


def _compare(trained: np.ndarray, exported: np.ndarray, truth: np.ndarray) -> Verification:
    labels_trained, labels_exported = trained.argmax(axis=1), exported.argmax(axis=1)
    changed = labels_trained != labels_exported
    second_best, best = np.partition(trained, -2, axis=1)[:, -2:].T
    return Verification(
        rows=len(truth),
        largest_difference=float(np.abs(trained - exported).max()),
        changed_labels=int(changed.sum()),
        changed_decided_labels=int((changed & (best - second_best > UNDECIDED_MARGIN)).sum()),
        accuracy_trained=float((labels_trained == truth).mean()),
        accuracy_exported=float((labels_exported == truth).mean()),
    )


def allowed_losses(
    quantization: Quantization, max_changed_labels: float | None, max_lost_accuracy: float | None
) -> tuple[float, float]:
    """Returns the bounds as fractions of the rows, where None stands for that of the form."""
    few_bits = quantization == "int4"
    if max_changed_labels is None:
        max_changed_labels = MAX_CHANGED_LABELS_OF_4_BITS if few_bits else MAX_CHANGED_LABELS
    if max_lost_accuracy is None:
        max_lost_accuracy = MAX_LOST_ACCURACY_OF_4_BITS if few_bits else MAX_LOST_ACCURACY
    return max_changed_labels, max_lost_accuracy


def check_numbers(model: str, probabilities: np.ndarray) -> None:
    """Raises VerificationError for NaN and infinity."""
    bad = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(bad):
        raise VerificationError(
            f"the {model} model returns probabilities that are not numbers for {len(bad)} of "
            f"{counted(len(probabilities), 'row')} (first: row {bad[0] + 1} of the compared rows)"
        )
