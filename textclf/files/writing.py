"""Files that are written whole or not at all, and locks: content in, a file under its name out, or the one before it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def link_target(path: Path) -> Path:
    """Where a file is really written: the target of a symbolic link, the path itself where there is none."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def replace_file(temporary: Path, target: Path) -> None:
    """Renames a complete file to its place, with the mode and, where permitted, the owner of the file that it replaces.

    `target` must not be a link: name the `link_target`, so that `temporary` lies on the same disk.
    """
    with suppress(FileNotFoundError):
        replaced = target.stat()
        os.chmod(temporary, stat.S_IMODE(replaced.st_mode))
        if hasattr(os, "chown"):
            with suppress(PermissionError):
                os.chown(temporary, replaced.st_uid, replaced.st_gid)
    os.replace(temporary, target)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing: under a temporary name, then renamed."""
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
    """As `write_bytes`, for text: UTF-8, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def sync_folder(folder: Path) -> None:
    """Puts a rename on disk: it is safe from a power cut only when its folder is there too. Windows has no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Meanwhile no other process holds the lock file `path`, which is removed at the end.

    Raises filelock.Timeout at once where another process holds it. Removing the file is safe because it happens while
    the lock is held, and because filelock (from 3.21) opens the file again where it has locked one that was removed.
    """
    from filelock import FileLock

    with FileLock(path, timeout=0):
        try:
            yield
        finally:
            with suppress(OSError):
                # A lock file is empty: any other file of this name is somebody's.
                if path.stat().st_size == 0:
                    path.unlink()
