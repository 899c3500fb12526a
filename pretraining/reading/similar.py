"""Words with nearly the same embedding: takes an encoder's word embeddings, returns the closest words of its vocabulary."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint

_MOST, _LEAST_COSINE = 3, 0.55

# The first thousand pieces of BERT's vocabulary are symbols and unused.
_FIRST_WORD = 1000


class SimilarWords:
    """Call it with a word; returns up to three others, the closest first: mostly other forms of the word and synonyms."""

    def __init__(self, checkpoint: EncoderCheckpoint) -> None:
        embeddings = checkpoint.weights["embeddings/word_embeddings"].astype(np.float32)
        self._places = [
            place
            for place, piece in enumerate(checkpoint.vocabulary)
            if place >= _FIRST_WORD and piece.isascii() and piece.isalpha() and len(piece) > 2
        ]
        self._words = [checkpoint.vocabulary[place] for place in self._places]
        self._row_of = {word: row for row, word in enumerate(self._words)}
        chosen = embeddings[self._places]
        chosen = chosen - chosen.mean(axis=0)
        self._units = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-6)
        self._found = lru_cache(maxsize=100_000)(self._find)

    def __call__(self, word: str) -> list[str]:
        return self._found(word)

    def _find(self, word: str) -> list[str]:
        row = self._row_of.get(word)
        if row is None:
            return []
        cosines = self._units @ self._units[row]
        cosines[row] = -1.0
        closest = np.argsort(-cosines)[:_MOST]
        return [self._words[place] for place in closest if cosines[place] >= _LEAST_COSINE]
