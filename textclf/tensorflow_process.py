"""Notices a process that was forked from one in which TensorFlow has run: there its threads are gone and it waits for ever."""

from __future__ import annotations

import os

from textclf.errors import RunError

_used_in: int | None = None


def use_tensorflow(what: str) -> None:
    """To be called before TensorFlow computes anything; `what` is a verb such as train.

    Raises RunError in a process that was forked after TensorFlow had been used in its parent.
    """
    global _used_in
    if _used_in is not None and _used_in != os.getpid():
        raise RunError(
            f"this process was forked from one that had used TensorFlow, in which it cannot {what}: it would wait for ever; "
            'start it as a new process, with subprocess or multiprocessing.get_context("spawn")'
        )
    _used_in = os.getpid()
