"""The kinds of encoders that a recipe can name, and what differs before there is an encoder in memory.

Averaged words are found in the training rows; every other encoder is loaded from where the recipe says. Only here is a
recipe asked which kind it names; the encoder itself answers the rest (`interface.py`).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Protocol

from textclf.data.examples import Dataset
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.row_keys import Reading, as_tokens, as_words
from textclf.data.tokens.words import DELIMITER_PATTERN, WordTokenizer
from textclf.encoders.average_words import find_words, read_word_vectors
from textclf.encoders.formats import textclf_format
from textclf.encoders.interface import AnyEncoder, KnownEncoder
from textclf.encoders.long_texts import long_texts_of
from textclf.encoders.sources.locate import load_checkpoint, load_facts
from textclf.recipe.settings import EncoderSettings, Recipe


class EncoderKind(Protocol):
    """What a recipe's words about its encoder mean."""

    @property
    def delimiter_pattern(self) -> str | None:
        """The regular expression between words that the model's file names; None for pieces of words."""

    def tokenizer_name(self, settings: EncoderSettings) -> str:
        """What the model's file calls the tokenizer."""

    def load(self, settings: EncoderSettings, dataset: Dataset) -> AnyEncoder:
        """Raises EncoderError for one that cannot be found or read."""

    def facts(self, settings: EncoderSettings, dataset: Dataset) -> KnownEncoder:
        """The encoder without its weights; raises EncoderError as `load` does."""

    def reading(self, recipe: Recipe, max_length: int, tokenizer: TextTokenizer | None) -> Reading:
        """How a model reads rows of at most `max_length` tokens; without a `tokenizer` it is loaded with the first rows."""

    def read(self, folder: Path) -> AnyEncoder:
        """What the encoder's `write` left; raises EncoderError for anything else."""


class _Pretrained:
    """A MobileBERT, from wherever the recipe says. Its facts are read once, when they are first needed."""

    delimiter_pattern = None

    def __init__(self) -> None:
        self._facts = functools.cache(load_facts)

    def tokenizer_name(self, settings: EncoderSettings) -> str:
        return settings.tokenizer

    def load(self, settings: EncoderSettings, dataset: Dataset) -> AnyEncoder:
        return load_checkpoint(settings.source)

    def facts(self, settings: EncoderSettings, dataset: Dataset) -> KnownEncoder:
        return self._facts(settings.source)

    def reading(self, recipe: Recipe, max_length: int, tokenizer: TextTokenizer | None) -> Reading:
        encoder = recipe.encoder

        @functools.cache
        def read_tokens() -> Reading:
            if tokenizer is not None:
                return as_tokens(tokenizer, max_length, long_texts_of(encoder, max_length))
            facts = self._facts(encoder.source)
            # A length that the encoder cannot take, or no row can have, is reported when the recipe is prepared.
            shortest = 1 + 2 * recipe.texts_per_row
            length = min(max_length, max(facts.longest, shortest))
            return as_tokens(facts.tokenizer(encoder), length, long_texts_of(encoder, length))

        return lambda rows: read_tokens()(rows)

    def read(self, folder: Path) -> AnyEncoder:
        return textclf_format.read(folder)


class _AverageWords:
    """Vectors of the training rows' own words."""

    delimiter_pattern = DELIMITER_PATTERN

    def tokenizer_name(self, settings: EncoderSettings) -> str:
        return WordTokenizer.kind

    def load(self, settings: EncoderSettings, dataset: Dataset) -> AnyEncoder:
        texts = (text for row in dataset.train.texts for text in row)
        assert settings.words is not None
        assert settings.width is not None
        assert settings.lowercase is not None
        return find_words(texts, settings.words, settings.width, settings.lowercase)

    def facts(self, settings: EncoderSettings, dataset: Dataset) -> KnownEncoder:
        return self.load(settings, dataset)

    def reading(self, recipe: Recipe, max_length: int, tokenizer: TextTokenizer | None) -> Reading:
        return as_words(max_length, lowercase=recipe.encoder.lowercase is not False)

    def read(self, folder: Path) -> AnyEncoder:
        return read_word_vectors(folder)


def kind_of(recipe: Recipe) -> EncoderKind:
    """The kind of encoder that the recipe names. Keep it: it reads an encoder's facts only once."""
    return _AverageWords() if recipe.averages_words else _Pretrained()
