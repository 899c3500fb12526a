"""Runs a service until it is asked to stop: takes a model and an address."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textclf import extras
from textclf.errors import ArgumentError
from textclf.serving.limits import TOKEN_VARIABLE, Limits, read_token
from textclf.serving.models import open_model
from textclf.serving.service import Service

if TYPE_CHECKING:
    import uvicorn

_SECONDS_TO_STOP = 30

_BACKLOG = 1024


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    num_threads: int | None = None,
    max_wait_ms: float = Limits.max_wait_ms,
    max_batch: int = Limits.max_batch,
    max_queue: int = Limits.max_queue,
    max_texts: int = Limits.max_texts,
    max_characters: int = Limits.max_characters,
    max_body: int = Limits.max_body,
    log_requests: bool = False,
    on_start: Callable[[str], object] | None = None,
) -> None:
    """Serves a model over HTTP until SIGTERM or Ctrl-C, and answers the requests under way before it returns.

    `model` is a `.tflite` file, an ONNX file of textclf or the folder of a run. `port` 0 is any free port; `on_start` gets the
    address. The token in `token_file`, or else in the environment variable `TEXTCLF_TOKEN`, is needed for every address that
    other machines can reach. `num_threads` texts are computed in parallel (default: one for each core). Texts that wait are
    computed together, `max_batch` at most; an incomplete batch waits `max_wait_ms` milliseconds for more. `max_queue` texts
    may wait, and a request may have `max_texts` texts of `max_characters` characters in a body of `max_body` bytes.
    `log_requests` logs the path, status and time of each request, but no texts.

    Raises ModelError for a file that is no such model, ArgumentError for an address that cannot be used or needs a token, and
    MissingPackageError without the extra `serve`.
    """
    for module in ("starlette", "uvicorn", "prometheus_client"):
        extras.require(module, "to serve a model")
    limits = Limits(
        max_body=max_body,
        max_texts=max_texts,
        max_characters=max_characters,
        max_queue=max_queue,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
    )
    token = read_token(token_file)
    family, address = _resolved(host, port)
    if token is None and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        raise ArgumentError(
            f"host (--host) is {host}, which other machines can reach; set a token in a file (--token-file) or in "
            f"{TOKEN_VARIABLE}, or leave the option out to serve this machine only"
        )
    service = Service(open_model(model, num_threads, limits), limits, token, log_requests=log_requests)
    try:
        with _listening(family, address) as listening:
            _run(service, listening, host, on_start)
    finally:
        service.close()


def _run(service: Service, listening: socket.socket, host: str, on_start: Callable[[str], object] | None) -> None:
    import uvicorn

    config = uvicorn.Config(
        service.application(),
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_SECONDS_TO_STOP,
    )
    server = uvicorn.Server(config)
    with _stopped_quietly(server):
        if on_start is not None:
            shown = f"[{host}]" if ":" in host else host
            on_start(f"http://{shown}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])


@contextmanager
def _stopped_quietly(server: uvicorn.Server) -> Iterator[None]:
    """Takes the signals that arrive before the server runs, and those that it raises again after it has stopped in order, so
    that they do not end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        server.should_exit = True

    replaced = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Returns the address of a name. Raises ArgumentError for one that is unknown."""
    if not host.strip():
        raise ArgumentError("host (--host) is empty; leave it out, or name an address of this machine")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"host (--host) is {host}, which is unknown ({reason}); name an address of this machine"
        ) from error
    return family, address


@contextmanager
def _listening(family: socket.AddressFamily, address: tuple[Any, ...]) -> Iterator[socket.socket]:
    # asyncio turns off the delay of small packets, 40 ms per response, only for sockets that name their protocol.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        try:
            if os.name == "posix":  # on Windows, this option would let two programs share a port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError as error:
            raise ArgumentError(
                f"port {address[1]} of {address[0]} cannot be used ({error.strerror or error}); choose another one (--port)"
            ) from error
        yield listening
