"""Checks questions for Model Maker: takes a recipe and its windows, and returns sentences about problems, or raises."""

from __future__ import annotations

from collections.abc import Sequence

from textclf.data.findings.finding import counted
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tokens.wordpiece import share_of_different_rows
from textclf.errors import RecipeError
from textclf.recipe.settings import Recipe


def check_questions_for_model_maker(
    recipe: Recipe, train: QuestionSplit, windows: int, vocabulary: Sequence[str]
) -> list[str]:
    """Returns sentences that a user of Model Maker should know before training on `windows` windows.

    Raises RecipeError for a batch larger than the training windows, for which Model Maker fails.
    """
    batch = recipe.training.batch_size
    if windows < batch:
        raise RecipeError(
            f"training.batch_size is {batch}, but the training questions make {counted(windows, 'window')}, and Model Maker "
            f"needs a full batch; set it to {windows} or less"
        )
    told = [
        "Model Maker trains on whole batches in the same order in each epoch, so the windows that do not fill the last batch "
        f"(of {windows:,}, at most {batch - 1}) are never used (the seed decides which), and it always exports the last epoch"
    ]
    if recipe.encoder.tokenizer != "device":
        return told
    texts = list(dict.fromkeys(text for row in train.texts for text in row))
    different = round(share_of_different_rows(vocabulary, texts) * len(texts))
    if different:
        told.append(
            "Model Maker trains with BERT's own tokenizer, which removes accents and lower-cases letters beyond ASCII. Phones "
            f"split {different:,} of {len(texts):,} training questions and contexts differently, and so does textclf with "
            "encoder.tokenizer device; set encoder.tokenizer to bert to split them here as in training"
        )
    return told
