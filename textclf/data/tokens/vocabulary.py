"""Reads and checks a WordPiece vocabulary, `vocab.txt`."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textclf.errors import EncoderError

if TYPE_CHECKING:
    pass
import hashlib

# The largest published multilingual vocabulary has 5 MB, and none of their entries has 100 characters.
LARGEST_VOCABULARY = 32 * 2**20

LONGEST_PIECE = 1000

_UNUSABLE = re.compile("[\\0\\n\\ud800-\\udfff]")


def read_vocabulary(path: str | Path) -> list[str]:
    """Returns the entries of a vocab.txt, one per line. Raises EncoderError when it cannot be read or parsed."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_VOCABULARY + 1)
    except OSError as error:
        raise EncoderError(f"{path}: the vocabulary cannot be read ({error.strerror}); expected a text file") from error
    return parse_vocabulary(data, str(path))


def parse_vocabulary(data: bytes, source: str) -> list[str]:
    """Returns the entries of a vocabulary file's bytes; only line feeds separate them, and a carriage return before a
    line feed is removed.

    `source` names the file in errors. Raises EncoderError for text that is not UTF-8 or begins with a byte order mark,
    for more than LARGEST_VOCABULARY bytes, and for empty lines: devices skip those, BERT's tokenizer counts them, and
    so the ids after one would not agree.
    """
    if len(data) > LARGEST_VOCABULARY:
        raise EncoderError(
            f"{source}: is longer than {LARGEST_VOCABULARY:,} bytes, so it is not a vocabulary; restore the original vocabulary"
        )
    if data.startswith(codecs.BOM_UTF8):
        raise EncoderError(
            f"{source}:1: the file begins with a byte order mark, which devices take for a part of the first entry;"
            " save the vocabulary as UTF-8 without it"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EncoderError(
            f"{source}:{line}: byte {data[error.start]:#04x} at offset {error.start} is not UTF-8; "
            "save the vocabulary as UTF-8"
        ) from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if "" in lines:
        raise EncoderError(
            f"{source}:{lines.index('') + 1}: the line is empty; expected one entry per line, because devices skip "
            "empty lines and would number the entries after it differently. Restore the original vocabulary"
        )
    return checked_pieces(lines, source)


def checked_pieces(pieces: list[str], source: str) -> list[str]:
    """Returns the same entries.

    Raises EncoderError for an entry that cannot be in a text or on a line of a vocab.txt.
    """
    for line, piece in enumerate(pieces, 1):
        if len(piece) > LONGEST_PIECE:
            what = f"the entry has {len(piece):,} characters, and no word has over {LONGEST_PIECE:,}"
        elif not piece or _UNUSABLE.search(piece):
            what = f"the entry {piece!r} is empty or holds a line end, a NUL or half a surrogate pair"
        else:
            continue
        raise EncoderError(f"{source}:{line}: {what}, so no device can use it; restore the original vocabulary")
    return pieces


def vocabulary_hash(vocabulary: Sequence[str]) -> str:
    """Returns the SHA-256 of the entries, one per line, in hexadecimal digits."""
    return hashlib.sha256("".join(f"{piece}\n" for piece in vocabulary).encode()).hexdigest()
