"""The encoder that a recipe names, and the tokenizer that goes with it; neither needs TensorFlow.

Averaged words are found in the training rows; every other encoder is loaded from where the recipe says.
"""

from __future__ import annotations

from textclf.dataset import Dataset
from textclf.encoders.average_words import WordVectors, find_words
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.source import load_checkpoint, load_vocabulary
from textclf.recipe import EncoderSettings, Recipe
from textclf.tokenizer import TextTokenizer, Tokenizer
from textclf.word_tokenizer import WordTokenizer


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


def tokenizer_alone(recipe: Recipe, dataset: Dataset) -> TextTokenizer:
    """The tokenizer without the encoder's weights."""
    if recipe.averages_words:
        return WordTokenizer(_words_of(recipe.encoder, dataset).vocabulary)
    vocabulary = load_vocabulary(recipe.encoder.source)
    return Tokenizer(vocabulary.pieces, recipe.encoder.tokenizer, vocabulary.do_lower_case)


def _words_of(settings: EncoderSettings, dataset: Dataset) -> WordVectors:
    texts = (text for row in dataset.train.texts for text in row)
    assert settings.words is not None
    assert settings.width is not None
    assert settings.lowercase is not None
    return find_words(texts, settings.words, settings.width, settings.lowercase)
