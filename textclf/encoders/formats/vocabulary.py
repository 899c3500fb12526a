"""Checks the vocabulary of an encoder: one entry per line, as many as the embedding table has rows.

Takes the entries of a `vocab.txt` or `tokenizer.json`, and raises an error unless they match the encoder. Detects
whether they are lower-cased.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from textclf.encoders.checkpoint import MobileBertConfig
from textclf.errors import EncoderError

_SHOWN_CHARACTERS = 40
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class Vocabulary(NamedTuple):
    """The entries in the order of their ids, whether text is lower-cased first, and the file of the entries."""

    pieces: list[str]
    do_lower_case: bool
    file: Path


def check_vocabulary(vocabulary: Vocabulary, config: MobileBertConfig) -> None:
    """Raises EncoderError unless there is one entry for each row of the embedding table, including the special tokens."""
    check_vocabulary_size(vocabulary, config.vocab_size)


def check_vocabulary_size(vocabulary: Vocabulary, rows: int) -> None:
    """Does the same as `check_vocabulary` for an embedding table with this many rows."""
    pieces, file = vocabulary.pieces, vocabulary.file
    if len(pieces) != rows:
        raise EncoderError(
            f"{file}: holds {len(pieces)} entries, but the encoder's embedding table has {rows} rows;"
            " use the vocabulary that the encoder was trained with"
        )
    absent = [piece for piece in SPECIAL_PIECES if piece not in pieces]
    if absent:
        raise EncoderError(f"{file}: lacks the special tokens {', '.join(absent)}; is it a BERT vocabulary?")
    lines: dict[str, int] = {}
    for line, piece in enumerate(pieces, 1):
        if lines.setdefault(piece, line) != line:
            raise EncoderError(
                f"{file}:{line}: the entry {_shown(piece)} is already in line {lines[piece]}; use the encoder's own"
                " vocabulary"
            )


def _shown(piece: str) -> str:
    return repr(piece if len(piece) <= _SHOWN_CHARACTERS else piece[:_SHOWN_CHARACTERS] + "…")


def is_lower_cased(pieces: Sequence[str]) -> bool:
    """Returns whether no entry except the special tokens has a capital letter, as in an uncased encoder's vocabulary."""
    return not any(piece != piece.lower() for piece in pieces if not (piece.startswith("[") and piece.endswith("]")))
