"""Addresses of tables, such as `s3://bucket/in/*.csv`: which are read and written, how they are shown, and what is there.

An address may contain a password or a signature. A `Location` is shown without it wherever it is printed or written.
fsspec and its packages speak the protocols; credentials come from the environment, as these packages define.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import quote

from textclf import extras
from textclf.errors import DataError, MissingPackageError, RunError, TextclfError
from textclf.files.network import is_offline

HIDDEN = "***"
"""What is shown in place of a password or a signature."""

# The protocols that are read, and the package that speaks each. Others could read from elsewhere or execute something.
_PACKAGES = {
    "https": "aiohttp",
    "http": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}

_WEB = ("https", "http")

# A `Path` made from an address has one slash. One letter before the colon is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?:/|:)")

_CHAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*::|::[A-Za-z][A-Za-z0-9+.-]*:")

_ANY_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"]+")

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

_LONGEST_REASON = 200

_SECONDS_TO_CONNECT, _SECONDS_BETWEEN_PARTS = 15, 60

if TYPE_CHECKING:
    _PathOfThisSystem = Path
else:
    _PathOfThisSystem = type(Path())  # before Python 3.12, `Path` itself has no subclasses


class Location(_PathOfThisSystem):
    """The address of a file or a pattern. `location_of` makes and checks it.

    It is a Path, so that whatever keeps or shows the files of a recipe keeps and shows it too. As text it is the address
    without its secret part; `address` is the whole. Only `open_location` and what uses it can read the file.
    """

    address: str

    def __new__(cls, address: str) -> Location:
        return super().__new__(cls, shown_address(_without_query(address)))

    def __init__(self, address: str) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(shown_address(_without_query(address)))
        self.address = address

    def __str__(self) -> str:
        return shown_address(self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __reduce__(self) -> tuple[type[Location], tuple[str]]:
        return Location, (self.address,)

    def absolute(self) -> Location:
        return self

    def with_name(self, name: str) -> Location:
        return Location(f"{shown_address(_without_query(self.address)).rpartition('/')[0]}/{name}")

    def joined(self, name: str) -> Location:
        """Returns the location of a file of this name inside of this one; it has no query."""
        return Location(f"{self.address.rstrip('/')}/{name}")

    @property
    def protocol(self) -> str:
        return self.address.partition(":")[0]

    @property
    def sent(self) -> str:
        """The address as fsspec gets it: a web address with spaces and letters beyond ASCII escaped."""
        return quote(self.address, safe=_PRINTABLE) if self.protocol in _WEB else self.address

    @property
    def has_secret(self) -> bool:
        """Whether the address has a part that is not shown."""
        return str(self) != self.address

    @property
    def is_pattern(self) -> bool:
        path = _without_query(self.address).partition("://")[2].partition("/")[2]
        return "*" in path if self.protocol in _WEB else any(mark in path for mark in "*?[")


class BrokenTransferError(DataError):
    """A connection that broke or could not be made. Another attempt may succeed."""


class Version(NamedTuple):
    """What a server says about a file: its size in bytes and a mark that changes with its content; None if it does not."""

    size: int | None
    mark: str | None


# --- Addresses -------------------------------------------------------------------------------------------------------
def is_address(given: str | os.PathLike[str]) -> bool:
    """Returns whether this is an address such as `https://…`, `s3://…` or `file://…` and not a path."""
    return bool(_ADDRESS.match(os.fspath(given)))


def location_of(given: str | os.PathLike[str]) -> Location | None:
    """Returns the Location of an address, None for a path. Raises DataError for an address that is not read."""
    if isinstance(given, Location):
        return given
    text = os.fspath(given)
    if not is_address(text) or os.path.exists(text):
        return None
    if problem := _problem(text):
        raise DataError(f"{shown_address(text)}: {problem}")
    protocol, _, rest = text.partition(":")
    return Location(f"{protocol.lower()}://{rest.lstrip('/')}")


def path_of(given: str | os.PathLike[str]) -> Path:
    """Returns a Location for an address, and a Path for a path. Raises DataError for an address that is not read."""
    return location_of(given) or Path(given)


def _problem(text: str) -> str | None:
    protocol, _, rest = text.partition(":")
    if protocol.lower() == "file":
        return "a file of this machine is named by its path; write the path without `file://`"
    if _CHAIN.search(_without_query(text)):
        return "several addresses are chained with `::`, which is not followed; name the file itself"
    if protocol.lower() not in _PACKAGES:
        known = ", ".join(f"{name}://" for name in _PACKAGES)
        return f"tables are read from {known} only; copy the file there or to this machine"
    if not rest.lstrip("/") or any(ord(character) < 0x20 or 0xD800 <= ord(character) <= 0xDFFF for character in text):
        return "this names no file; write the whole address, such as https://example.org/data.csv"
    return None


def _shown_parts(text: str) -> list[str]:
    """Returns the parts of an address that are hidden when it is shown."""
    authority = text.partition("://")[2].partition("/")[0]
    return [authority.rpartition("@")[0], text[len(_without_query(text)) :].lstrip("?#")]


def _without_query(address: str) -> str:
    """Returns an address without its query. In object stores `?` may be part of a name or of a pattern."""
    if address.partition(":")[0].lower() in _WEB:
        return re.split("[?#]", address, maxsplit=1)[0]
    path, mark, query = address.partition("?")
    return path if mark and ("=" in query or query == HIDDEN) else address


def shown_address(address: str) -> str:
    """Returns an address without its user, password and query, which may be a signature; a path as it is."""
    if not is_address(address):
        return address
    plain = _without_query(address)
    protocol, mark, rest = plain.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    # abfs://container@account.dfs.core.windows.net/…
    if at and (":" in user or not protocol.lower().startswith(("abfs", "az"))):
        authority = f"{HIDDEN}@{host}"
    return f"{protocol}{mark}{authority}{slash}{path}" + (f"?{HIDDEN}" if plain != address else "")


def without_secrets(text: str) -> str:
    """Returns a text, such as a word of a command, with the addresses in it as they are shown."""
    return _ANY_ADDRESS.sub(lambda found: shown_address(found[0]), text)


def is_below(location: Location, folder: Location) -> bool:
    """Returns whether a location is in a folder of an object store, also where another protocol of the store names it."""
    if location.protocol in _WEB or _PACKAGES[location.protocol] != _PACKAGES[folder.protocol]:
        return False
    return _key(location).startswith(f"{_key(folder).rstrip('/')}/")


def _key(location: Location) -> str:
    """Returns the container and the name of an object, without the account of the container."""
    container, slash, name = _without_query(location.address).partition("://")[2].partition("/")
    return f"{container.partition('@')[0]}{slash}{name}"


# --- What is there ---------------------------------------------------------------------------------------------------
def list_locations(pattern: str | Location) -> list[Location]:
    """Returns the files that a pattern matches, sorted by name; the location itself if it is no pattern.

    Raises DataError for a pattern that matches nothing, and for a protocol that cannot list files.
    """
    location = _given(pattern)
    if not location.is_pattern:
        return [location]
    if location.protocol in _WEB:
        raise DataError(
            f"{location}: a web server does not list its files, so a pattern cannot be used; name each file"
        )
    system = filesystem_of(location)
    with reported(location):
        names = sorted(
            name for name, about in system.glob(location.address, detail=True).items() if about["type"] == "file"
        )
    if not names:
        raise DataError(f"{location}: the pattern matches no file; check the address")
    container = location.address.partition("://")[2].partition("/")[0]
    if "@" in container:  # the account is no part of the names
        names = [f"{container}/{name.partition('/')[2]}" for name in names]
    return [Location(f"{location.protocol}://{name}") for name in names]


@contextmanager
def open_location(location: str | Location, start: int = 0) -> Iterator[BinaryIO]:
    """Opens a file for reading, from its byte `start`. What goes wrong inside becomes a DataError that names it."""
    location = _given(location)
    system = filesystem_of(location)
    with reported(location):
        # A web server may ignore ranges of bytes: the whole file is read in one answer.
        options = {"block_size": 0} if location.protocol in _WEB and not start else {"cache_type": "none"}
        with system.open(location.sent, "rb", **options) as file:
            if start:
                file.seek(start)
            yield cast("BinaryIO", file)


def version_of(location: Location) -> Version:
    """Returns the size and the version of a file. Raises DataError if it cannot be read."""
    system = filesystem_of(location)
    with reported(location):
        about = system.info(location.sent)
        if about.get("type") == "directory":
            raise DataError(f"{location}: is a folder; name a file in it, or a pattern such as {location}/*.csv")
        if location.protocol == "https" and str(about.get("url", "https:")).startswith("http:"):
            raise DataError(
                f"{location}: leads to an address without encryption (http); name that address if it is trusted"
            )
    return _version_in(about)


def _version_in(about: Mapping[str, Any]) -> Version:
    mark = next((about[key] for key in ("ETag", "etag", "md5Hash", "content_md5") if about.get(key)), None)
    return Version(about.get("size"), None if mark is None else str(mark).strip('"'))


def filesystem_of(location: Location, purpose: str = "to read tables from addresses") -> Any:
    """Returns the file system of fsspec for a location.

    Raises DataError if the network must not be used, and MissingPackageError if a package is not installed.
    """
    if HIDDEN in _shown_parts(location.address):
        raise DataError(
            f"{location}: its secret part was left out ({HIDDEN}) when it was written down; write the whole address"
        )
    if is_offline():
        raise DataError(
            f"{location}: the network is not to be used (--offline, TEXTCLF_OFFLINE); copy the file here where there is a "
            "network, and name its path"
        )
    extras.require("fsspec", purpose)
    if location.protocol in _WEB:
        extras.require("aiohttp", purpose)
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(location.protocol)
    except ImportError as error:
        package = _PACKAGES[location.protocol]
        raise MissingPackageError(
            f"{location}: {package} is not installed ({' '.join(str(error).split())}); run: pip install {package}"
        ) from None
    options = kind._get_kwargs_from_urls(location.address)
    if location.protocol in _WEB:
        options = _web_options()
    systems = _systems.get()
    key = f"{location.protocol} {options}"
    if systems is not None and key in systems:
        return systems[key]
    with reported(location):
        # Credentials of the environment may change between two commands of a process.
        system = fsspec.filesystem(location.protocol, skip_instance_cache=True, use_listings_cache=False, **options)
    if systems is not None:
        systems[key] = system
    return system


_systems: ContextVar[dict[str, Any] | None] = ContextVar("_systems", default=None)


@contextmanager
def shared_connections() -> Iterator[None]:
    """Inside, all files of a protocol are read by the same connections."""
    token = _systems.set({} if _systems.get() is None else _systems.get())
    try:
        yield
    finally:
        _systems.reset(token)


def _web_options() -> dict[str, Any]:
    import aiohttp

    # The default ends every transfer after five minutes. Proxies and .netrc are those of the environment.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SECONDS_TO_CONNECT, sock_read=_SECONDS_BETWEEN_PARTS)
    client = {"trust_env": True, "timeout": timeout}
    # Not decoded on the way, so that the sizes agree.
    return {"client_kwargs": client, "encoded": True, "headers": {"Accept-Encoding": "identity"}}


def _given(location: str | Location) -> Location:
    found = location_of(location)
    if found is None:
        raise DataError(f"{location}: is no address; write it as https://… or s3://…")
    return found


# --- Writing ---------------------------------------------------------------------------------------------------------
def check_writable(location: Location) -> None:
    """Raises RunError for an address that is not written: a pattern, a web server, an address with a secret part."""
    if location.protocol in _WEB:
        stores = [f"{name}://" for name in _PACKAGES if name not in _WEB]
        raise RunError(f"{location}: a web server cannot be written; name a file, or an address of {', '.join(stores)}")
    if location.has_secret or location.is_pattern:
        raise RunError(
            f"{location}: an output is a plain address; leave out the pattern or the part behind ?, and set credentials in the "
            "environment"
        )


def is_there(location: Location) -> bool:
    """Returns whether there is a file. Raises RunError if the server does not say."""
    system = filesystem_of(location, "to write tables to addresses")
    with reported(location, RunError):
        return bool(system.exists(location.sent))


def start_of(location: Location, size: int) -> bytes | None:
    """Returns the first bytes of a file, None if there is no file. Raises RunError if it cannot be read."""
    system = filesystem_of(location, "to write tables to addresses")
    with reported(location, RunError):
        if not system.exists(location.sent):
            return None
        with system.open(location.sent, "rb", cache_type="none") as file:
            return bytes(file.read(size))


def contents_of(location: Location) -> dict[str, Version]:
    """Returns the files and folders directly inside of a location, by name; none if there is nothing. Raises RunError if the
    server does not say."""
    system = filesystem_of(location, "to write tables to addresses")
    with reported(location, RunError):
        place = system._strip_protocol(location.address).rstrip("/")
        try:
            found = system.ls(location.address.rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
    own = {about["name"].rstrip("/"): about for about in found}
    return {name.rpartition("/")[2]: _version_in(about) for name, about in own.items() if name != place}


def remove(location: Location) -> None:
    """Removes a file. Raises RunError if that fails."""
    system = filesystem_of(location, "to write tables to addresses")
    with reported(location, RunError):
        system.rm_file(location.address)


def upload(file: Path, location: Location) -> None:
    """Writes a file to a location, where it appears as a whole or not at all. Raises RunError if that fails."""
    system = filesystem_of(location, "to write tables to addresses")
    with reported(location, RunError):
        system.put_file(str(file), location.address)
        size = system.info(location.sent)["size"]
    if size != file.stat().st_size:
        raise RunError(f"{location}: {size:,} of {file.stat().st_size:,} bytes were written; try again")


# --- What goes wrong -------------------------------------------------------------------------------------------------
@contextmanager
def reported(location: Location, kind: type[TextclfError] = DataError) -> Iterator[None]:
    """Turns the errors of fsspec and its packages into one that names the location, without its secret part."""
    try:
        yield
    except (TextclfError, MemoryError):
        raise
    except Exception as error:  # each package has its own
        raise _translated(location, error, kind) from None


def _translated(location: Location, error: BaseException, kind: type[TextclfError]) -> TextclfError:
    # fsspec says of whatever a web server answers that there is no such file.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
    status, name, reason = _status_of(cause), type(cause).__name__, _reason(cause, location)
    if status in (401, 403) or isinstance(cause, PermissionError) or _lacks_credentials(cause):
        said = f"HTTP {status}" if status else reason
        return kind(
            f"{location}: no permission to use it ({said}); check the address and the credentials in the environment"
        )
    if status in (404, 410) or (status is None and isinstance(cause, FileNotFoundError)):
        return kind(f"{location}: there is no such file; check the address")
    if name == "TooManyRedirects":
        return kind(f"{location}: the server leads from address to address without an end; check the address")
    if status is not None:
        return kind(f"{location}: the server answered HTTP {status}; try again later, or ask who runs the server")
    broken = BrokenTransferError if issubclass(BrokenTransferError, kind) else kind
    if name in ("ClientPayloadError", "IncompleteReadError", "ResponseStreamingError"):
        return broken(f"{location}: the transfer broke off ({reason}); run the command again")
    return broken(f"{location}: cannot be reached ({reason}); check the address and the network, then try again")


def _status_of(error: BaseException) -> int | None:
    """Returns the status of an HTTP answer, as the packages keep it."""
    response = getattr(error, "response", None)
    about = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = about.get("HTTPStatusCode") or getattr(error, "status", None) or getattr(error, "status_code", None)
    status = status or vars(error).get("code")  # gcsfs
    if isinstance(error, OSError) and str(error).startswith("Forbidden: "):
        status = 403
    return status if isinstance(status, int) and status >= 400 else None


def _lacks_credentials(error: BaseException) -> bool:
    """Returns whether a package found no credentials, or none that are valid. adlfs only says so."""
    kind = type(error).__name__
    return "Credential" in kind or kind == "RefreshError" or "account_name with credentials" in str(error)


def _reason(error: BaseException, location: Location) -> str:
    text = " ".join(str(error).split()).removeprefix("400, message: ").rstrip(".") or type(error).__name__
    for part in (location.address, *_shown_parts(location.address)):
        if part:
            text = text.replace(part, HIDDEN)
    return without_secrets(text)[:_LONGEST_REASON]
