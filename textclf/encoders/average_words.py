"""Averaged words: an encoder that learns one vector per word from the training rows; a text is the mean of its vectors.

This module makes the vocabulary from the training texts, and writes and reads trained vectors in the same form as other
encoders.

Devices look up the id of a word letter by letter and do not lower-case it. Training does the same: if capitals are to be
ignored, the vocabulary lists `free`, `Free`, `FREE` and the other spellings that occur as separate words, and `rows` gives
them one vector. A spelling that is not listed, for example `fReE`, is unknown both in training and on the device.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textclf.data.tokens.words import DELIMITER_PATTERN, SPECIAL_WORDS, WordTokenizer, device_splitter
from textclf.errors import EncoderError
from textclf.recipe.settings import EncoderSettings

if TYPE_CHECKING:
    from textclf.encoders.trainable import TrainableEncoder

SOURCE = "average-words"
"""The name of this encoder in a recipe."""

FORMAT = "textclf-average-words"
VECTORS = "word_vectors"

# A word that occurs once says little about its label. As <UNKNOWN>, it teaches what rare words have in common.
_LEAST_COUNT = 2
_CONFIG_FILE, _WEIGHTS_FILE, _VOCABULARY_FILE = "config.json", "encoder.safetensors", "vocab.txt"


@dataclass(frozen=True)
class AverageWordsConfig:
    """`words` vectors of `width` numbers each, including <PAD>, <START> and <UNKNOWN>."""

    words: int
    width: int
    lowercase: bool


@dataclass(frozen=True)
class WordVectors:
    """An encoder of averaged words; see `AnyEncoder` for its methods.

    `rows` int32 [spellings] is the number of the vector of each entry of `vocabulary`. `weights` has the vectors, float32
    [words, width]; it is empty before training."""

    config: AverageWordsConfig
    vocabulary: list[str]
    rows: np.ndarray
    weights: dict[str, np.ndarray]
    path: Path
    format: str = FORMAT

    @property
    def longest(self) -> None:
        return None

    @property
    def segments(self) -> int:
        return 1

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def layers(self) -> int:
        return 0

    @property
    def summary(self) -> str:
        return f"average of {self.config.words:,} word vectors"

    def tokenizer(self, settings: EncoderSettings) -> WordTokenizer:
        return WordTokenizer(self.vocabulary)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((asdict(self.config), self.vocabulary)).encode())
        for array in (self.rows, *self.weights.values()):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def with_weights(self, weights: dict[str, np.ndarray]) -> WordVectors:
        return replace(self, weights=weights)

    def write(self, folder: Path) -> None:
        write_word_vectors(folder, self)

    def trainable(self) -> TrainableEncoder:
        # TensorFlow takes seconds to load, and only training needs it.
        from textclf.encoders.trainable import TrainableAverageWords

        return TrainableAverageWords(self)


def find_words(texts: Iterable[str], words: int, width: int, lowercase: bool) -> WordVectors:
    """Returns the untrained encoder for these texts: their most frequent words that occur at least twice, at most `words`."""
    split = device_splitter(DELIMITER_PATTERN)
    spellings = Counter(word for text in texts for word in split(text))
    counts: Counter[str] = Counter()
    spelt: dict[str, list[str]] = {}
    for spelling, count in spellings.items():
        word = spelling.lower() if lowercase else spelling
        counts[word] += count
        spelt.setdefault(word, []).append(spelling)
    common = [(word, count) for word, count in counts.items() if count >= _LEAST_COUNT]
    chosen = [word for word, _ in sorted(common, key=lambda entry: (-entry[1], entry[0]))[:words]]
    vocabulary, rows = list(SPECIAL_WORDS), list(range(len(SPECIAL_WORDS)))
    for row, word in enumerate(chosen, len(SPECIAL_WORDS)):
        listed = _spellings(word, spelt[word]) if lowercase else [word]
        vocabulary += listed
        rows += [row] * len(listed)
    config = AverageWordsConfig(len(SPECIAL_WORDS) + len(chosen), width, lowercase)
    return WordVectors(config, vocabulary, np.array(rows, np.int32), {}, Path(SOURCE))


def _spellings(word: str, seen: Sequence[str]) -> list[str]:
    """Returns a lower-cased word, its usual spellings, and those that occurred."""
    usual = [word, word[0].upper() + word[1:], word.upper()]
    return [spelling for spelling in dict.fromkeys([*usual, *sorted(seen)]) if spelling.lower() == word]


def write_word_vectors(folder: Path, encoder: WordVectors) -> None:
    """Writes a trained encoder into a folder, which is created if necessary."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {VECTORS: np.ascontiguousarray(encoder.weights[VECTORS], np.float32), "rows": encoder.rows}
    (folder / _WEIGHTS_FILE).write_bytes(save(arrays))
    (folder / _VOCABULARY_FILE).write_bytes("".join(f"{word}\n" for word in encoder.vocabulary).encode())
    settings = {"format": FORMAT, "version": 1, **asdict(encoder.config)}
    (folder / _CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n")


def read_word_vectors(folder: Path) -> WordVectors:
    """The inverse of `write_word_vectors`; raises EncoderError for a folder that it did not write."""
    from safetensors.numpy import load

    try:
        settings = json.loads((folder / _CONFIG_FILE).read_text())
        arrays = load((folder / _WEIGHTS_FILE).read_bytes())
        vocabulary = (folder / _VOCABULARY_FILE).read_bytes().decode().removesuffix("\n").split("\n")
        config = AverageWordsConfig(**{key: settings[key] for key in ("words", "width", "lowercase")})
        encoder = WordVectors(config, vocabulary, arrays["rows"], {VECTORS: arrays[VECTORS]}, folder)
        fits = arrays[VECTORS].shape == (config.words, config.width) and len(vocabulary) == len(encoder.rows)
    except Exception as error:
        raise EncoderError(f"{folder}: is not an encoder of averaged words ({error}); train again") from error
    if not fits:
        raise EncoderError(f"{folder}: its vectors, rows and vocabulary do not fit together; train again")
    return encoder
