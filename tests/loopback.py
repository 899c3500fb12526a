"""Servers on this machine that speak the protocols of the model hubs, with the faults that networks have."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class Answer:
    """`cut_after`: the connection is closed after so many bytes of the body, whatever the length said."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    without_length: bool = False


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away in the middle of an answer is what many tests are about."""


class Server:
    """Answers each request by `answer`, and keeps what was asked."""

    def __init__(self, answer: Callable[[Request], Answer], certificate: Path | None = None) -> None:
        """`certificate` holds a certificate and its key; the server then speaks https."""
        self.requests: list[Request] = []
        self.answer = answer
        self._http = _QuietServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self.url = f"https://localhost:{self._http.server_port}"

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()

    def _handler(server: Server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, unquote(parts.path), parse_qs(parts.query), headers)
                server.requests.append(request)
                self._send(server.answer(request))

            do_HEAD = do_GET  # noqa: N815 - the base class's name

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                headers = {"Content-Length": str(len(answer.body)), **answer.headers}
                if answer.without_length:
                    del headers["Content-Length"]
                    headers["Connection"] = "close"
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body[: answer.cut_after])
                if answer.cut_after is not None or answer.without_length:
                    self.wfile.flush()
                    self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        return Handler


def file_answer(request: Request, content: bytes, etag: str | None = '"1"', **headers: str) -> Answer:
    """What a file server answers: the file, or the part of it that `Range` asks for if `If-Range` still holds."""
    headers = {"Accept-Ranges": "bytes", **headers, **({"ETag": etag} if etag else {})}
    match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    if not match or request.headers.get("if-range", etag) != etag:
        return Answer(200, content, headers)
    start = int(match[1])
    if start >= len(content):
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Answer(206, content[start:], headers)


def google_hashes(content: bytes) -> str:
    """The header with which Google Cloud Storage publishes hashes."""
    return f"crc32c=AAAAAA==, md5={base64.b64encode(hashlib.md5(content).digest()).decode()}"


class TfHub:
    """tfhub.dev: a handle asked for with `tf-hub-format=compressed` leads to the archive in a storage of its own."""

    def __init__(self, archives: dict[str, bytes]) -> None:
        self.archives = archives

    def __call__(self, request: Request) -> Answer:
        if request.path.startswith("/storage/"):
            content = self.archives[request.path.removeprefix("/storage").removesuffix(".tar.gz")]
            return file_answer(
                request, content, **{"Content-Type": "application/gzip", "x-goog-hash": google_hashes(content)}
            )
        if request.path not in self.archives:
            return Answer(404, b"no such model")
        if request.query.get("tf-hub-format") != ["compressed"]:
            return Answer(200, b"<html>a page about the model</html>", {"Content-Type": "text/html; charset=utf-8"})
        return Answer(302, b"", {"Location": f"/storage{request.path}.tar.gz"})


class Kaggle:
    """Kaggle's API: `…/get` tells the newest version, `…/<version>/download` leads to the archive."""

    def __init__(self, versions: dict[str, dict[int, bytes]]) -> None:
        self.versions = versions

    def __call__(self, request: Request) -> Answer:
        if match := re.fullmatch(r"/storage/(.+)/(\d+)", request.path):
            return file_answer(request, self.versions[match[1]][int(match[2])])
        match = re.fullmatch(r"/api/v1/models/(.+)/get", request.path)
        if match and match[1] in self.versions:
            return Answer(200, json.dumps({"versionNumber": max(self.versions[match[1]])}).encode())
        match = re.fullmatch(r"/api/v1/models/(.+)/(\d+)/download", request.path)
        if match and int(match[2]) in self.versions.get(match[1], {}):
            return Answer(302, b"", {"Location": f"/storage/{match[1]}/{match[2]}"})
        return Answer(404, b'{"code": 404}', {"Content-Type": "application/json"})


class HuggingFace:
    """huggingface.co: a repository's revisions and files, large ones by a redirect to a storage, with hashes as ETags."""

    def __init__(self, repository: str, files: dict[str, bytes], revisions: tuple[str, ...] = ("main",)) -> None:
        self.repository, self.files, self.revisions = repository, files, revisions
        self.commit = hashlib.sha1(repr(sorted(files)).encode()).hexdigest()
        self.damaged: dict[str, bytes] = {}
        self.storage = ""

    @staticmethod
    def is_large(name: str) -> bool:
        return name.endswith((".safetensors", ".bin", ".h5"))

    def etag(self, name: str) -> str:
        content = self.files[name]
        if self.is_large(name):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def __call__(self, request: Request) -> Answer:
        if match := re.fullmatch(r"/storage/(.+)", request.path):
            name = match[1]
            return file_answer(request, self.damaged.get(name, self.files[name]), f'"{self.etag(name)}"')
        match = re.fullmatch(rf"/api/models/{self.repository}(?:/(revision|tree)/([^/]+))?", request.path)
        if match:
            return self._about(match[1], match[2] or "main")
        match = re.fullmatch(rf"/{self.repository}/resolve/([^/]+)/(.+)", request.path)
        if match:
            return self._file(request, match[1], match[2])
        return self._error(404 if request.path.startswith("/api") else 401, "RepoNotFound")

    def _error(self, status: int, code: str) -> Answer:
        return Answer(status, b'{"error": "no"}', {"X-Error-Code": code, "Content-Type": "application/json"})

    def _about(self, what: str | None, revision: str) -> Answer:
        if revision not in (*self.revisions, self.commit):
            return self._error(404, "RevisionNotFound")
        json_header = {"Content-Type": "application/json"}
        if what == "tree":
            entries = []
            for name, content in self.files.items():
                entry = {"type": "file", "path": name, "size": len(content), "oid": self.etag(name)[:40]}
                if self.is_large(name):
                    entry["lfs"] = {"oid": self.etag(name), "size": len(content), "pointerSize": 134}
                entries.append(entry)
            return Answer(200, json.dumps(entries).encode(), json_header)
        about = {
            "id": self.repository,
            "modelId": self.repository,
            "sha": self.commit,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": name} for name in self.files],
        }
        return Answer(200, json.dumps(about).encode(), json_header)

    def _file(self, request: Request, revision: str, name: str) -> Answer:
        if revision not in (*self.revisions, self.commit):
            return self._error(404, "RevisionNotFound")
        if name not in self.files:
            return self._error(404, "EntryNotFound")
        headers = {"X-Repo-Commit": self.commit}
        if self.is_large(name):
            headers["X-Linked-Etag"] = f'"{self.etag(name)}"'
            headers["X-Linked-Size"] = str(len(self.files[name]))
            headers["ETag"] = '"pointer"'
            return Answer(302, b"", {**headers, "Location": f"{self.storage}/storage/{name}"})
        return file_answer(request, self.damaged.get(name, self.files[name]), f'"{self.etag(name)}"', **headers)
