"""The encoder `average-words`: a vector for each word, learned from the training rows alone; a text is their mean.

Training texts in, vocabulary out; also the file form of trained vectors, beside those of other encoders.

Devices give a word its id letter by letter and lower-case nothing. Training sees just that: where capitals shall not
count, the vocabulary lists `free`, `Free`, `FREE` and whatever else occurs as words of their own, and `rows` gives them
one vector. A spelling that is not listed, `fReE` perhaps, is unknown in training and on the device alike.
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
"""What a recipe calls this encoder."""

FORMAT = "textclf-average-words"
VECTORS = "word_vectors"

# A word that came once says little about its label; as <UNKNOWN> it teaches what rare words have in common.
_LEAST_COUNT = 2
_CONFIG_FILE, _WEIGHTS_FILE, _VOCABULARY_FILE = "config.json", "encoder.safetensors", "vocab.txt"


@dataclass(frozen=True)
class AverageWordsConfig:
    """`words` vectors, <PAD>, <START> and <UNKNOWN> among them, of `width` numbers each."""

    words: int
    width: int
    lowercase: bool


@dataclass(frozen=True)
class WordVectors:
    """An encoder of averaged words. `rows` int32 [spellings] tells which vector each entry of `vocabulary` has;
    `weights` holds the vectors, float32 [words, width], or nothing before training. See `AnyEncoder` for what the methods
    answer."""

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
    """The encoder for these texts, untrained: their commonest words that occur twice or more, at most `words` of them."""
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
    """A lower-cased word with its usual spellings, and those that occurred."""
    usual = [word, word[0].upper() + word[1:], word.upper()]
    return [spelling for spelling in dict.fromkeys([*usual, *sorted(seen)]) if spelling.lower() == word]


def write_word_vectors(folder: Path, encoder: WordVectors) -> None:
    """Writes a trained encoder into a folder, which is made where there is none."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {VECTORS: np.ascontiguousarray(encoder.weights[VECTORS], np.float32), "rows": encoder.rows}
    (folder / _WEIGHTS_FILE).write_bytes(save(arrays))
    (folder / _VOCABULARY_FILE).write_bytes("".join(f"{word}\n" for word in encoder.vocabulary).encode())
    settings = {"format": FORMAT, "version": 1, **asdict(encoder.config)}
    (folder / _CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n")


def read_word_vectors(folder: Path) -> WordVectors:
    """The inverse of `write_word_vectors`; raises EncoderError for what it did not write."""
    from safetensors.numpy import load

    try:
        settings = json.loads((folder / _CONFIG_FILE).read_text())
        arrays = load((folder / _WEIGHTS_FILE).read_bytes())
        vocabulary = (folder / _VOCABULARY_FILE).read_bytes().decode().removesuffix("\n").split("\n")
        config = AverageWordsConfig(**{key: settings[key] for key in ("words", "width", "lowercase")})
        encoder = WordVectors(config, vocabulary, arrays["rows"], {VECTORS: arrays[VECTORS]}, folder)
        fits = arrays[VECTORS].shape == (config.words, config.width) and len(vocabulary) == len(encoder.rows)
    except Exception as error:
        raise EncoderError(f"{folder}: holds no averaged words of ours ({error}); train again") from error
    if not fits:
        raise EncoderError(f"{folder}: its vectors, rows and vocabulary do not belong together; train again")
    return encoder
