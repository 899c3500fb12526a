"""Does the exported file do what the trained model does? Both models' probabilities on the same real rows decide."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from textclf.errors import VerificationError
from textclf.tflite.graph.mobilebert import Quantization

# What few bits may cost, as shares of the rows: 4 of them, or more; a float32 file may differ by rounding only.
MAX_CHANGED_LABELS, MAX_CHANGED_LABELS_OF_4_BITS = 0.01, 0.03

MAX_LOST_ACCURACY, MAX_LOST_ACCURACY_OF_4_BITS = 0.005, 0.01

MAX_FLOAT_DIFFERENCE = 1e-3

# A model whose two best labels are this close has not decided; which of them comes out is not the file's fault.
UNDECIDED_MARGIN = 0.05

_NEARER = {"int4": "dynamic, float16 or none", "dynamic": "float16 or none", "float16": "none"}


@dataclass(frozen=True)
class Verification:
    """The trained model beside the exported file: rows compared, the largest difference in a probability, rows whose
    label differs (and of these the ones on which the trained model had decided), and both accuracies (0..1).

    `doubt` is set where a bound is exceeded by no more than chance explains on so few rows: then nothing was shown.
    """

    rows: int
    largest_difference: float
    changed_labels: int
    changed_decided_labels: int
    accuracy_trained: float
    accuracy_exported: float
    doubt: str | None = None


def verify_export(
    trained: np.ndarray,
    exported: np.ndarray,
    truth: np.ndarray,
    quantization: Quantization,
    *,
    max_changed_labels: float | None = None,
    max_lost_accuracy: float | None = None,
) -> Verification:
    """Probabilities float [rows, labels] of both models and the true label indices → what was found.

    The bounds are shares of the rows, by default what the form may cost. On few rows a single one exceeds any share. So
    one row may always change its label, and the rows that become wrong may exceed those that become right by
    2 · √(changed labels): a label that changes by chance helps as often as it harms, and that is two standard deviations.
    Raises VerificationError, with the bounds that were broken, where the file departs from the trained model by more.
    """
    few_bits = quantization == "int4"
    if max_changed_labels is None:
        max_changed_labels = MAX_CHANGED_LABELS_OF_4_BITS if few_bits else MAX_CHANGED_LABELS
    if max_lost_accuracy is None:
        max_lost_accuracy = MAX_LOST_ACCURACY_OF_4_BITS if few_bits else MAX_LOST_ACCURACY
    _check_numbers("trained", trained)
    _check_numbers("exported", exported)
    found = _compare(trained, exported, truth)
    rows = found.rows
    if quantization == "none" and not found.largest_difference <= MAX_FLOAT_DIFFERENCE:
        raise VerificationError(
            f"the exported model's probabilities differ from the trained model's by up to "
            f"{found.largest_difference:.4f}; expected at most {MAX_FLOAT_DIFFERENCE} without quantisation"
        )
    changed, lost = found.changed_decided_labels, round((found.accuracy_trained - found.accuracy_exported) * rows)
    broken = []
    # One row may always change; more than one may not be more than their share.
    if not changed <= max(1, max_changed_labels * rows):
        broken.append(
            f"the exported model gives {changed} of {rows} rows clearly another label than the trained one (at most "
            f"{max_changed_labels:.1%} may change)"
        )
    lost_too_much = not lost <= max_lost_accuracy * rows
    if lost_too_much and not lost <= 2 * math.sqrt(found.changed_labels):
        broken.append(
            f"the exported model's accuracy is {found.accuracy_exported:.1%} against {found.accuracy_trained:.1%} of the "
            f"trained one on {rows} rows (at most {max_lost_accuracy:.1%} may be lost)"
        )
    if broken:
        nearer = _NEARER.get(quantization)
        remedy = f"; export in a form that stays nearer to it: export.quantization {nearer}" if nearer else ""
        raise VerificationError(f"{', and '.join(broken)}{remedy}")
    if not lost_too_much:
        return found
    return replace(
        found,
        doubt=f"the exported file's accuracy is {found.accuracy_exported:.1%} against {found.accuracy_trained:.1%} before the "
        f"export (at most {max_lost_accuracy:.1%} may be lost), but {rows} rows are too few to tell this from chance; compare "
        "it on more labelled rows: `textclf verify MODEL DATA --run RUN`",
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


def _check_numbers(model: str, probabilities: np.ndarray) -> None:
    """Raises VerificationError for NaN and infinity."""
    bad = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(bad):
        raise VerificationError(
            f"the {model} model returns probabilities that are not numbers for {len(bad)} of {len(probabilities)} rows "
            f"(row {bad[0] + 1} of the compared ones first)"
        )
