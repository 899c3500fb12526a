"""Computes how much rows with and without each label count in training, from `training.class_weights`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from textclf.training.classification.class_weights import named_weights

# With `balanced`, a row with a label counts at most this many times as much as one without: of a label with a few rows
# among thousands, single rows would otherwise decide what is learned.
_LARGEST_RATIO = 100.0


class SideWeights(NamedTuple):
    """The weights of rows with each label and of rows without it, float32 [labels] each; their mean over the rows is 1."""

    with_label: np.ndarray
    without_label: np.ndarray


def side_weights(
    wanted: str | Mapping[str, float] | None, labels: Sequence[str], positives: np.ndarray, rows: int
) -> SideWeights:
    """Takes `training.class_weights` and the number of rows with each label, `positives`, of all training `rows`.

    `balanced` gives the rows with a label and those without it the same total weight, up to a ratio of 100; a number is the
    ratio of the two weights. Raises RecipeError for a label that the data do not have.
    """
    ratio = named_weights(wanted, labels) if isinstance(wanted, Mapping) else np.ones(len(labels))
    if wanted == "balanced":
        ratio = np.clip((rows - positives) / np.maximum(positives, 1), 1 / _LARGEST_RATIO, _LARGEST_RATIO)
    scale = rows / (ratio * positives + (rows - positives))
    return SideWeights((ratio * scale).astype(np.float32), scale.astype(np.float32))


def guessing_loss(positives: np.ndarray, rows: int, weights: SideWeights) -> float:
    """Returns the training loss in nats of the best model that does not read the text: the mean entropy of the labels."""
    share = positives * weights.with_label.astype(np.float64) / rows
    with np.errstate(divide="ignore", invalid="ignore"):
        entropies = -(share * np.log(share) + (1 - share) * np.log1p(-share))
    return float(np.nan_to_num(entropies).mean())
