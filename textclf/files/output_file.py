"""The file that a command writes: checks its place, and says why it cannot be written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from textclf.errors import ArgumentError, RunError
from textclf.files.writing import link_target

_CHOOSE = "choose another output (-o)"


def checked_output(path: Path, why_not_replaced: Callable[[Path], str | None], *, force: bool) -> Path:
    """Returns the path with links followed. Raises RunError if nothing may be written there.

    `why_not_replaced` says why an existing file is never replaced, or returns None for one that `force` replaces.
    """
    try:
        target = link_target(path)
        if not target.parent.is_dir():
            raise RunError(f"{path}: the folder {target.parent} does not exist; create it, or {_CHOOSE}")
        if not os.path.lexists(target):
            return target
        if target.is_dir():
            raise RunError(f"{path}: is a folder; set output (-o) to a file in it")
        if not target.is_file():
            raise RunError(f"{path}: is not a regular file; {_CHOOSE}")
        if (reason := why_not_replaced(target)) is not None:
            raise RunError(f"{path}: {reason}")
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); {_CHOOSE}") from error
    if not force:
        raise RunError(f"{path}: exists already; {_CHOOSE}, or replace it with force=True (--force)")
    return target


def check_ending(path: Path, endings: Sequence[str], what: str) -> None:
    """Raises ArgumentError for a file whose name other programs, and textclf, would not take for `what`."""
    if path.suffix not in endings:
        raise ArgumentError(
            f"output (-o) is {path}, but {what} needs a name that ends in {' or '.join(endings)}; change the name"
        )


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Inside, an OSError becomes a RunError that names the output."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error}); {_CHOOSE}") from error
