"""The exported file: a trained classifier and its labels, vocabulary and settings in, the bytes of `model.tflite` out."""

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
    """What the file itself says of how it is to be used, beside what the metadata's schema knows."""
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
    """A TFLite model with everything inside that a device, or our own predictor, needs to classify text.

    `reject_below` is the probability below which a row shall be given no label. By some of `rows`, the training's,
    int4 weights are rounded. The file is read back: raises VerificationError where it does not hold what was asked for,
    and ModelError for what cannot be written.
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
