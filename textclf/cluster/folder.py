"""The output folder of a partitioned job: one file a partition, a manifest, and until then the journal of the job.

The journal says which job it is (`job.json`), into which partitions its inputs are divided (`plan.jsonl`), and which of them
are done (`done.jsonl`, one line each). Only one process writes it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import Timeout

from textclf.classify.tables.journal import place_on_this_machine
from textclf.classify.tables.rows import Tally
from textclf.cluster.partition import WORK_FOLDER
from textclf.cluster.places import Difference, FolderPlace, Place, StorePlace
from textclf.errors import RunError
from textclf.files.locations import Location, is_below
from textclf.files.output_folder import inside
from textclf.files.writing import link_target, lock_of, locked, sync_folder, write_text

MANIFEST = "manifest.json"

_FORMAT, _VERSION = "textclf-partitions", 1

_OURS = re.compile(r"part-\d{6,}\.(?:csv|tsv|jsonl|parquet|xlsx)(?:\.gz|\.zst)?")

# Files that file managers write into every folder that they show.
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")

_SHOWN = 4


class JobFolder:
    """An open job: its journal in the folder `target`, and its outputs at `place`, which is this folder or an address. `done`
    are the numbers of its finished partitions, `tally` counts their rows.

    `seconds_before` is the time of the job before this process, `bytes_done` the bytes of its inputs that were done then.
    """

    def __init__(self, target: Path, place: Place) -> None:
        self.target = target
        self.place = place
        self.work = target / WORK_FOLDER
        self.plan = self.work / "plan.jsonl"
        self.tally = Tally()
        self.seconds_before = 0.0
        self.bytes_done = 0
        self.done: dict[int, tuple[int, int]] = {}
        """For each partition where its line is in the journal: the first byte, and the number of bytes."""
        self._job = self.work / "job.json"
        self._journal = self.work / "done.jsonl"
        self._stream: BinaryIO | None = None
        self._settings: Mapping[str, Any] = {}

    # --- Opening ---------------------------------------------------------------------------------------------------
    def open(self, settings: Mapping[str, Any], *, force: bool, resume: bool) -> None:
        """Begins a job or continues one. Raises RunError where the folder does not permit this."""
        self._settings = json.loads(json.dumps(settings))
        names = self.place.names()
        unfinished, complete = self._job.exists(), MANIFEST in names
        if force or not unfinished:
            self._check_entries(names)
        if force:
            self._remove(names)
        elif unfinished and not resume:
            raise RunError(
                f"{self.place}: an interrupted job was found, of which {self._count_done():,} partitions are done; continue "
                "it with resume=True (--resume), or start again with force=True (--force)"
            )
        elif complete and not unfinished:
            finished = "; there is nothing to resume" if resume else ""
            raise RunError(
                f"{self.place}: holds a complete output already{finished}; name another folder, or replace it with "
                "force=True (--force)"
            )
        elif unfinished:
            self._check_settings()
        if not self._job.exists():
            self.work.mkdir(exist_ok=True)
            about = {"format": _FORMAT, "version": _VERSION, "settings": self._settings}
            write_text(self._job, json.dumps(about) + "\n")
            sync_folder(self.work)
        self._read_done()

    def _check_entries(self, names: Sequence[str]) -> None:
        """Raises RunError for entries that no job of textclf wrote."""
        foreign = [
            name for name in names if name not in (MANIFEST, WORK_FOLDER, *_LITTER) and not _OURS.fullmatch(name)
        ]
        has_manifest = MANIFEST in names and _about(self.place.first_line(MANIFEST)) is not None
        parts = not (has_manifest or self.work.exists()) and any(map(_OURS.fullmatch, names))
        manifest = MANIFEST in names and not has_manifest
        if not (foreign or parts or manifest):
            return
        shown = foreign or [MANIFEST] * manifest or ["outputs without a manifest"]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        raise RunError(
            f"{self.place}: holds what no job of textclf wrote there ({', '.join(shown[:_SHOWN])}{more}), so nothing is "
            "written or replaced; name a new or empty folder"
        )

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            if name == MANIFEST or _OURS.fullmatch(name):
                self.place.remove(name)
        if self.work.exists():
            shutil.rmtree(self.work)

    def _check_settings(self) -> None:
        about = _about(self._job.read_bytes())
        if about is None:
            raise RunError(f"{self._job}: is damaged; start again with force=True (--force)")
        if about.get("version") != _VERSION:
            raise RunError(
                f"{self.place}: the interrupted job is of another version of textclf (journal version {about.get('version')!r}, "
                f"this one writes {_VERSION}); continue it there, or start again with force=True (--force)"
            )
        differences = [
            _difference(key, about["settings"].get(key), self._settings.get(key))
            for key in sorted({*about["settings"], *self._settings})
            if about["settings"].get(key) != self._settings.get(key)
        ]
        if differences:
            raise RunError(
                f"{self.place}: the interrupted job was started with other settings: {'; '.join(differences)}; use the same "
                "ones, or start again with force=True (--force)"
            )

    def _count_done(self) -> int:
        try:
            return self._journal.read_bytes().count(b"\n")
        except OSError:
            return 0

    def _read_done(self) -> None:
        """Reads the journal. A line that a killed process has not written completely is removed."""
        self._journal.touch()
        self._stream = self._journal.open("r+b")
        difference = self.place.comparison()
        end = 0
        for line in self._stream:
            if not line.endswith(b"\n"):
                break
            self._add(line, end, difference)
            end += len(line)
        self._stream.truncate(end)
        self._stream.seek(end)

    def _add(self, line: bytes, start: int, difference: Difference) -> None:
        try:
            entry = json.loads(line)
            number, changed = int(entry["partition"]), difference(entry)
            tally, seconds = Tally.from_dict(entry["counts"]), float(entry["job_seconds"])
            size_read = int(entry["end"]) - int(entry["start"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RunError(f"{self._journal}: is damaged; start again with force=True (--force)") from None
        if changed == "":
            return  # it is missing, and is written again
        if changed is not None:
            raise RunError(
                f"{self.place}/{entry['output']}: was changed since the job wrote it ({changed}); delete it, and it is written "
                "again"
            )
        if number not in self.done:
            self.tally.add(tally)
            self.seconds_before = max(self.seconds_before, seconds)
            self.bytes_done += size_read
        self.done[number] = (start, len(line))

    def begin_run(self, token: str) -> None:
        """Makes the folder for unfinished outputs of this run, and removes those of earlier ones."""
        for entry in self.work.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
        (self.work / token).mkdir()

    # --- Working ---------------------------------------------------------------------------------------------------
    def add(self, entry: Mapping[str, Any], seconds: float) -> None:
        """Notes that a partition is done, `seconds` after the job began."""
        assert self._stream is not None
        line = json.dumps({**entry, "job_seconds": round(seconds, 3)}).encode() + b"\n"
        start = self._stream.tell()
        self._stream.write(line)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.tally.add(Tally.from_dict(entry["counts"]))
        self.done[int(entry["partition"])] = (start, len(line))

    def finish(self) -> None:
        """Writes the manifest, and removes what only an unfinished job needs."""
        assert self._stream is not None
        temporary = self.work / MANIFEST
        with temporary.open("wb") as manifest:
            self._write_manifest(manifest, self._stream)
            manifest.flush()
            os.fsync(manifest.fileno())
        self.place.publish(temporary, MANIFEST)
        self.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def _write_manifest(self, manifest: BinaryIO, journal: BinaryIO) -> None:
        """Writes JSON with one line for each partition, so that it can also be read line by line."""
        totals = {"partitions": len(self.done), **self.tally.as_dict()}
        head = {"format": _FORMAT, "version": _VERSION, "settings": self._settings, "totals": totals}
        manifest.write(json.dumps(head)[:-1].encode() + b', "partitions": [')
        for position, number in enumerate(sorted(self.done)):
            start, size = self.done[number]
            journal.seek(start)
            manifest.write((b",\n" if position else b"\n") + journal.read(size).rstrip(b"\n"))
        manifest.write(b"\n]}\n")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


@contextmanager
def open_folder(
    output: str | Location,
    settings: Mapping[str, Any],
    inputs: Sequence[str | Location],
    *,
    force: bool,
    resume: bool,
) -> Iterator[JobFolder]:
    """Opens an output folder that only this process writes, and makes it if it does not exist.

    `output` may be an address. Then the journal is on this machine, in the cache folder.

    `settings` are all settings that affect the output, as JSON values; a job can be resumed only with the same ones. Raises
    RunError if the folder holds one of the `inputs`, foreign files or another job, or if it cannot be written.
    """
    _check_apart_from(inputs, output)
    place: Place
    if isinstance(output, Location):
        target = place_on_this_machine(output)
        place = StorePlace(output)
    else:
        target = link_target(Path(os.path.abspath(output)))
        place = FolderPlace(target)
    if target.exists() and not target.is_dir():
        raise RunError(f"{output}: is a file, but the output of a job with Dask is a folder; name a folder")
    if not target.parent.is_dir():
        raise RunError(f"{output}: there is no folder {target.parent}; create it, or write somewhere else")
    try:
        with _locked(output, target):
            folder = JobFolder(target, place)
            is_new = not target.exists()
            try:
                with _writing(output):
                    target.mkdir(exist_ok=True)
                    folder.open(settings, force=force, resume=resume)
                yield folder
            finally:
                folder.close()
                if not folder.done and not folder.plan.exists():
                    shutil.rmtree(folder.work, ignore_errors=True)
                    if is_new:
                        _remove_if_empty(target)
                if isinstance(output, Location):
                    _remove_if_empty(target)
    finally:
        if isinstance(output, Location):
            # The lock file is in this folder, so it is removed when the lock is free.
            _remove_if_empty(target.parent)


def _check_apart_from(inputs: Sequence[str | Location], output: str | Location) -> None:
    """Raises RunError for an input in the output folder, where outputs are removed and written."""
    for path in inputs:
        if _is_in(path, output):
            raise RunError(
                f"{output}: the input {path} lies in this folder, where its outputs would replace it; nothing was changed: "
                "name another output folder"
            )


def _is_in(path: str | Location, output: str | Location) -> bool:
    if isinstance(path, Location) or isinstance(output, Location):
        return isinstance(path, Location) and isinstance(output, Location) and is_below(path, output)
    # A link in the folder may lead out of it, and a link elsewhere into it.
    return inside(Path(path), Path(output)) or inside(Path(path).parent, Path(output))


def _remove_if_empty(folder: Path) -> None:
    """Removes a folder in which there is nothing; the folder of a job that can be continued stays."""
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _locked(output: str | Location, target: Path) -> Iterator[None]:
    try:
        with locked(lock_of(target)):
            yield
    except Timeout:
        raise RunError(f"{output}: another process is writing this folder; wait for it, or name another one") from None


@contextmanager
def _writing(output: str | Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and use resume=True (--resume)" if full else "check the folder, or name another one"
        raise RunError(f"{output}: cannot be written ({error.strerror or error}); {remedy}") from error


def _about(first_line: bytes | None) -> dict[str, Any] | None:
    """Takes the first line of a manifest or of `job.json` and returns what it says; None for what textclf did not write."""
    try:
        line = (first_line or b"").decode().rstrip("\n")
        values = json.loads(line + "]}" if line.endswith('"partitions": [') else line)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(values, dict) and values.get("format") == _FORMAT and isinstance(values.get("settings"), dict)
    return values if is_ours else None


def _difference(key: str, before: object, now: object) -> str:
    if isinstance(before, list) and isinstance(now, list):
        gone = [value for value in before if value not in now]
        new = [value for value in now if value not in before]
        if gone or new:
            words = [f"without {_shown(gone)}"] * bool(gone) + [f"with {_shown(new)}"] * bool(new)
            return f"{key} {' and '.join(words)}"
        return f"{key} in another order"
    return f"{key} was {_value(before)} and is now {_value(now)}"


def _shown(values: list[Any]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more


def _value(value: object) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
