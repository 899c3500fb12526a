"""What the ONNX files of all tasks share: which packages and weights they need, and how they are run for comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textclf import extras
from textclf.classify.classifier import Classifier
from textclf.data.tokens.batching import evaluation_batches
from textclf.data.tokens.encoded import Encoded, pad
from textclf.errors import ArgumentError
from textclf.recipe.settings import Recipe

_BATCH = 32


def require_onnx(recipe: Recipe) -> None:
    """Raises MissingPackageError without the packages, and ArgumentError for weights that ONNX files do not have."""
    extras.require("onnx", "to write ONNX files")
    extras.require("onnxruntime", "to compare ONNX files with the trained model")
    from textclf.onnx.model_file import FORMS

    if recipe.export.quantization not in FORMS:
        raise ArgumentError(
            f"export.quantization is {recipe.export.quantization}, which ONNX files do not have; add for example "
            f"quantization=dynamic (there are {', '.join(FORMS)})"
        )


def without_runtimes(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of a model without those that say which runtimes of TFLite files load it."""
    return {key: value for key, value in settings.items() if key != "compatibility"}


def outputs_of(content: bytes, encoded: Encoded, max_length: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Runs rows on ONNX Runtime. Yields the numbers of some rows, and their outputs by name, until all are done."""
    from textclf.onnx.running import OnnxModel

    model = OnnxModel(content)
    for batch in evaluation_batches(encoded.lengths, _BATCH, max_length):
        yield batch.rows, model.run(pad(encoded, batch.rows, batch.length))


def file_probabilities(content: bytes, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Returns the probabilities that textclf's Classifier computes with an ONNX file, float32 [texts, labels]."""
    with Classifier.of_content(content, "the ONNX file", Path("model.onnx")) as classifier:
        return classifier.probabilities(texts)
