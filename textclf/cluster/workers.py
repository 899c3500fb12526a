"""The part of a job in a worker's process: it holds the model, which came once, and computes partitions with it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import textclf
from textclf.classify.interpreters import usable_cores
from textclf.classify.tables.table_job import RowModel
from textclf.classify.tables.windows import Partition, TableOptions
from textclf.cluster.partition import PartitionedJob, compute_partition
from textclf.cluster.plan import FileParts, find_file_parts
from textclf.errors import ModelError, RunError
from textclf.files.copies import KeptCopies
from textclf.files.locations import Location


@dataclass(frozen=True)
class ModelBytes:
    """A model's file. It checks itself where it arrives."""

    content: bytes
    sha256: str
    name: str
    path: Path

    def checked_content(self) -> bytes:
        """Raises ModelError for other bytes than those that were sent."""
        if hashlib.sha256(self.content).hexdigest() != self.sha256:
            raise ModelError(
                f"{self.name}: arrived damaged at {place_of_process()}; check this machine's memory and network"
            )
        return self.content


@dataclass(frozen=True)
class _Here:
    """A job in this process. `model` opens the model when it is called for the first time."""

    job: PartitionedJob
    model: Callable[[], RowModel]


_JOBS: dict[str, _Here] = {}


class Once:
    """Calls a function when its result is needed for the first time, in one of several threads."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[Any] = []

    def __call__(self) -> Any:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


def begin_job(job: PartitionedJob, model: ModelBytes, version: str, num_threads: int) -> None:
    """Makes a job known in this process. `num_threads` interpreters work for all its partitions here.

    Raises RunError where this process has another textclf or does not see the output folder.
    """
    if version != textclf.__version__:
        raise RunError(
            f"{place_of_process()} has textclf {textclf.__version__}, but the job was started with {version}; install the same "
            "version on all machines"
        )
    if not job.place.is_visible():
        raise RunError(
            f"{place_of_process()} does not see the folder {job.place}; write to a folder that all machines share under the "
            "same path"
        )
    content = model.checked_content()
    opened = Once(lambda: job.task.open(content, model.name, model.path, num_threads))
    _JOBS[job.token] = _Here(job, opened)


def end_job(token: str) -> None:
    _JOBS.pop(token, None)
    remove_copies(token)


_KEPT: dict[str, list[KeptCopies]] = {}

_of_thread = threading.local()


def _copies_of(token: str) -> KeptCopies:
    """Returns the copies of remote inputs that this thread keeps while it works for a run of a job."""
    own: dict[str, KeptCopies] = _of_thread.__dict__
    if token not in own:
        own.clear()
        own[token] = KeptCopies()
        _KEPT.setdefault(token, []).append(own[token])
    return own[token]


def remove_copies(token: str) -> None:
    for copies in _KEPT.pop(token, []):
        copies.remove()


def find_here(
    token: str, path: str | Location, first_path: str | Location, tables: TableOptions, target: str, rows_a_part: int
) -> FileParts:
    """Finds the parts of an input in this process, as `find_file_parts` does."""
    with _copies_of(token).using(first_path, path):
        return find_file_parts(path, first_path, tables, target, rows_a_part)


def compute_here(token: str, partition: Partition) -> dict[str, Any]:
    """Computes a partition in this process, as `compute_partition` does."""
    here = _JOBS.get(token)
    if here is None:
        raise RunError(f"{place_of_process()} could not begin the job; the log of this worker says why")
    with _copies_of(token).using(here.job.first_path, partition.path):
        return compute_partition(here.job, here.model(), partition)


def interpreter_threads() -> int:
    """Returns how many interpreters fit into this process beside those of others: one for each thread of a Dask worker, one
    in a process that was started to work beside others, and otherwise one for each core."""
    worker = _dask_worker()
    if worker is not None:
        return int(worker.state.nthreads)
    from multiprocessing import parent_process

    return usable_cores() if parent_process() is None else 1


def place_of_process() -> str:
    worker = _dask_worker()
    return f"worker {worker.address}" if worker is not None else f"process {os.getpid()}"


def _dask_worker() -> Any:
    import sys

    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None
