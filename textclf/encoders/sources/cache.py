"""The folder of downloaded and unpacked encoders, which all processes of a user share.

Takes a name and a function that makes the contents, and returns a complete folder. One process makes it while others
wait. An unfinished folder is never treated as complete.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from textclf.errors import EncoderError
from textclf.files.network import cache_folder
from textclf.files.writing import lock_of, write_text

_log = logging.getLogger(__name__)

_LONGEST_NAME = 120

_HASH_DIGITS = 16

_SECONDS_BEFORE_SAYING = 2


def entry_name(readable: str, identity: str) -> str:
    """Returns a readable name of a folder, made unique by a hash of the identity of its content."""
    return f"{_slug(readable)}-{hashlib.sha256(identity.encode()).hexdigest()[:_HASH_DIGITS]}"


def _slug(readable: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", readable).strip("-.")[:_LONGEST_NAME]


def cached(name: str) -> Path | None:
    """Returns the complete folder of that name, if there is one."""
    folder = cache_folder() / "encoders" / name
    with _accessing(folder):
        _refuse_link(folder)
        return folder if folder.is_dir() else None


def cached_versions(readable: str) -> list[str]:
    """Returns the part after `readable/` in the readable names of the complete folders."""
    folder = cache_folder() / "encoders"
    pattern = re.compile(rf"{re.escape(_slug(readable))}-(.+)-[0-9a-f]{{{_HASH_DIGITS}}}")
    with _accessing(folder):
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return [match[1] for name in names if (match := pattern.fullmatch(name))]


def make_cached(name: str, make: Callable[[Path], None]) -> Path:
    """Returns the folder of that name; if there is none, `make` fills an empty one that is then renamed to it.

    Raises EncoderError if the cache cannot be written.
    """
    if found := cached(name):
        return found
    folder = cache_folder() / "encoders" / name
    unfinished = folder.with_name(f".{name}.unfinished")
    with _accessing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(lock_of(folder), name):
            if folder.is_dir():
                return folder
            # Only a killed process leaves an unfinished folder, because this process holds the lock.
            _remove(unfinished)
            unfinished.mkdir()
            try:
                make(unfinished)
                unfinished.rename(folder)
            finally:
                _remove(unfinished)
    return folder


def remember(name: str, text: str) -> None:
    """Stores a line of text under a name that `entry_name` made."""
    folder = cache_folder() / "names"
    with _accessing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_link(folder / name)
        write_text(folder / name, text)


def remembered(name: str) -> str | None:
    """Returns the text that was stored under that name."""
    file = cache_folder() / "names" / name
    try:
        return None if file.is_symlink() else file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def downloads_folder() -> Path:
    """Returns the folder of unfinished transfers, which is made if it does not exist."""
    folder = cache_folder() / "downloads"
    with _accessing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove(unfinished: Path) -> None:
    if unfinished.is_symlink():
        unfinished.unlink()
    shutil.rmtree(unfinished, ignore_errors=True)


def _refuse_link(path: Path) -> None:
    """Raises EncoderError for a link in the cache: through a link of somebody else, other folders would be read or
    written."""
    if path.is_symlink():
        raise EncoderError(f"{path}: is a symbolic link, which textclf never makes in its cache; remove it")


@contextmanager
def _lock(file: Path, name: str) -> Iterator[None]:
    _refuse_link(file)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=_SECONDS_BEFORE_SAYING)
    except Timeout:
        _log.info("another process is fetching %s; waiting for it", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _accessing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EncoderError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); make room, or set TEXTCLF_CACHE"
            " to a folder that can be written"
        ) from error
