"""The service as an ASGI application: takes requests, checks them, and answers with JSON, also what is wrong with them."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import textclf
from textclf import extras
from textclf.serving.batching import Batcher, QueueFullError
from textclf.serving.limits import Limits
from textclf.serving.metrics import Metrics
from textclf.serving.models import ServedModel
from textclf.serving.openapi import openapi_document
from textclf.serving.own_names import names_this_machine
from textclf.serving.page import Page
from textclf.serving.requests import BadBodyError, Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

logger = logging.getLogger(__name__)

_JSON = "application/json"

SECONDS_FOR_A_BODY = 30.0

# A body that is too large is read up to this multiple of the limit, so that its client can read the answer.
_READ_ANYWAY = 8

_CLIENT_LEFT = 499
"""The status of a request whose client closed the connection, in metrics; nobody receives it."""


class Answer(NamedTuple):
    """A response before it is one of Starlette's."""

    status: int
    content: bytes
    media_type: str = _JSON
    headers: Mapping[str, str] = {}


class Refused(Exception):  # noqa: N818 - a request that is refused is no fault
    """A request that is answered with an error."""

    def __init__(self, status: int, error: str, problems: Sequence[Problem], **headers: str) -> None:
        super().__init__(error)
        self.answer = error_answer(status, error, problems, **headers)


_Endpoint: TypeAlias = Callable[["Request"], Awaitable[Answer]]


def error_answer(status: int, error: str, problems: Sequence[Problem], **headers: str) -> Answer:
    """Returns a response that says what is wrong, where, and what is expected. `headers` have `_` for `-`."""
    content = {"error": error, "problems": [problem._asdict() for problem in problems]}
    return Answer(status, _json(content), headers={name.replace("_", "-"): value for name, value in headers.items()})


class Service:
    """One model behind HTTP. With a `token`, clients must send it; without one, only names of this machine are served."""

    def __init__(
        self, model: ServedModel, limits: Limits, token: str | None = None, *, log_requests: bool = False
    ) -> None:
        self.model = model
        self.limits = limits
        self.metrics = Metrics(lambda: self.batcher.waiting, lambda: model.opened.seconds_in_interpreters)
        self.batcher = Batcher(model.compute, model.opened.num_threads, limits, self.metrics.batch)
        self._token = token
        self._log_requests = log_requests
        self._arriving = 0
        """The number of requests whose body is being read. Each has at least one text."""
        self.openapi = openapi_document(model, limits, with_token=token is not None)
        self._page = Page(self.openapi, model)

    def close(self) -> None:
        self.batcher.close()
        self.model.opened.close()

    def application(self) -> Starlette:
        """Returns the ASGI application. Raises MissingPackageError without Starlette."""
        extras.require("starlette", "to serve a model")
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        def route(path: str, endpoint: _Endpoint, *methods: str, public: bool = False) -> Route:
            return Route(path, self._guarded(path, endpoint, public=public), methods=list(methods))

        async def refuse(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            answer = self._unknown(request, error.status_code, error.headers or {})
            self.metrics.request("other", answer.status, 0.0)
            return _response(answer)

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            try:
                yield
            finally:
                self.close()

        application = Starlette(
            routes=[
                route(self.model.path, self._predict, "POST"),
                route("/model", self._describe, "GET"),
                route("/metrics", self._show_metrics, "GET"),
                route("/health", self._show_health, "GET", public=True),
                route("/openapi.json", self._show_openapi, "GET", public=True),
                route("/", self._show_page, "GET", public=True),
            ],
            exception_handlers={HTTPException: refuse},
            lifespan=lifespan,
        )
        application.router.redirect_slashes = False
        return application

    # --- Every request -----------------------------------------------------------------------------------------------
    def _guarded(self, path: str, endpoint: _Endpoint, *, public: bool) -> Callable[[Request], Awaitable[Response]]:
        """Returns an endpoint of Starlette, which turns every failure into an answer and counts it."""

        async def guarded(request: Request) -> Response:
            begun = time.perf_counter()
            try:
                self._check_sender(request, public=public)
                answer = await endpoint(request)
            except Refused as refused:
                answer = refused.answer
            except Exception as error:
                answer = _fault(path, error)
            seconds = time.perf_counter() - begun
            self.metrics.request(path, answer.status, seconds)
            if self._log_requests:
                logger.info("%s %s %d %.1f ms", request.method, path, answer.status, 1000 * seconds)
            return _response(answer)

        return guarded

    def _check_sender(self, request: Request, *, public: bool) -> None:
        if self._token is None:
            if not names_this_machine(request.headers.get("host", "")):
                raise Refused(
                    403,
                    "this service has no token, so it answers only under the names of this machine",
                    [Problem("header Host", "is another name", "localhost or 127.0.0.1")],
                )
        elif not public:
            scheme, _, sent = request.headers.get("authorization", "").partition(" ")
            if not (scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), self._token.encode())):
                problem = "is missing" if "authorization" not in request.headers else "is not the token of this service"
                raise Refused(
                    401,
                    "this service needs a token",
                    [Problem("header Authorization", problem, "Bearer TOKEN")],
                    WWW_Authenticate="Bearer",
                )

    def _unknown(self, request: Request, status: int, headers: Mapping[str, str]) -> Answer:
        if status == 405:
            allowed = headers.get("Allow", "")
            problem = Problem(f"method of {request.url.path}", f"is {request.method}", allowed)
            return error_answer(405, f"{request.url.path} does not know this method", [problem], Allow=allowed)
        paths = ", ".join(self.openapi["paths"])
        other = {"/classify": "answers questions", "/answer": "classifies texts"}.get(request.url.path)
        error = f"the model {other}" if other else "there is no such page"
        return error_answer(status, error, [Problem("path", "is unknown", f"one of {paths}")])

    # --- The routes --------------------------------------------------------------------------------------------------
    async def _predict(self, request: Request) -> Answer:
        from starlette.requests import ClientDisconnect

        _check_media_type(request)
        try:
            self.batcher.check_room(1, self._arriving)
            self._arriving += 1
            try:
                body = await self._body(request)
            finally:
                self._arriving -= 1
            content = self.model.body.read(body)
            results = await _unless_client_leaves(request, self.batcher.results(self.model.rows(content)))
        except QueueFullError as error:
            raise Refused(
                429,
                "the queue is full",
                [Problem("queue", f"{self.batcher.waiting:,} texts wait", f"at most {self.limits.max_queue:,}")],
                Retry_After=str(error.retry_after),
            ) from None
        except BadBodyError as error:
            raise Refused(422, "the body of the request cannot be used", error.problems) from None
        except ClientDisconnect:
            return Answer(_CLIENT_LEFT, b"")
        return Answer(200, _json(self.model.answer(content, results)))

    async def _body(self, request: Request) -> bytes:
        try:
            return await asyncio.wait_for(_read_body(request, self.limits.max_body), SECONDS_FOR_A_BODY)
        except asyncio.TimeoutError:
            problem = Problem("body", "is incomplete", f"all of it within {SECONDS_FOR_A_BODY:.0f} s")
            raise Refused(
                408, "the body of the request did not arrive in time", [problem], Connection="close"
            ) from None

    async def _describe(self, request: Request) -> Answer:
        opened = self.model.opened
        # The file may contain NaN, which JSON does not know.
        settings = json.loads(json.dumps(opened.metadata.settings or {}), parse_constant=lambda _: None)
        return Answer(
            200,
            _json(
                {
                    "name": opened.metadata.name or opened.path.stem,
                    "file": opened.path.name,
                    "sha256": opened.sha256,
                    "path": self.model.path,
                    "max_length": opened.max_length,
                    **self.model.facts(),
                    "settings": settings,
                    "limits": asdict(self.limits),
                    "threads": opened.num_threads,
                    "textclf": textclf.__version__,
                }
            ),
        )

    async def _show_health(self, request: Request) -> Answer:
        return Answer(200, _json({"status": "ok"}))

    async def _show_metrics(self, request: Request) -> Answer:
        return Answer(200, self.metrics.text(), self.metrics.media_type)

    async def _show_openapi(self, request: Request) -> Answer:
        return Answer(200, _json(self.openapi))

    async def _show_page(self, request: Request) -> Answer:
        return Answer(200, self._page.content, "text/html; charset=utf-8", self._page.headers)


# --- Bodies and answers ----------------------------------------------------------------------------------------------
def _check_media_type(request: Request) -> None:
    sent = request.headers.get("content-type", "")
    if sent.partition(";")[0].strip().lower() != _JSON:
        problem = Problem("header Content-Type", f"is {sent[:80]!r}" if sent else "is missing", _JSON)
        raise Refused(415, "the body of the request must be JSON", [problem])


async def _read_body(request: Request, limit: int) -> bytes:
    """Returns the body. Raises Refused if it has more bytes than the limit."""
    declared = request.headers.get("content-length", "")
    size = 0
    kept = bytearray()
    if not (declared.isdigit() and int(declared) > limit * _READ_ANYWAY):
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                kept += chunk
            elif size > limit * _READ_ANYWAY:
                break
        if size <= limit:
            return bytes(kept)
    raise Refused(
        413,
        "the body of the request is too large",
        [Problem("body", f"has {int(declared):,} bytes" if declared else "is too large", f"at most {limit:,} bytes")],
        Connection="close",
    )


async def _unless_client_leaves(request: Request, results: Awaitable[list[Any]]) -> list[Any]:
    """Returns the results. If the client closes the connection first, they are cancelled and ClientDisconnect is raised."""
    from starlette.requests import ClientDisconnect

    computing = asyncio.ensure_future(results)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({computing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not computing.done():
            raise ClientDisconnect
        return computing.result()
    finally:
        for task in (computing, leaving):
            task.cancel()
        await asyncio.gather(computing, leaving, return_exceptions=True)


def _fault(path: str, error: Exception) -> Answer:
    """Returns the answer for a bug. The log says where it is, without the words of the error: they may be a client's."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(last.filename)}:{last.lineno}"
    logger.error("%s failed: %s at %s", path, type(error).__name__, place)
    if os.environ.get("TEXTCLF_DEBUG", "") not in ("", "0"):
        logger.error("%s", "".join(traceback.format_exception(error)).rstrip())
    return error_answer(500, "textclf failed; its log says where", [Problem(path, "has a bug", "a result")])


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _response(answer: Answer) -> Response:
    from starlette.responses import Response

    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **answer.headers}
    return Response(answer.content, answer.status, headers, answer.media_type)
