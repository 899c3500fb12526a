"""Ctrl-C during training: waits for the end of the step, so that a whole step is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """`requested` becomes True at the first Ctrl-C (or SIGTERM); the second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @classmethod
    @contextmanager
    def watched(cls) -> Iterator[Interruption]:
        """Handles the two signals inside, and restores the earlier handlers afterwards."""
        interruption = cls()
        if threading.current_thread() is not threading.main_thread():
            yield interruption  # Only the main thread may handle signals.
            return
        earlier = {number: signal.signal(number, interruption._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield interruption
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
