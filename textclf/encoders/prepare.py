"""Prepares a recipe and its data: the tokenizer, the recipe with a fixed length, and token ids; without TensorFlow.

Training, `check` and `compare` all prepare recipes here, so all three accept the same recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding, counted
from textclf.data.findings.of_tokens import token_findings
from textclf.data.tables.frames import FrameTable
from textclf.data.tokens.batching import Batch
from textclf.data.tokens.encoded import Encoded, TextTokenizer, Tokens, pad
from textclf.data.tokens.row_keys import Reading
from textclf.data.tokens.text_windows import WindowPlan, encode_texts
from textclf.encoders.interface import AnyEncoder, KnownEncoder
from textclf.encoders.kinds import EncoderKind, kind_of
from textclf.encoders.long_texts import long_texts_of
from textclf.errors import EncoderError
from textclf.recipe.automatic import settle_epochs, settle_windows
from textclf.recipe.settings import DatasetSettings, Recipe
from textclf.recipe.values import LARGEST_LENGTH


@dataclass(frozen=True)
class PreparedData:
    """The dataset and its splits as token ids, for one tokenizer and length.

    If a classifier reads texts in windows, the rows of `encoded` are windows, and `texts` has for each split the index of
    each window's text, int64 [windows].
    """

    dataset: Dataset
    tokenizer: TextTokenizer
    max_length: int
    encoded: dict[str, Encoded]
    texts: dict[str, np.ndarray] = field(default_factory=dict, kw_only=True)

    def batch(self, split: str, batch: Batch) -> Tokens:
        return pad(self.encoded[split], batch.rows, batch.length)


@dataclass(frozen=True)
class Preparation:
    """`recipe` has a number as its length, and the encoder can take it."""

    recipe: Recipe
    tokenizer: TextTokenizer


def prepare(
    recipe: Recipe, dataset: Dataset, encoder: AnyEncoder | None = None, *, kind: EncoderKind | None = None
) -> Preparation:
    """Determines the length, and checks that it, the dataset's rows and the frozen layers suit the encoder.

    Without `encoder` only its configuration and its vocabulary are read, by the recipe's `kind`. Raises EncoderError for
    an encoder that cannot be found or read, for a vocabulary that the recipe's tokenizer cannot use, and for a length,
    rows or frozen layers that do not fit.
    """
    known: KnownEncoder = (kind or kind_of(recipe)).facts(recipe.encoder, dataset) if encoder is None else encoder
    tokenizer = known.tokenizer(recipe.encoder)
    _check_freeze(recipe, known)
    if known.longest is None:
        return Preparation(settle_max_length(recipe, dataset, tokenizer), tokenizer)
    _check_rows(recipe, tokenizer, known, known.longest)
    recipe = settle_max_length(recipe, dataset, tokenizer, min(LARGEST_LENGTH, known.longest))
    if recipe.encoder.fixed_length > known.longest:
        raise EncoderError(
            f"encoder.max_length is {recipe.encoder.fixed_length}, but {known.path} takes at most {known.longest}"
            " tokens; lower encoder.max_length"
        )
    return Preparation(recipe, tokenizer)


def _check_freeze(recipe: Recipe, known: KnownEncoder) -> None:
    """Raises EncoderError for more frozen layers than the encoder has."""
    frozen = recipe.training.frozen_layers or 0
    if frozen > known.layers:
        raise EncoderError(
            f"training.freeze is {frozen}, but {known.path} has {counted(known.layers, 'layer')}; lower it"
        )


def _check_rows(recipe: Recipe, tokenizer: TextTokenizer, known: KnownEncoder, longest: int) -> None:
    """Raises EncoderError unless the encoder distinguishes the texts of a row and has room for a token of each."""
    texts = recipe.texts_per_row
    if texts > 1 and known.segments < texts:
        pair = "dataset.text is a pair of columns; use another encoder, or one column"
        if recipe.answers_questions:
            pair = "a question and its context are two; use another encoder"
        raise EncoderError(f"{known.path}: has only one segment, but {pair}")
    least = texts + tokenizer.ids_added(texts)
    if longest < least:
        raise EncoderError(
            f"{known.path}: takes at most {longest} tokens, but a row needs at least {least}; use another encoder"
        )


def reading_of(recipe: Recipe, tokenizer: TextTokenizer | None = None, *, kind: EncoderKind | None = None) -> Reading:
    """Returns how the recipe's model reads rows. While encoder.max_length is `auto`, rows are read as far as possible.

    Without a `tokenizer`, it is loaded when the first rows are read, without the encoder's weights. So problems of the
    data are reported before an encoder is downloaded. The reading raises EncoderError if there is no such tokenizer.
    """
    max_length = LARGEST_LENGTH if recipe.encoder.max_length == "auto" else recipe.encoder.fixed_length
    return (kind or kind_of(recipe)).reading(recipe, max_length, tokenizer)


def prepare_data(recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> PreparedData:
    """Returns the dataset with every split as token ids."""
    max_length = recipe.encoder.fixed_length
    long_texts = long_texts_of(recipe.encoder, max_length)
    read = {split.name: encode_texts(tokenizer, split.texts, max_length, long_texts) for split in dataset.splits}
    dataset = replace(dataset, findings=[*dataset.findings, *findings_of_tokens(recipe, dataset, tokenizer)])
    return PreparedData(
        dataset,
        tokenizer,
        max_length,
        {name: own.encoded for name, own in read.items()},
        texts={name: own.texts for name, own in read.items()} if isinstance(long_texts, WindowPlan) else {},
    )


def findings_of_tokens(recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> list[Finding]:
    """Returns what is odd about the tokens of the training rows, as the recipe's model reads them."""
    encoder = recipe.encoder
    long_texts = long_texts_of(encoder, encoder.fixed_length)
    # What could take the place of the part that is kept.
    proposed = recipe.may_read_windows and not isinstance(long_texts, WindowPlan)
    return token_findings(
        dataset, tokenizer, encoder.fixed_length, encoder.source, long_texts, propose_windows=proposed
    )


ReadDataset: TypeAlias = Callable[[DatasetSettings, int, Reading, Mapping[str, FrameTable] | None], Dataset]
"""Reads, checks and splits the rows of a task: settings, seed, which rows are equal, and tables in memory → a dataset.

Its `Split.labels` are what the task learns for each row, an array [rows, …]."""


def load_recipe_data(
    recipe: Recipe,
    tokenizer: TextTokenizer | None = None,
    frames: Mapping[str, FrameTable] | None = None,
    *,
    kind: EncoderKind | None = None,
    read: ReadDataset = load_dataset,
) -> tuple[Recipe, Dataset]:
    """Returns the recipe with numbers as its length and its epochs, and its data; `frames` replace its files, as in
    `load_dataset`.

    Without a `tokenizer` the encoder's configuration and vocabulary are read, not its weights; by `kind`, the recipe's
    kind of encoder, if there is one. `read` is the reader of the recipe's task (default: that of text classification).

    With encoder.max_length `auto`, the length depends on the training rows. Which rows are equal depends on the length, so
    the data are split a second time. Raises DataError and EncoderError.
    """
    seed, kind = recipe.training.seed, kind or kind_of(recipe)
    dataset = read(recipe.dataset, seed, reading_of(recipe, tokenizer, kind=kind), frames)
    if recipe.encoder.max_length == "auto":
        recipe = prepare(recipe, dataset, kind=kind).recipe
        dataset = read(recipe.dataset, seed, reading_of(recipe, tokenizer, kind=kind), frames)
    return settle_windows(settle_epochs(recipe, len(dataset.train.rows))), dataset


# The share of the training rows that must fit.
_COVERED = 0.995

# The length is a multiple of this.
_STEP = 8

_SHORTEST = 8


def settle_max_length(
    recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer, largest: int = LARGEST_LENGTH
) -> Recipe:
    """Returns the recipe with a number for `auto`: the smallest multiple of 8 into which 99.5 % of the training rows fit.

    It has at least one position more than the longest of these rows, because the last token reads the [PAD] after it.
    `largest` is the largest length of the encoder.
    """
    if recipe.encoder.max_length != "auto":
        return recipe
    lengths = tokenizer.encode(dataset.train.texts, largest).lengths
    covering = int(np.quantile(lengths, _COVERED, method="higher")) + 1
    length = min(largest, max(_SHORTEST, -(-covering // _STEP) * _STEP))
    return recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"max_length": length})})
