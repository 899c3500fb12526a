"""Finds the encoder that a recipe names.

Takes `builtin`, a folder, an archive, a handle of TF Hub, Kaggle Models or Hugging Face, or the URL of an archive.
Returns the folder on this disk, downloaded and unpacked into the cache if needed, or the encoder read from it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urldefrag, urlsplit

from textclf.encoders.average_words import SOURCE as AVERAGE_WORDS
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats import formats_understood, read_encoder, read_facts, read_vocabulary
from textclf.encoders.formats.changes import BUILTIN
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.vocabulary import Vocabulary
from textclf.encoders.sources.archive import extract, is_archive
from textclf.encoders.sources.cache import (
    cached,
    cached_versions,
    downloads_folder,
    entry_name,
    make_cached,
)
from textclf.encoders.sources.download import INSTEAD, UnreachableError, download
from textclf.errors import EncoderError
from textclf.files.network import cache_folder, is_offline

_log = logging.getLogger(__name__)

DEFAULT_BUILTIN = "mobilebert-medium"

UNDERSTOOD = (
    "`builtin`, a folder, an archive (.tar.gz, .zip), tfhub:OWNER/MODEL/VERSION, kaggle:OWNER/MODEL/FRAMEWORK/VARIATION,"
    " hf:OWNER/MODEL[@REVISION], or the https address of an archive"
)

TFHUB = "https://tfhub.dev"

KAGGLE = "https://www.kaggle.com"

HUGGING_FACE = "https://huggingface.co"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")

_ARCHIVE_SUFFIX = re.compile(r"\.(tar|tgz|zip|tar\.(gz|bz2|xz))$", re.IGNORECASE)

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/(?!\.\.?$)[\w.-]+", re.ASCII)

_SHA256 = re.compile(r"sha256=([0-9a-fA-F]{64})")

_KAGGLE_HANDLE = re.compile(r"(?P<model>\w[\w.-]*(?:/\w[\w.-]*){3})(?:/(?:versions/)?(?P<version>\d+))?")

_CONTENT = "content"

_LONGEST_ANSWER = 4 * 2**20

_LARGEST_VERSION = 10**9


def load_checkpoint(source: str, base: Path | None = None) -> EncoderCheckpoint:
    """Returns the encoder that `source` names; relative paths are taken from the folder `base` (default: the current
    one).

    Raises EncoderError if it cannot be found, downloaded or read. Inside `network.offline` the network is never used.
    """
    folder = locate(source, base)
    with _named(source, folder):
        return read_encoder(folder)


def load_facts(source: str, base: Path | None = None) -> EncoderFacts:
    """Returns facts about the encoder that `source` names, without reading its weights and without TensorFlow."""
    folder = locate(source, base)
    with _named(source, folder):
        return read_facts(folder)


def load_vocabulary(source: str, base: Path | None = None) -> Vocabulary:
    """Returns the vocabulary of the encoder that `source` names, without reading its weights and without TensorFlow."""
    folder = locate(source, base)
    with _named(source, folder):
        return read_vocabulary(folder)


@contextmanager
def _named(source: str, folder: Path) -> Iterator[None]:
    """Names the source in errors about a folder of the cache, which the user does not know."""
    try:
        yield
    except EncoderError as error:
        if folder.is_relative_to(cache_folder()):
            raise EncoderError(f"{_shown(source)}: {error}") from error
        raise


def locate(source: str, base: Path | None = None) -> Path:
    """Returns the folder on this disk that holds the encoder named by `source`; raises EncoderError if there is none."""
    match = _SCHEME.match(source)
    scheme, rest = (match[1].lower(), source[match.end() :]) if match else ("", source)
    if source == AVERAGE_WORDS:
        raise EncoderError(
            "average-words: is learned from the rows of a recipe, so there is nothing to load; write it as a recipe's encoder"
        )
    if source == "builtin" or scheme == "builtin":
        return _builtin_folder(rest if scheme else DEFAULT_BUILTIN)
    if scheme in ("http", "https"):
        return _locate_url(source)
    if scheme == "tfhub":
        return _locate_tfhub(f"{TFHUB}/{rest.strip('/')}")
    if scheme == "kaggle":
        return _locate_kaggle(rest)
    if scheme == "hf":
        return _locate_hugging_face(rest)
    return _locate_path(source, base)


def builtin_names(root: Path = BUILTIN) -> list[str]:
    """Returns the names of the encoders that the package carries, which are subfolders of `root`."""
    return sorted(entry.name for entry in root.iterdir() if (entry / "config.json").is_file()) if root.is_dir() else []


def _builtin_folder(name: str) -> Path:
    names = builtin_names()
    if name in names:
        return BUILTIN / name
    known = ", ".join(f"builtin:{known}" for known in names) or "none in this installation"
    raise EncoderError(f"there is no built-in encoder {name!r}; known are: {known}{_nearest(name, names)}")


def _locate_path(source: str, base: Path | None) -> Path:
    try:
        path = (base or Path()) / Path(source).expanduser()
    except RuntimeError as error:
        raise EncoderError(f"{source}: cannot be found ({error}); write the whole path") from error
    try:
        if path.is_dir():
            return path
        if path.is_file():
            return _unpacked(path)
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    hint = _nearest(path.name, siblings)
    if not hint and _REPOSITORY.fullmatch(source):
        hint = f"; for the Hugging Face repository write hf:{source}"
    raise EncoderError(f"{path}: there is no such file or folder{hint}. An encoder is {UNDERSTOOD}")


def _unpacked(archive: Path) -> Path:
    """Returns the cache's folder with an archive's content. The content identifies the archive."""
    if not is_archive(archive):
        raise EncoderError(
            f"{archive}: is a file, but no archive; point to the folder that holds the whole encoder. {formats_understood()}"
        )
    digest = hashlib.sha256()
    with archive.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)

    def make(folder: Path) -> None:
        extract(archive, folder / _CONTENT)

    return make_cached(entry_name(archive.name, digest.hexdigest()), make) / _CONTENT


def _locate_url(url: str) -> Path:
    """Returns a page of one of the hubs, or else the address of an archive, perhaps followed by `#sha256=…`."""
    if url.startswith(f"{TFHUB}/"):
        return _locate_tfhub(url)
    if url.startswith(f"{HUGGING_FACE}/"):
        repository, _, revision = urlsplit(url).path.strip("/").partition("/tree/")
        return _locate_hugging_face(f"{repository}@{revision}" if revision else repository)
    if url.startswith(f"{KAGGLE}/models/"):
        return _locate_kaggle(urlsplit(url).path.removeprefix("/models/"))
    address, fragment = urldefrag(url)
    match = _SHA256.fullmatch(fragment)
    if fragment and not match:
        raise EncoderError(f"{_shown(url)}#{fragment}: is not understood; expected #sha256= and 64 hexadecimal digits")
    parts = urlsplit(address)
    if not parts.query and not _ARCHIVE_SUFFIX.search(parts.path):
        # Not the name of a file, but the address of a model on a server with TF Hub's protocol.
        return _locate_tfhub(address)
    return _fetched(address, _shown(address), sha256=match[1].lower() if match else None)


def _locate_tfhub(url: str) -> Path:
    """TF Hub's protocol (tensorflow.org/hub/hosting): the handle's own address serves an archive when asked for one."""
    address = urlsplit(url)._replace(path=urlsplit(url).path.rstrip("/"), query="tf-hub-format=compressed", fragment="")
    if not address.path:
        raise EncoderError(f"{url}: names no model; expected tfhub:OWNER/MODEL/VERSION")
    return _fetched(address.geturl(), _shown(address.geturl()))


def _locate_kaggle(handle: str) -> Path:
    """Kaggle's public API: a model's variation, the newest version unless one is named, as an archive."""
    match = _KAGGLE_HANDLE.fullmatch(handle.strip("/"))
    if not match:
        raise EncoderError(
            f"kaggle:{handle}: is not understood; expected kaggle:OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION], as in"
            " kaggle:tensorflow/mobilebert/tensorFlow2/en-uncased-l-24-h-128-b-512-a-4-f-4-opt"
        )
    api = f"{os.environ.get('KAGGLE_API_ENDPOINT', KAGGLE).rstrip('/')}/api/v1/models/{match['model']}"
    headers = _kaggle_headers()
    version = match["version"] or _newest_kaggle_version(api, f"kaggle:{match['model']}", headers)
    return _fetched(f"{api}/{version}/download", f"kaggle:{match['model']}/{version}", headers=headers)


def _newest_kaggle_version(api: str, name: str, headers: Mapping[str, str]) -> str:
    """Returns the version that Kaggle says is the newest; offline, or where Kaggle is down, of those that were fetched
    before."""
    before = max((version for version in cached_versions(name) if version.isdecimal()), key=int, default=None)
    if is_offline():
        if before is None:
            raise _not_fetched(name)
        return before
    with TemporaryDirectory() as folder:
        file = Path(folder) / "answer.json"
        try:
            download(f"{api}/get", file, name=name, headers=headers, largest=_LONGEST_ANSWER)
        except UnreachableError as error:
            if before is None:
                raise
            _log.warning("%s: Kaggle cannot be reached; version %s, which was fetched before, is used", name, before)
            _log.info("%s", error)
            return before
        try:
            version = json.loads(file.read_bytes())["versionNumber"]
        except (ValueError, KeyError, TypeError, RecursionError):
            version = None
    if type(version) is not int or not 0 < version < _LARGEST_VERSION:
        raise EncoderError(f"{name}: Kaggle names no newest version; name one, as in {name}/1")
    return str(version)


def _kaggle_headers() -> dict[str, str]:
    """Returns the user's Kaggle account, if there is one. Public models need none."""
    if token := os.environ.get("KAGGLE_API_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if user and key:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"}
    return {}


def _locate_hugging_face(handle: str) -> Path:
    from textclf.encoders.sources.hugging_face_hub import fetch_repository

    repository, _, revision = handle.strip("/").partition("@")
    if not _REPOSITORY.fullmatch(repository):
        raise EncoderError(
            f"hf:{handle}: is not understood; expected hf:OWNER/MODEL[@REVISION], as in hf:google/mobilebert-uncased"
        )
    return fetch_repository(repository, revision or "main")


def _fetched(address: str, name: str, *, headers: Mapping[str, str] | None = None, sha256: str | None = None) -> Path:
    """Returns the cache's folder with the content of the archive at an address, which is fetched only once."""
    entry = entry_name(name, f"{address}#{sha256}" if sha256 else address)
    if is_offline() and cached(entry) is None:
        raise _not_fetched(name)

    def make(folder: Path) -> None:
        archive = downloads_folder() / entry
        digest = download(address, archive, name=name, headers=headers, sha256=sha256)
        try:
            if not is_archive(archive):
                raise EncoderError(f"{name}: what arrived is neither a tar nor a zip archive; check the address")
            extract(archive, folder / _CONTENT)
        finally:
            archive.unlink(missing_ok=True)
        about = {"source": name, "sha256": digest, "fetched": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        (folder / "source.json").write_text(json.dumps(about, indent=2) + "\n")

    return make_cached(entry, make) / _CONTENT


def _not_fetched(name: str) -> EncoderError:
    return EncoderError(
        f"{name}: was not fetched before, and the network is not to be used (--offline, TEXTCLF_OFFLINE); {INSTEAD}"
    )


def _shown(url: str) -> str:
    """Returns a source; if it is a URL, without what may be secret in it: a password, and the signature in a query."""
    if not url.startswith(("http://", "https://")):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _nearest(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
