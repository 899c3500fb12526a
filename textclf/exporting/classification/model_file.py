"""The file of a text classifier: takes trained weights, labels and vocabulary, and returns the bytes of `model.tflite`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textclf.data.tokens.encoded import Encoded
from textclf.exporting.writing import common_settings, export_model, long_text_settings
from textclf.recipe.settings import Recipe
from textclf.tflite.classification import ClassifierMetadata, output_problems
from textclf.tflite.graph.weights import InferenceWeights


def model_settings(recipe: Recipe, vocabulary: Sequence[str], reject_below: float | None) -> dict[str, Any]:
    """Returns how the file is to be used: `common_settings`, the columns, and when a row gets no label."""
    export = recipe.export
    return {
        **common_settings(recipe, vocabulary),
        "text": list(recipe.dataset.text),
        **long_text_settings(recipe),
        "label": recipe.dataset.label,
        **({"reject_below": reject_below} if reject_below is not None else {}),
        **({"reject_label": export.reject_label} if export.reject_label else {}),
    }


def export_classifier(
    recipe: Recipe,
    weights: InferenceWeights,
    labels: Sequence[str],
    vocabulary: Sequence[str],
    *,
    reject_below: float | None = None,
    rows: Encoded | None = None,
) -> bytes:
    """Returns a TFLite model that contains everything that a device, or textclf's Classifier, needs to classify text.

    `reject_below` is the probability below which a row gets no label. `rows` and errors are those of `export_model`.
    """
    settings = model_settings(recipe, vocabulary, reject_below)
    return export_model(recipe, weights, vocabulary, settings, ClassifierMetadata(labels), output_problems, rows)
