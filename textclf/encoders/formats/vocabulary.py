"""The vocabulary that comes with an encoder: one piece a line, as many as the embedding table has rows.

In: the pieces of a `vocab.txt` or `tokenizer.json`. Out: an error unless they fit the encoder, and whether they are lower-cased.
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
    """The pieces in the order of their ids, whether text is lower-cased before, and the file that had them."""

    pieces: list[str]
    do_lower_case: bool
    file: Path


def check_vocabulary(vocabulary: Vocabulary, config: MobileBertConfig) -> None:
    """Raises EncoderError unless there is one piece for each row of the embedding table, with the special ones among them."""
    check_vocabulary_size(vocabulary, config.vocab_size)


def check_vocabulary_size(vocabulary: Vocabulary, rows: int) -> None:
    """As `check_vocabulary`, for an embedding table of that many rows."""
    pieces, file = vocabulary.pieces, vocabulary.file
    if len(pieces) != rows:
        raise EncoderError(
            f"{file}: holds {len(pieces)} pieces, but the encoder's embedding table has {rows} rows;"
            " use the vocabulary that the encoder was trained with"
        )
    absent = [piece for piece in SPECIAL_PIECES if piece not in pieces]
    if absent:
        raise EncoderError(f"{file}: lacks the special pieces {', '.join(absent)}; is it a BERT vocabulary?")
    lines: dict[str, int] = {}
    for line, piece in enumerate(pieces, 1):
        if lines.setdefault(piece, line) != line:
            raise EncoderError(
                f"{file}:{line}: the piece {_shown(piece)} stands in line {lines[piece]} already; use the encoder's own"
                " vocabulary"
            )


def _shown(piece: str) -> str:
    return repr(piece if len(piece) <= _SHOWN_CHARACTERS else piece[:_SHOWN_CHARACTERS] + "…")


def is_lower_cased(pieces: Sequence[str]) -> bool:
    """Whether no piece but the special ones has a capital letter: what an uncased encoder's vocabulary looks like."""
    return not any(piece != piece.lower() for piece in pieces if not (piece.startswith("[") and piece.endswith("]")))
