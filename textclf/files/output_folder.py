"""A folder that a command writes. It is built under a hidden name beside its place and moved there when it is complete.

An existing folder is replaced only if textclf wrote everything in it and the caller allowed it. A process that is
killed between two renames loses nothing: the next process that opens the folder repairs it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from textclf.errors import RunError
from textclf.files.writing import lock_of, locked, sync_folder, write_text

MARKER = "unfinished.json"
"""This file in an unfinished folder records whether it is complete and whether it may replace an existing folder."""

_MARKER_FORMAT, _MARKER_VERSION = "textclf-unfinished", 1

_SHOWN_ENTRIES = 4

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

# Files that file managers write into every folder that they show.
_LITTER = r"\.DS_Store|Thumbs\.db|desktop\.ini"

Say = Callable[[str], None]


@dataclass(frozen=True)
class FolderKind:
    """The name, the contents and the mark of one kind of folder.

    `entries` are patterns of relative paths (`a/b`; `a/` for a folder). A pattern that ends in `/**` stands for a
    folder and everything below it. `has_our_file` returns whether a folder contains the file that marks it as
    textclf's. `last_file` is the one that was written last before there were markers.
    """

    name: str
    argument: str
    entries: tuple[str, ...]
    has_our_file: Callable[[Path], bool]
    last_file: str


class OutputFolder:
    """`target` is the final path of the folder, as the caller wrote it. Until then the folder is written at `path`.

    `place` is the target with all links followed. A link stays a link, and the folder that it leads to is replaced.
    """

    def __init__(self, target: Path, kind: FolderKind) -> None:
        self.target, self.kind = target, kind
        self.place = Path(os.path.realpath(target))
        self.path = self.place.parent / f".{self.place.name}.unfinished"
        self.replaced = self.place.parent / f".{self.place.name}.replaced"
        self.may_replace = False

    # --- The existing folder -------------------------------------------------------------------------------------

    def check_replaceable(self) -> None:
        """Raises RunError, which lists some of the foreign files, unless textclf wrote everything at the place."""
        with readable_errors(self.target, self.kind):
            self._check_replaceable()

    def _check_replaceable(self) -> None:
        place, kind = self.place, self.kind
        if not os.path.lexists(place):
            return
        if not place.is_dir():
            raise RunError(f"{self.target}: is a file, but a {kind.name} is a folder; choose another {kind.argument}")
        present = sorted(os.listdir(place))
        if not present:
            return
        if not kind.has_our_file(place):
            raise RunError(
                f"{self.target}: is not the folder of a {kind.name} of textclf, so it is not replaced: it holds "
                f"{_shown(place, present)}; choose another {kind.argument}"
            )
        _check_removable(place, self.target, kind)
        if foreign := foreign_entries(place, kind.entries):
            raise RunError(
                f"{self.target}: holds what textclf did not write, so it is not replaced: {_shown(place, foreign)}; "
                f"move it to another place, or choose another {kind.argument}"
            )

    def check_apart_from(self, inputs: Iterable[Path]) -> None:
        """Raises RunError where something that is read lies in the folder that would be replaced."""
        name = self.kind.name
        for path in inputs:
            for place in (self.place, self.path, self.replaced):
                if inside(path, place):
                    raise RunError(
                        f"{self.target}: {path} is read by this {name} and lies in the folder that the {name} would "
                        f"replace; move it to another place, or choose another {self.kind.argument}"
                    )

    def is_complete(self) -> bool:
        """Returns whether the unfinished folder only has to be moved to its place."""
        marker = self._marker()
        if marker is not None:
            return marker["complete"]
        return (self.path / self.kind.last_file).is_file() and self.kind.has_our_file(self.path)

    def was_allowed_to_replace(self) -> bool:
        """Returns whether the unfinished folder was started with the permission to replace an existing folder."""
        return (self._marker() or {"replace": False})["replace"]

    def _marker(self) -> dict[str, bool] | None:
        """Returns the unfinished folder's marker, or None. Raises RunError for a marker of a newer textclf."""
        file = self.path / MARKER
        try:
            with file.open("rb") as stream:
                values = json.loads(stream.read(10_000))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            values = None
        version = values.get("version") if isinstance(values, dict) else None
        if not isinstance(values, dict) or values.get("format") != _MARKER_FORMAT or version != _MARKER_VERSION:
            raise RunError(
                f"{file}: was not written by this version of textclf (version {version!r}, expected {_MARKER_VERSION}); "
                f"use the textclf that wrote it, or move {self.path} away"
            )
        return {name: values.get(name) is True for name in ("replace", "complete")}

    # --- Beginning and ending ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Makes an empty unfinished folder and removes an earlier one."""
        if os.path.lexists(self.path):
            if self.path.is_symlink() or not self.path.is_dir():
                raise RunError(f"{self.path}: is not a folder of textclf; move it away")
            if foreign := foreign_entries(self.path, (*self.kind.entries, "model-maker/**")):
                raise RunError(
                    f"{self.path}: holds what textclf did not write, so it is not removed: "
                    f"{_shown(self.path, foreign)}; move it to another place"
                )
            shutil.rmtree(self.path)
        self.path.mkdir()
        self.mark(complete=False)

    def mark(self, *, complete: bool) -> None:
        """Writes the marker."""
        values = {"format": _MARKER_FORMAT, "version": _MARKER_VERSION}
        write_text(self.path / MARKER, json.dumps({**values, "replace": self.may_replace, "complete": complete}) + "\n")

    def drop_marker(self) -> None:
        """Makes sure that the unfinished folder cannot be resumed."""
        (self.path / MARKER).unlink(missing_ok=True)

    def finish(self) -> None:
        """Moves the complete folder to its place. The earlier folder is removed only afterwards."""
        self.mark(complete=True)
        self.move_in()

    def move_in(self) -> None:
        """Does the same as `finish` for a folder that is marked as complete.

        If it fails, it keeps everything and raises RunError.
        """
        self.tidy()
        waits = f"the {self.kind.name} is complete and waits in {self.path}"
        if os.path.lexists(self.place):
            if not self.may_replace:
                raise RunError(
                    f"{self.target}: was made by somebody else meanwhile; {waits}: move {self.target} away, then "
                    f"{self.how_to_continue}"
                )
            try:
                self.check_replaceable()
            except RunError as error:
                raise RunError(f"{error}. Nothing is lost: {waits}; to move it in, {self.how_to_continue}") from error
        try:
            self._swap()
        except OSError as error:
            raise RunError(
                f"{self.target}: cannot be put in its place ({error.strerror or error}); {waits}: remove the cause, then "
                f"{self.how_to_continue}"
            ) from error

    how_to_continue = "run the command again"

    def tidy(self) -> None:
        """Removes from the complete folder the files that only an unfinished folder needs."""

    def _swap(self) -> None:
        moved_away = os.path.lexists(self.place)
        if moved_away:
            self.place.rename(self.replaced)
        try:
            self.path.rename(self.place)
        except OSError:
            if moved_away:
                self.replaced.rename(self.place)
            raise
        self._arrived()

    def _arrived(self) -> None:
        (self.place / MARKER).unlink(missing_ok=True)
        with suppress(OSError):
            sync_folder(self.place.parent)
        self._remove_replaced()

    def _remove_replaced(self) -> None:
        if not os.path.lexists(self.replaced):
            return
        try:
            shutil.rmtree(self.replaced)
        except OSError as error:
            logging.getLogger(__name__).warning(
                "%s: what was replaced cannot be removed (%s); delete it", self.replaced, error.strerror or error
            )

    # --- After a kill --------------------------------------------------------------------------------------------

    def repair(self, say: Say) -> bool:
        """Completes what a killed process started between two renames.

        Returns whether a complete folder was moved to its place.
        """
        complete = self.path.is_dir() and self.is_complete()
        moved_in = False
        if complete and not os.path.lexists(self.place):
            self.tidy()
            self.path.rename(self.place)
            self._arrived()
            moved_in = True
            say(f"{self.target}: this {self.kind.name} was complete but not yet in its place; it was moved there")
        elif os.path.lexists(self.replaced) and not os.path.lexists(self.place):
            self.replaced.rename(self.place)
            say(
                f"{self.target}: an earlier process ended while it replaced this folder; the earlier {self.kind.name} was "
                "moved back to its place"
            )
        elif os.path.lexists(self.replaced):
            self._repair_replaced(complete)
        return moved_in

    def _repair_replaced(self, complete: bool) -> None:
        """Removes the folder that was replaced, unless one of the two folders cannot be identified with certainty."""
        known = not self.replaced.is_symlink() and self.replaced.is_dir() and self.kind.has_our_file(self.place)
        if complete or not known or foreign_entries(self.replaced, self.kind.entries):
            raise RunError(
                f"{self.replaced}: holds what {self.target} was before an earlier process replaced it; move it to another "
                "place or delete it, then run the command again"
            )
        shutil.rmtree(self.replaced)


@contextmanager
def open_place(target: Path, kind: FolderKind) -> Iterator[Path]:
    """Locks a folder that will be written, and makes its parent folders. Parent folders that stay empty are removed
    again.

    Yields the target with all links followed. Raises RunError if no folder can be made or replaced at the place, or if
    another process holds the lock.
    """
    with ExitStack() as stack:
        with readable_errors(target, kind):
            place = _checked_place(target, kind)
            stack.callback(_remove_empty, _make_parents(place.parent))
            try:
                stack.enter_context(locked(lock_of(place)))
            except Timeout:
                raise RunError(
                    f"{target}: another process is writing this {kind.name}; wait for it, or choose another {kind.argument}"
                ) from None
            except NotImplementedError as error:
                raise RunError(
                    f"{target}: its disk knows no locks ({error}); choose another {kind.argument}"
                ) from error
        yield place


@contextmanager
def readable_errors(target: Path, kind: FolderKind) -> Iterator[None]:
    """Returns a system error about making a folder as a RunError."""
    try:
        yield
    except PermissionError as error:
        raise RunError(
            f"{error.filename or target}: cannot be written (permission denied); choose another {kind.argument}"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{target}: cannot be made ({reason}); choose another {kind.argument}") from error


@contextmanager
def disk_errors(folder: OutputFolder, remedy: Callable[[], str]) -> Iterator[None]:
    """Inside, an OSError about the unfinished folder becomes a RunError. Other errors are not changed."""
    try:
        yield
    except OSError as error:
        inside = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(folder.path)
        if error.errno in _DISK_FULL and (inside or error.filename is None):
            raise RunError(
                f"{error.filename or folder.target}: the disk is full; free some space, then {remedy()}"
            ) from error
        if inside:
            raise RunError(
                f"{error.filename}: cannot be written or read ({error.strerror or error}); remove the cause, then {remedy()}"
            ) from error
        raise


def foreign_entries(folder: Path, patterns: Sequence[str], limit: int = 20) -> list[str]:
    """Returns the relative paths, at most `limit`, of entries that match no pattern. Links never match."""
    known = re.compile("|".join([rf"(?:[^/]+/)*(?:{_LITTER})", *(_with_temporaries(pattern) for pattern in patterns)]))
    opaque = re.compile(
        "|".join(pattern.removesuffix("**") for pattern in patterns if pattern.endswith("/**")) or "(?!)"
    )
    found: list[str] = []

    def look(place: Path, prefix: str) -> None:
        for entry in sorted(os.scandir(place), key=lambda one: one.name):
            if len(found) >= limit:
                return
            is_folder = entry.is_dir(follow_symlinks=False)
            name = prefix + entry.name + ("/" if is_folder else "")
            if is_folder and opaque.fullmatch(name):
                continue
            if entry.is_symlink() or not known.fullmatch(name):
                found.append(name)
            elif is_folder:
                look(Path(entry.path), name)

    look(folder, "")
    return found


def inside(path: Path, folder: Path) -> bool:
    """Returns whether a path is the folder or is inside it, with links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


# --- Places ----------------------------------------------------------------------------------------------------------
def _checked_place(target: Path, kind: FolderKind) -> Path:
    place = Path(os.path.realpath(target))
    choose = f"choose another {kind.argument}"
    if target.is_symlink() and not place.exists():
        raise RunError(f"{target}: is a link to {os.readlink(target)}, which does not exist; {choose}")
    if Path(os.path.realpath(Path.cwd())).is_relative_to(place):
        what = "is the current folder" if os.path.samefile(place, Path.cwd()) else "holds the current folder"
        raise RunError(f"{target}: {what}, which cannot be replaced as a whole; {choose}")
    if place.exists() and not place.is_dir():
        raise RunError(f"{target}: is a file, but a {kind.name} is a folder; {choose}")
    for parent in place.parents:
        if os.path.lexists(parent):
            if not parent.is_dir():
                raise RunError(f"{target}: {parent} is a file, so no folder can be made in it; {choose}")
            break
    if os.path.ismount(place):
        raise RunError(f"{target}: a disk is mounted there, so it cannot be replaced as a whole; {choose} inside it")
    return place


def _make_parents(folder: Path) -> list[Path]:
    """Makes a folder and its parents. Returns the new folders, the innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
    return missing


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _check_removable(place: Path, target: Path, kind: FolderKind) -> None:
    """Returns whether this user may move a folder away and delete it."""
    choose = f"choose another {kind.argument}"
    for parent, folders, _ in os.walk(place):
        for folder in (parent, *(os.path.join(parent, name) for name in folders)):
            if not os.path.islink(folder) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise RunError(f"{target}: cannot be replaced (permission denied in {folder}); {choose}")
    around = place.parent.stat()
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    if around.st_mode & stat.S_ISVTX and user not in (0, around.st_uid, place.stat().st_uid):
        raise RunError(f"{target}: belongs to another user and cannot be replaced; {choose}")


def _with_temporaries(pattern: str) -> str:
    """Returns also the hidden names under which a file is written before it is renamed."""
    if pattern.endswith("/**"):
        return pattern.removesuffix("**")
    folder, slash, name = pattern.rpartition("/")
    if not name:
        return pattern
    return rf"{folder}{slash}(?:{name}|\.(?:{name})\.(?:part|unverified|\d+))"


def _shown(folder: Path, entries: Sequence[str]) -> str:
    """Returns some entries for a message. Folders end in a slash."""
    names = [name if name.endswith("/") or not (folder / name).is_dir() else f"{name}/" for name in entries]
    more = len(names) - _SHOWN_ENTRIES
    return ", ".join(names[:_SHOWN_ENTRIES]) + (f" and {more} more" if more > 0 else "")


def read_json(file: Path, largest: int) -> Any:
    """Returns the values of a JSON file, or None if it is missing, larger than `largest` bytes, or not JSON.

    Raises PermissionError if the file may not be read.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(largest + 1)
        return json.loads(content) if len(content) <= largest else None
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError):
        return None
