"""The files that a split of a recipe names: a path, a pattern, a folder, or a list of these; or addresses in their place."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from textclf.errors import DataError
from textclf.files.copies import local_file
from textclf.files.locations import Location, list_locations

_PIECE = 1 << 20

TEXT_ENDING = ".txt"


def named_paths(value: object) -> list[Path]:
    """Returns the paths of a split as the recipe writes them: none for a fraction."""
    if isinstance(value, Path):
        return [value]
    return [path for path in value if isinstance(path, Path)] if isinstance(value, tuple) else []


def data_files(value: object) -> list[Path]:
    """Returns the files of a split in the order in which they are read. Matches of a pattern are sorted by name.

    Raises DataError for a pattern that matches no file, and for a file that is named twice.
    """
    files = [file for path in named_paths(value) for file in _matches(path)]
    seen: set[Path] = set()
    for file in files:
        if file in seen:
            raise DataError(f"{file}: is named twice, so its rows would count twice; name it once")
        seen.add(file)
    return files


def _matches(path: Path) -> list[Path]:
    if isinstance(path, Location):
        return [*list_locations(path)]
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    found = sorted(match for match in glob.glob(str(path), recursive=True) if not os.path.isdir(match))
    if not found:
        raise DataError(f"{path}: the pattern matches no file; check the path")
    return [Path(match) for match in found]


def one_name(value: Path | tuple[Path, ...]) -> Path:
    """Returns what messages call all files of a split together."""
    paths = named_paths(value)
    if len(paths) == 1:
        return paths[0]
    return paths[0].with_name(f"{paths[0].name} and {len(paths) - 1} more")


def text_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields the label and the path of each text file in a folder with one sub-folder for each label, sorted by name.

    Hidden files are left out: some systems write `._name.txt` beside `name.txt`, which is no text.
    """
    for label in sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        for file in sorted((folder / label).iterdir()):
            if file.name.lower().endswith(TEXT_ENDING) and not file.name.startswith(".") and file.is_file():
                yield label, file


def sha256_of(path: Path) -> str:
    """Returns the hash of a file; of a folder, the hash of the names and hashes of its text files."""
    if isinstance(path, Location):
        with local_file(path) as copy:
            return sha256_of(copy)
    digest = hashlib.sha256()
    if path.is_dir():
        for label, file in text_files(path):
            digest.update(f"{label}/{file.name}\0{sha256_of(file)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(_PIECE):
            digest.update(chunk)
    return digest.hexdigest()


def hashes_of(values: Sequence[object]) -> dict[Path, str]:
    """Returns the hash of every file of some splits."""
    return {path: sha256_of(path) for value in values for path in data_files(value)}
