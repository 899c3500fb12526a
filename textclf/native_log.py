"""Keeps the start-up chatter of TensorFlow's and LiteRT's native code off the screen and lets everything else through."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# These lines come on every start of a healthy process and heed no log level.
_CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} [\d:. ]+ +\d+ (port|cudart_stub|cuda_platform|cuda_executor|cpu_feature_guard)\.cc:"
    rb"|To enable the following instructions: .* rebuild TensorFlow"
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate for CPU"
)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Meanwhile file descriptor 2 leads through a filter; Python's own `sys.stderr` goes to the screen directly."""
    sys.stderr.flush()
    screen = os.dup(2)
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    python_stderr = sys.stderr
    sys.stderr = os.fdopen(os.dup(screen), "w", buffering=1, errors="backslashreplace")
    thread = threading.Thread(target=_pass_on, args=(reader, screen), daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = python_stderr
        os.dup2(screen, 2)
        # The pipe's last writer is gone unless a child process still holds it: then its output is left to the daemon.
        thread.join(timeout=1)


def _pass_on(reader: int, screen: int) -> None:
    with os.fdopen(reader, "rb") as lines:
        for line in lines:
            if not _CHATTER.match(line):
                os.write(screen, line)
