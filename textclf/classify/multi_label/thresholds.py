"""The thresholds of a model that gives a text any number of labels."""

from __future__ import annotations

import numpy as np

from textclf.errors import ModelError
from textclf.recipe.values import MULTI_LABEL
from textclf.tflite.format.packed_files import EXPORT_AGAIN
from textclf.tflite.metadata import ModelMetadata
from textclf.tflite.multi_label import threshold_problem


def thresholds_of(name: str, metadata: ModelMetadata) -> np.ndarray | None:
    """Returns the threshold of each label, float64 [labels]; None for a model of one label per text.

    Raises ModelError for a model of several labels without a threshold for each.
    """
    settings = metadata.settings or {}
    if settings.get("task") != MULTI_LABEL:
        return None
    if (problem := threshold_problem(metadata)) is not None:
        raise ModelError(f"{name}: {problem}; {EXPORT_AGAIN}")
    return np.array(settings["thresholds"], np.float64)
