"""The output of a job that may be killed: written under a hidden name beside its place, renamed when it is complete.

A journal beside it says up to where it is safely on disk. After a kill the output is cut back to there and continued,
so that it ends with the bytes of a job that was never disturbed.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from filelock import FileLock, Timeout

from textclf.batch_files import STANDARD_STREAM, check_compression, compress_file, compression_of, is_pipe
from textclf.errors import RunError
from textclf.files import sync_folder
from textclf.terminal import standard_output

# How much work a killed job loses at most.
_SECONDS_BETWEEN_COMMITS = 2.0


class Output(Protocol):
    """What a job writes to. `committed` is the state that it goes on from, None at its start."""

    committed: dict[str, Any] | None
    complete: bool
    resumable: bool

    def write(self, content: bytes) -> None: ...

    def commit(self, state: Mapping[str, Any], *, now: bool = False) -> None:
        """What has been written so far is what `state` describes; put on disk once in a while, or `now`."""

    def finish(self, state: Mapping[str, Any]) -> None:
        """Nothing more will be written."""


@contextmanager
def open_output(target: str, *, settings: Mapping[str, Any], force: bool, resume: bool) -> Iterator[Output]:
    """An output that this process alone writes.

    `settings` are all that decides what is written, as JSON values; a job is resumed only with the same. `-` is standard
    output; pipes and devices are written directly. Raises RunError when the output exists and `force` was not given,
    when an unfinished job stands there and neither `force` nor `resume` says what to do with it, when it is of other
    settings, while another process writes it, and when it cannot be written.
    """
    path = Path(target)
    if target == STANDARD_STREAM or is_pipe(target):
        if resume:
            raise RunError(f"{target}: only an output that is a file can be resumed; leave out --resume")
        with _direct_output(target) as direct:
            yield direct
        return
    if path.is_dir():
        raise RunError(f"{target}: is a folder; name the file to write in it")
    if not path.parent.is_dir():
        raise RunError(f"{target}: there is no folder {path.parent}; create it, or write somewhere else")
    check_compression(target)
    lock = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                yield from _resumable_output(path, settings, force=force, resume=resume)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise RunError(f"{target}: another process is writing this file; wait for it, or name another output") from None
    except OSError as error:
        raise RunError(_disk_message(target, error)) from error


def _resumable_output(path: Path, settings: Mapping[str, Any], *, force: bool, resume: bool) -> Iterator[Output]:
    output = UnfinishedOutput(path, settings, force=force, resume=resume)
    try:
        yield output
    finally:
        output.close()


def _disk_message(target: str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{target}: the disk is full; make room and go on with --resume, nothing that was done is lost"
    return f"{target}: cannot be written ({error.strerror or error}); check the folder, or name another output"


class UnfinishedOutput:
    """A file to be, with its journal."""

    def __init__(self, target: Path, settings: Mapping[str, Any], *, force: bool, resume: bool) -> None:
        self._target = target
        self._path = target.with_name(f".{target.name}.unfinished")
        self._packed = target.with_name(f".{target.name}.packed")
        self._journal = target.with_name(f".{target.name}.journal")
        self._settings = json.loads(json.dumps(settings))
        self._last_commit = 0.0
        self._file: BinaryIO | None = None
        self._replace = force
        self.committed: dict[str, Any] | None = None
        self.resumable = True
        self.complete = False
        entry = self._entry()
        if entry is not None and not force and not resume:
            raise RunError(
                f"{target}: a job that was interrupted after {entry['state']['tally']['rows']:,} rows stands here; "
                "continue it with --resume, or start again with --force"
            )
        if resume and entry is not None:
            self._resume(entry)
        elif target.exists() and not force:
            finished = "; there is nothing to resume" if resume else ""
            raise RunError(f"{target}: exists already{finished}; name another output, or replace it with --force")
        else:
            self._journal.unlink(missing_ok=True)
            self._packed.unlink(missing_ok=True)
            self._file = self._path.open("wb")

    def write(self, content: bytes) -> None:
        assert self._file is not None
        self._file.write(content)
        self._file.flush()

    def commit(self, state: Mapping[str, Any], *, now: bool = False) -> None:
        if not now and time.monotonic() - self._last_commit < _SECONDS_BETWEEN_COMMITS:
            return
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._write_entry(state, size=self._file.tell(), complete=False)
        self._last_commit = time.monotonic()

    def finish(self, state: Mapping[str, Any]) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._write_entry(state, size=self._file.tell(), complete=True)
            self._file.close()
        compression = compression_of(self._target)
        if compression is not None and self._path.exists():
            # The packed file counts only once the plain one is gone: it may be half of what a kill left behind.
            compress_file(self._path, self._packed, compression)
            self._path.unlink()
        ready = self._path if compression is None else self._packed
        if ready.exists():
            if self._target.exists() and not self._replace:
                raise RunError(f"{self._target}: was created by somebody else meanwhile; move it away and use --resume")
            os.replace(ready, self._target)
            sync_folder(self._target.parent)
        self._journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves what is needed to go on, and nothing where there is nothing to go on from."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        if not self._journal.exists():
            self._path.unlink(missing_ok=True)

    def _entry(self) -> dict[str, Any] | None:
        try:
            entry = json.loads(self._journal.read_bytes())
            return (
                entry if isinstance(entry, dict) and {"settings", "state", "size", "complete"} <= set(entry) else None
            )
        except FileNotFoundError:
            return None
        except ValueError:
            return None

    def _resume(self, entry: dict[str, Any]) -> None:
        changed = sorted(
            key
            for key in {*entry["settings"], *self._settings}
            if entry["settings"].get(key) != self._settings.get(key)
        )
        if changed:
            raise RunError(
                f"{self._target}: the interrupted job was started with other settings ({', '.join(changed)}); "
                "give the same ones, or start again with --force"
            )
        if self._target.exists() and (self._path.exists() or self._packed.exists()) and not entry["replace"]:
            raise RunError(f"{self._target}: exists already; move it away, or start again with --force")
        self._replace = entry["replace"]
        self.committed = entry["state"]
        self.complete = entry["complete"]
        if self.complete:
            return
        if not self._path.exists() or self._path.stat().st_size < entry["size"]:
            raise RunError(f"{self._path}: the interrupted job's output is damaged; start again with --force")
        self._file = self._path.open("r+b")
        self._file.truncate(entry["size"])
        self._file.seek(entry["size"])

    def _write_entry(self, state: Mapping[str, Any], *, size: int, complete: bool) -> None:
        entry = {
            "settings": self._settings,
            "replace": self._replace,
            "size": size,
            "complete": complete,
            "state": dict(state),
        }
        temporary = self._journal.with_name(f"{self._journal.name}.part")
        with temporary.open("wb") as file:
            file.write(json.dumps(entry).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._journal)
        sync_folder(self._journal.parent)


class DirectOutput:
    """Standard output, a pipe or a device: what is written is gone, and nothing can be resumed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.committed: dict[str, Any] | None = None
        self.resumable = False
        self.complete = False

    def write(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()

    def commit(self, state: Mapping[str, Any], *, now: bool = False) -> None:
        pass

    def finish(self, state: Mapping[str, Any]) -> None:
        pass


@contextmanager
def _direct_output(target: str) -> Iterator[DirectOutput]:
    if target == STANDARD_STREAM:
        yield DirectOutput(standard_output())
        return
    try:
        with open(target, "wb") as stream:
            yield DirectOutput(stream)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{target}: cannot be written ({reason}); name another output") from error
