"""Classifies the texts of requests that wait together: takes rows and returns their results, in batches of a bounded size.

Everything but the computation happens in the thread of the event loop, so no lock is needed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias

from textclf.serving.limits import Limits

Row: TypeAlias = tuple[str, ...]

_LONGEST_RETRY = 60

# The weight of a new batch in the mean time of a text.
_NEW = 0.1


class QueueFullError(Exception):
    """The queue has no room for the texts of a request. It may have in about `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class _Job:
    """The rows of one request and their results. The first `taken` rows are in batches; `missing` results have not come."""

    def __init__(self, rows: Sequence[Row], future: asyncio.Future[list[Any]]) -> None:
        self.rows = rows
        self.future = future
        self.since = time.monotonic()
        self.taken = 0
        self.missing = len(rows)
        self.results: list[Any] = [None] * len(rows)


class Batcher:
    """Computes rows in batches, `slots` of them at the same time in threads.

    `compute` takes rows and returns a result for each. A batch starts when a slot is free and there are `max_batch` rows, or
    the first one has waited for `max_wait_ms`. A request with many rows takes turns with the others. `observe` gets the
    rows and the seconds of every finished batch.
    """

    def __init__(
        self,
        compute: Callable[[list[Row]], Sequence[Any]],
        slots: int,
        limits: Limits,
        observe: Callable[[int, float], None],
    ) -> None:
        self.waiting = 0
        """The number of rows in the queue, which no batch has taken yet."""
        self._compute = compute
        self._slots = slots
        self._limits = limits
        self._observe = observe
        self._queue: deque[_Job] = deque()
        self._under_way = 0
        self._timer: asyncio.TimerHandle | None = None
        self._seconds_a_row = 0.0
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="textclf-batch")

    async def results(self, rows: Sequence[Row]) -> list[Any]:
        """Returns the results of rows, in their order. If the caller is cancelled, rows that no batch has taken are dropped.

        Raises QueueFullError if the queue has no room for them, and what `compute` raises.
        """
        if not rows:
            return []
        self.check_room(len(rows))
        job = _Job(rows, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self.waiting += len(rows)
        self._start_batches()
        try:
            return await job.future
        finally:
            self._withdraw(job)

    def check_room(self, rows: int, arriving: int = 0) -> None:
        """Raises QueueFullError unless there is room for more rows, besides `arriving` ones."""
        if self.waiting + arriving + rows > self._limits.max_queue:
            seconds = math.ceil(self.waiting * self._seconds_a_row / self._slots)
            raise QueueFullError(min(max(seconds, 1), _LONGEST_RETRY))

    def close(self) -> None:
        """Ends the threads without waiting for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start_batches(self) -> None:
        while self._queue and self._under_way < self._slots:
            left = self._queue[0].since + self._limits.max_wait_ms / 1000 - time.monotonic()
            if left > 0 and self.waiting < self._limits.max_batch:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(left, self._time_is_up)
                return
            parts = self._take()
            rows = [row for job, begin, end in parts for row in job.rows[begin:end]]
            self._under_way += 1
            computed = asyncio.get_running_loop().run_in_executor(self._pool, self._compute, rows)
            computed.add_done_callback(partial(self._finish, parts, len(rows), time.monotonic()))

    def _time_is_up(self) -> None:
        self._timer = None
        self._start_batches()

    def _take(self) -> list[tuple[_Job, int, int]]:
        """Takes the rows of a batch from the queue and returns them as parts of jobs: job, begin, end."""
        parts = []
        room = self._limits.max_batch
        while room and self._queue:
            job = self._queue.popleft()
            begin, job.taken = job.taken, min(len(job.rows), job.taken + room)
            parts.append((job, begin, job.taken))
            room -= job.taken - begin
            self.waiting -= job.taken - begin
            if job.taken < len(job.rows):
                self._queue.append(job)
        return parts

    def _finish(
        self, parts: Sequence[tuple[_Job, int, int]], rows: int, begun: float, computed: asyncio.Future[Sequence[Any]]
    ) -> None:
        self._under_way -= 1
        seconds = time.monotonic() - begun
        self._seconds_a_row += (_NEW if self._seconds_a_row else 1.0) * (seconds / rows - self._seconds_a_row)
        self._observe(rows, seconds)
        error = RuntimeError("the service was closed") if computed.cancelled() else computed.exception()
        results = [] if error is not None else list(computed.result())
        for job, begin, end in parts:
            own, results = results[: end - begin], results[end - begin :]
            if job.future.done():  # its client has left, or another batch of it has failed
                continue
            if error is not None:
                job.future.set_exception(error)
                continue
            job.results[begin:end] = own
            job.missing -= end - begin
            if not job.missing:
                job.future.set_result(job.results)
        self._start_batches()

    def _withdraw(self, job: _Job) -> None:
        """Drops the rows of a job that no batch has taken, if there are any."""
        if job.taken < len(job.rows):
            self._queue.remove(job)
            self.waiting -= len(job.rows) - job.taken
            job.taken = len(job.rows)
