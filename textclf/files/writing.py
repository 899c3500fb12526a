"""Writes files completely or not at all, and locks them. If a write fails, the earlier file is still there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def link_target(path: Path) -> Path:
    """Returns where a file is really written: the target of a symbolic link, or the path itself."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def replace_file(temporary: Path, target: Path) -> None:
    """Renames a complete file to its place, with the mode and, if permitted, the owner of the file that it replaces.

    `target` must not be a link: pass the `link_target`, so that `temporary` is on the same disk.
    """
    with suppress(FileNotFoundError):
        replaced = target.stat()
        os.chmod(temporary, stat.S_IMODE(replaced.st_mode))
        if hasattr(os, "chown"):
            with suppress(PermissionError):
                os.chown(temporary, replaced.st_uid, replaced.st_gid)
    os.replace(temporary, target)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it. If this fails, nothing changes."""
    target = link_target(path)
    temporary = target.with_name(f".{target.name}.part")
    try:
        temporary.write_bytes(content)
        replace_file(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Does the same as `write_bytes` for text: UTF-8, with unchanged line ends."""
    write_bytes(path, text.encode("utf-8"))


def sync_folder(folder: Path) -> None:
    """Writes a rename to the disk: it survives a power cut only when its folder is on the disk too.

    Windows has no such call.
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_of(place: Path) -> Path:
    """Returns the lock file of a folder that a process writes. It is beside the folder."""
    return place.parent / f".{place.name}.lock"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside, no other process holds the lock file `path`. The lock file is removed at the end.

    Raises filelock.Timeout at once if another process holds it. Removing the file is safe because it happens while
    the lock is held, and because filelock (from 3.21) opens the file again if it has locked a removed file.
    """
    from filelock import FileLock

    with FileLock(path, timeout=0):
        try:
            yield
        finally:
            with suppress(OSError):
                # A lock file is empty. Any other file of this name belongs to somebody else.
                if path.stat().st_size == 0:
                    path.unlink()
