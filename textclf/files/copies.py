"""Copies of remote files on this machine. Takes a `Location`, and returns the path of a private copy that is removed.

A copy makes row numbers, several passes and every format work as for a local file, and a transfer that breaks is noticed
before a row is used. Copies lie in `copies/` of textclf's cache folder, one folder for each command.
"""

from __future__ import annotations

import errno
import logging
import platform
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

from filelock import FileLock, Timeout

from textclf.errors import DataError
from textclf.files.locations import (
    BrokenTransferError,
    Location,
    Version,
    open_location,
    shared_connections,
    version_of,
)
from textclf.files.network import cache_folder

_log = logging.getLogger(__name__)

_PIECE = 1 << 23

# Pauses in seconds before a broken transfer is continued.
_PAUSES = (1.0, 2.0, 4.0)

# A copy never takes the last bytes of the disk.
_LEFT_FREE = 1 << 28

_BYTES_BETWEEN_CHECKS = 1 << 26

_LARGE = 1 << 26

_LONGEST_NAME = 100


class _Copies:
    """The copies of one command."""

    def __init__(self) -> None:
        self.files: dict[Location, Path] = {}
        self._folder: Path | None = None
        self._lock: FileLock | None = None

    def of(self, location: Location) -> Path:
        if location not in self.files:
            folder = Path(mkdtemp(dir=self._open()))
            name = re.sub(r"[^\w.-]+", "_", location.name)[-_LONGEST_NAME:]
            self.files[location] = fetch(location, folder / (name.lstrip(".") or "file"))
        return self.files[location]

    def keep_only(self, wanted: Collection[object]) -> None:
        """Removes the copies of other files."""
        for location in [one for one in self.files if one not in wanted]:
            shutil.rmtree(self.files.pop(location).parent, ignore_errors=True)

    def private_folder(self) -> Path:
        return Path(mkdtemp(dir=self._open()))

    def _open(self) -> Path:
        if self._folder is None:
            base = cache_folder() / "copies"
            try:
                base.mkdir(mode=0o700, parents=True, exist_ok=True)
                _remove_abandoned(base)
                self._folder = Path(mkdtemp(dir=base, prefix=_prefix()))
                self._lock = FileLock(_lock_of(self._folder))
                self._lock.acquire()
            except OSError as error:
                raise DataError(
                    f"{base}: cannot be written ({error.strerror or error}), but remote tables are copied into it; make "
                    "room, or set TEXTCLF_CACHE to a folder that can be written"
                ) from None
        return self._folder

    def remove(self) -> None:
        if self._folder is not None and self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):
                self._lock.release()
                _lock_of(self._folder).unlink(missing_ok=True)
        self.files, self._folder, self._lock = {}, None, None


_copies: ContextVar[_Copies | None] = ContextVar("_copies", default=None)


@contextmanager
def local_copies() -> Iterator[None]:
    """Inside, each remote file is copied once. The copies are removed at the end. Inside of another, nothing changes."""
    if _copies.get() is not None:
        yield
        return
    copies = _Copies()
    token = _copies.set(copies)
    try:
        with shared_connections():
            yield
    finally:
        _copies.reset(token)
        copies.remove()


class KeptCopies:
    """Copies of one thread that are kept from call to call, such as those of a worker that reads parts of the same files."""

    def __init__(self) -> None:
        self._copies = _Copies()

    @contextmanager
    def using(self, *paths: object) -> Iterator[None]:
        """Inside, it is as inside of `local_copies`. Copies of other files than these are removed first."""
        self._copies.keep_only(paths)
        token = _copies.set(self._copies)
        try:
            with shared_connections():
                yield
        finally:
            _copies.reset(token)

    def remove(self) -> None:
        self._copies.remove()


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yields a new folder on this machine, which is removed at the end, or by a later command if this process is killed."""
    with local_copies():
        copies = _copies.get()
        assert copies is not None
        folder = copies.private_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """Yields the path itself, or that of the copy of a Location, which outside of `local_copies` is removed at once.

    Raises DataError for a remote file that cannot be copied.
    """
    if not isinstance(path, Location):
        yield path
        return
    with local_copies():
        copies = _copies.get()
        assert copies is not None
        yield copies.of(path)


def copied(shown: str) -> Path | None:
    """Returns the copy of the location that is shown so, if this command has made one."""
    copies = _copies.get()
    found = [file for location, file in copies.files.items() if str(location) == shown] if copies is not None else []
    return found[0] if found else None


def _remove_abandoned(base: Path) -> None:
    """Removes the copies of killed processes of this machine: nobody holds their lock. Machines may share the folder."""
    for folder in base.glob(f"{_prefix()}*"):
        if not folder.is_dir() or folder.is_symlink() or not (file := _lock_of(folder)).exists():
            continue
        lock = FileLock(file)
        with suppress(Timeout, OSError), lock.acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            file.unlink(missing_ok=True)


def _prefix() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", platform.node())[:_LONGEST_NAME] + "."


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


# --- Transfers -------------------------------------------------------------------------------------------------------
def fetch(location: Location, target: Path) -> Path:
    """Copies a remote file into a new file. A transfer that breaks is continued a few times, then started again.

    Raises DataError if it cannot be copied completely, if the disk is too small, and if the remote file changes meanwhile.
    """
    version = version_of(location)
    _check_room(location, target, version.size or 0)
    if (version.size or 0) >= _LARGE:
        _log.info("%s: copying %s MB into %s", location, f"{(version.size or 0) / 1e6:,.0f}", target.parent.parent)
    with target.open("xb") as file:
        attempts = _copy(location, version, file)
    if attempts > 1 or location.protocol not in ("http", "https"):
        later = version_of(location)
        if later.size != version.size or (later.mark != version.mark and version.mark and later.mark):
            raise DataError(f"{location}: was changed while it was copied; run the command again")
    return target


def _copy(location: Location, version: Version, file: BinaryIO) -> int:
    """Returns the number of attempts that were needed."""
    for attempt, pause in enumerate((*_PAUSES, None), start=1):
        try:
            _receive(location, file)
            if version.size in (None, file.tell()):
                return attempt
            error = BrokenTransferError(
                f"{location}: the transfer ended after {file.tell():,} of {version.size:,} bytes; run the command again"
            )
            file.seek(0)
            file.truncate()
        except BrokenTransferError as problem:
            error = problem
        if pause is None:
            raise error
        _log.info("%s; trying again in %g s", error, pause)
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _receive(location: Location, file: BinaryIO) -> None:
    """Appends what is missing of a remote file, or all of it if the server cannot continue."""
    if start := file.tell():
        try:
            _append(location, file, start)
            return
        except BrokenTransferError:
            if file.tell() != start:
                raise
            _log.info("%s: the server cannot continue a transfer; starting again", location)
            file.seek(0)
            file.truncate()
    _append(location, file, 0)


def _append(location: Location, file: BinaryIO, start: int) -> None:
    unchecked = 0
    with open_location(location, start) as remote:
        while piece := remote.read(_PIECE):
            unchecked += len(piece)
            if unchecked >= _BYTES_BETWEEN_CHECKS:
                _check_room(location, Path(file.name), 0)
                unchecked = 0
            try:
                file.write(piece)
            except OSError as error:
                raise DataError(_disk_message(location, Path(file.name), error)) from None


def _check_room(location: Location, target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if size + _LEFT_FREE > free:
        needed = f"has {size:,} bytes" if size else "is larger than the free space"
        raise DataError(
            f"{location}: {needed}, but the disk of {cache_folder()} has {free:,} bytes left, and remote tables are copied "
            "there; free some space, or set TEXTCLF_CACHE to a folder on a larger disk"
        )


def _disk_message(location: Location, target: Path, error: OSError) -> str:
    what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
    return (
        f"{location}: cannot be copied into {target.parent.parent} ({what}); free some space, or set TEXTCLF_CACHE to a folder "
        "on another disk"
    )
