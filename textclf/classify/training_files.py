"""Detects the files that a model was trained on, from the run beside it."""

from __future__ import annotations

import json
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from textclf.files.data_files import sha256_of
from textclf.files.locations import Location

_LARGEST_METRICS = 1 << 27


def is_training_file(model: Path, data: str | Path) -> bool:
    """Returns whether a file is, byte for byte, the one that the rows of the training came from.

    The run's `metrics.json` is expected beside the model. Without it the result is False.
    """
    trained = _training_hashes(model.parent / "metrics.json")
    if not trained or not (isinstance(data, Location) or os.path.isfile(data)):
        return False
    return sha256_of(Path(data) if isinstance(data, str) else data) in trained


def _training_hashes(path: Path) -> set[str]:
    try:
        if path.stat().st_size > _LARGEST_METRICS:
            return set()
        metrics = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    files, dataset = _section(metrics, "files"), _section(_section(metrics, "recipe"), "dataset")
    trained, others = _paths(dataset.get("train")), [*_paths(dataset.get("validation")), *_paths(dataset.get("test"))]
    found = [file for file in files if any(_matches(file, path) for path in trained)]
    if not found:
        # A moved run has other folders but the same names.
        names = [Path(path).name for path in trained]
        found = [
            file
            for file in files
            if any(_matches(Path(file).name, name) for name in names)
            and not any(_matches(file, path) for path in others)
        ]
    return {digest for digest in map(files.get, found) if isinstance(digest, str)}


def _paths(value: Any) -> list[str]:
    return [path for path in (value if isinstance(value, list) else [value]) if isinstance(path, str)]


def _matches(file: str, path: str) -> bool:
    """Returns whether a path of a recipe, which may be a pattern, is this file."""
    ours, theirs = Path(file).parts, Path(path).parts
    if "**" in theirs:  # any number of folders
        return fnmatch(file, path.replace("**/", "*"))
    return file == path or (len(ours) == len(theirs) and all(map(fnmatch, ours, theirs)))


def _section(values: Any, key: str) -> dict[str, Any]:
    section = values.get(key) if isinstance(values, dict) else None
    return section if isinstance(section, dict) else {}
