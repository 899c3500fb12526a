"""The exported file: a trained classifier and its labels, vocabulary and settings in, the bytes of `model.tflite` out."""

from __future__ import annotations

from collections.abc import Sequence

from textclf.errors import VerificationError
from textclf.export.inference_graph import ClassifierWeights, build_inference_graph
from textclf.export.metadata import write_metadata
from textclf.export.structure import structure_problems
from textclf.export.vocabulary_hash import vocabulary_hash
from textclf.recipe import Recipe


def export_classifier(
    recipe: Recipe,
    weights: ClassifierWeights,
    labels: Sequence[str],
    vocabulary: Sequence[str],
    *,
    reject_below: float | None = None,
) -> bytes:
    """A TFLite model with everything inside that a device, or our own predictor, needs to classify text.

    `reject_below` is the probability below which a row shall be given no label. The file is read back: raises
    VerificationError where it does not hold what was asked for, and ModelError for what cannot be written.
    """
    export = recipe.export
    graph = build_inference_graph(weights, recipe.encoder.fixed_length, export.quantization, export.compatibility)
    content = write_metadata(
        graph,
        name=recipe.name,
        labels=labels,
        vocabulary=vocabulary,
        settings={
            "tokenizer": recipe.encoder.tokenizer,
            "text": list(recipe.dataset.text),
            "label": recipe.dataset.label,
            "overflow": recipe.encoder.overflow,
            "quantization": export.quantization,
            "compatibility": export.compatibility,
            "vocabulary_sha256": vocabulary_hash(vocabulary),
            **({"reject_below": reject_below} if reject_below is not None else {}),
            **({"reject_label": export.reject_label} if export.reject_label else {}),
        },
    )
    problems = structure_problems(content, compatibility=export.compatibility, vocabulary=vocabulary)
    if problems:
        raise VerificationError("the exported file cannot be used:\n  " + "\n  ".join(problems))
    return content
