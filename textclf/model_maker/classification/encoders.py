"""What Model Maker needs of each kind of encoder, and what it returns: job entries, vocabulary, trained weights.

Only this module asks which encoder a recipe uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from textclf.data.examples import Dataset
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.wordpiece import Tokenizer, share_of_different_rows
from textclf.encoders.average_words import WordVectors
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.model_maker.classification.words import WORD_DELIMITERS, ModelMakerWords
from textclf.recipe.settings import Recipe
from textclf.training.saved.run_folder import save_state

EncoderT = TypeVar("EncoderT", contravariant=True)


class EncoderAtModelMaker(Protocol[EncoderT]):
    """`delimiter_pattern` is the pattern in the metadata of Model Maker's file; None for WordPiece tokens."""

    @property
    def delimiter_pattern(self) -> str | None: ...

    def findings(self, recipe: Recipe, dataset: Dataset, vocabulary: Sequence[str]) -> list[str]:
        """Returns what a user should know about the training with Model Maker."""

    def write(self, folder: Path, recipe: Recipe, encoder: EncoderT) -> dict[str, Any]:
        """Returns the encoder's entries of the job, and writes the files that the worker needs into the folder."""

    def vocabulary(self, place: Path, encoder: EncoderT) -> Sequence[str]:
        """Returns the vocabulary of the trained model. `place` is the worker's folder."""

    def tokenizer(self, vocabulary: Sequence[str], encoder: EncoderT) -> TextTokenizer:
        """Returns the tokenizer that Model Maker trains with."""

    def keep(self, best: Path, encoder: EncoderT, weights: dict[str, np.ndarray], temperature: float) -> None:
        """Writes the trained weights as the native engine does, so that the model can be exported again."""


class MobileBertAtModelMaker:
    """Model Maker gets the encoder as a TF1 Hub module, and returns its trained weights."""

    delimiter_pattern = None

    def findings(self, recipe: Recipe, dataset: Dataset, vocabulary: Sequence[str]) -> list[str]:
        if recipe.encoder.tokenizer != "device":
            return []
        texts = [text for row in dataset.train.texts for text in row]
        different = round(share_of_different_rows(vocabulary, texts) * len(texts))
        if not different:
            return []
        return [
            "Model Maker trains with BERT's own tokenizer, which removes accents and lower-cases letters beyond ASCII. Phones "
            f"split {different:,} of {len(dataset.train.rows):,} training texts differently, and so does textclf with "
            "encoder.tokenizer device; set encoder.tokenizer to bert to split them here as in training"
        ]

    def write(self, folder: Path, recipe: Recipe, encoder: EncoderCheckpoint) -> dict[str, Any]:
        # TensorFlow takes seconds to load.
        from textclf.model_maker.hub_module import write_hub_module

        write_hub_module(folder, encoder)
        return {
            "encoder": "mobilebert",
            "learning_rate": recipe.training.learning_rate,
            "lower_case": encoder.do_lower_case,
        }

    def vocabulary(self, place: Path, encoder: EncoderCheckpoint) -> Sequence[str]:
        return encoder.vocabulary

    def tokenizer(self, vocabulary: Sequence[str], encoder: EncoderCheckpoint) -> TextTokenizer:
        return Tokenizer(vocabulary, "bert", encoder.do_lower_case)

    def keep(self, best: Path, encoder: EncoderCheckpoint, weights: dict[str, np.ndarray], temperature: float) -> None:
        from textclf.model_maker.hub_module import VARIABLE_PREFIX

        named = {name.removeprefix(VARIABLE_PREFIX): array for name, array in weights.items()}
        encoder.with_weights({name: named[name] for name in encoder.weights}).write(best)
        head = {
            "head/kernel": weights["output/kernel"] / temperature,
            "head/bias": weights["output/bias"] / temperature,
            "features/mean": np.zeros(encoder.width),
            "features/scale": np.ones(encoder.width),
        }
        save_state(best / "head.safetensors", {name: array.astype(np.float32) for name, array in head.items()}, {})


class AverageWordsAtModelMaker:
    """Model Maker makes its vocabulary from the same rows, and returns only its `.tflite`."""

    delimiter_pattern = WORD_DELIMITERS

    def findings(self, recipe: Recipe, dataset: Dataset, vocabulary: Sequence[str]) -> list[str]:
        return [
            "Model Maker trains word vectors with RMSprop and the learning rate 0.001 and does not use "
            "training.learning_rate and training.weight_decay. If words are lower-cased, words with capitals are unknown to "
            "the model on phones"
        ]

    def write(self, folder: Path, recipe: Recipe, encoder: WordVectors) -> dict[str, Any]:
        settings = recipe.encoder
        return {
            "encoder": "average-words",
            "words": settings.words,
            "width": settings.width,
            "lower_case": settings.lowercase,
        }

    def vocabulary(self, place: Path, encoder: WordVectors) -> Sequence[str]:
        """Returns the vocabulary from a file of lines `word id`, in the order of the ids."""
        lines = (place / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        return [line.rpartition(" ")[0] for line in lines]

    def tokenizer(self, vocabulary: Sequence[str], encoder: WordVectors) -> TextTokenizer:
        return ModelMakerWords(vocabulary, encoder.config.lowercase)

    def keep(self, best: Path, encoder: WordVectors, weights: dict[str, np.ndarray], temperature: float) -> None:
        pass


def at_model_maker(recipe: Recipe) -> EncoderAtModelMaker[Any]:
    """Returns the object for the recipe's kind of encoder."""
    return AverageWordsAtModelMaker() if recipe.averages_words else MobileBertAtModelMaker()
