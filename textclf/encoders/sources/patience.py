"""An HTTP session that does not wait forever: its connections are closed when the allowed time is over.

The libraries' time limits apply between two parts of an answer, so that a byte now and then keeps a transfer alive.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import connection, connectionpool

_SECONDS_BETWEEN_LOOKS = 0.2


class Patience:
    """Closes the watched connections at the last allowed time, and at the latest at `ends` (monotonic)."""

    def __init__(self, ends: float) -> None:
        self.ended = False
        self._ends = ends
        self._until = ends
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def allow(self, seconds: float) -> None:
        """Allows this many seconds from now on and replaces an earlier allowance."""
        self._until = min(self._ends, monotonic() + seconds)

    def add(self, made: socket.socket) -> None:
        with self._lock:
            # A copy: what encrypts a connection takes the socket's number away from the object that was made first.
            self._sockets.append(made.dup())

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for copy in self._sockets:
            copy.close()

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            if monotonic() > self._until:
                self.ended = True
                with self._lock:
                    for copy in self._sockets:
                        with suppress(OSError):
                            copy.shutdown(socket.SHUT_RDWR)


@contextmanager
def watched_session(ends: float) -> Iterator[tuple[requests.Session, Patience]]:
    """A session, and the object that closes its connections."""
    patience = Patience(ends)
    with requests.Session() as session:
        adapter = _Adapter(_pools(patience))
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        try:
            yield session, patience
        finally:
            patience.close()


def _pools(patience: Patience) -> dict[str, Any]:
    # The names are those of the library, which shows them in its errors.
    class HTTPConnection(connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            made = super()._new_conn()
            patience.add(made)
            return made

    class HTTPSConnection(connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            made = super()._new_conn()
            patience.add(made)
            return made

    class HTTPConnectionPool(connectionpool.HTTPConnectionPool):
        ConnectionCls = HTTPConnection

    class HTTPSConnectionPool(connectionpool.HTTPSConnectionPool):
        ConnectionCls = HTTPSConnection

    return {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}


class _Adapter(HTTPAdapter):
    def __init__(self, pools: dict[str, Any]) -> None:
        self._pools = pools
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager
