"""Computes one partition of a job: reads its rows, adds the model's columns, and writes one file.

Nothing here knows how partitions come to a machine. A partition that is computed twice, because a machine was lost, writes
the same bytes again.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textclf.classify.tables.forms import finisher_of
from textclf.classify.tables.journal import JobState
from textclf.classify.tables.table_job import RowModel, TableJob, TableTask
from textclf.classify.tables.windows import Partition, read_partition
from textclf.cluster.places import FolderPlace, Place, size_and_hash
from textclf.data.tables.parts import TablePart
from textclf.errors import DataError, RunError
from textclf.files.copies import private_folder
from textclf.files.locations import Location
from textclf.terminal.progress import Progress

WORK_FOLDER = ".textclf-job"
"""The folder inside of an output folder in which a job keeps its unfinished work."""


@dataclass(frozen=True)
class PartitionedJob:
    """What every partition of a job needs, apart from the model: it can be pickled.

    `place` is where the outputs are; `first_path` is the first input, and
    `columns` are the columns of all inputs. Outputs are called `part-` with `digits` digits and `ending`, such as `.csv.gz`.
    `token` is the name of this run of the job.
    """

    task: TableTask
    place: Place
    first_path: str | Location
    columns: tuple[str, ...]
    ending: str
    digits: int
    token: str

    @contextmanager
    def work(self) -> Iterator[Path]:
        """Yields the folder for unfinished outputs. An earlier run that is still writing somewhere has another one, which is
        gone. What goes to an address is written on this machine first."""
        if isinstance(self.place, FolderPlace):
            yield self.place.folder / WORK_FOLDER / self.token
            return
        with private_folder() as folder:
            yield folder

    def output_of(self, number: int) -> str:
        return f"part-{number:0{self.digits}d}{self.ending}"


def compute_partition(job: PartitionedJob, model: RowModel, partition: Partition) -> dict[str, Any]:
    """Writes the output of a partition and returns its entry for the manifest, as JSON values.

    Raises DataError for rows that cannot be read, and RunError for an output that cannot be written.
    """
    with job.work() as work:
        return _computed(job, model, partition, _PartitionOutput(job.place, job.output_of(partition.number), work))


def _computed(job: PartitionedJob, model: RowModel, partition: Partition, output: _PartitionOutput) -> dict[str, Any]:
    name = job.output_of(partition.number)
    windows = read_partition(
        partition,
        job.first_path,
        job.columns,
        job.task.tables,
        target=name,
        added=model.added,
        labels=model.values,
        size=model.window_size,
    )
    begun = time.monotonic()
    try:
        work = TableJob(model, windows, output)
        with Progress(quiet=True).rows_bar(None) as bar:
            work.run(bar)
    finally:
        output.close()
    part = partition.part
    if part.rows is not None and part.rows != work.tally.rows + work.tally.blank_lines:
        raise DataError(f"{partition.path}: was changed while it was read; restore it and run the command again")
    tally = work.tally.as_dict()
    return {
        "partition": partition.number,
        "input": str(partition.path),
        **_described(part),
        "output": name,
        "output_bytes": output.size,
        "sha256": output.sha256,
        **output.published,
        "seconds": round(time.monotonic() - begun, 3),
        "counts": tally,
    }


def _described(part: TablePart) -> dict[str, Any]:
    described: dict[str, Any] = {"start": part.start, "end": part.end, "digest": part.digest}
    if part.place is not None:
        described["first_row"] = part.place.number
    if part.groups is not None:
        described["row_groups"] = list(part.groups)
    return described


class _PartitionOutput:
    """A file that gets its name when it is complete. Several processes may write the same one at the same time."""

    def __init__(self, place: Place, name: str, work: Path) -> None:
        self._place = place
        self._name = name
        unique = f"{name}.{uuid.uuid4().hex}"
        self._path = work / unique
        self._packed = work / f"{unique}.packed"
        self.committed: JobState | None = None
        self.complete = False
        self.resumable = False  # not by itself: a partition is computed as a whole
        self.size = 0
        self.sha256 = ""
        self.published: dict[str, Any] = {}
        try:
            self._file = self._path.open("xb")
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise self._unwritable(error) from error

    def commit(self, state: JobState) -> None:
        pass

    def keep(self) -> int:
        return 0

    def finish(self, state: JobState) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            finish = finisher_of(Path(self._name))
            ready = self._path
            if finish is not None:
                finish(self._path, self._packed)
                ready = self._packed
            self.size, self.sha256 = size_and_hash(ready)
            self.published = self._place.publish(ready, self._name)
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        self._file.close()
        for path in (self._path, self._packed):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(
            f"{self._place}/{self._name}: cannot be written ({error.strerror or error}); check that the folder is there and that "
            "the disk is not full, then continue with resume=True (--resume)"
        )


def shown_parts(numbers: Sequence[int]) -> str:
    """Returns partitions for messages: `3, 5 and 12 others`."""
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown} and {len(numbers) - 5} others" if len(numbers) > 5 else shown
