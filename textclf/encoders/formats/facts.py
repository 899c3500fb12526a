"""Facts about an encoder before its weights are read: enough to choose a length and to check a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textclf.encoders.formats.vocabulary import Vocabulary


@dataclass(frozen=True)
class EncoderFacts:
    """`positions` is the largest number of tokens that the encoder accepts, `segments` the number of texts in a row."""

    positions: int
    segments: int
    vocabulary: Vocabulary
    path: Path
