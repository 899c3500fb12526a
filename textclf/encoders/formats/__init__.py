"""Reads a MobileBERT from a folder in any supported format into an `EncoderCheckpoint`.

A format is a module here with the members of `Format`, and a line in FORMATS. The format is detected from the
contents of a folder, never from its name.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Protocol

from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats import hugging_face, textclf_format, tf1_checkpoint, tf1_hub, tf2_saved_model
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.vocabulary import Vocabulary
from textclf.errors import EncoderError
from textclf.terminal.door import printable


class Format(Protocol):
    """The members of the module of a format.

    `HOLDS` describes the contents of its folders for messages.
    """

    NAME: str
    HOLDS: str

    def recognise(self, folder: Path) -> bool: ...

    def read(self, folder: Path) -> EncoderCheckpoint: ...

    def read_facts(self, folder: Path) -> EncoderFacts: ...

    def find_vocabulary(self, folder: Path) -> Vocabulary: ...


FORMATS: tuple[Format, ...] = (
    textclf_format,
    hugging_face,
    tf1_checkpoint,
    tf1_hub,
    tf2_saved_model,
)

_NESTING = 4
_MOST_LISTED = 10_000
_NAMES_SHOWN = 8


def read_encoder(path: Path) -> EncoderCheckpoint:
    """Returns the encoder in a folder, or in the only folder inside it, as archives often have it.

    Raises EncoderError if no format is detected, or if the encoder is damaged.
    """
    form, folder = _recognise(path)
    return form.read(folder)


def read_facts(path: Path) -> EncoderFacts:
    """Returns facts about the encoder that `read_encoder` would read, without reading its weights.

    Raises EncoderError for a configuration or a vocabulary that `read_encoder` would refuse.
    """
    form, folder = _recognise(path)
    return form.read_facts(folder)


def read_vocabulary(path: Path) -> Vocabulary:
    """Returns the vocabulary of the encoder that `read_encoder` would read, without reading its weights."""
    form, folder = _recognise(path)
    return form.find_vocabulary(folder)


def formats_understood() -> str:
    """Returns a sentence that names every format and the contents of its folders."""
    return "Understood are: " + "; ".join(f"{form.NAME} ({form.HOLDS})" for form in FORMATS)


def _recognise(path: Path) -> tuple[Format, Path]:
    """Returns the format of a folder, and the folder inside it that is of this format."""
    if not path.exists():
        raise EncoderError(f"{path}: there is no such folder")
    if not path.is_dir():
        raise EncoderError(
            f"{path}: is a file; point to the folder that holds the whole encoder. {formats_understood()}"
        )
    try:
        folder, form = _search(path)
        found = sorted(entry.name for entry in islice(path.iterdir(), _MOST_LISTED))[:_NAMES_SHOWN]
    except OSError as error:
        raise EncoderError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    if form is not None:
        return form, folder
    if textclf_format.is_average_words(path):
        raise EncoderError(
            f"{path}: is a run of the encoder average-words, which other recipes cannot start from: it is learned from"
            " each recipe's own rows; write `average-words` as the encoder's source"
        )
    shown = ", ".join(map(printable, found)) or "nothing"
    raise EncoderError(f"{path}: no encoder was recognised (it holds {shown}). {formats_understood()}")


def _search(path: Path) -> tuple[Path, Format | None]:
    """Returns the folder inside a folder that is of a known format, and that format."""
    folder = path
    for _ in range(_NESTING):
        for form in FORMATS:
            if form.recognise(folder):
                return folder, form
        inner = [
            entry
            for entry in islice(folder.iterdir(), _MOST_LISTED)
            if entry.is_dir() and not entry.name.startswith((".", "__"))
        ]
        if len(inner) != 1:
            break
        folder = inner[0]
    return path, None
