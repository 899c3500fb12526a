"""What Model Maker would stumble over in checked data: a recipe and its dataset in, sentences out, or an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textclf.dataset import Dataset
from textclf.errors import DataError, RecipeError
from textclf.recipe import Recipe
from textclf.tokenizer import share_of_different_rows


def check_data(recipe: Recipe, dataset: Dataset, vocabulary: Sequence[str]) -> list[str]:
    """What is to be said of the data before Model Maker gets it.

    Raises RecipeError for a batch larger than the training rows, and DataError for labels that no training row has:
    with these Model Maker ends in an error or makes a model of fewer labels.
    """
    rows, batch = len(dataset.train.rows), recipe.training.batch_size
    if rows < batch:
        raise RecipeError(
            f"training.batch_size is {batch}, but there are {rows} training rows, and Model Maker needs a full batch; "
            f"lower it to {rows} or less"
        )
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels))
    missing = [label for label, count in zip(dataset.labels, counts, strict=True) if not count]
    if missing:
        raise DataError(
            f"{dataset.train.file}: no training row has the label {', '.join(missing)}; Model Maker gives only labels "
            "that it was trained on: add rows, or take the label out of dataset.labels"
        )
    said = []
    if left := rows % batch:
        said.append(
            f"Model Maker trains on whole batches in the same order in each epoch: {left} of {rows} training rows are "
            "never seen (which ones, the seed decides)"
        )
    if recipe.averages_words:
        said.append(
            "Model Maker trains word vectors with RMSprop at the learning rate 0.001, whatever training.learning_rate and "
            "training.weight_decay are, and where words are lower-cased, phones give it those with capitals as unknown"
        )
    elif recipe.encoder.tokenizer == "device" and (different := _split_differently(dataset, vocabulary)):
        said.append(
            f"Model Maker trains with BERT's own tokenizer, which strips accents and folds capitals beyond ASCII: "
            f"{different:,} of {rows:,} training texts are split in another way by phones, and by textclf with "
            "encoder.tokenizer device; encoder.tokenizer bert splits them here as in training"
        )
    return said


def _split_differently(dataset: Dataset, vocabulary: Sequence[str]) -> int:
    texts = [text for row in dataset.train.texts for text in row]
    return round(share_of_different_rows(vocabulary, texts) * len(texts))
