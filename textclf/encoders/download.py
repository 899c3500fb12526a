"""One file over HTTP onto the disk: streamed with progress, resumed after a break, and checked.

In: a URL and where the file shall stand. Out: the file, whole, and its SHA-256; or an error that says what to do instead.
Proxies are taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY, certificates as the library `requests` does.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from textclf.encoders.archive import LARGEST_CONTENT
from textclf.errors import EncoderError
from textclf.progress import Progress

if TYPE_CHECKING:
    from requests import Response

_MOST_FAILURES = 5
_LONGEST_PAUSE = 60.0
_TIMEOUTS = (10, 30)  # seconds to connect, and between two pieces of the answer
_CHUNK = 2**18
_OK, _PARTIAL, _RANGE_REFUSED = 200, 206, 416
_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_REFUSED = frozenset((401, 403))
_ABSENT = frozenset((404, 410))

INSTEAD = (
    "fetch it where there is a network, copy it here, and give the path of the archive or of its folder as the encoder's"
    " source; or use `builtin`, which needs no download"
)


class _InterruptedError(Exception):
    """The transfer broke in a way that may not happen again.

    `failures` is what it counts towards giving up, `pause` how many seconds the server asked to wait.
    """

    def __init__(self, what: str, failures: int = 1, pause: float | None = None) -> None:
        super().__init__(what)
        self.failures = failures
        self.pause = pause


def download(
    url: str, file: Path, *, name: str, headers: Mapping[str, str] | None = None, sha256: str | None = None
) -> str:
    """Fetches `url` into `file` and returns its SHA-256 in hexadecimal digits; `name` is what the user knows it by.

    A transfer that broke off in an earlier process goes on where it ended, if the server's file is still the same. The
    result is compared with `sha256` and with the length and the digests that the server publishes.

    Raises EncoderError when the file does not exist, is refused, is not what was published, or cannot be reached.
    """
    part = _Part(file, url)
    failures, farthest = 0, 0
    while True:
        try:
            _transfer(url, part, dict(headers or {}), name)
            digest = _check(part, sha256, name)
            part.finish()
            return digest
        except _InterruptedError as error:
            # A line that keeps breaking but gets on still gets there.
            failures = failures + error.failures if part.size <= farthest else error.failures
            farthest = max(farthest, part.size)
            if failures >= _MOST_FAILURES:
                raise EncoderError(f"{name}: {error}; {INSTEAD}") from error
            pause = min(_LONGEST_PAUSE, 2.0 ** (failures - 1) if error.pause is None else error.pause)
            Progress().say(f"{name}: {error}; trying again in {pause:g} s")
            time.sleep(pause)


class _Part:
    """An unfinished file, and beside it what is needed to go on with it later."""

    def __init__(self, file: Path, url: str) -> None:
        self.file = file
        self.path = file.with_name(f"{file.name}.part")
        self._state_file = file.with_name(f"{file.name}.part.json")
        # An address may hold a signature or a password; the note that stays on the disk shall not.
        self._address = hashlib.sha256(url.encode()).hexdigest()
        self.length: int | None = None
        self.digests: dict[str, bytes] = {}
        self.validator: str | None = None
        self.resumed = False
        try:
            state = json.loads(self._state_file.read_text())
            if state["address"] == self._address:
                self.validator = state["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if self.validator is None:
            self.restart(None)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def restart(self, validator: str | None) -> None:
        """Begins again from nothing; `validator` is how the server names this version of its file."""
        self.path.write_bytes(b"")
        self.validator = validator
        self._state_file.write_text(json.dumps({"address": self._address, "validator": validator}))

    def finish(self) -> None:
        os.replace(self.path, self.file)
        self._state_file.unlink()


def _transfer(url: str, part: _Part, headers: dict[str, str], name: str) -> None:
    """One request, and as much of the file as it gives."""
    # Not decoded on the way: a resumed transfer continues the bytes as they were sent, and the digests are over them.
    headers["Accept-Encoding"] = "identity"
    part.resumed = part.size > 0 and part.validator is not None
    if not part.resumed:
        part.restart(None)
    else:
        headers["Range"] = f"bytes={part.size}-"
        headers["If-Range"] = str(part.validator)
    with _request(url, headers, name) as response:
        _check_answer(url, response, name)
        if response.status_code == _RANGE_REFUSED:
            if response.headers.get("Content-Range") == f"bytes */{part.size}":
                # An earlier process had all of it, and ended before it could say so.
                return
            part.restart(None)
            raise _InterruptedError("the server refuses to go on with an earlier transfer")
        total = _total_length(response, part)
        if response.status_code == _OK:
            part.restart(_validator(response))
        part.length = total
        part.digests = _published_digests(response)
        if total is not None and total > LARGEST_CONTENT:
            raise EncoderError(
                f"{name}: is {total:,} bytes long, over the limit of {LARGEST_CONTENT:,}; that is no encoder"
            )
        _receive(response, part, name)
    if part.length is not None and part.size != part.length:
        broken = f"the connection was cut after {part.size:,} of {part.length:,} bytes"
        if part.size > part.length:
            part.restart(None)
        raise _InterruptedError(broken)


def _request(url: str, headers: dict[str, str], name: str) -> Response:
    import requests

    try:
        return requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS)
    except requests.exceptions.ProxyError as error:
        raise EncoderError(
            f"{name}: the proxy cannot be reached ({_reason(error)}); check HTTPS_PROXY, or {INSTEAD}"
        ) from error
    except requests.exceptions.SSLError as error:
        raise EncoderError(
            f"{name}: the server's certificate is not trusted ({_reason(error)}); behind a firewall that has its own,"
            f" set REQUESTS_CA_BUNDLE to its file; or {INSTEAD}"
        ) from error
    except (requests.exceptions.ConnectTimeout, requests.exceptions.ConnectionError) as error:
        raise _InterruptedError(f"cannot be reached ({_reason(error)})", failures=3) from error
    except requests.exceptions.Timeout as error:
        raise _InterruptedError(f"does not answer ({_reason(error)})") from error
    except (requests.exceptions.RequestException, ValueError) as error:
        raise EncoderError(f"{name}: cannot be fetched ({_reason(error)}); check the address") from error


def _check_answer(url: str, response: Response, name: str) -> None:
    """Raises unless the server sends the file, or the rest of it."""
    status = f"{response.status_code} {response.reason}".strip()
    if response.status_code in _ABSENT:
        raise EncoderError(f"{name}: does not exist there ({status}); check its spelling and version")
    if response.status_code in _REFUSED:
        raise EncoderError(f"{name}: the server refuses access ({status}); log in where it needs that, or {INSTEAD}")
    if response.status_code in _TRANSIENT:
        raise _InterruptedError(f"the server answers {status}", pause=_retry_after(response))
    if response.status_code not in (_OK, _PARTIAL, _RANGE_REFUSED):
        raise EncoderError(f"{name}: the server answers {status}; {INSTEAD}")
    if urlsplit(url).scheme == "https" and urlsplit(response.url).scheme != "https":
        raise EncoderError(f"{name}: leads from https to {response.url}, which nobody vouches for; {INSTEAD}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise EncoderError(
            f"{name}: the server answers with a web page, not with a file; check the address, or {INSTEAD}"
        )


def _total_length(response: Response, part: _Part) -> int | None:
    """The length of the whole file; for the rest of a file, raises unless it is the rest that was asked for."""
    if response.status_code == _OK:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != part.size:
        part.restart(None)
        raise _InterruptedError("the server sends another part than the missing one")
    return int(match[2]) if match[2] != "*" else None


def _receive(response: Response, part: _Part, name: str) -> None:
    from urllib3.exceptions import HTTPError

    with part.path.open("ab") as output, _shown(name, part.length, part.size) as advance:
        try:
            while chunk := response.raw.read(_CHUNK, decode_content=False):
                output.write(chunk)
                advance(len(chunk))
                if output.tell() > LARGEST_CONTENT:
                    raise EncoderError(f"{name}: is longer than {LARGEST_CONTENT:,} bytes; that is no encoder")
        except (HTTPError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            output.flush()
            of_total = f" of {part.length:,}" if part.length is not None else ""
            raise _InterruptedError(f"the connection was cut after {output.tell():,}{of_total} bytes") from error


def _check(part: _Part, sha256: str | None, name: str) -> str:
    """The SHA-256 of the finished part; raises unless it is what was asked for and published."""
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
            raise EncoderError(
                f"{name}: what arrived is not what was published: {problem}; try again later, or {INSTEAD}"
            )
    return found["sha256"].hex()


def _digests(file: Path, algorithms: Iterable[str]) -> dict[str, bytes]:
    hashes = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms}
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            for digest in hashes.values():
                digest.update(chunk)
    return {algorithm: digest.digest() for algorithm, digest in hashes.items()}


def _published_digests(response: Response) -> dict[str, bytes]:
    """Digests of the whole file: Google Cloud Storage's `x-goog-hash`, RFC 9530's `Repr-Digest`, RFC 3230's `Digest`."""
    found: dict[str, bytes] = {}
    for header in ("x-goog-hash", "Repr-Digest", "Digest"):
        for item in response.headers.get(header, "").split(","):
            label, _, value = item.strip().partition("=")
            algorithm = {"md5": "md5", "sha-256": "sha256"}.get(label.lower())
            if algorithm:
                try:
                    found[algorithm] = base64.b64decode(value.strip(":"), validate=True)
                except ValueError:
                    continue
    return found


def _validator(response: Response) -> str | None:
    """What `If-Range` can be asked with; a weak ETag does not promise the same bytes."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _retry_after(response: Response) -> float | None:
    """The seconds that the server asks to wait, given as such or as a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _reason(error: BaseException) -> str:
    """The innermost cause of a failed request, without the names of the library's objects."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        causes = (getattr(error, "reason", None), *error.args)
        inner = next((cause for cause in causes if isinstance(cause, Exception)), None)
    text = str(error)
    return text.rpartition(": ")[2] if text.startswith(("<", "HTTP")) else text


@contextmanager
def _shown(name: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """Shows a transfer on standard error: a line, and on a terminal a live bar. Yields what each chunk is told to."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    size = f" ({total / 1e6:.1f} MB)" if total is not None else ""
    Progress().say(f"fetching {name}{size}" + (f", going on after {done / 1e6:.1f} MB" if done else ""))
    columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=total, completed=done)
        yield lambda count: bars.update(task, advance=count)
