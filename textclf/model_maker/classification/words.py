"""Splits texts for word vectors as Model Maker does in training, which differs from what devices do with its model.

Takes texts and returns the ids that Model Maker trained on. Devices do not lower-case, and know only ASCII letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from textclf.data.tokens.words import WordTokenizer

WORD_DELIMITERS = r"[^\w\']+"
"""The pattern in the metadata of Model Maker's models."""

_SPLIT = re.compile(WORD_DELIMITERS)


class ModelMakerWords(WordTokenizer):
    """The tokenizer of Model Maker's spec average_word_vec: texts are lower-cased if requested, and split at every character
    that is not a letter, digit or underscore of any script, or an apostrophe."""

    def __init__(self, vocabulary: Sequence[str], lowercase: bool) -> None:
        super().__init__(vocabulary, WORD_DELIMITERS)
        self.lowercase = lowercase

    def words(self, text: str) -> list[str]:
        text = text.replace("\0", " ")
        return [word for word in _SPLIT.split(text.lower() if self.lowercase else text) if word]

    def _iterate_pieces(self, texts: Sequence[str]) -> Iterator[list[int]]:
        ids = {word: index for index, word in enumerate(self.vocabulary)}
        for text in texts:
            yield [ids.get(word, self.unknown_id) for word in self.words(text)]
