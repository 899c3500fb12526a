"""A recipe's rows as its model reads them: a recipe in, the recipe with its length settled and the checked dataset out.

Training, checking, comparing and everything that needs a run's split again go through here, so all see the same split.
"""

from __future__ import annotations

from textclf.dataset import Dataset, load_dataset
from textclf.recipe import LARGEST_LENGTH, Recipe
from textclf.recipe_encoder import tokenizer_alone
from textclf.row_keys import reading_of
from textclf.text_length import settle_max_length
from textclf.tokenizer import TextTokenizer


def load_recipe_data(
    recipe: Recipe, tokenizer: TextTokenizer | None = None, largest: int = LARGEST_LENGTH
) -> tuple[Recipe, Dataset]:
    """`largest` is the number of tokens that the encoder can take; `tokenizer` is loaded where it is not given.

    With encoder.max_length `auto` the length follows from the training rows, and which rows are equal follows from the
    length, so the split is made a second time. Raises DataError and EncoderError.
    """
    seed = recipe.training.seed
    dataset = load_dataset(recipe.dataset, seed, reading_of(recipe, tokenizer, largest))
    if recipe.encoder.max_length == "auto":
        recipe = settle_max_length(recipe, dataset, tokenizer or tokenizer_alone(recipe, dataset), largest)
        dataset = load_dataset(recipe.dataset, seed, reading_of(recipe, tokenizer, largest))
    return recipe, dataset
