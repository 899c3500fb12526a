"""The parts of the metadata of every task: tensors of features, packed files, files of lines."""

from __future__ import annotations

from collections.abc import Sequence

from textclf.errors import ModelError
from textclf.tflite.format import metadata_schema as schema
from textclf.tflite.format.flatbuffer import Table

LABELS_FILE = "labels.txt"


def feature(
    name: str,
    description: str,
    stats: Table | None = None,
    units: list[Table] | None = None,
    files: list[Table] | None = None,
) -> Table:
    """Returns a tensor of features; without statistics it has an empty table, as other writers do."""
    return {
        schema.TensorMetadata.NAME: name,
        schema.TensorMetadata.DESCRIPTION: description,
        schema.TensorMetadata.CONTENT: {
            schema.Content.PROPERTIES_TYPE: int(schema.ContentProperties.FEATURE),
            schema.Content.PROPERTIES: {},
        },
        schema.TensorMetadata.PROCESS_UNITS: units,
        schema.TensorMetadata.STATS: stats or {},
        schema.TensorMetadata.ASSOCIATED_FILES: files,
    }


def associated_file(name: str, description: str, kind: schema.AssociatedFileType) -> Table:
    """Returns the entry of a packed file."""
    return {
        schema.AssociatedFile.NAME: name,
        schema.AssociatedFile.DESCRIPTION: description,
        schema.AssociatedFile.TYPE: int(kind),
    }


def lines_file(entries: Sequence[str], what: str) -> bytes:
    """Writes one entry per line. Raises ModelError for an entry that a reader would not read back unchanged."""
    for number, entry in enumerate(entries):
        if not entry or "\n" in entry or entry.endswith("\r"):
            raise ModelError(
                f"{what} {number} is {entry!r}; expected text on one line, which is all that the packed file can hold"
            )
    try:
        return "".join(f"{entry}\n" for entry in entries).encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"a {what} holds half of a character ({error.object[error.start]!r})") from error
