"""The exported file: a trained classifier and its labels, vocabulary and settings in, the bytes of `model.tflite` out."""

from __future__ import annotations

from collections.abc import Sequence

from textclf.export.inference_graph import ClassifierWeights, build_inference_graph
from textclf.export.metadata import write_metadata
from textclf.recipe import Recipe


def export_classifier(
    recipe: Recipe, weights: ClassifierWeights, labels: Sequence[str], vocabulary: Sequence[str]
) -> bytes:
    """A TFLite model with everything inside that a device, or our own predictor, needs to classify text."""
    graph = build_inference_graph(weights, recipe.encoder.max_length, recipe.export.quantization)
    return write_metadata(
        graph,
        name=recipe.name,
        labels=labels,
        vocabulary=vocabulary,
        settings={
            "tokenizer": recipe.encoder.tokenizer,
            "text": list(recipe.dataset.text),
            "label": recipe.dataset.label,
        },
    )
