"""The forms in which people have a MobileBERT: a folder in any of them → an `EncoderCheckpoint`.

A format is one module here with the members of `Format`, and one line in FORMATS. Formats are told apart by what a
folder holds, never by its name.
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
    """What the module of a format offers.

    `HOLDS` says for messages what its folders hold.
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
    """The encoder in a folder, or in the only folder inside it, as archives often have it.

    Raises EncoderError where no format is recognised, or where the recognised one finds the encoder damaged.
    """
    form, folder = _recognise(path)
    return form.read(folder)


def read_facts(path: Path) -> EncoderFacts:
    """What can be known of the encoder that `read_encoder` would read, without its weights.

    Raises EncoderError for a configuration or a vocabulary that `read_encoder` would refuse.
    """
    form, folder = _recognise(path)
    return form.read_facts(folder)


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of the encoder that `read_encoder` would read, without its weights."""
    form, folder = _recognise(path)
    return form.find_vocabulary(folder)


def formats_understood() -> str:
    """One sentence that names every format and what its folders hold."""
    return "Understood are: " + "; ".join(f"{form.NAME} ({form.HOLDS})" for form in FORMATS)


def _recognise(path: Path) -> tuple[Format, Path]:
    """The format of a folder, and the folder inside it that is of this format."""
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
    """The folder inside a folder that is of a known format, and that format."""
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
