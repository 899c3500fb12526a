"""Chooses what a recipe leaves to textclf: the number of epochs (`training.epochs: auto`), and the windows of long texts."""

from __future__ import annotations

from textclf.recipe.settings import AVERAGE_WORDS_DEFAULTS, Recipe
from textclf.recipe.values import MOST_WINDOWS, default_stride

FEW_TRAINING_ROWS = 300
"""With fewer training rows, only the last layer is fitted by default."""

_EPOCHS = 3

_QUESTION_EPOCHS = 5
"""As in run_squad.py for MobileBERT: the span is learned in epochs alone."""


def settle_epochs(recipe: Recipe, training_rows: int) -> Recipe:
    """Returns the recipe with a number for `auto`.

    That is 0, the fitted head on the untouched encoder, for fewer than `FEW_TRAINING_ROWS` rows, and 3 for more. Model
    Maker, averaged words, a fresh head and question answering learn only in epochs, whatever the number of rows.
    """
    training = recipe.training
    if training.epochs != "auto":
        return recipe
    if recipe.answers_questions:
        epochs = _QUESTION_EPOCHS
    elif recipe.averages_words:
        epochs = int(AVERAGE_WORDS_DEFAULTS["training"]["epochs"])
    elif training.engine == "native" and training.head == "fitted" and training_rows < FEW_TRAINING_ROWS:
        epochs = 0
    else:
        epochs = _EPOCHS
    return recipe.model_copy(update={"training": training.model_copy(update={"epochs": epochs})})


def settle_windows(recipe: Recipe) -> Recipe:
    """Returns the recipe with numbers for the windows of long texts, if it reads texts in windows; its length is a number."""
    encoder = recipe.encoder
    if not recipe.classifies_windows or (encoder.stride is not None and encoder.max_windows is not None):
        return recipe
    numbers = {
        "stride": encoder.stride or default_stride(encoder.fixed_length),
        "max_windows": encoder.max_windows or MOST_WINDOWS,
    }
    return recipe.model_copy(update={"encoder": encoder.model_copy(update=numbers)})


def reason_for_epochs(asked: Recipe, settled: Recipe, training_rows: int) -> str | None:
    """Returns why only the last layer is fitted and how to change this; None if the recipe asks for it, or for epochs.

    `asked` is the recipe as it was written, `settled` as `settle_epochs` returned it.
    """
    if asked.training.epochs != "auto" or settled.training.epochs != 0:
        return None
    return (
        f"{training_rows:,} training rows are too few to fine-tune the encoder (fewer than {FEW_TRAINING_ROWS:,}), so only "
        f"the last layer is fitted to its outputs. To fine-tune nevertheless, set training.epochs={_EPOCHS}"
    )
