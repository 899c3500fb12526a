"""Writes the exported file: takes trained weights, labels, vocabulary and settings, and returns the bytes of `model.tflite`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textclf.data.tokens.encoded import Encoded
from textclf.data.tokens.vocabulary import vocabulary_hash
from textclf.encoders.kinds import kind_of
from textclf.errors import VerificationError
from textclf.recipe.settings import Recipe
from textclf.tflite.checks import structure_problems
from textclf.tflite.graph.weights import InferenceWeights
from textclf.tflite.metadata import write_metadata
from textclf.tflite.settings import SETTINGS_VERSION
from textclf.tflite.trial.probe import trust


def model_settings(recipe: Recipe, vocabulary: Sequence[str], reject_below: float | None) -> dict[str, Any]:
    """Returns how the file is to be used, as far as the schema of the metadata has no field for it."""
    encoder, export = recipe.encoder, recipe.export
    return {
        "version": SETTINGS_VERSION,
        "tokenizer": kind_of(recipe).tokenizer_name(encoder),
        "text": list(recipe.dataset.text),
        "label": recipe.dataset.label,
        "overflow": encoder.overflow,
        "quantization": export.quantization,
        "compatibility": export.compatibility,
        "vocabulary_sha256": vocabulary_hash(vocabulary),
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

    `reject_below` is the probability below which a row gets no label. Some of `rows`, the training rows, decide how int4
    weights are rounded. The file is checked: raises VerificationError if its contents are not those that were requested,
    and ModelError if it cannot be written.
    """
    export = recipe.export
    graph = weights.graph(recipe.encoder.fixed_length, export.quantization, export.compatibility, rows)
    content = write_metadata(
        graph,
        name=recipe.name,
        labels=labels,
        vocabulary=vocabulary,
        delimiter_pattern=kind_of(recipe).delimiter_pattern,
        settings=model_settings(recipe, vocabulary, reject_below),
    )
    problems = structure_problems(content, compatibility=export.compatibility, vocabulary=vocabulary)
    if problems:
        raise VerificationError("the exported file cannot be used:\n  " + "\n  ".join(problems))
    trust(content)
    return content
