"""The folder that one training run writes: built under a hidden name beside its place and renamed when it is complete."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from textclf.errors import RunError
from textclf.files import write_bytes, write_text


class RunFolder:
    """`target` is where the run will stand, `path` where it is written until then."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.parent / f".{target.name}.unfinished"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def last_state(self) -> Path:
        return self.path / "checkpoints" / "last.safetensors"

    def best_state(self, seed: int) -> Path:
        """The best epoch of the training with this seed."""
        return self.path / "checkpoints" / f"best-{seed}.safetensors"

    def log_of(self, seed: int, seed_count: int) -> Path:
        """Of several seeds, each has a log of its own; `log` is then that of the exported one."""
        return self.log if seed_count == 1 else self.path / f"log-seed-{seed}.jsonl"

    def keep_log_of(self, seed: int, seed_count: int) -> None:
        """Makes the log of the exported training the run's."""
        log = self.log_of(seed, seed_count)
        if log != self.log:
            write_bytes(self.log, log.read_bytes())

    def finish(self) -> None:
        """Moves the complete folder to its place; what stood there is removed only after the new one stands."""
        replaced = self.target.parent / f".{self.target.name}.replaced"
        if replaced.exists():
            shutil.rmtree(replaced)
        if self.target.exists():
            self.target.rename(replaced)
        self.path.rename(self.target)
        if replaced.exists():
            shutil.rmtree(replaced)


@contextmanager
def open_run_folder(target: Path, *, force: bool, resume: bool) -> Iterator[RunFolder]:
    """A run folder that this process alone writes, empty or, with `resume`, as an earlier run left it.

    Raises RunError when `target` exists and `force` was not given, when an earlier run left an unfinished folder and
    neither `force` nor `resume` says what to do with it, when there is nothing to resume, and while another process
    writes the same run.
    """
    folder = RunFolder(target)
    if target.exists() and not target.is_dir():
        raise RunError(f"{target}: is a file, but a run is a folder; choose another --run-dir")
    if target.exists() and not force:
        finished = "the run is complete, there is nothing to resume" if resume else "the folder exists already"
        raise RunError(f"{target}: {finished}; choose another --run-dir, or replace it with --force")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock", timeout=0):
            _prepare(folder, force=force, resume=resume)
            yield folder
    except Timeout:
        raise RunError(
            f"{target}: another process is writing this run; wait for it, or choose another --run-dir"
        ) from None
    except PermissionError as error:
        raise RunError(f"{error.filename}: cannot be written (permission denied); choose another --run-dir") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"{error.filename or target}: the disk is full; free some space and go on with --resume, which continues "
            "at the last saved step"
        ) from error


def _prepare(folder: RunFolder, *, force: bool, resume: bool) -> None:
    if resume:
        if not folder.last_state.is_file():
            raise RunError(
                f"{folder.target}: no unfinished run with a saved state stands here, so there is nothing to resume; "
                "leave out --resume to start it"
            )
        return
    if folder.path.exists():
        if folder.last_state.is_file() and not force:
            raise RunError(
                f"{folder.target}: an unfinished run of this name was found; continue it with --resume, "
                "or start again with --force"
            )
        shutil.rmtree(folder.path)
    (folder.path / "checkpoints").mkdir(parents=True)


def save_state(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Arrays by name and JSON facts as one safetensors file, written whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(dict(arrays), temporary, metadata={"facts": json.dumps(facts)})
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    except SafetensorError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"{path}: the state cannot be saved ({error}); make room on the disk and go on with --resume"
        ) from error
    os.replace(temporary, path)


def load_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The inverse of `save_state`; raises RunError for a file that is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return arrays, json.loads(file.metadata()["facts"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RunError(f"{path}: the saved state cannot be read ({error}); start the run again with --force") from error


class RunLog:
    """`log.jsonl`: one JSON object a line, each flushed as it is written."""

    def __init__(self, path: Path, keep_steps: int) -> None:
        """Keeps the lines up to step number `keep_steps`, which a resumed run does not do again."""
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = _parsed(line)
                if entry is not None and entry["step"] <= keep_steps:
                    kept.append(line + "\n")
        write_text(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, step: int, **values: Any) -> None:
        self._file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _parsed(line: str) -> dict[str, Any] | None:
    """None for the torn last line of a run that was killed."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None
