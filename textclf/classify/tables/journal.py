"""Writes the output of a job that may be killed: under a hidden name beside its place, renamed when it is complete.

A journal beside it records how much is safely on disk, with a hash of the output so far. After a kill, the output is
truncated to that place and continued. The final bytes are the same as without the interruption.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from filelock import FileLock, Timeout

from textclf.classify.tables.forms import finisher_of
from textclf.classify.tables.rows import Tally
from textclf.data.tables.files import STANDARD_STREAM, check_form, compression_of, is_pipe, is_same_file
from textclf.data.tables.other_formats import binary_format
from textclf.errors import DataError, RunError
from textclf.files.copies import private_folder
from textclf.files.kinds import kind_of
from textclf.files.locations import Location, check_writable, is_there, location_of, start_of, upload
from textclf.files.network import cache_folder
from textclf.files.writing import link_target, replace_file, sync_folder
from textclf.terminal.door import standard_output

# The most work that a killed job can lose.
SECONDS_BETWEEN_COMMITS = 2.0

# 1: journals without the fields `version` and `output_digest`.
_VERSION = 2

# A journal contains counts, at most one for each pair of labels.
_LARGEST_JOURNAL = 1 << 27

_HIDDEN_ENDINGS = ("unfinished", "packed", "journal", "journal.part", "lock")

# If another process deletes the lock file at this moment, the lock is taken again. There is no waiting for a held lock.
_SECONDS_FOR_LOCK = 0.2

_PIECE = 1 << 20

# Settings of version 1 that have no effect.
_NO_SETTINGS = ("text_wanted_by",)


@dataclass(frozen=True)
class JobState:
    """The progress of a job: `digest` is the hash of the rows that were read, and `tally` counts them."""

    digest: str
    seconds: float
    tally: Tally

    @property
    def rows_read(self) -> int:
        """Blank lines included."""
        return self.tally.rows + self.tally.blank_lines

    def as_dict(self) -> dict[str, Any]:
        return {"digest": self.digest, "seconds": self.seconds, "tally": self.tally.as_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> JobState:
        """Raises ValueError for values that `as_dict` has not written."""
        if not isinstance(values, dict) or not isinstance(values.get("digest"), str):
            raise ValueError("no state")
        seconds = values.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
            raise ValueError("no time")
        return cls(values["digest"], seconds, Tally.from_dict(values.get("tally")))


class Output(Protocol):
    """The output of a job. `committed` is the state from which it continues, None at the start."""

    committed: JobState | None
    complete: bool
    resumable: bool

    def write(self, content: bytes) -> None: ...

    def commit(self, state: JobState) -> None:
        """`state` describes the output so far. From time to time it is written to disk."""

    def keep(self) -> int:
        """Writes the last state to disk, if needed. Returns the number of rows that a resumed job can skip."""

    def finish(self, state: JobState) -> None:
        """Ends the output."""


@contextmanager
def open_output(
    target: str,
    *,
    settings: Mapping[str, Any],
    force: bool,
    resume: bool,
    model: Path | None = None,
    inputs: Sequence[str | Path] = (),
) -> Iterator[Output]:
    """Opens an output that only this process writes.

    `settings` are all settings that affect the output, as JSON values; a job can be resumed only with the same
    settings. `-` is standard output; pipes and character devices are written directly. What goes to an address is written on
    this machine and uploaded at the end. A link is followed. `model` and
    `inputs` are what the job reads. Raises RunError when the output exists and `force` was not given, when it is the
    model or no table, when an unfinished job is found and neither `force` nor `resume` says what to do with it, when it
    is of other settings, while another process writes it, and when it cannot be written.
    """
    if target == STANDARD_STREAM or is_pipe(target):
        if resume:
            raise RunError(f"{target}: only an output that is a file can be resumed; leave out --resume")
        with _direct_output(target) as direct:
            yield direct
        return
    location = _output_location(target)
    path = link_target(Path(target)) if location is None else place_on_this_machine(location)
    _check_place(target, path)
    _check_reads(target, path, model, inputs)
    if force and location is None:
        _check_replaceable(target, path)
    try:
        if force and location is not None:
            _check_object(location)
        with _locked(target, path):
            if location is None:
                output = UnfinishedOutput(path, settings, force=force, resume=resume)
            else:
                output = UploadedOutput(path, location, settings, force=force, resume=resume)
            try:
                yield output
            finally:
                output.close()
    finally:
        if location is not None:
            with suppress(OSError):  # the folder is kept if anything is in it
                path.parent.rmdir()


def _output_location(target: str) -> Location | None:
    """Returns the Location of an output that is an address. Raises RunError for one that cannot be written."""
    try:
        location = location_of(target)
    except DataError as error:
        raise RunError(str(error)) from None
    if location is not None:
        check_writable(location)
        check_form(str(location))
    return location


def place_on_this_machine(location: Location) -> Path:
    """Returns where an output, or its journal, is before it is uploaded: the same place for each job with this output."""
    digest = hashlib.sha256(str(location).encode()).hexdigest()[:16]
    folder = cache_folder() / "outputs" / digest
    with _writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / location.name


def _check_place(target: str, path: Path) -> None:
    if path.is_dir():
        raise RunError(f"{target}: is a folder; name the file to write in it")
    if path.is_symlink():
        raise RunError(f"{target}: is a link that leads back to itself; name another output")
    if path.exists() and not path.is_file():
        raise RunError(f"{target}: is a disk or a socket, not a file; name another output")
    if not path.parent.is_dir():
        raise RunError(f"{target}: there is no folder {path.parent}; create it, or write somewhere else")
    if path.name.startswith(".") and path.name.endswith(tuple(f".{ending}" for ending in _HIDDEN_ENDINGS)):
        raise RunError(f"{target}: jobs keep their unfinished work under such names; name another output")
    check_form(target)
    check_form(path)


def _check_reads(target: str, path: Path, model: Path | None, inputs: Sequence[str | Path]) -> None:
    if model is not None and is_same_file(path, model):
        raise RunError(f"{target}: is the model itself; name another output")
    reads: list[str | Path] = [*inputs, *([model] if model is not None else [])]
    for hidden in (_hidden(path, ending) for ending in _HIDDEN_ENDINGS):
        if hidden.is_dir():
            raise RunError(
                f"{hidden}: is a folder, but the job keeps its unfinished work under this name; move it to another "
                "place, or name another output"
            )
        if any(is_same_file(hidden, read) for read in reads):
            raise RunError(
                f"{target}: the job would keep its unfinished work in {hidden}, which it also reads; "
                "rename that file, or name another output"
            )


_BEGINNING = 4096

# As `kind_of` calls them; of a file with the name of a table, the content is not asked.
_NO_TABLES = {"recipe": "a YAML file", "json": "JSON", "other": "a text that is no table"}


def _check_replaceable(target: str, path: Path) -> None:
    """Raises RunError unless the file to be replaced is a table or is compressed as its name says.

    Another file is probably a mistake.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_BEGINNING)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(_message(target, error)) from error
    packed = compression_of(path)
    if _is_table_of_its_name(path, start):
        return
    found = binary_format(start)
    what = found[0] if found is not None and not (packed and packed in found[0]) else None
    if what is None and start[4:8] == b"TFL3":
        what = "a TFLite model"
    if what is None and packed is None and b"\0" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0")):
        what = "binary data"
    if what is None and packed is None and start.strip():
        what = _NO_TABLES.get(kind_of(path))
    if what is not None:
        raise RunError(
            f"{target}: force (--force) replaces tables only, but this file is {what}; delete it yourself, or name "
            "another output"
        )


def _check_object(location: Location) -> None:
    """Does what `_check_replaceable` does for a file at an address, of which only the beginning is read."""
    start = start_of(location, _BEGINNING)
    if start is not None:
        with private_folder() as folder:
            beginning = folder / location.name
            beginning.write_bytes(start)
            _check_replaceable(str(location), beginning)


def _is_table_of_its_name(path: Path, start: bytes) -> bool:
    magic = {".parquet": b"PAR1", ".xlsx": b"PK\x03\x04"}.get(path.suffix.lower())
    return magic is not None and start.startswith(magic)


def _hidden(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{ending}")


@contextmanager
def _locked(target: str, path: Path) -> Iterator[None]:
    lock = FileLock(_hidden(path, "lock"), timeout=_SECONDS_FOR_LOCK)
    try:
        with _writing(target):
            lock.acquire()
    except Timeout:
        raise RunError(f"{target}: another process is writing this file; wait for it, or name another output") from None
    try:
        yield
    finally:
        # Deleted while it is held: a waiting process notices this and takes a new lock.
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


@contextmanager
def _writing(target: object) -> Iterator[None]:
    """Turns failures to write the output, and no other errors, into messages."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise RunError(_message(target, error)) from error


def _message(target: object, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{target}: the disk is full; free some space and continue with resume=True (--resume): nothing that was "
            "done is lost"
        )
    return f"{target}: cannot be written ({error.strerror or error}); check the folder, or name another output"


@dataclass(frozen=True)
class _Entry:
    """The contents of the journal of an interrupted job.

    `output_digest` is the hash of the output's first `size` bytes.
    """

    settings: dict[str, Any]
    replace: bool
    size: int
    complete: bool
    state: JobState
    output_digest: str | None
    version: int = _VERSION


def _read_entry(target: Path, journal: Path) -> _Entry | None:
    """Returns None if there is no journal. Raises RunError for a damaged journal or one of a newer version."""
    damaged = RunError(
        f"{journal}: the journal of an interrupted job, but it is damaged; start again with force=True (--force)"
    )
    try:
        if not stat.S_ISREG(os.lstat(journal).st_mode) or os.path.getsize(journal) > _LARGEST_JOURNAL:
            raise damaged
        values = json.loads(journal.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{journal}: cannot be read ({error.strerror or error}); check its permissions") from error
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(values, dict):
        raise damaged
    version = values.get("version", 1)
    if isinstance(version, int) and version > _VERSION:
        raise RunError(
            f"{target}: an interrupted job of a newer textclf was found (journal version {version}, this one knows "
            f"{_VERSION}); continue it there, or start again with force=True (--force)"
        )
    try:
        return _entry_of(values)
    except (ValueError, KeyError):
        raise damaged from None


def _entry_of(values: Mapping[str, Any]) -> _Entry:
    version, size, digest = values.get("version", 1), values["size"], values.get("output_digest")
    fits = (
        version in (1, _VERSION)
        and isinstance(values["settings"], dict)
        and isinstance(size, int)
        and size >= 0
        and isinstance(values["complete"], bool)
        and isinstance(values["replace"], bool)
        and (isinstance(digest, str) or (digest is None and version == 1))
    )
    if not fits:
        raise ValueError("no entry")
    state = JobState.from_dict(values["state"])
    return _Entry(values["settings"], values["replace"], size, values["complete"], state, digest, version)


class UnfinishedOutput:
    """An output file and its journal."""

    def __init__(self, target: Path, settings: Mapping[str, Any], *, force: bool, resume: bool) -> None:
        self._target = target
        self._path = _hidden(target, "unfinished")
        self._packed = _hidden(target, "packed")
        self._journal = _hidden(target, "journal")
        self._settings = json.loads(json.dumps(settings))
        self._last_commit = 0.0
        self._file: BinaryIO | None = None
        self._replace = force
        self._size = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._last: _Entry | None = None
        self._on_disk: _Entry | None = None
        self.committed: JobState | None = None
        self.resumable = True
        self.complete = False
        entry = None if force else _read_entry(target, self._journal)
        if entry is not None and not resume:
            raise RunError(
                f"{target}: a job that was interrupted after {entry.state.tally.rows:,} rows was found; "
                "continue it with resume=True (--resume), or start again with force=True (--force)"
            )
        with _writing(target):
            if entry is not None:
                self._resume(entry)
            elif target.exists() and not force:
                finished = "; there is nothing to resume" if resume else ""
                raise RunError(
                    f"{target}: exists already{finished}; name another output, or replace it with force=True (--force)"
                )
            else:
                self._begin()

    def write(self, content: bytes) -> None:
        assert self._file is not None
        with _writing(self._target):
            self._file.write(content)
            self._file.flush()
        self._size += len(content)
        self._digest.update(content)

    def commit(self, state: JobState) -> None:
        self._last = self._entry(state, complete=False)
        if time.monotonic() - self._last_commit >= SECONDS_BETWEEN_COMMITS:
            self.keep()

    def keep(self) -> int:
        if self._last is not None and self._last is not self._on_disk and self._file and not self._file.closed:
            with _writing(self._target):
                os.fsync(self._file.fileno())
                self._write_entry(self._last)
            self._last_commit = time.monotonic()
        kept = self._last.state if self._last is not None else self.committed
        return kept.tally.rows if kept is not None else 0

    def finish(self, state: JobState) -> None:
        with _writing(self._target):
            if self._file is not None:
                os.fsync(self._file.fileno())
                self._write_entry(self._entry(state, complete=True))
                self._file.close()
            finish = finisher_of(self._target)
            if finish is not None and self._path.exists():
                # The compressed or converted file is valid only when the lines are gone. Until then it may be incomplete.
                self._create(self._packed).close()
                finish(self._path, self._packed)
                self._path.unlink()
            ready = self._path if finish is None else self._packed
            if ready.exists():
                if self._target.exists() and not self._replace:
                    raise RunError(
                        f"{self._target}: was created by somebody else meanwhile; move it away and use resume=True "
                        "(--resume)"
                    )
                replace_file(ready, self._target)
                sync_folder(self._target.parent)
        self._publish()
        with _writing(self._target):
            self._journal.unlink(missing_ok=True)

    def _publish(self) -> None:
        """Does what is still to do when the output is complete on this disk."""

    def close(self) -> None:
        """Keeps the files that are needed to continue, and removes them if there is nothing to continue."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        if not self._journal.exists():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._journal.unlink(missing_ok=True)
        self._packed.unlink(missing_ok=True)
        self._file = self._create(self._path)

    def _create(self, path: Path) -> BinaryIO:
        """Returns a new file, never the target of a link, with the same permissions as the file that it will replace."""
        path.unlink(missing_ok=True)
        private = stat.S_IMODE(self._target.stat().st_mode) if self._target.exists() else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        return os.fdopen(os.open(path, flags, private | stat.S_IWUSR), "wb")

    def _resume(self, entry: _Entry) -> None:
        changed = sorted(
            key
            for key in {*entry.settings, *self._settings}.difference(_NO_SETTINGS)
            if entry.settings.get(key) != self._settings.get(key)
        )
        if changed:
            raise RunError(
                f"{self._target}: the interrupted job was started with other settings ({', '.join(changed)}); "
                "use the same ones, or start again with force=True (--force)"
            )
        unfinished = self._path.exists() or self._packed.exists()
        if self._target.exists() and unfinished and not entry.replace:
            raise RunError(f"{self._target}: exists already; move it away, or start again with force=True (--force)")
        self._replace = entry.replace
        self.committed = entry.state
        self.complete = entry.complete
        if self.complete and not unfinished:
            if not self._target.exists():
                raise self._altered("is gone")
            return
        if self.complete and not self._path.exists():
            return
        if self._path.is_symlink() or not self._path.is_file() or self._path.stat().st_size < entry.size:
            raise self._altered("is damaged")
        self._file = self._path.open("r+b")
        self._check_kept(self._file, entry)
        self._file.truncate(entry.size)
        self._file.seek(entry.size)
        if self.complete:
            self._file.close()
            self._file = None

    def _check_kept(self, file: BinaryIO, entry: _Entry) -> None:
        """Reads the output of an interrupted job and checks that nobody has changed it."""
        while self._size < entry.size and (piece := file.read(min(_PIECE, entry.size - self._size))):
            self._size += len(piece)
            self._digest.update(piece)
        if entry.output_digest is not None and self._digest.hexdigest() != entry.output_digest:
            file.close()
            raise self._altered("was changed since it was interrupted")

    def _altered(self, what: str) -> RunError:
        return RunError(f"{self._path}: the interrupted job's output {what}; start again with force=True (--force)")

    def _entry(self, state: JobState, *, complete: bool) -> _Entry:
        return _Entry(self._settings, self._replace, self._size, complete, state, self._digest.hexdigest())

    def _write_entry(self, entry: _Entry) -> None:
        temporary = _hidden(self._target, "journal.part")
        with self._create(temporary) as file:
            file.write(json.dumps({**vars(entry), "state": entry.state.as_dict()}).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._journal)
        sync_folder(self._journal.parent)
        self._on_disk = entry


class UploadedOutput(UnfinishedOutput):
    """An output that is an address: written on this machine, then uploaded. If that fails, `resume` uploads it again."""

    def __init__(
        self, path: Path, location: Location, settings: Mapping[str, Any], *, force: bool, resume: bool
    ) -> None:
        self._location = location
        with _of_location(path, location):
            super().__init__(path, settings, force=force, resume=resume)
        try:
            if not self._replace and is_there(location):
                raise RunError(
                    f"{location}: exists already; name another output, or replace it with force=True (--force)"
                )
        except BaseException:
            self.close()
            raise

    def finish(self, state: JobState) -> None:
        with _of_location(self._target, self._location):
            super().finish(state)

    def _publish(self) -> None:
        try:
            if not self._replace and is_there(self._location):
                raise RunError(f"{self._location}: was created by somebody else meanwhile; move it away")
            upload(self._target, self._location)
        except RunError as error:
            raise RunError(
                f"{error}. The output is complete on this machine ({self._target}); to upload it, use resume=True (--resume)"
            ) from None
        self._target.unlink()


@contextmanager
def _of_location(path: Path, location: Location) -> Iterator[None]:
    """Lets messages about the output name the address and not the place on this machine."""
    try:
        yield
    except RunError as error:
        text = str(error)
        raise RunError(str(location) + text.removeprefix(str(path)) if text.startswith(f"{path}:") else text) from None


class DirectOutput:
    """Standard output, a pipe or a device. Its job cannot be resumed."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name = name
        self._stream = stream
        self.committed: JobState | None = None
        self.resumable = False
        self.complete = False

    def write(self, content: bytes) -> None:
        try:
            self._stream.write(content)
            self._stream.flush()
        except BrokenPipeError:  # the reader has closed the pipe
            raise
        except OSError as error:
            raise RunError(
                f"{self._name}: cannot be written ({error.strerror or error}); name another output"
            ) from error

    def commit(self, state: JobState) -> None:
        pass

    def keep(self) -> int:
        return 0

    def finish(self, state: JobState) -> None:
        pass


@contextmanager
def _direct_output(target: str) -> Iterator[DirectOutput]:
    if target == STANDARD_STREAM:
        yield DirectOutput("standard output", standard_output())
        return
    try:
        stream = open(target, "wb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise RunError(f"{target}: cannot be written ({error.strerror or error}); name another output") from error
    try:
        yield DirectOutput(target, stream)
    finally:
        with suppress(OSError):  # the write has already reported the failure
            stream.close()
