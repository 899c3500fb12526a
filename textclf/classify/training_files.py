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
    files, train = _section(metrics, "files"), _section(_section(metrics, "recipe"), "dataset").get("train")
    trained = [train] if isinstance(train, str) else train if isinstance(train, list) else []
    # A moved run has other folders but the same names.
    names = [Path(path).name for path in trained if isinstance(path, str)]
    return {
        digest
        for file, digest in files.items()
        if isinstance(digest, str) and any(fnmatch(Path(file).name, name) or Path(file).name == name for name in names)
    }


def _section(values: Any, key: str) -> dict[str, Any]:
    section = values.get(key) if isinstance(values, dict) else None
    return section if isinstance(section, dict) else {}
