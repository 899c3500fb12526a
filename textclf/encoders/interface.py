"""What everybody asks of an encoder, whichever it is; no TensorFlow needed.

`EncoderCheckpoint` (MobileBERT) and `WordVectors` (averaged words) are two that answer; `kinds.py` tells which of them a
recipe names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from textclf.data.tokens.encoded import TextTokenizer
from textclf.recipe.settings import EncoderSettings

if TYPE_CHECKING:
    from textclf.encoders.trainable import TrainableEncoder


class KnownEncoder(Protocol):
    """What a recipe is checked against, known before any weights are read."""

    @property
    def path(self) -> Path:
        """Where it was read."""

    @property
    def longest(self) -> int | None:
        """The largest number of tokens that it takes; None where any number will do."""

    @property
    def segments(self) -> int:
        """How many texts of a row it tells apart."""

    @property
    def layers(self) -> int:
        """Layers that can be frozen from below; 0 for an encoder that knows nothing before it is trained."""

    def tokenizer(self, settings: EncoderSettings) -> TextTokenizer:
        """Raises EncoderError for a vocabulary that the tokenizer of these settings cannot use."""


class AnyEncoder(KnownEncoder, Protocol):
    """An encoder in memory. `weights` holds float32 arrays by name, and may hold none before training."""

    @property
    def config(self) -> Any:
        """A dataclass of the numbers that shape it."""

    @property
    def weights(self) -> dict[str, np.ndarray]: ...

    @property
    def vocabulary(self) -> list[str]: ...

    @property
    def format(self) -> str:
        """The name of the form in which it came."""

    @property
    def summary(self) -> str:
        """The encoder in a line of the log."""

    @property
    def width(self) -> int:
        """How many numbers a text becomes."""

    def fingerprint(self) -> str:
        """SHA-256 over configuration, weights and vocabulary: the same for the same encoder in every format."""

    def with_weights(self, weights: dict[str, np.ndarray]) -> AnyEncoder:
        """The same encoder with other weights."""

    def write(self, folder: Path) -> None:
        """Writes it in our own form, which its kind reads; the folder is made where there is none."""

    def trainable(self) -> TrainableEncoder:
        """The encoder as TensorFlow trains it."""
