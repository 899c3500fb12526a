"""Runs another program that must not outlive this process, and returns its exit status.

The program runs in a separate session, so that everything it starts can be ended with it. Its output goes to `worker.log`
in a folder. Meanwhile a function of the caller is called regularly.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

LOG = "worker.log"
_SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_END = 5.0
_LAST_LINES = 15
_LONGEST_LINE = 400


def run_process(
    command: Sequence[str],
    folder: Path,
    *,
    on_look: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs a command in `folder` and returns its exit status, which is negative for the signal that killed it.

    `on_look` is called about ten times a second and once after the end. However this function ends (normally, by an
    exception of `on_look`, Ctrl-C or SIGTERM), the process and everything that it started have ended.
    """
    with _sigterm_as_interrupt(), (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = False
            while not ended:
                # This comes first, so that `on_look` does not miss the last output.
                ended = _wait(process, _SECONDS_BETWEEN_LOOKS)
                on_look()
        finally:
            _end(process)
    return process.returncode


def how_it_ended(status: int) -> str:
    """Returns `exit code 1`, or `killed by SIGKILL`."""
    if status >= 0:
        return f"exit code {status}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def last_words(folder: Path) -> str:
    """Returns the last lines that the process printed, for a message, with progress bars in their last state."""
    try:
        text = (folder / LOG).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return "\n".join(line[:_LONGEST_LINE] for line in lines[-_LAST_LINES:] if line)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Returns whether the process has ended. It is not reaped yet, so no other process can get the number of its group."""
    time.sleep(seconds)
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the remaining processes of the group, first with SIGTERM and then with SIGKILL, and reaps the process."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        for _ in range(round(SECONDS_TO_END / _SECONDS_BETWEEN_LOOKS)):
            if _wait(process, _SECONDS_BETWEEN_LOOKS):
                break
    process.wait()


def tail(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yields, each time, the JSON objects of the complete lines that were added to a file since the last time."""
    position = 0
    while True:
        found = []
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                with suppress(ValueError):
                    found.append(json.loads(line))
        yield found


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM end this process as Ctrl-C does, so that the other program is ended. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
