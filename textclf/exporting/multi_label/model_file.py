"""The file of a model with several labels per text, and the comparison of its answers with those of the trained model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textclf.classify.multi_label.metrics import f1_of, predicted_sets
from textclf.data.findings.finding import counted
from textclf.data.tokens.encoded import Encoded
from textclf.errors import VerificationError
from textclf.exporting.parity import MAX_FLOAT_DIFFERENCE, NEARER, allowed_losses, check_numbers
from textclf.exporting.writing import common_settings, export_model, long_text_settings
from textclf.recipe.settings import Recipe
from textclf.recipe.values import USUAL_SEPARATOR
from textclf.tflite.classification import ClassifierMetadata
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.graph.weights import InferenceWeights
from textclf.tflite.multi_label import output_problems

UNDECIDED_LOGITS = 0.1
"""If the logit of a probability is this close to that of the threshold, the model is undecided about the label. At a
probability of 50 % this is 2.5 points, as for two labels of which one is predicted."""

# Where a logit would be infinite.
_LEAST = 1e-6


def model_settings(recipe: Recipe, vocabulary: Sequence[str], thresholds: Sequence[float]) -> dict[str, Any]:
    """Returns how the file is to be used: `common_settings`, the columns, the separator and the thresholds."""
    dataset = recipe.dataset
    in_columns = dataset.labels_from is not None
    return {
        **common_settings(recipe, vocabulary),
        "text": list(dataset.text),
        **long_text_settings(recipe),
        "label": None if in_columns else dataset.label,
        "label_separator": dataset.label_separator or USUAL_SEPARATOR,
        "labels_in_columns": in_columns,
        "thresholds": list(thresholds),
    }


def export_label_sets(
    recipe: Recipe,
    weights: InferenceWeights,
    labels: Sequence[str],
    vocabulary: Sequence[str],
    *,
    thresholds: Sequence[float],
    rows: Encoded | None = None,
) -> bytes:
    """Returns a TFLite model that contains everything that a device, or textclf's Classifier, needs.

    `weights` have the outputs INDEPENDENT_PROBABILITIES. `thresholds` are those of the labels. `rows` and errors are those
    of `export_model`.
    """
    settings = model_settings(recipe, vocabulary, thresholds)
    return export_model(recipe, weights, vocabulary, settings, ClassifierMetadata(labels), output_problems, rows)


# --- Parity ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LabelSetVerification:
    """The exported file compared with the trained model: the number of rows, the largest difference of a probability, the
    rows whose labels changed (and those of them with a label about which the trained model was not undecided), and the
    micro-F1 of both (0 to 1).

    `doubt` is set if a bound is exceeded, but not by more than chance explains on this few rows. Then there is no verdict.
    """

    rows: int
    largest_difference: float
    changed_sets: int
    changed_decided_sets: int
    micro_f1_trained: float
    micro_f1_exported: float
    doubt: str | None = None

    @property
    def changed(self) -> str:
        """How much the export changed, for a terminal."""
        return f"the labels of {self.changed_sets:,} of {counted(self.rows, 'row')}"

    @property
    def scores(self) -> list[tuple[str, float, float]]:
        """The micro-F1 of the trained model and of the file."""
        return [("Micro-F1", self.micro_f1_trained, self.micro_f1_exported)]

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        return (
            f"compared with the trained model: the labels of {self.changed_sets:,} of {counted(self.rows, 'row')} changed "
            f"({self.changed_decided_sets:,} clearly), largest probability change {self.largest_difference:.4f}, "
            f"micro-F1 {self.micro_f1_trained:.1%} → {self.micro_f1_exported:.1%}"
        )


def verify_label_sets(
    trained: np.ndarray,
    exported: np.ndarray,
    truth: np.ndarray,
    thresholds: np.ndarray,
    quantization: Quantization,
    *,
    max_changed_labels: float | None = None,
    max_lost_accuracy: float | None = None,
) -> LabelSetVerification:
    """Takes probabilities float [rows, labels] of both models, true labels bool [rows, labels] and thresholds [labels].

    The bounds are those of `verify_export`: `max_changed_labels` is the largest share of rows with a clearly changed set of
    labels, `max_lost_accuracy` the largest loss of micro-F1. The decisions that become wrong may exceed those that become
    right by 2 · √(changed decisions), which is chance. Raises VerificationError, with the exceeded bounds.
    """
    max_changed, max_lost = allowed_losses(quantization, max_changed_labels, max_lost_accuracy)
    check_numbers("trained", trained)
    check_numbers("exported", exported)
    ours, theirs = predicted_sets(trained, thresholds), predicted_sets(exported, thresholds)
    changed = ours != theirs
    found = LabelSetVerification(
        rows=len(truth),
        largest_difference=float(np.abs(trained - exported).max()),
        changed_sets=int(changed.any(axis=1).sum()),
        changed_decided_sets=int(clearly_changed_sets(trained, exported, thresholds).sum()),
        micro_f1_trained=_micro_f1(ours, truth),
        micro_f1_exported=_micro_f1(theirs, truth),
    )
    if quantization == "none" and not found.largest_difference <= MAX_FLOAT_DIFFERENCE:
        raise VerificationError(
            f"the exported model's probabilities differ from the trained model's by up to {found.largest_difference:.4f}; "
            f"expected at most {MAX_FLOAT_DIFFERENCE} without quantisation"
        )
    broken = []
    if not found.changed_decided_sets <= max(1, max_changed * found.rows):
        broken.append(
            f"the exported model gives {found.changed_decided_sets} of {counted(found.rows, 'row')} clearly other labels than "
            f"the trained model (at most {max_changed:.1%} may change)"
        )
    values = f"the micro-F1 is {found.micro_f1_exported:.1%} after the export and {found.micro_f1_trained:.1%} before"
    lost_too_much = not found.micro_f1_trained - found.micro_f1_exported <= max_lost
    became_wrong = int((theirs != truth).sum()) - int((ours != truth).sum())
    if lost_too_much and not became_wrong <= 2 * math.sqrt(changed.sum()):
        broken.append(f"{values}, on {counted(found.rows, 'row')} (at most {max_lost:.1%} may be lost)")
    if broken:
        nearer = NEARER.get(quantization)
        remedy = f"; export in a more exact form: set export.quantization to {nearer}" if nearer else ""
        raise VerificationError(f"{', and '.join(broken)}{remedy}")
    if not lost_too_much:
        return found
    return replace(
        found,
        doubt=f"{values} (at most {max_lost:.1%} may be lost), but {counted(found.rows, 'row')} are too few to distinguish this "
        "from chance; compare on more labelled rows: `textclf verify MODEL DATA --run RUN`",
    )


def clearly_changed_sets(ours: np.ndarray, theirs: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Returns the rows of probabilities float [rows, labels] with a label that only one of two models predicts, although
    `ours` is not undecided about it: bool [rows]."""
    changed = predicted_sets(ours, thresholds) != predicted_sets(theirs, thresholds)
    distances = np.abs(_logits(ours) - _logits(thresholds))
    rows: np.ndarray = np.any(changed & (distances > UNDECIDED_LOGITS), axis=1)
    return rows


def _micro_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(f1_of((predicted & truth).sum(), (predicted & ~truth).sum(), (truth & ~predicted).sum()))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    kept = np.clip(np.asarray(probabilities, np.float64), _LEAST, 1 - _LEAST)
    logits: np.ndarray = np.log(kept) - np.log1p(-kept)
    return logits
