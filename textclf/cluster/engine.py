"""Dask as the engine of a job: connects to a cluster or starts one on this machine, and hands out work in small portions."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import textclf
from textclf.classify.interpreters import usable_cores
from textclf.cluster.partition import PartitionedJob
from textclf.cluster.workers import ModelBytes, begin_job, end_job, remove_copies
from textclf.errors import ArgumentError, RunError, TextclfError

_Work = TypeVar("_Work")

SECONDS_TO_CONNECT = 20.0

SECONDS_FOR_WORKERS = 60.0

# Work that is handed out: enough that no worker waits, few enough that the scheduler's memory does not grow with the job.
_TASKS_A_THREAD = 3

_SECONDS_BETWEEN_COUNTS = 5.0

# A partition is computed again after an error that no user caused, such as a network disk that did not answer.
_ATTEMPTS = 3

_LOCAL = re.compile(r"local(?::(\d+))?")

_ADDRESS = re.compile(r"(?:[a-z]+://)?[^\s/:]+:\d+|(?:[a-z]+://)\[[0-9a-fA-F:]+\]:\d+|(?:wss?|inproc)://\S+")


class LostSchedulerError(RunError):
    """The connection to the scheduler ended."""


class KilledWorkersError(RunError):
    """Several workers were killed while they did the same work."""


def check_scheduler(scheduler: str) -> None:
    """Raises ArgumentError for text that is no address."""
    local = _LOCAL.fullmatch(scheduler)
    if not (local and local[1] != "0") and not _ADDRESS.fullmatch(scheduler):
        raise ArgumentError(
            f"scheduler (--dask) is {scheduler!r}; give the address of a Dask scheduler such as tcp://scheduler:8786, or local "
            "or local:4 for processes on this machine"
        )


@contextmanager
def connected(scheduler: str, num_threads: int | None = None) -> Iterator[Engine]:
    """Connects to the scheduler at an address, or starts a cluster of processes with one thread each for `local`, `local:4`.

    `num_threads` is the number of interpreters of each worker (default: that of the worker's threads). Raises RunError where
    there is no scheduler or no worker.
    """
    check_scheduler(scheduler)
    local = _LOCAL.fullmatch(scheduler)
    with _quiet():
        if local:
            # A core has one interpreter, whatever its process.
            workers = int(local[1] or max(1, usable_cores() // (num_threads or 1)))
            with _local_cluster(workers) as cluster, _client(cluster) as client:
                yield Engine(client, "the cluster on this machine", num_threads)
        else:
            with _client(scheduler) as client:
                yield Engine(client, scheduler, num_threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out what Dask logs in this process, such as each lost worker: a job reports what matters."""
    import distributed  # noqa: F401 - sets the levels when it is imported

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",  # any free port, and for nobody outside
        silence_logs=logging.CRITICAL,
    )
    try:
        yield cluster
    finally:
        with suppress(Exception):  # workers that were killed are no reason to fail now
            cluster.close(timeout=10)


@contextmanager
def _client(address: Any) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{address}: there is no Dask scheduler ({reason}); check the address, and start one with `dask scheduler`"
        ) from None
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=5)


class Engine:
    """A connected cluster. `name` is for messages."""

    def __init__(self, client: Any, name: str, num_threads: int | None = None) -> None:
        self._client = client
        self.name = name
        self._num_threads = num_threads
        self._counted = 0.0
        self._limit = 1
        self.stopped = False
        """Whether no more work is handed out."""

    def wait_for_workers(self) -> None:
        from distributed import TimeoutError as DaskTimeoutError

        try:
            self._client.wait_for_workers(1, timeout=SECONDS_FOR_WORKERS)
        except (DaskTimeoutError, TimeoutError):
            raise RunError(
                f"{self.name}: the scheduler has no workers after {SECONDS_FOR_WORKERS:.0f} s; start some with `dask worker "
                f"{self.name}`, on machines that have textclf"
            ) from None

    @contextmanager
    def holding(self, job: PartitionedJob, model: ModelBytes) -> Iterator[None]:
        """Inside, every worker has the job and its model, also a worker that comes later."""
        plugin = _plugin_of(job, model, self._num_threads)
        try:
            self._client.register_plugin(plugin, name=job.token)
        except TextclfError:
            raise
        except Exception as error:  # whatever a worker raises that cannot load the job
            raise RunError(
                f"{self.name}: a worker cannot begin the job ({_reason(error)}); install the same textclf, Python and Dask on "
                "all machines"
            ) from error
        try:
            yield
        finally:
            with suppress(Exception):
                self._client.unregister_worker_plugin(job.token)

    def forget_copies(self, token: str) -> None:
        """Removes the copies of remote inputs that workers keep for a run of a job."""
        if self._client.status == "running":
            with suppress(Exception):  # a later command removes those of a worker that is lost
                self._client.run(remove_copies, token)

    def results(self, function: Callable[[_Work], Any], work: Iterable[_Work]) -> Iterator[tuple[_Work, Any]]:
        """Calls a function on the workers for each piece of work. Yields the pieces, in the order in which they are done, with
        the result or the TextclfError.

        Raises RunError for another error, and LostSchedulerError.
        """
        from distributed import as_completed

        completed = as_completed(loop=self._client.loop, raise_errors=False)
        run = uuid.uuid4().hex
        under_way: dict[str, tuple[int, _Work, int]] = {}
        pieces = enumerate(work)

        def submit(number: int, piece: _Work, attempt: int) -> None:
            key = f"textclf-{run}-{number}-{attempt}"
            under_way[key] = number, piece, attempt
            completed.add(self._client.submit(function, piece, key=key, pure=False))

        def fill() -> None:
            while not self.stopped and len(under_way) < self._most_under_way():
                following = next(pieces, None)
                if following is None:
                    return
                submit(*following, 1)

        fill()
        while under_way:
            future = next(completed)
            number, piece, attempt = under_way.pop(future.key)
            result = self._result(future, attempt)
            if result is _AGAIN:
                submit(number, piece, attempt + 1)
                continue
            del future
            yield piece, result
            fill()

    def in_order(self, function: Callable[[_Work], Any], work: Sequence[_Work]) -> Iterator[Any]:
        """Yields the results in the order of the work. Raises the first error."""
        waiting: dict[int, Any] = {}
        following = 0
        for (number, _), result in self.results(_OnSecond(function), enumerate(work)):
            if isinstance(result, TextclfError):
                raise result
            waiting[number] = result
            while following in waiting:
                yield waiting.pop(following)
                following += 1

    def _result(self, future: Any, attempt: int) -> Any:
        if future.status == "finished":
            try:
                return future.result()
            except Exception:  # the worker that had the result was lost at this moment
                return self._after(RuntimeError("its result was lost"), attempt)
        if future.status != "error":
            raise LostSchedulerError(f"{self.name}: the connection to the scheduler was lost")
        error = future.exception()
        return error if isinstance(error, TextclfError) else self._after(error, attempt)

    def _after(self, error: BaseException, attempt: int) -> Any:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return KilledWorkersError(
                "its worker was killed again and again, perhaps because the memory is too small; look at the logs of the workers"
            )
        if self._client.status != "running":
            raise LostSchedulerError(f"{self.name}: the connection to the scheduler was lost")
        return _AGAIN if attempt < _ATTEMPTS else RunError(f"a worker failed {attempt} times ({_reason(error)})")

    def _most_under_way(self) -> int:
        """Returns how much work the workers get at once. Workers may come and go."""
        now = time.monotonic()
        if now - self._counted > _SECONDS_BETWEEN_COUNTS:
            with suppress(Exception):  # a lost connection is reported by the work that is under way
                self._limit = max(1, sum(self._client.nthreads().values())) * _TASKS_A_THREAD
            self._counted = now
        return self._limit


_AGAIN = object()


class _OnSecond:
    """Calls a function with the second value of a pair."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, pair: tuple[int, Any]) -> Any:
        return self._function(pair[1])


def _plugin_of(job: PartitionedJob, model: ModelBytes, num_threads: int | None) -> Any:
    from distributed import WorkerPlugin

    version = textclf.__version__

    class JobPlugin(WorkerPlugin):  # type: ignore[misc]
        """Comes to every worker when it starts. The scheduler keeps one copy."""

        def setup(self, worker: Any) -> None:
            begin_job(job, model, version, num_threads or worker.state.nthreads)

        def teardown(self, worker: Any) -> None:
            end_job(job.token)

    return JobPlugin()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
