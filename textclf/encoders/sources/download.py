"""Downloads a file over HTTP: streams it to disk, resumes after a break, and checks it. No answer is trusted unchecked.

Takes a URL and the path of the file, and returns its SHA-256 when it is complete, or raises an error that says what to
do. Proxies come from HTTP_PROXY, HTTPS_PROXY and NO_PROXY, certificates from the library `requests`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from textclf.encoders.sources.archive import LARGEST_CONTENT
from textclf.errors import EncoderError
from textclf.extras import require

if TYPE_CHECKING:
    from requests import Response, Session

    from textclf.encoders.sources.patience import Patience

_log = logging.getLogger(__name__)

_MOST_FAILURES = 5

_LONGEST_PAUSE = 60.0

TIMEOUTS = (10, 15)  # seconds to connect, and between two parts of the answer

# Seconds for all headers of an answer, and for each chunk of its body. Slower than about 1 kB a second counts as broken.
SECONDS_FOR_HEADERS = 15.0

SECONDS_A_CHUNK = 12.0

_CHUNK = 2**14

_TOO_SLOW = "the server is too slow: it sends less than 1 kB a second"

LONGEST_TRANSFER = 6 * 3600.0

# The bytes that an attempt must transfer to reset the count of failures.
_LEAST_PROGRESS = 2**14

_MOST_REDIRECTS = 10

_SECONDS_BETWEEN_LINES = 10.0

_OK, _PARTIAL, _RANGE_REFUSED = 200, 206, 416

_REDIRECTS = frozenset((301, 302, 303, 307, 308))

_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))

_REFUSED = frozenset((401, 403))

_ABSENT = frozenset((404, 410))

_LONGEST_VALIDATOR = 1000

_DIGITS = re.compile(r"[0-9]{1,18}")

_DIGEST_BYTES = {"md5": 16, "sha256": 32}

INSTEAD = (
    "fetch it where there is a network, copy it here, and give the path of the archive or of its folder as the encoder's"
    " source; or use `builtin`, which needs no download"
)

Digests = dict[str, bytes]
"""By algorithm, of the whole file: md5, sha256, or `git`, which is SHA-1 over git's header and the content."""


class ServerRefusalError(EncoderError):
    """A final answer: `status` is its HTTP status, `code` the reason of a hub, if any."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnreachableError(EncoderError):
    """The server cannot be reached or does not work. An earlier download may be used."""


class _UnacceptableError(EncoderError):
    """The received data cannot be the file. Nothing of it is kept."""


class _InterruptedError(Exception):
    """The transfer broke, but another attempt may succeed.

    `failures` is the number of failures that it counts as, `pause` how many seconds the server asked to wait; `slow`
    ones count even when some bytes arrived.
    """

    def __init__(self, what: str, failures: int = 1, pause: float | None = None, slow: bool = False) -> None:
        super().__init__(what)
        self.failures = failures
        self.pause = pause
        self.slow = slow


def published_digests(responses: Sequence[Response]) -> Digests:
    """Of the last answer: Google Cloud Storage's `x-goog-hash`, RFC 9530's `Repr-Digest`, RFC 3230's `Digest`.

    Raises ValueError for an invalid digest.
    """
    found: Digests = {}
    for header in ("x-goog-hash", "Repr-Digest", "Digest"):
        for item in responses[-1].headers.get(header, "").split(","):
            label, _, value = item.strip().partition("=")
            algorithm = {"md5": "md5", "sha-256": "sha256"}.get(label.lower())
            if algorithm:
                digest = base64.b64decode(value.strip(":"), validate=True)
                if len(digest) != _DIGEST_BYTES[algorithm]:
                    raise ValueError(f"{header} has a {algorithm} of {len(digest)} bytes")
                found[algorithm] = digest
    return found


def download(
    url: str,
    file: Path,
    *,
    name: str,
    headers: Mapping[str, str] | None = None,
    sha256: str | None = None,
    digests: Callable[[Sequence[Response]], Digests] = published_digests,
    largest: int | None = None,
) -> str:
    """Fetches `url` into `file` and returns its SHA-256 in hexadecimal digits; `name` is its name for the user.

    A transfer that broke off in an earlier process continues where it ended, if the server's file is still the same.
    The result is compared with `sha256`, with the published length and with what `digests` finds in the answers, the
    redirects first. Nothing is kept of a file that is longer than `largest` (default: LARGEST_CONTENT) or differs from
    what was published.

    Raises EncoderError when the file does not exist, is refused, is not what was published, or cannot be reached.
    """
    part = _Part(file, url)
    failures, farthest = 0, 0
    most = LARGEST_CONTENT if largest is None else largest
    ends = monotonic() + LONGEST_TRANSFER
    while True:
        try:
            _transfer(url, part, dict(headers or {}), name, digests, most, ends)
            digest = _check(part, sha256, name)
            part.finish()
            return digest
        except _UnacceptableError:
            part.remove()
            raise
        except _InterruptedError as error:
            # A connection that keeps breaking but makes progress still succeeds.
            progressed = part.size >= farthest + _LEAST_PROGRESS and not error.slow
            failures = error.failures if progressed else failures + error.failures
            farthest = max(farthest, part.size)
            if failures >= _MOST_FAILURES or monotonic() > ends:
                raise UnreachableError(f"{name}: {error}; {INSTEAD}") from error
            pause = min(_LONGEST_PAUSE, 2.0 ** (failures - 1) if error.pause is None else error.pause)
            _log.info("%s: %s; trying again in %g s", name, error, pause)
            time.sleep(pause)


class _Part:
    """An unfinished file, with the data that is needed to resume it later."""

    def __init__(self, file: Path, url: str) -> None:
        self.file = file
        self.path = file.with_name(f"{file.name}.part")
        self._state_file = file.with_name(f"{file.name}.part.json")
        # An address may contain a signature or a password, which must not stay on the disk.
        self._address = hashlib.sha256(url.encode()).hexdigest()
        self.length: int | None = None
        self.digests: Digests = {}
        self.validator: str | None = None
        self.resumed = False
        try:
            state = json.loads(self._state_file.read_text())
            if state["address"] == self._address and isinstance(state["validator"], str):
                self.validator = state["validator"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        # Nothing is written through a link of somebody else.
        if self.validator is None or self.path.is_symlink():
            self.restart(None)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def restart(self, validator: str | None) -> None:
        """Starts again from nothing. `validator` is the server's name of this version of its file."""
        self.remove()
        self.path.open("xb").close()
        self.validator = validator
        with self._state_file.open("x") as state:
            json.dump({"address": self._address, "validator": validator}, state)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state_file.unlink(missing_ok=True)

    def finish(self) -> None:
        os.replace(self.path, self.file)
        self._state_file.unlink(missing_ok=True)


def _transfer(
    url: str,
    part: _Part,
    headers: dict[str, str],
    name: str,
    digests: Callable[[Sequence[Response]], Digests],
    largest: int,
    ends: float,
) -> None:
    """Sends one request, follows its redirects, and stores as much of the file as arrives."""
    # Not decoded on the way: a resumed transfer continues the bytes as they were sent, and the digests are over them.
    headers["Accept-Encoding"] = "identity"
    part.resumed = part.size > 0 and part.validator is not None
    if not part.resumed:
        part.restart(None)
    else:
        headers["Range"] = f"bytes={part.size}-"
        headers["If-Range"] = str(part.validator)
    require("requests", "to download encoders")
    from textclf.encoders.sources.patience import watched_session

    with watched_session(ends) as (session, patience), _translated(name, patience):
        responses = _responses(session, patience, url, headers, name)
        response = responses[-1]
        _check_answer(response, name)
        part.digests = _digests_of(responses, digests, name)
        if response.status_code == _RANGE_REFUSED:
            if response.headers.get("Content-Range") == f"bytes */{part.size}":
                # An earlier process had all of it, and ended before it could say so.
                return
            part.restart(None)
            raise _InterruptedError("the server refuses to continue an earlier transfer")
        total = _total_length(response, part)
        if response.status_code == _OK:
            part.restart(_validator(response))
        part.length = total
        if total is not None and total > largest:
            raise _UnacceptableError(
                f"{name}: is {total:,} bytes long, over the limit of {largest:,}; check the address"
            )
        _receive(response, part, patience, name, largest)
    if part.length is not None and part.size != part.length:
        broken = f"the connection was cut after {part.size:,} of {part.length:,} bytes"
        if part.size > part.length:
            part.restart(None)
        raise _InterruptedError(broken)


def _responses(session: Session, patience: Patience, url: str, headers: dict[str, str], name: str) -> list[Response]:
    """Returns the answers to a request: the redirects in their order, each checked before it is followed, then the last
    one."""
    responses: list[Response] = []
    while True:
        patience.allow(SECONDS_FOR_HEADERS)
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUTS, allow_redirects=False)
        responses.append(response)
        target = session.get_redirect_target(response) if response.status_code in _REDIRECTS else None
        if target is None:
            return responses
        if len(responses) > _MOST_REDIRECTS:
            raise EncoderError(f"{name}: leads on more than {_MOST_REDIRECTS} times; check the address, or {INSTEAD}")
        following = urljoin(response.url, target)
        _check_redirect(response.url, following, name)
        if _origin(following) != _origin(response.url):
            # An account is sent only to the server that it belongs to.
            headers = {key: value for key, value in headers.items() if key.lower() not in ("authorization", "cookie")}
        response.close()
        url = following


def _check_redirect(url: str, target: str, name: str) -> None:
    """Raises an error for a redirect that leaves HTTP, or that leaves https."""
    parts = urlsplit(target)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise EncoderError(f"{name}: leads to {place!r}, which is not a web address; check the address, or {INSTEAD}")
    if urlsplit(url).scheme.lower() == "https" and parts.scheme.lower() != "https":
        raise EncoderError(
            f"{name}: leads from https to {place!r}, where anybody on the way could change it; check the address, or"
            f" {INSTEAD}"
        )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.hostname, parts.port


@contextmanager
def _translated(name: str, patience: Patience) -> Iterator[None]:
    """Translates errors of the HTTP libraries."""
    import requests
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (EncoderError, _InterruptedError):
        raise
    except (requests.exceptions.RequestException, HTTPError, ValueError, OSError) as error:
        if patience.ended:
            raise _InterruptedError(_TOO_SLOW, failures=_MOST_FAILURES - 1, pause=1.0, slow=True) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        if isinstance(error, requests.exceptions.ProxyError):
            raise UnreachableError(
                f"{name}: the proxy cannot be reached ({_reason(error)}); check HTTPS_PROXY, or {INSTEAD}"
            ) from error
        if isinstance(error, requests.exceptions.SSLError):
            raise EncoderError(
                f"{name}: the server's certificate is not trusted ({_reason(error)}); behind a firewall that has its own,"
                f" set REQUESTS_CA_BUNDLE to its file; or {INSTEAD}"
            ) from error
        if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ConnectionError):
            raise _InterruptedError(f"cannot be reached ({_reason(error)})", failures=3) from error
        if isinstance(error, requests.exceptions.Timeout):
            raise _InterruptedError(f"does not answer ({_reason(error)})") from error
        raise EncoderError(f"{name}: cannot be fetched ({_reason(error)}); check the address") from error


def _check_answer(response: Response, name: str) -> None:
    """Raises an error unless the server sends the file, or the rest of it."""
    status = f"{response.status_code} {response.reason}".strip()
    code = response.headers.get("X-Error-Code", "")
    if response.status_code in _ABSENT:
        message = f"{name}: does not exist there ({status}); check its spelling and version"
        raise ServerRefusalError(message, response.status_code, code)
    if response.status_code in _REFUSED:
        message = f"{name}: the server refuses access ({status}); log in where it needs that, or {INSTEAD}"
        raise ServerRefusalError(message, response.status_code, code)
    if response.status_code in _TRANSIENT:
        raise _InterruptedError(f"the server answers {status}", pause=_retry_after(response))
    if response.status_code not in (_OK, _PARTIAL, _RANGE_REFUSED):
        message = f"{name}: the server answers {status}; {INSTEAD}"
        raise ServerRefusalError(message, response.status_code, code)
    if response.headers.get("Content-Type", "").strip().lower().startswith("text/html"):
        raise EncoderError(
            f"{name}: the server answers with a web page, not with a file; check the address, or {INSTEAD}"
        )


def _digests_of(responses: Sequence[Response], digests: Callable[[Sequence[Response]], Digests], name: str) -> Digests:
    try:
        return digests(responses)
    except ValueError as error:
        raise _UnacceptableError(
            f"{name}: the server publishes an invalid hash ({error}), so nothing could be compared; {INSTEAD}"
        ) from error


def _total_length(response: Response, part: _Part) -> int | None:
    """Returns the length of the whole file; for the rest of a file, raises unless it is the rest that was asked for."""
    if response.status_code == _OK:
        length = response.headers.get("Content-Length", "")
        return int(length) if _DIGITS.fullmatch(length) else None
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != part.size:
        part.restart(None)
        raise _InterruptedError("the server sends another part than the missing one")
    return int(match[2]) if match[2] != "*" else None


def _receive(response: Response, part: _Part, patience: Patience, name: str, largest: int) -> None:
    from urllib3.exceptions import HTTPError

    report = _Report(name, part.length, part.size)
    with part.path.open("ab") as output:
        try:
            patience.allow(SECONDS_A_CHUNK)
            while chunk := response.raw.read(_CHUNK, decode_content=False):
                patience.allow(SECONDS_A_CHUNK)
                output.write(chunk)
                if output.tell() > largest:
                    raise _UnacceptableError(f"{name}: is longer than {largest:,} bytes; check the address")
                report.show(output.tell())
        except (HTTPError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            output.flush()
            if patience.ended:
                raise
            of_total = f" of {part.length:,}" if part.length is not None else ""
            raise _InterruptedError(f"the connection was cut after {output.tell():,}{of_total} bytes") from error
        if patience.ended:
            raise OSError("the connection was closed here")


def _check(part: _Part, sha256: str | None, name: str) -> str:
    """Returns the SHA-256 of the finished part; raises unless it is what was asked for and published."""
    wanted = dict(part.digests)
    if sha256 is not None:
        wanted["sha256"] = bytes.fromhex(sha256)
    found = _digests(part.path, {"sha256", *wanted})
    for algorithm, digest in wanted.items():
        if found[algorithm] != digest:
            resumed = part.resumed
            part.restart(None)
            problem = f"its {algorithm} is {found[algorithm].hex()}, but {digest.hex()} was published"
            if resumed:
                raise _InterruptedError(problem)
            raise _UnacceptableError(
                f"{name}: what arrived is not what was published: {problem}; try again later, or {INSTEAD}"
            )
    return found["sha256"].hex()


def _digests(file: Path, algorithms: Iterable[str]) -> Digests:
    hashes = {
        algorithm: hashlib.new({"git": "sha1"}.get(algorithm, algorithm), usedforsecurity=False)
        for algorithm in algorithms
    }
    if "git" in hashes:
        hashes["git"].update(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            for digest in hashes.values():
                digest.update(chunk)
    return {algorithm: digest.digest() for algorithm, digest in hashes.items()}


def _validator(response: Response) -> str | None:
    """Returns the value for `If-Range`. A weak ETag does not guarantee the same bytes."""
    etag = response.headers.get("ETag")
    found = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    # It is sent back as a header, so it must be one short line.
    return found if found and len(found) <= _LONGEST_VALIDATOR and found.isascii() and found.isprintable() else None


def _retry_after(response: Response) -> float | None:
    """Returns the seconds that the server asks to wait, given as such or as a date."""
    value = response.headers.get("Retry-After", "")
    if _DIGITS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, IndexError, OverflowError, OSError):
        return None


def _reason(error: BaseException) -> str:
    """Returns the innermost cause of a failed request, without the names of the library's objects."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        causes = (getattr(error, "reason", None), *error.args)
        inner = next((cause for cause in causes if isinstance(cause, Exception)), None)
    text = str(error)
    return text.rpartition(": ")[2] if text.startswith(("<", "HTTP")) else text


class _Report:
    """Logs a transfer: a line when it begins, then one every few seconds."""

    def __init__(self, name: str, total: int | None, done: int) -> None:
        size = f" ({total / 1e6:.1f} MB)" if total is not None else ""
        _log.info("fetching %s%s%s", name, size, f", continuing after {done / 1e6:.1f} MB" if done else "")
        self._total = f" of {total / 1e6:.1f}" if total is not None else ""
        self._next = monotonic() + _SECONDS_BETWEEN_LINES

    def show(self, done: int) -> None:
        if monotonic() >= self._next:
            _log.info("%.1f%s MB", done / 1e6, self._total)
            self._next = monotonic() + _SECONDS_BETWEEN_LINES
