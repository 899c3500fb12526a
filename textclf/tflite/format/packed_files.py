"""Reads and writes the files behind a model: an uncompressed zip archive after its last byte.

Devices read the files in place, so they are not compressed. The reader does not trust the archive.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

from textclf.errors import ModelError

EXPORT_AGAIN = "copy or export the model again"

# A vocabulary of 250,000 entries takes 5 MB.
_FILE_LIMIT = 64 << 20

_SHOWN_NAMES, _SHOWN_CHARACTERS = 20, 80

# What `zipfile` may raise for damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    ArithmeticError,
    OSError,
    EOFError,
    RuntimeError,
)


def append_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """Returns the model with `files` packed behind it as an uncompressed zip archive, the same bytes for the same
    arguments.

    Raises ModelError for a name that is already packed.
    """
    stream = io.BytesIO()
    stream.write(model)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            if name in archive.namelist():
                raise ModelError(f"{name} is packed into this model already; start from the model without it")
            entry = zipfile.ZipInfo(name)  # of 1 January 1980
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()


class PackedFiles:
    """The zip archive behind a model."""

    def __init__(self, source: str, content: bytes) -> None:
        self.source = source
        self._stream = io.BytesIO(content)
        self.names: tuple[str, ...] = ()
        self._archive: zipfile.ZipFile | None = None
        if zipfile.is_zipfile(self._stream):
            try:
                self._archive = zipfile.ZipFile(self._stream)
            except _DAMAGE as error:
                raise self._damaged(error) from error
            self.names = tuple(self._archive.namelist())

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str) -> bytes:
        """Returns the content of a file that the metadata names."""
        if self._archive is None or name not in self.names:
            raise ModelError(
                f"{self.source}: the metadata names {name}, but packed behind the model are "
                f"{_listed(self.names)}; the file may be truncated: {EXPORT_AGAIN}"
            )
        entry = self._archive.getinfo(name)
        if self.names.count(name) > 1 or entry.compress_type != zipfile.ZIP_STORED:
            raise ModelError(
                f"{self.source}: {name} is packed twice or compressed; expected it once and uncompressed, "
                f"as runtimes read it; {EXPORT_AGAIN}"
            )
        if not entry.file_size == entry.compress_size <= _FILE_LIMIT:
            raise ModelError(
                f"{self.source}: {name} is said to have {entry.file_size} bytes in {entry.compress_size}; "
                f"expected the same number twice and at most {_FILE_LIMIT}; {EXPORT_AGAIN}"
            )
        try:
            return self._archive.read(entry)
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def text(self, name: str) -> str:
        """Returns the content of a text file that the metadata names."""
        content = self.read(name)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{self.source}: {name} in it is not UTF-8 (byte {content[error.start]:#04x} in line "
                f"{content.count(10, 0, error.start) + 1}); {EXPORT_AGAIN}"
            ) from error

    def _damaged(self, error: Exception) -> ModelError:
        return ModelError(f"{self.source}: the files packed behind the model are damaged ({error}); {EXPORT_AGAIN}")


def _listed(names: Sequence[str]) -> str:
    """Returns the first names of many, each shortened."""
    if not names:
        return "no files"
    shown = ", ".join(name[:_SHOWN_CHARACTERS] for name in names[:_SHOWN_NAMES])
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES:,} more"
