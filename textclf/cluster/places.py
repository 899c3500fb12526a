"""Where the outputs of a job are: in a folder that all machines share, or at an address such as `s3://bucket/out/`.

Outputs appear under their names when they are complete. A place can be pickled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from textclf.errors import RunError
from textclf.files.locations import Location, contents_of, open_location, remove, upload, version_of
from textclf.files.writing import sync_folder

_PIECE = 1 << 20

_LONGEST_LINE = 1 << 28

# Pauses in seconds before an upload is tried again.
_PAUSES = (1.0, 4.0)


Difference: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Takes the entry of an output and returns how the output differs from it, "" if it is missing; None if it is the same."""


class Place(Protocol):
    """Where the outputs are."""

    def names(self) -> list[str]:
        """Returns the names of what is there."""

    def first_line(self, name: str) -> bytes | None:
        """Returns the first line of a file; None for what is not a file."""

    def remove(self, name: str) -> None: ...

    def publish(self, file: Path, name: str) -> dict[str, Any]:
        """Gives a complete file its place. Returns what `comparison` needs besides size and hash."""

    def comparison(self) -> Difference:
        """Returns what compares outputs with their entries in the journal. What is there is listed now."""

    def is_visible(self) -> bool:
        """Returns whether this machine can write there, as far as that can be said without writing."""


@dataclass(frozen=True)
class FolderPlace:
    """A folder that all machines see under the same path."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder))

    def first_line(self, name: str) -> bytes | None:
        file = self.folder / name
        if file.is_symlink() or not file.is_file():
            return None
        with file.open("rb") as stream:
            return stream.readline(_LONGEST_LINE)

    def remove(self, name: str) -> None:
        entry = self.folder / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()

    def publish(self, file: Path, name: str) -> dict[str, Any]:
        os.replace(file, self.folder / name)
        sync_folder(self.folder)
        return {}

    def comparison(self) -> Difference:
        return self._difference

    def _difference(self, entry: Mapping[str, Any]) -> str | None:
        path = self.folder / entry["output"]
        if not path.exists():
            return ""
        size = path.stat().st_size
        if size != entry["output_bytes"]:
            return f"{entry['output_bytes']:,} bytes then, {size:,} now"
        return None if size_and_hash(path)[1] == entry["sha256"] else "other bytes of the same number"

    def is_visible(self) -> bool:
        return self.folder.is_dir()


@dataclass(frozen=True)
class StorePlace:
    """An address in an object store. A job that is resumed compares the sizes and the versions of the objects, without reading
    them."""

    location: Location

    def __str__(self) -> str:
        return str(self.location)

    def names(self) -> list[str]:
        return sorted(contents_of(self.location))

    def first_line(self, name: str) -> bytes | None:
        line = b""
        with open_location(self.location.joined(name)) as stream:
            while b"\n" not in line and len(line) < _LONGEST_LINE and (piece := stream.read(_PIECE)):
                line += piece
        return line.partition(b"\n")[0]

    def remove(self, name: str) -> None:
        remove(self.location.joined(name))

    def publish(self, file: Path, name: str) -> dict[str, Any]:
        target = self.location.joined(name)
        for pause in (*_PAUSES, None):
            try:
                upload(file, target)
                break
            except RunError:
                if pause is None:
                    raise
                time.sleep(pause)
        return {"version": version_of(target).mark}

    def comparison(self) -> Difference:
        contents = contents_of(self.location)

        def difference(entry: Mapping[str, Any]) -> str | None:
            found = contents.get(entry["output"])
            if found is None:
                return ""
            if found.size not in (None, entry["output_bytes"]):
                return f"{entry['output_bytes']:,} bytes then, {found.size:,} now"
            version = entry.get("version")
            return "another version of the object" if version and found.mark and found.mark != version else None

        return difference

    def is_visible(self) -> bool:
        return True


def size_and_hash(path: Path) -> tuple[int, str]:
    """Returns the number of bytes of a file and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
