"""Facts about an encoder before its weights are read: enough to choose a length and to check a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textclf.data.tokens.wordpiece import Tokenizer
from textclf.encoders.checkpoint import MobileBertConfig
from textclf.encoders.formats.vocabulary import Vocabulary
from textclf.recipe.settings import EncoderSettings


@dataclass(frozen=True)
class EncoderFacts:
    """`longest` is the largest number of tokens that the encoder accepts, `segments` the number of texts in a row, `layers`
    the number of layers that can be frozen."""

    longest: int
    segments: int
    layers: int
    vocabulary: Vocabulary
    path: Path

    @classmethod
    def of(cls, config: MobileBertConfig, vocabulary: Vocabulary, path: Path) -> EncoderFacts:
        return cls(config.max_position_embeddings, config.type_vocab_size, config.num_hidden_layers, vocabulary, path)

    def tokenizer(self, settings: EncoderSettings) -> Tokenizer:
        """Raises EncoderError for a vocabulary that the tokenizer of these settings cannot use."""
        return Tokenizer(self.vocabulary.pieces, settings.tokenizer, self.vocabulary.do_lower_case)
