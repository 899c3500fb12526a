"""What may leave the machine: names of files in place of the absolute paths that a run reads."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from textclf.files.locations import is_address


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """The name of each file, with its folder if two files have the same name, and a number if the folders do too."""
    paths = list(paths)
    names = Counter(path.name for path in paths)
    shown = {path: "/".join(path.parts[-2:]) if names[path.name] > 1 else path.name for path in paths}
    repeated = Counter(shown.values())
    return {
        path: f"{number}/{name}" if repeated[name] > 1 else name for number, (path, name) in enumerate(shown.items(), 1)
    }


def with_short_names(text: str, names: Mapping[Path, str]) -> str:
    """A message with the short names in place of the paths."""
    for path, name in names.items():
        text = text.replace(str(path), name)
    return text


def without_folders(value: Any) -> Any:
    """The values of a recipe, with the name of the file or folder in place of each absolute path."""
    if isinstance(value, Mapping):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(part) for part in value]
    if isinstance(value, str) and is_address(value):
        return value.rpartition("/")[2]
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value
