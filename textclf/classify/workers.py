"""The threads and interpreters of an open model, in this process and in processes that are forked from it."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from textclf.classify.interpreters import MAKING_AN_INTERPRETER
from textclf.classify.opening import AnyRunner

# Of the full-size model with eight-bit weights a resize costs 1.7 ms and a token 0.13 ms (2-core AVX-512 server, one
# thread). With the time of every length that was measured there, steps of 1, 2, 4 and 8 tokens come to 3.31, 3.35, 3.50
# and 3.81 ms a text of sms_spam and banking77, resizes included, in calls of 4096 texts, and to 4.00, 3.83, 3.82 and
# 4.01 ms in calls of 64.
LENGTH_STEP = 2

# Small enough that cores with texts of one length finish together, large enough that scheduling costs little.
_ROWS_A_TASK = 32

_Model = TypeVar("_Model")

# The result of a text: bytes of float32, or row i of the future result of a task.
Place = bytes | tuple[Future[np.ndarray], int]


class Known(OrderedDict[bytes, Place]):
    """A cache of results, at most `capacity`. The least recently used result is removed first."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity

    def get(self, key: bytes, default: Any = None) -> Any:
        if key not in self:
            return default
        self.move_to_end(key)
        return self[key]

    def __setitem__(self, key: bytes, place: Place) -> None:
        super().__setitem__(key, place)
        if len(self) > self._capacity:
            self.popitem(last=False)


class Workers:
    """The objects of one process: threads, interpreters, a lock, and a cache of `cache_entries` results."""

    def __init__(self, num_threads: int, new_runner: Callable[[], AnyRunner], cache_entries: int = 0) -> None:
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(num_threads, thread_name_prefix="textclf")
        self.known = Known(cache_entries)
        self.runners: list[AnyRunner] = []
        self._idle: SimpleQueue[AnyRunner] = SimpleQueue()
        self._new_runner = new_runner

    @property
    def seconds(self) -> float:
        """The time spent inside LiteRT so far, summed over the interpreters."""
        return sum(runner.seconds for runner in self.runners)

    @contextmanager
    def runner(self) -> Iterator[AnyRunner]:
        """Yields a runner that nobody else uses at the same time."""
        try:
            runner = self._idle.get_nowait()
        except Empty:
            with MAKING_AN_INTERPRETER:
                runner = self._new_runner()
            self.runners.append(runner)
        try:
            yield runner
        finally:
            self._idle.put(runner)

    def settle(self, values: Mapping[bytes, np.ndarray | None]) -> None:
        """Replaces tasks in the cache by their results. None removes them."""
        with self.lock:
            for key, value in values.items():
                if value is None:
                    self.known.pop(key, None)
                elif key in self.known:
                    self.known[key] = value.tobytes()

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.known.clear()

    def leave_behind(self) -> None:
        """Keeps this object in a forked process: interpreters that ran at the moment of the fork cannot be destroyed
        safely."""
        _LEFT_BEHIND.append(self)


# --- Tasks -----------------------------------------------------------------------------------------------------------
def padded_lengths(lengths: np.ndarray, max_length: int, *, resizable: bool) -> np.ndarray:
    """Returns the lengths to which rows of this many ids are padded. The length, and so the result, depends only on
    the row.

    At least one [PAD] follows the last token, as at `max_length`, because its trigram reads it.
    """
    if not resizable:
        return np.full_like(lengths, max_length)
    padded: np.ndarray = np.minimum(max_length, -(-(lengths + 1) // LENGTH_STEP) * LENGTH_STEP)
    return padded


def tasks_of(rows: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the rows in groups of one padded length, the longest first, so that the cores finish together."""
    for length in np.unique(lengths)[::-1].tolist():
        group = rows[lengths == length]
        for begin in range(0, len(group), _ROWS_A_TASK):
            yield group[begin : begin + _ROWS_A_TASK], length


# --- Forked processes ------------------------------------------------------------------------------------------------
_OPEN_MODELS: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()

_LEFT_BEHIND: list[Workers] = []


def after_fork(model: _Model, start_anew: Callable[[_Model], None]) -> None:
    """Makes forked processes call `start_anew` with their copy of the model, as long as it exists.

    It makes new workers: the threads do not exist there, and their locks may be held forever.
    """
    _OPEN_MODELS[model] = start_anew


def _start_all_anew() -> None:
    MAKING_AN_INTERPRETER.release()
    if "re2" in sys.modules:  # all users of the same pattern share the compiled pattern
        sys.modules["re2"].purge()
    for model, start_anew in list(_OPEN_MODELS.items()):
        start_anew(model)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=MAKING_AN_INTERPRETER.acquire,
        after_in_parent=MAKING_AN_INTERPRETER.release,
        after_in_child=_start_all_anew,
    )
