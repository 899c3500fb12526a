"""What in checked data is a problem for Model Maker: takes a recipe and its dataset, returns sentences, or raises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textclf.data.examples import Dataset
from textclf.data.findings.finding import named
from textclf.data.tables.table import shown_path
from textclf.data.tokens.wordpiece import share_of_different_rows
from textclf.errors import DataError, RecipeError
from textclf.recipe.settings import Recipe


def check_data(recipe: Recipe, dataset: Dataset, vocabulary: Sequence[str]) -> list[str]:
    """Sentences about the data that a user of Model Maker should know before training.

    Raises RecipeError for a batch larger than the training rows, and DataError for labels that no training row has:
    with these, Model Maker fails or makes a model with fewer labels.
    """
    rows, batch = len(dataset.train.rows), recipe.training.batch_size
    if rows < batch:
        raise RecipeError(
            f"training.batch_size is {batch}, but there are {rows} training rows, and Model Maker needs a full batch; "
            f"set it to {rows} or less"
        )
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels))
    missing = [label for label, count in zip(dataset.labels, counts, strict=True) if not count]
    if missing:
        raise DataError(
            f"{shown_path(dataset.train.file)}: no training row has the label {named(missing)}, and Model Maker returns only "
            "labels that it was trained on; add rows, or remove the label from dataset.labels"
        )
    told = []
    if left := rows % batch:
        told.append(
            f"Model Maker trains on whole batches in the same order in each epoch, so {left} of {rows} training rows are "
            "never used (the seed decides which ones)"
        )
    if recipe.averages_words:
        told.append(
            "Model Maker trains word vectors with RMSprop and the learning rate 0.001 and does not use "
            "training.learning_rate and training.weight_decay; where words are lower-cased, words with capitals are unknown "
            "to the model on phones"
        )
    elif recipe.encoder.tokenizer == "device" and (different := _split_differently(dataset, vocabulary)):
        told.append(
            "Model Maker trains with BERT's own tokenizer, which removes accents and lower-cases letters beyond ASCII. Phones "
            f"split {different:,} of {rows:,} training texts differently, and so does textclf with encoder.tokenizer device; "
            "set encoder.tokenizer to bert to split them here as in training"
        )
    return told


def _split_differently(dataset: Dataset, vocabulary: Sequence[str]) -> int:
    texts = [text for row in dataset.train.texts for text in row]
    return round(share_of_different_rows(vocabulary, texts) * len(texts))
