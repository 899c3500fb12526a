"""Computes how much a row of each label counts in training, from `training.class_weights` and the rows of each label."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from textclf.errors import RecipeError


def label_weights(
    wanted: str | Mapping[str, float] | None, labels: Sequence[str], row_counts: np.ndarray
) -> np.ndarray:
    """Returns weights float32 [labels], with mean 1 over the training rows, so that losses and clipping keep their scale.

    `wanted` is `training.class_weights`. Raises RecipeError if it names a label that the data do not have, and for
    weights with a ratio that float32 cannot represent.
    """
    weights = named_weights(wanted, labels) if isinstance(wanted, Mapping) else np.ones(len(labels))
    if wanted == "balanced":
        weights = 1.0 / np.maximum(row_counts, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: np.ndarray = (weights * row_counts.sum() / (weights * row_counts).sum()).astype(np.float32)
    if not (np.isfinite(scaled) & (scaled >= np.finfo(np.float32).tiny)).all():
        raise RecipeError(
            f"training.class_weights differ too much ({weights.min():.3g} to {weights.max():.3g}): the rows of some labels "
            "would not count at all; choose weights between 0.001 and 1000"
        )
    return scaled


def named_weights(wanted: Mapping[str, float], labels: Sequence[str]) -> np.ndarray:
    """Returns the weights that a recipe names, and 1 for other labels: float64 [labels].

    Raises RecipeError for a label that the data do not have.
    """
    weights = np.ones(len(labels))
    places = {label: index for index, label in enumerate(labels)}
    for label, weight in wanted.items():
        if label not in places:
            near = difflib.get_close_matches(label, labels, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else f"the labels are {', '.join(labels[:10])}"
            raise RecipeError(f"training.class_weights names `{label}`, a label that no row has; {remedy}")
        weights[places[label]] = weight
    return weights
