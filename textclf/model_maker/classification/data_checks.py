"""Checks data for Model Maker: takes a recipe and its dataset, and returns sentences about problems, or raises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textclf.data.examples import Dataset
from textclf.data.findings.finding import counted, named
from textclf.data.tables.table import shown_path
from textclf.errors import DataError, RecipeError
from textclf.model_maker.classification.encoders import at_model_maker
from textclf.recipe.settings import Recipe


def check_data(recipe: Recipe, dataset: Dataset, vocabulary: Sequence[str]) -> list[str]:
    """Returns sentences that a user of Model Maker should know before training.

    Raises RecipeError for a batch larger than the training rows, and DataError for labels that no training row has:
    with these, Model Maker fails or makes a model with fewer labels.
    """
    rows, batch = len(dataset.train.rows), recipe.training.batch_size
    if rows < batch:
        raise RecipeError(
            f"training.batch_size is {batch}, but the training has {counted(rows, 'row')}, and Model Maker needs a full batch; "
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
            "never used (the seed decides which)"
        )
    return [*told, *at_model_maker(recipe).findings(recipe, dataset, vocabulary)]
