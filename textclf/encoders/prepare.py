"""A recipe and its data → the encoder, its tokenizer, and the recipe with a length that fits; no TensorFlow needed.

Averaged words are found in the training rows; every other encoder is loaded from where the recipe says. Training, the
check and the comparison prepare a recipe here, so that all three accept the same ones.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.findings.of_tokens import token_findings
from textclf.data.tables.frames import FrameTable
from textclf.data.tokens.batching import Batch
from textclf.data.tokens.encoded import Encoded, TextTokenizer, pad
from textclf.data.tokens.row_keys import Reading, as_tokens, as_words
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.data.tokens.words import WordTokenizer
from textclf.encoders.average_words import WordVectors, find_words
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.sources.locate import load_checkpoint, load_facts
from textclf.errors import EncoderError
from textclf.recipe.settings import EncoderSettings, Recipe
from textclf.recipe.values import LARGEST_LENGTH


@dataclass(frozen=True)
class PreparedData:
    """The dataset with its splits as token ids, for one tokenizer and length."""

    dataset: Dataset
    tokenizer: TextTokenizer
    max_length: int
    encoded: dict[str, Encoded]

    def batch(self, split: str, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return pad(self.encoded[split], batch.rows, batch.length)


@dataclass(frozen=True)
class Preparation:
    """`recipe` has a number as its length, which the encoder can take."""

    recipe: Recipe
    tokenizer: TextTokenizer


@dataclass(frozen=True)
class _Needs:
    """What preparing a recipe needs to know of an encoder, however much of it was loaded."""

    positions: int
    segments: int
    vocabulary: list[str]
    do_lower_case: bool
    path: Path


def prepare(recipe: Recipe, dataset: Dataset, encoder: EncoderCheckpoint | WordVectors | None = None) -> Preparation:
    """Settles the length, and checks that the encoder can take it and the dataset's rows.

    Without `encoder` only its configuration and its vocabulary are read. Raises EncoderError for an encoder that cannot
    be found or read, for a vocabulary that the recipe's tokenizer cannot use, and for a length or rows that do not fit.
    """
    if recipe.averages_words:
        words = encoder if isinstance(encoder, WordVectors) else _words_of(recipe.encoder, dataset)
        word_tokenizer = WordTokenizer(words.vocabulary)
        return Preparation(settle_max_length(recipe, dataset, word_tokenizer), word_tokenizer)
    needs = _needs_of(load_facts(recipe.encoder.source) if encoder is None else encoder)
    tokenizer = Tokenizer(needs.vocabulary, recipe.encoder.tokenizer, needs.do_lower_case)
    _check_rows(recipe, tokenizer, needs)
    recipe = settle_max_length(recipe, dataset, tokenizer, min(LARGEST_LENGTH, needs.positions))
    if recipe.encoder.fixed_length > needs.positions:
        raise EncoderError(
            f"encoder.max_length is {recipe.encoder.fixed_length}, but {needs.path} takes at most {needs.positions}"
            " tokens; lower encoder.max_length"
        )
    return Preparation(recipe, tokenizer)


def encoder_of(recipe: Recipe, dataset: Dataset) -> EncoderCheckpoint | WordVectors:
    """Raises EncoderError for one that cannot be found or read."""
    if recipe.averages_words:
        return _words_of(recipe.encoder, dataset)
    return load_checkpoint(recipe.encoder.source)


def tokenizer_of(recipe: Recipe, encoder: EncoderCheckpoint | WordVectors) -> TextTokenizer:
    """Raises EncoderError for a vocabulary that the recipe's tokenizer cannot use."""
    if isinstance(encoder, WordVectors):
        return WordTokenizer(encoder.vocabulary)
    return Tokenizer(encoder.vocabulary, recipe.encoder.tokenizer, encoder.do_lower_case)


def _needs_of(encoder: EncoderCheckpoint | WordVectors | EncoderFacts) -> _Needs:
    if isinstance(encoder, EncoderFacts):
        vocabulary = encoder.vocabulary
        return _Needs(encoder.positions, encoder.segments, vocabulary.pieces, vocabulary.do_lower_case, encoder.path)
    assert isinstance(encoder, EncoderCheckpoint), "averaged words belong to a recipe that names them"
    config = encoder.config
    return _Needs(
        config.max_position_embeddings,
        config.type_vocab_size,
        encoder.vocabulary,
        encoder.do_lower_case,
        encoder.path,
    )


def _check_rows(recipe: Recipe, tokenizer: TextTokenizer, needs: _Needs) -> None:
    """Raises unless the encoder tells the texts of a row apart and has room for a token of each."""
    texts = len(recipe.dataset.text)
    if texts > 1 and needs.segments < texts:
        raise EncoderError(
            f"{needs.path}: knows one segment only, but dataset.text names a pair of"
            " columns; use another encoder, or one column"
        )
    least = texts + tokenizer.ids_added(texts)
    if needs.positions < least:
        raise EncoderError(
            f"{needs.path}: takes at most {needs.positions} tokens, and a row needs {least} at least; use another encoder"
        )


def _words_of(settings: EncoderSettings, dataset: Dataset) -> WordVectors:
    texts = (text for row in dataset.train.texts for text in row)
    assert settings.words is not None
    assert settings.width is not None
    assert settings.lowercase is not None
    return find_words(texts, settings.words, settings.width, settings.lowercase)


def reading_of(recipe: Recipe, tokenizer: TextTokenizer | None = None) -> Reading:
    """How the recipe's model reads rows. While encoder.max_length is `auto`, rows are read as far as the encoder can.

    Without a `tokenizer` it is loaded, without the encoder's weights, when the first rows are read: what is wrong with
    the data is known before an encoder is fetched. The reading raises EncoderError if there is no such tokenizer.
    """
    encoder = recipe.encoder
    max_length = LARGEST_LENGTH if encoder.max_length == "auto" else encoder.fixed_length
    if recipe.averages_words:
        return as_words(max_length, lowercase=encoder.lowercase is not False)

    @functools.cache
    def read_tokens() -> Reading:
        if tokenizer is not None:
            return as_tokens(tokenizer, max_length, encoder.overflow)
        facts = load_facts(encoder.source)
        own = Tokenizer(facts.vocabulary.pieces, encoder.tokenizer, facts.vocabulary.do_lower_case)
        # A length that the encoder cannot take, or no row can have, is reported when the recipe is prepared.
        shortest = 1 + 2 * len(recipe.dataset.text)
        return as_tokens(own, min(max_length, max(facts.positions, shortest)), encoder.overflow)

    return lambda rows: read_tokens()(rows)


def prepare_data(recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> PreparedData:
    """Every split as token ids."""
    max_length = recipe.encoder.fixed_length
    encoded = {
        split.name: tokenizer.encode(split.texts, max_length, recipe.encoder.overflow) for split in dataset.splits
    }
    findings = [*dataset.findings, *token_findings(dataset, tokenizer, max_length, recipe.encoder.source)]
    return PreparedData(replace(dataset, findings=findings), tokenizer, max_length, encoded)


def load_recipe_data(
    recipe: Recipe, tokenizer: TextTokenizer | None = None, frames: Mapping[str, FrameTable] | None = None
) -> tuple[Recipe, Dataset]:
    """The recipe with a number as its length, and its data; `frames` take the place of its files, as in `load_dataset`.

    Without a `tokenizer` the encoder's configuration and vocabulary are read, not its weights.

    With encoder.max_length `auto` the length follows from the training rows, and which rows are equal follows from the
    length, so the split is made a second time. Raises DataError and EncoderError.
    """
    seed = recipe.training.seed
    dataset = load_dataset(recipe.dataset, seed, reading_of(recipe, tokenizer), frames)
    if recipe.encoder.max_length == "auto":
        recipe = prepare(recipe, dataset).recipe
        dataset = load_dataset(recipe.dataset, seed, reading_of(recipe, tokenizer), frames)
    return recipe, dataset


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
