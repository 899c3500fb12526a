"""A recipe and its data → the encoder, its tokenizer, and the recipe with a length that fits; no TensorFlow needed.

Averaged words are found in the training rows; every other encoder is loaded from where the recipe says. Training, the
check and the comparison prepare a recipe here, so that all three accept the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textclf.dataset import Dataset
from textclf.encoders.average_words import WordVectors, find_words
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.source import load_checkpoint, load_facts
from textclf.errors import EncoderError
from textclf.recipe import LARGEST_LENGTH, EncoderSettings, Recipe
from textclf.text_length import settle_max_length
from textclf.tokenizer import TextTokenizer, Tokenizer
from textclf.word_tokenizer import WordTokenizer


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
