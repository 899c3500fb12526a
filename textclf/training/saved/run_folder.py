"""The folder that one training run writes: its entries, its saved state, its log, and the reading of its metrics."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from textclf.errors import RunError
from textclf.files.output_folder import (
    MARKER,
    FolderKind,
    OutputFolder,
    Say,
    disk_errors,
    open_place,
    read_json,
    readable_errors,
)
from textclf.files.writing import write_bytes, write_text

_LOG = logging.getLogger(__name__)

METRICS = "metrics.json"

DATA = "data"
"""In a run that was trained on tables in memory, this folder holds their rows, one CSV file for each split."""

METRICS_FORMAT, METRICS_VERSION = "textclf-metrics", 1

# The first runs' metrics have no version, but they all have these keys.
_FIRST_METRICS = {"name", "versions", "labels", "history", "export", "recipe"}

_LARGEST_METRICS = 1 << 28

_STATE_VERSION = 1

MODEL_NAMES = r"model(?:-(?:dynamic|int4|float16|none)(?:-task-library)?)?\.tflite"
"""The names of a run's model and, by default, of models that are exported from it later."""

RUN_ENTRIES = (
    MODEL_NAMES,
    r"labels\.txt",
    r"vocab\.txt",
    r"recipe\.yaml",
    r"log\.jsonl",
    r"log-seed-\d+\.jsonl",
    r"metrics\.json",
    r"report\.html",
    r"predictions\.csv",
    r"(?:model(?:-[a-z0-9-]+)?-)?demo\.html",
    r"MODEL_CARD\.md",
    r"model-maker\.log",
    r"unfinished\.json",
    r"data/",
    r"data/(?:train|validation|test)\.(?:csv|jsonl)",
    r"checkpoints/",
    r"checkpoints/last\.safetensors",
    r"checkpoints/best-\d+\.safetensors",
    r"checkpoints/withheld\.tflite",
    r"checkpoints/best/",
    r"checkpoints/best/config\.json",
    r"checkpoints/best/(?:encoder|head)\.safetensors",
    r"checkpoints/best/vocab\.txt",
)


def is_run(folder: Path) -> bool:
    """Returns whether a folder contains the metrics of a run of textclf, of any version."""
    try:
        return _are_metrics(read_json(folder / METRICS, _LARGEST_METRICS))
    except PermissionError:
        return False


def _are_metrics(values: object) -> bool:
    return isinstance(values, dict) and (values.get("format") == METRICS_FORMAT or values.keys() >= _FIRST_METRICS)


RUN = FolderKind("run", "run_dir (--run-dir)", RUN_ENTRIES, is_run, "MODEL_CARD.md")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Returns the content of a finished run's `metrics.json`, also of the first textclf's runs, which has no version.

    Raises RunError for metrics that are missing, damaged, of a newer textclf or of another program.
    """
    file = folder / METRICS
    try:
        values = read_json(file, _LARGEST_METRICS)
    except PermissionError as error:
        raise RunError(f"{file}: cannot be read (permission denied); ask its owner for permission") from error
    if not _are_metrics(values):
        problem = "are not those of a run of textclf" if file.exists() else "are missing"
        raise RunError(f"{file}: the metrics {problem}; choose the folder of a finished run, such as runs/NAME")
    version = values.get("version", METRICS_VERSION)
    if version != METRICS_VERSION:
        raise RunError(
            f"{file}: has version {version!r}, but this textclf reads version {METRICS_VERSION}; install a newer textclf"
        )
    return dict(values)


class RunFolder(OutputFolder):
    """`target` is the place of the finished run, `path` where it is written until then.

    `finished` is the finished run's metrics if a complete folder only had to be moved to its place.
    """

    how_to_continue = "continue with resume=True (--resume), which trains nothing again"

    def __init__(self, target: Path) -> None:
        super().__init__(target, RUN)
        self.finished: dict[str, Any] | None = None

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def last_state(self) -> Path:
        return self.path / "checkpoints" / "last.safetensors"

    def best_state(self, seed: int) -> Path:
        """The state of the best epoch of the training with this seed."""
        return self.path / "checkpoints" / f"best-{seed}.safetensors"

    def log_of(self, seed: int, seed_count: int) -> Path:
        """With several seeds, each has its log, and `log` becomes that of the exported one."""
        return self.log if seed_count == 1 else self.path / f"log-seed-{seed}.jsonl"

    def keep_log_of(self, seed: int, seed_count: int) -> None:
        """Makes the log of the exported training the log of the run."""
        log = self.log_of(seed, seed_count)
        if log != self.log:
            write_bytes(self.log, log.read_bytes())

    def tidy(self) -> None:
        """Removes the states that only an unfinished run needs."""
        for state in (self.last_state, *self.last_state.parent.glob("best-*.safetensors")):
            state.unlink(missing_ok=True)

    def begin(self) -> None:
        super().begin()
        (self.path / "checkpoints").mkdir()

    def remedy(self) -> str:
        """Returns how to continue after an error."""
        return "continue with resume=True (--resume)" if self.last_state.is_file() else "run the command again"


@contextmanager
def open_run_folder(
    target: Path,
    *,
    force: bool,
    resume: bool,
    inputs: Iterable[Path] = (),
    say: Say = _LOG.info,
) -> Iterator[RunFolder]:
    """Opens a run folder that only this process writes: empty or, with `resume`, as an earlier run left it.

    With `resume`, the run may replace an existing one if it was started with `force`. `inputs` are the files and folders
    that the run reads. If a process was killed between two renames, this is repaired first and reported through `say`.

    Raises RunError if nothing can be written or renamed at the target; if it exists and may not be replaced, or contains
    something that textclf did not write; if an earlier run left an unfinished folder and neither `force` nor `resume` is
    given; if there is nothing to resume; and while another process writes the same run.
    """
    with open_place(target, RUN):
        folder = RunFolder(target)
        with readable_errors(target, RUN):
            folder.check_apart_from(inputs)
            moved_in = folder.repair(say)
            if resume:
                _resume(folder, moved_in=moved_in, force=force)
            else:
                _begin(folder, moved_in=moved_in, force=force)
        try:
            with disk_errors(folder, folder.remedy):
                yield folder
        except BaseException:
            _leave(folder)
            raise


def _resume(folder: RunFolder, *, moved_in: bool, force: bool) -> None:
    target = folder.target
    complete = folder.path.is_dir() and folder.is_complete()
    if not moved_in and not complete and not folder.last_state.is_file():
        if is_run(folder.place):
            raise RunError(
                f"{target}: the run is complete, there is nothing to resume; choose another {folder.kind.argument}, or "
                "replace it with force=True (--force)"
            )
        raise RunError(
            f"{target}: no unfinished run with a saved state was found, so there is nothing to resume; "
            "leave out resume=True (--resume) to start it"
        )
    if moved_in:
        folder.finished = read_metrics(folder.place)
        return
    folder.may_replace = force or folder.was_allowed_to_replace()
    if os.path.lexists(folder.place) and not folder.may_replace:
        raise RunError(
            f"{target}: exists already, and the unfinished run was not started with force=True (--force), so it may not "
            f"replace it; move {target} away, then continue with resume=True (--resume)"
        )
    folder.check_replaceable()
    if complete:
        folder.move_in()
        folder.finished = read_metrics(folder.place)
    else:
        folder.mark(complete=False)


def _begin(folder: RunFolder, *, moved_in: bool, force: bool) -> None:
    folder.check_replaceable()
    if not force:
        unfinished = folder.path.is_dir() and (folder.last_state.is_file() or folder.is_complete())
        _refuse_what_exists(folder, unfinished=unfinished, moved_in=moved_in)
    folder.may_replace = force
    folder.begin()
    try:
        # Checks before hours are spent that the longest name is possible; the file itself need not exist.
        os.lstat(folder.path / "checkpoints" / "best" / f".encoder.safetensors.{os.getpid():010}")
    except FileNotFoundError:
        pass
    except OSError:
        _leave(folder)
        raise


def _refuse_what_exists(folder: RunFolder, *, unfinished: bool, moved_in: bool) -> None:
    target, force = folder.target, "force=True (--force)"
    if moved_in:
        raise RunError(f"{target}: the run was complete and is now in its place; use it, or train again with {force}")
    if unfinished:
        exists = "exists already, and " if os.path.lexists(folder.place) else ""
        raise RunError(
            f"{target}: {exists}an unfinished run of this name was found; continue it with resume=True (--resume), "
            f"or start again with {force}"
        )
    if os.path.lexists(folder.place):
        raise RunError(f"{target}: exists already; choose another {folder.kind.argument}, or replace it with {force}")


def _leave(folder: RunFolder) -> None:
    """After a failure: keeps what can be continued and another program's log, and removes the rest."""
    if folder.finished is not None or not folder.path.is_dir() or folder.last_state.is_file():
        return
    with suppress(OSError, RunError):
        if folder.is_complete():
            return
        if (folder.path / "model-maker.log").exists():
            (folder.path / MARKER).unlink(missing_ok=True)
        else:
            shutil.rmtree(folder.path)


def save_state(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Writes arrays by name and JSON facts as one safetensors file, whole or not at all, with its mode by the umask."""
    temporary = path.with_name(f".{path.name}.part")
    # Only one key: safetensors writes several keys in any order, but equal states must have equal bytes.
    metadata = {"facts": json.dumps({"state_version": _STATE_VERSION, **facts})}
    try:
        temporary.write_bytes(b"")
        mode = temporary.stat().st_mode
        save_file(dict(arrays), temporary, metadata=metadata)
        temporary.chmod(mode)  # safetensors makes files that only their owner can read
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    except SafetensorError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"{path}: the state cannot be saved ({error}); free some space on the disk, then continue with resume=True "
            "(--resume)"
        ) from error
    os.replace(temporary, path)


def load_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The inverse of `save_state`, also for the first textclf's states, which have no version.

    Raises RunError for a file that is missing, cannot be read, is damaged, or was written by a newer textclf.
    """
    try:
        # safetensors reports a file without permission as missing.
        with path.open("rb"):
            pass
        with safe_open(path, framework="numpy") as file:
            facts = dict(json.loads(file.metadata()["facts"]))
            version = facts.pop("state_version", _STATE_VERSION)
            if version == _STATE_VERSION:
                return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a mapping
    except PermissionError as error:
        raise RunError(f"{path}: cannot be read (permission denied); ask its owner for permission") from error
    except (SafetensorError, OSError, KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"{path}: the saved state cannot be read ({reason}); start the run again with force=True (--force)"
        ) from error
    raise RunError(
        f"{path}: the state has version {version!r}, but this textclf reads version {_STATE_VERSION}; install "
        "a newer textclf, or start the run again with force=True (--force)"
    )


class RunLog:
    """`log.jsonl`: one JSON object per line; each is flushed as it is written."""

    def __init__(self, path: Path, keep_steps: int) -> None:
        """Keeps the lines up to step number `keep_steps`, which a resumed run does not repeat."""
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
    """Returns None for the incomplete last line of a run that was killed."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None
