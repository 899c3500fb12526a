"""Serves the page of `textclf demo` on this machine: takes its bytes, and answers until it is interrupted."""

from __future__ import annotations

import http.server
from typing import Any

from textclf.errors import ArgumentError
from textclf.serving.own_names import names_this_machine

HOST = "127.0.0.1"


class DemoServer(http.server.ThreadingHTTPServer):
    """Answers requests of this machine for `/` with the page, and all others with 404. `port` 0 is any free port.

    Raises ArgumentError for a port that cannot be used.
    """

    daemon_threads = True

    def __init__(self, content: bytes, port: int = 0) -> None:
        self.content = content
        try:
            super().__init__((HOST, port), _Requests)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ArgumentError(f"port {port} cannot be used ({reason}); choose another one (--port)") from error

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"


class _Requests(http.server.BaseHTTPRequestHandler):
    server: DemoServer

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, *, with_content: bool) -> None:
        if self.path.partition("?")[0] != "/" or not names_this_machine(self.headers.get("Host", "")):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_content:
            self.wfile.write(self.server.content)

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""
