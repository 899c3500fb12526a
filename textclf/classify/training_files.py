"""Detects the files that a model was trained on, from the run beside it."""

from __future__ import annotations

import hashlib
import json
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

_LARGEST_METRICS = 1 << 27

_PIECE = 1 << 20


def is_training_file(model: Path, data: str) -> bool:
    """Returns whether a file is, byte for byte, the one that the rows of the training came from.

    The run's `metrics.json` is expected beside the model. Without it the result is False.
    """
    trained = _training_hashes(model.parent / "metrics.json")
    return bool(trained) and os.path.isfile(data) and _sha256(data) in trained


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


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
