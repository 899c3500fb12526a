"""Writes the file of a model, whatever its task: takes trained weights and returns the bytes of `model.tflite`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textclf.data.tokens.encoded import Encoded
from textclf.data.tokens.vocabulary import vocabulary_hash
from textclf.encoders.kinds import kind_of
from textclf.errors import VerificationError
from textclf.recipe.automatic import settle_windows
from textclf.recipe.settings import Recipe
from textclf.tflite.checks import OutputProblems, structure_problems
from textclf.tflite.graph.weights import InferenceWeights
from textclf.tflite.metadata import TaskMetadata, write_metadata
from textclf.tflite.settings import SETTINGS_VERSION
from textclf.tflite.trial.probe import trust


def common_settings(recipe: Recipe, vocabulary: Sequence[str]) -> dict[str, Any]:
    """Returns how the file of any task is to be used, as far as the schema of the metadata has no field for it."""
    encoder, export = recipe.encoder, recipe.export
    return {
        "version": SETTINGS_VERSION,
        # Nothing for the default task.
        **recipe.model_dump(include={"task"}),
        "tokenizer": kind_of(recipe).tokenizer_name(encoder),
        "quantization": export.quantization,
        "compatibility": export.compatibility,
        "vocabulary_sha256": vocabulary_hash(vocabulary),
    }


def long_text_settings(recipe: Recipe) -> dict[str, Any]:
    """Returns how a text classifier reads a text that is longer than its input."""
    encoder = settle_windows(recipe).encoder
    windows = {"stride": encoder.stride, "max_windows": encoder.max_windows} if recipe.classifies_windows else {}
    return {"overflow": encoder.overflow, **windows}


def export_model(
    recipe: Recipe,
    weights: InferenceWeights,
    vocabulary: Sequence[str],
    settings: Mapping[str, Any],
    metadata: TaskMetadata,
    output_problems: OutputProblems,
    rows: Encoded | None = None,
) -> bytes:
    """Returns a TFLite model that contains everything that a device, or textclf, needs to use it.

    `settings` become `textclf.json`; `metadata` and `output_problems` are those of the task. Some of `rows`, the training
    rows, decide how int4 weights are rounded. The file is checked: raises VerificationError if its contents are not those
    that were requested, and ModelError if it cannot be written.
    """
    export = recipe.export
    content = write_metadata(
        weights.graph(recipe.encoder.fixed_length, export.quantization, export.compatibility, rows),
        name=recipe.name,
        vocabulary=vocabulary,
        task=metadata,
        delimiter_pattern=kind_of(recipe).delimiter_pattern,
        settings=settings,
    )
    problems = structure_problems(
        content, compatibility=export.compatibility, vocabulary=vocabulary, output_problems=output_problems
    )
    if problems:
        raise VerificationError("the exported file cannot be used:\n  " + "\n  ".join(problems))
    trust(content)
    return content
