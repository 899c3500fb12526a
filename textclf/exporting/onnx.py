"""What the ONNX files of all tasks share: which packages and weights they need, and which settings they lack."""

from __future__ import annotations

from typing import Any

from textclf import extras
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
