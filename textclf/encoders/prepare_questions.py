"""Prepares questions about contexts: a dataset and a tokenizer become the windows that a model reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from textclf.data.examples import Dataset
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.question_answering.window_findings import window_findings
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.spans import Windows, make_windows
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.question_head import HEADS_UNDERSTOOD, question_head
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.errors import RecipeError
from textclf.recipe.settings import Recipe


@dataclass(frozen=True)
class PreparedQuestions(PreparedData):
    """`encoded[split]` has one row per window, and `windows[split]` says what of which question each window shows."""

    windows: dict[str, Windows]

    def split(self, name: str) -> QuestionSplit:
        """Returns the questions of a split."""
        return cast("QuestionSplit", next(split for split in self.dataset.splits if split.name == name))


def prepare_questions(recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> PreparedQuestions:
    """Returns the dataset of `load_questions` with every split as windows."""
    windows = windows_of(recipe, dataset, tokenizer)
    findings = [*dataset.findings, *window_findings(dataset, windows, tokenizer, recipe.encoder.source)]
    return PreparedQuestions(
        replace(dataset, findings=findings),
        tokenizer,
        recipe.encoder.fixed_length,
        {name: own.encoded for name, own in windows.items()},
        windows,
    )


def require_question_head(encoder: AnyEncoder) -> None:
    """Raises RecipeError if an encoder that is not trained has no head for questions, and EncoderError for a damaged head."""
    if question_head(cast("EncoderCheckpoint", encoder)) is None:  # the rules refuse averaged words
        raise RecipeError(
            f"training.epochs is 0, but {encoder.path} has no head for question answering, so nothing could answer; set "
            f"training.epochs to 1 or more, or use an encoder with such a head ({HEADS_UNDERSTOOD})"
        )


def windows_of(recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> dict[str, Windows]:
    """Returns the windows of each split, with the recipe's lengths."""
    encoder = recipe.encoder
    assert encoder.stride is not None
    assert encoder.question_length is not None
    return {
        split.name: make_windows(
            tokenizer,
            [question for question, _ in split.texts],
            [context for _, context in split.texts],
            max_length=encoder.fixed_length,
            stride=encoder.stride,
            question_length=encoder.question_length,
        )
        for split in dataset.splits
    }
