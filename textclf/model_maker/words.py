"""How Model Maker itself splits texts for word vectors, which is not how devices do it with the model that it makes.

In: texts. Out: the ids that it trained on. Devices lower-case nothing and know only the letters of ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from textclf.data.tokens.words import WordTokenizer

WORD_DELIMITERS = r"[^\w\']+"
"""The pattern in the metadata of Model Maker's models."""

_SPLIT = re.compile(WORD_DELIMITERS)


class ModelMakerWords(WordTokenizer):
    """As the spec average_word_vec: lower-cased where it was asked for, split at what is no letter, digit or sign of any
    script."""

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
