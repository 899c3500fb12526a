"""Runs a peer in its environment: takes the path of that environment's Python and a job, returns what the peer measured."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretraining.sets import LabelledSet
from textclf.errors import ArgumentError, RunError

TF_IDF = "tf-idf"
FINE_TUNED = "all-minilm-l6-v2"
EMBEDDED = "all-minilm-l6-v2 head"
SETFIT = "setfit"

_ROOT = Path(__file__).resolve().parents[2]

_SHOWN_CHARACTERS = 2000


def without_python(peer: str) -> str:
    """The message for a peer that is asked for without its environment."""
    return (
        f"{peer} runs in an environment of its own: name its Python with --peers-python; the packages are listed in "
        "pretraining/peers/__init__.py"
    )


@dataclass(frozen=True)
class Measured:
    """What a peer returns: shares from 0 to 1 on the rows of the test file, seconds, and what it ran on.

    `chosen` are the settings that it chose on validation rows; `sha256` is that of its weights, None without weights.
    """

    accuracy: float
    macro_f1: float
    seconds: float
    chosen: Mapping[str, Any]
    sha256: str | None
    processor: str
    bfloat16: bool


def call(
    python: Path, peer: str, data: LabelledSet, seed: int, recipe: Mapping[str, Any], *, has_validation: bool = True
) -> Measured:
    """Trains and measures a peer on a set; without validation rows it chooses its settings by cross-validation.

    Raises ArgumentError if `python` cannot be started, and RunError with the end of its messages if the peer fails.
    """
    job = {
        "peer": peer,
        "train": str(data.train),
        "validation": str(data.validation) if has_validation else None,
        "test": str(data.test),
        "text": data.text,
        "label": data.label,
        "seed": seed,
        "recipe": dict(recipe),
    }
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Threads of PyTorch that wait by computing made a step ten times slower on a machine with other work.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        ended = subprocess.run(
            [str(python), "-m", "pretraining.peers"],
            input=json.dumps(job),
            capture_output=True,
            encoding="utf-8",
            env=environment,
            check=False,
        )
    except OSError as error:
        raise ArgumentError(
            f"--peers-python: {python} cannot be started ({error.strerror}); name the Python of an environment with the "
            "packages that pretraining/peers/__init__.py lists"
        ) from error
    if ended.returncode != 0:
        raise RunError(
            f"the peer {peer} failed on {data.name} with exit code {ended.returncode}. Its last messages:\n"
            f"{ended.stderr[-_SHOWN_CHARACTERS:].strip()}\nCorrect this, then run the command again; finished runs are kept"
        )
    return Measured(**json.loads(ended.stdout.splitlines()[-1]))
