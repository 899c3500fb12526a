"""Does the exported file do what the trained model does? Both models' probabilities on the same real rows decide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from textclf.errors import VerificationError
from textclf.export.inference_graph import Quantization

# What few bits may cost, as shares of the rows: 4 of them, or more; a float32 file may differ by rounding only.
MAX_CHANGED_LABELS, MAX_CHANGED_LABELS_OF_4_BITS = 0.01, 0.03
MAX_LOST_ACCURACY, MAX_LOST_ACCURACY_OF_4_BITS = 0.005, 0.01
MAX_FLOAT_DIFFERENCE = 1e-3
# A model whose two best labels are this close has not decided; which of them comes out is not the file's fault.
UNDECIDED_MARGIN = 0.05


@dataclass(frozen=True)
class Verification:
    """The trained model beside the exported file: rows compared, the largest difference in a probability, rows whose
    label differs (and of these the ones on which the trained model had decided), and both accuracies (0..1)."""

    rows: int
    largest_difference: float
    changed_labels: int
    changed_decided_labels: int
    accuracy_trained: float
    accuracy_exported: float


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

    The bounds are shares of the rows, by default what the form may cost. Of few rows, one is more than any share: one
    may always change its label, and changed labels lose as many right ones as chance explains, twice the square root of
    their number (a changed label helps as often as it harms). Raises VerificationError where the file departs from the
    trained model by more.
    """
    rows, few_bits = len(truth), quantization == "int4"
    if max_changed_labels is None:
        max_changed_labels = MAX_CHANGED_LABELS_OF_4_BITS if few_bits else MAX_CHANGED_LABELS
    if max_lost_accuracy is None:
        max_lost_accuracy = MAX_LOST_ACCURACY_OF_4_BITS if few_bits else MAX_LOST_ACCURACY
    labels_trained, labels_exported = trained.argmax(axis=1), exported.argmax(axis=1)
    changed = labels_trained != labels_exported
    second_best, best = np.partition(trained, -2, axis=1)[:, -2:].T
    found = Verification(
        rows=rows,
        largest_difference=float(np.abs(trained - exported).max()),
        changed_labels=int(changed.sum()),
        changed_decided_labels=int((changed & (best - second_best > UNDECIDED_MARGIN)).sum()),
        accuracy_trained=float((labels_trained == truth).mean()),
        accuracy_exported=float((labels_exported == truth).mean()),
    )
    if not np.isfinite(found.largest_difference):
        raise VerificationError("the exported model returns probabilities that are not numbers")
    if quantization == "none" and found.largest_difference > MAX_FLOAT_DIFFERENCE:
        raise VerificationError(
            f"the exported model's probabilities differ from the trained model's by up to "
            f"{found.largest_difference:.4f}; expected at most {MAX_FLOAT_DIFFERENCE} without quantisation"
        )
    lost_rows = round((found.accuracy_trained - found.accuracy_exported) * rows)
    allowed_loss = max(max_lost_accuracy * rows, 2 * math.sqrt(found.changed_labels))
    if found.changed_decided_labels > max(1, max_changed_labels * rows) or lost_rows > allowed_loss:
        raise VerificationError(
            f"the exported model gives {found.changed_decided_labels} of {rows} rows clearly another label than the trained one "
            f"(at most {max_changed_labels:.1%} may change) and its accuracy is {found.accuracy_exported:.1%} against "
            f"{found.accuracy_trained:.1%} (at most {max_lost_accuracy:.1%} may be lost); "
            "train for longer, or export with another export.quantization: float16 stays nearest to the trained one"
        )
    return found
