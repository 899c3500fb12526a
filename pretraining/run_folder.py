"""The folder of a run: what it was started with, its state, its log, and the vocabulary of its students.

`origin.json` is what decides the result; a folder is continued only with the same. `state.pt` and the log are always
consistent: a resumed run removes the lines that were written after its state.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout

from pretraining.settings import Settings
from textclf.data.tokens.vocabulary import read_vocabulary
from textclf.errors import RunError
from textclf.files.writing import locked, write_text

ORIGIN, STATE, LOG, VOCABULARY = "origin.json", "state.pt", "log.jsonl", "vocab.txt"


class RunFolder:
    """Paths and files of a run; `path` need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Makes the folder. Raises RunError if another process uses it."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.path / ".lock"):
                yield
        except Timeout:
            raise RunError(
                f"{self.path}: another process runs in this folder; wait for it or choose another --run"
            ) from None

    # --- what the run was started with -------------------------------------------------------------------------------
    def agree(self, settings: Settings, others: Mapping[str, Any], vocabulary: Sequence[str]) -> None:
        """Writes what the run starts from, or compares it with what is in the folder.

        Raises RunError that names every difference.
        """
        origin = json.loads(json.dumps({"settings": settings.model_dump(mode="json"), **others}))
        file = self.path / ORIGIN
        if not file.exists():
            write_text(self.path / VOCABULARY, "".join(f"{piece}\n" for piece in vocabulary))
            write_text(file, json.dumps(origin, indent=2) + "\n")
            return
        if differences := list(_differences(self._origin(), origin)):
            raise RunError(
                f"{self.path}: the run in this folder was started differently:\n  "
                + "\n  ".join(differences)
                + "\nStart the command with the earlier values to resume it, or choose another --run folder"
            )

    def settings(self) -> Settings:
        return Settings.model_validate(self._origin()["settings"])

    def vocabulary(self) -> list[str]:
        return read_vocabulary(self.path / VOCABULARY)

    def _origin(self) -> dict[str, Any]:
        try:
            origin = json.loads((self.path / ORIGIN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / ORIGIN}: cannot be read ({error}); expected a run folder") from error
        if not isinstance(origin, dict) or "settings" not in origin:
            raise RunError(f"{self.path / ORIGIN}: has no settings; expected a run folder of pretraining.distil")
        return origin

    # --- state -------------------------------------------------------------------------------------------------------
    @property
    def has_state(self) -> bool:
        return (self.path / STATE).exists()

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes the state completely or not at all."""
        temporary = self.path / f".{STATE}.part"
        torch.save(dict(state), temporary)
        os.replace(temporary, self.path / STATE)

    def state(self, device: torch.device | str) -> dict[str, Any]:
        """Executes nothing that is in the file. Raises RunError if it is missing or damaged."""
        file = self.path / STATE
        if not file.exists():
            raise RunError(f"{file}: is missing; the run has not saved a state yet")
        try:
            state = torch.load(file, map_location=device, weights_only=True)
        except Exception as error:
            raise RunError(f"{file}: cannot be read ({error}); remove the run folder and start again") from error
        return dict(state)

    # --- log ---------------------------------------------------------------------------------------------------------
    def log(self, line: Mapping[str, Any]) -> None:
        with (self.path / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(dict(line)) + "\n")

    def rewind_log(self, step: int) -> None:
        """Removes the lines that a killed run wrote after the state that it is resumed from."""
        file = self.path / LOG
        if file.exists():
            lines = file.read_text(encoding="utf-8").splitlines()
            write_text(file, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))


def _step_of(line: str) -> float:
    """A line that was cut off by a power failure counts as written after every state."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _differences(earlier: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        for name in {**earlier, **now}:
            yield from _differences(earlier.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif earlier != now:
        yield f"{key}: {json.dumps(earlier)} then, {json.dumps(now)} now"
