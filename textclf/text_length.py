"""`encoder.max_length: auto`: a dataset and its tokenizer in, the recipe with the length that nearly all rows need out."""

from __future__ import annotations

import numpy as np

from textclf.dataset import Dataset
from textclf.recipe import LARGEST_LENGTH, Recipe
from textclf.tokenizer import TextTokenizer

# The share of the training rows that must fit, and what the length is rounded up to.
_COVERED = 0.995
_STEP = 8
_SHORTEST = 8


def settle_max_length(
    recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer, largest: int = LARGEST_LENGTH
) -> Recipe:
    """The same recipe with a number for `auto`: the least multiple of 8 that 99.5 % of the training rows fit into.

    One position more than the longest of them needs is kept, because the last token reads the [PAD] after it. `largest`
    is what the encoder can take.
    """
    if recipe.encoder.max_length != "auto":
        return recipe
    lengths = tokenizer.encode(dataset.train.texts, largest).lengths
    covering = int(np.quantile(lengths, _COVERED, method="higher")) + 1
    length = min(largest, max(_SHORTEST, -(-covering // _STEP) * _STEP))
    return recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"max_length": length})})
