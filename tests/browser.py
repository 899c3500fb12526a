"""A page in a headless Chromium: what it shows, logs and requests. Commands and events go through a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = os.environ.get("TEXTCLF_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

needs_browser = pytest.mark.skipif(PROGRAM is None or os.name != "posix", reason="needs Chromium")

LIMIT = 120.0
"""Seconds until a page must have done what is waited for."""

_FLAGS = """
--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --remote-debugging-pipe
""".split()


class Page:
    """An open page. `logged` are the messages of its console and its faults, `requested` the addresses it asked for."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._rest = b""
        self._number = 0
        self.logged: list[str] = []
        self.requested: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Sends a command of the Chrome DevTools Protocol to the page and returns its result."""
        return self._call(method, session=self._session, **arguments)

    def open(self, address: str) -> None:
        self.logged.clear()
        self.requested.clear()
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """Returns the value of an expression in the page; of a promise, what it becomes."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + LIMIT
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} did not come true; logged: {self.logged}"
            time.sleep(0.05)

    def key(self, name: str, code: int) -> None:
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def insert(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def _call(self, method: str, session: str | None = None, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        order = {"id": self._number, "method": method, "params": arguments}
        if session is not None:
            order["sessionId"] = session
        content = json.dumps(order).encode() + b"\0"
        while content:
            content = content[os.write(self._writing, content) :]
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self._notice(message)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._reading, 1 << 20)
            assert more, "Chromium ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def _notice(self, message: dict[str, Any]) -> None:
        given = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(given["request"]["url"])
        elif message.get("method") == "Runtime.consoleAPICalled":
            self.logged.append(str([one.get("value", one.get("description")) for one in given["args"]]))
        elif message.get("method") == "Runtime.exceptionThrown":
            self.logged.append(json.dumps(given["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded":
            self.logged.append(given["entry"]["text"])


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """A page in a new Chromium, which ends afterwards."""
    assert PROGRAM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Chromium reads from 3 and writes to 4.
    given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
    command = [PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(3, 4),
        preexec_fn=_ends_at(given),
    )
    for end in (*given, theirs_in, theirs_out):
        os.close(end)
    try:
        yield Page(ours_in, ours_out)
    finally:
        process.terminate()
        process.wait()
        os.close(ours_in)
        os.close(ours_out)


def _ends_at(given: list[int]) -> Callable[[], None]:
    def place() -> None:
        for number, end in enumerate(given, 3):
            os.dup2(end, number)

    return place
