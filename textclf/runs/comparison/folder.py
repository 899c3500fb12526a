"""The folder of a comparison: its contents, and how it is written and replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textclf.errors import RunError
from textclf.files.output_folder import (
    FolderKind,
    OutputFolder,
    Say,
    disk_errors,
    open_place,
    read_json,
    readable_errors,
)
from textclf.recipe.values import ENGINES
from textclf.training.saved.run_folder import METRICS, RUN_ENTRIES

FORMAT, VERSION = "textclf-comparison", 1

_LARGEST_FILE = 1 << 24

# A run of an engine and a seed, or of one of several recipes. \x2f is the slash, which a name of a folder cannot contain.
_RUN_NAME = rf"(?:(?:{'|'.join(ENGINES)})-\d+|\d+-[^\x2f]+)"

_RUN = f"runs/{_RUN_NAME}"


def _is_comparison(folder: Path) -> bool:
    """Whether a folder contains the results of a comparison by textclf; the first ones had no format and no version."""
    try:
        values = read_json(folder / "comparison.json", _LARGEST_FILE)
    except PermissionError:
        return False
    first = {"measurements", "latency_ms", "machine"}
    return isinstance(values, dict) and (values.get("format") == FORMAT or values.keys() >= first)


COMPARISON = FolderKind(
    "comparison",
    "output (-o)",
    (
        r"comparison\.(?:json|md)",
        r"disagreements\.csv",
        r"unfinished\.json",
        r"data/",
        r"data/(?:train|validation|test)\.(?:csv|json)",
        r"runs/",
        rf"{_RUN}/",
        *(f"{_RUN}/{entry}" for entry in RUN_ENTRIES),
        rf"{_RUN}\.log/",
        rf"{_RUN}\.log/(?:recipe\.yaml|result\.json|worker\.log)",
        # Left by a run that was killed.
        rf"runs/\.{_RUN_NAME}\.lock",
        rf"runs/\.{_RUN_NAME}\.unfinished/**",
    ),
    _is_comparison,
    "comparison.md",
)


@contextmanager
def open_comparison_folder(output: Path, *, force: bool, say: Say) -> Iterator[OutputFolder]:
    """Locks the folder of a comparison for this process. Nothing in it is changed yet.

    Raises RunError for an existing folder, unless `force` allows replacing it and textclf wrote everything in it.
    """
    with open_place(output, COMPARISON):
        folder = OutputFolder(output, COMPARISON)
        with readable_errors(output, COMPARISON):
            _prepare(folder, force=force, say=say)
        yield folder


@contextmanager
def writing(folder: OutputFolder, say: Say) -> Iterator[Path]:
    """A new, empty folder that gets its name at the end. After a failure, only complete runs are kept."""
    with readable_errors(folder.target, COMPARISON):
        folder.begin()
    try:
        with disk_errors(folder, lambda: "run the command again with force=True (--force)"):
            yield folder.path
            folder.finish()
    except BaseException:
        _leave(folder, say)
        raise


def _prepare(folder: OutputFolder, *, force: bool, say: Say) -> None:
    target, replace = folder.target, "replace it with force=True (--force)"
    moved_in = folder.repair(say)
    folder.check_replaceable()
    if os.path.lexists(folder.place) and not force:
        if moved_in:
            raise RunError(
                f"{target}: an earlier comparison was complete, and its folder has this name now; use it, or {replace}"
            )
        raise RunError(f"{target}: exists already; choose another {folder.kind.argument}, or {replace}")
    if (kept := _complete_runs(folder.path)) and not force:
        raise RunError(
            f"{target}: an earlier comparison was interrupted and left complete runs in {folder.path} "
            f"({', '.join(kept)}); move them to another place, or start again with force=True (--force)"
        )
    folder.may_replace = force


def _leave(folder: OutputFolder, say: Say) -> None:
    """After a failure, keeps complete runs and removes everything else."""
    if not folder.path.is_dir():
        return
    if kept := _complete_runs(folder.path):
        say(f"Complete runs were kept in {folder.path}: {', '.join(kept)}")
    else:
        shutil.rmtree(folder.path, ignore_errors=True)


def _complete_runs(folder: Path) -> list[str]:
    return sorted(file.parent.name for file in folder.glob(f"runs/*/{METRICS}"))
