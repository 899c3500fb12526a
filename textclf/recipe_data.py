"""A recipe's rows as its model reads them: a recipe in, the recipe with its length settled and the checked dataset out.

Training, checking, comparing and everything that needs a run's split again go through here, so all see the same split.
"""

from __future__ import annotations

from textclf.dataset import Dataset, load_dataset
from textclf.recipe import Recipe
from textclf.recipe_encoder import prepare
from textclf.row_keys import reading_of
from textclf.tokenizer import TextTokenizer


def load_recipe_data(recipe: Recipe, tokenizer: TextTokenizer | None = None) -> tuple[Recipe, Dataset]:
    """Without a `tokenizer` the encoder's configuration and vocabulary are read, not its weights.

    With encoder.max_length `auto` the length follows from the training rows, and which rows are equal follows from the
    length, so the split is made a second time. Raises DataError and EncoderError.
    """
    seed = recipe.training.seed
    dataset = load_dataset(recipe.dataset, seed, reading_of(recipe, tokenizer))
    if recipe.encoder.max_length == "auto":
        recipe = prepare(recipe, dataset).recipe
        dataset = load_dataset(recipe.dataset, seed, reading_of(recipe, tokenizer))
    return recipe, dataset
