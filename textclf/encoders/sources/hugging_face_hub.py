"""Downloads a Hugging Face repository into the cache, over the hub's HTTP interface.

Takes a repository and a revision, and returns a folder with the configuration, the vocabulary and one format of the
weights. Each file is compared with the hash that the hub publishes. Names and hashes of the hub are checked before use;
the library `huggingface_hub` is not used, because it takes file names from the server's answers.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from textclf.encoders.sources.cache import (
    cached,
    downloads_folder,
    entry_name,
    make_cached,
    remember,
    remembered,
)
from textclf.encoders.sources.download import INSTEAD, Digests, ServerRefusalError, UnreachableError, download
from textclf.errors import EncoderError
from textclf.files.network import is_offline

if TYPE_CHECKING:
    from requests import Response

_log = logging.getLogger(__name__)

HUB = "https://huggingface.co"

# If a repository has several formats of the weights, the first in this list is downloaded.
_WEIGHTS = (
    ("model.safetensors", re.compile(r"model-\d{5}-of-\d{5}\.safetensors"), "model.safetensors.index.json"),
    ("pytorch_model.bin", re.compile(r"pytorch_model-\d{5}-of-\d{5}\.bin"), "pytorch_model.bin.index.json"),
    ("tf_model.h5", None, None),
)

_OTHERS = ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "README.md")

_COMMIT = re.compile(r"[0-9a-f]{40}")

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_SHA1_DIGITS = 40

_LONGEST_ANSWER = 4 * 2**20

_CONTENT = "content"


@dataclass(frozen=True)
class _Revision:
    """The files of a repository at a commit. `digests` has the hashes in the hub's list."""

    commit: str
    files: list[str]
    digests: dict[str, Digests]


def fetch_repository(repository: str, revision: str) -> Path:
    """Returns the folder of `repository` at `revision` (a branch, tag or commit).

    Offline, or if the hub cannot be reached, an earlier download is used. Raises EncoderError if there is none,
    for a repository or revision that does not exist or is closed, and for a file that arrived damaged.
    """
    name = f"hf:{repository}@{revision}"
    before = _fetched_before(repository, revision)
    if is_offline():
        if before is None:
            raise EncoderError(f"{name}: was not fetched before and the network is not to be used; {INSTEAD}")
        return before
    if before is not None and _COMMIT.fullmatch(revision):
        return before
    try:
        return _fetch(repository, revision, name)
    except UnreachableError as error:
        if before is None:
            raise
        _log.warning("%s: the hub cannot be reached; what was fetched before is used", name)
        _log.info("%s", error)
        return before
    except ServerRefusalError as error:
        raise EncoderError(f"{name}: {_explain(error)}") from error


def _fetch(repository: str, revision: str, name: str) -> Path:
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    headers = _headers()
    about = _about(hub, repository, revision, headers, name)
    files = _wanted(about.files, name)
    entry = _entry(repository, about.commit)

    def make(folder: Path) -> None:
        (folder / _CONTENT).mkdir()
        # Large files last: small files are quickly downloaded again after a broken transfer.
        for file in files:
            url = f"{hub}/{repository}/resolve/{about.commit}/{file}"
            arrived = downloads_folder() / f"{entry}-{file}"
            listed = about.digests.get(file, {})

            def digests(responses: Sequence[Response], listed: Digests = listed) -> Digests:
                return listed or _hash_in_headers(responses)

            download(url, arrived, name=f"{name}: {file}", headers=headers, digests=digests)
            os.replace(arrived, folder / _CONTENT / file)

    made = make_cached(entry, make) / _CONTENT
    remember(_note(repository, revision), about.commit)
    return made


def _about(hub: str, repository: str, revision: str, headers: dict[str, str], name: str) -> _Revision:
    url = f"{hub}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    with TemporaryDirectory() as folder:
        file = Path(folder) / "answer.json"
        download(url, file, name=name, headers=headers, largest=_LONGEST_ANSWER)
        try:
            found = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise _not_understood(name) from error
    commit = found.get("sha") if isinstance(found, dict) else None
    siblings = found.get("siblings") if isinstance(found, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit) or not isinstance(siblings, list):
        raise _not_understood(name)
    files: list[str] = []
    digests: dict[str, Digests] = {}
    for sibling in siblings:
        if isinstance(sibling, dict) and isinstance(file_name := sibling.get("rfilename"), str):
            files.append(file_name)
            digests[file_name] = _listed_hash(sibling)
    return _Revision(commit, files, digests)


def _not_understood(name: str) -> EncoderError:
    return EncoderError(f"{name}: the hub's answer is not understood; check HF_ENDPOINT, or {INSTEAD}")


def _wanted(files: list[str], name: str) -> list[str]:
    """Returns the files to download, with known names only."""
    for single, shards, index in _WEIGHTS:
        weights = [single] if single in files else []
        if not weights and shards is not None and index in files:
            weights = [index, *sorted({file for file in files if shards.fullmatch(file)})]
        if weights:
            return [file for file in _OTHERS if file in files] + weights
    wanted = ", ".join(single for single, _, _ in _WEIGHTS)
    raise EncoderError(f"{name}: holds none of {wanted}; is it a MobileBERT in transformers' form?")


def _listed_hash(sibling: dict[str, Any]) -> Digests:
    """Returns the hash in the hub's list: SHA-256 for large files, git's for others, nothing where the list has none."""
    large = sibling.get("lfs")
    if isinstance(large, dict):
        value, algorithm, digits = large.get("sha256"), "sha256", 64
    else:
        value, algorithm, digits = sibling.get("blobId"), "git", _SHA1_DIGITS
    fits = isinstance(value, str) and len(value) == digits and _HASH.fullmatch(value)
    return {algorithm: bytes.fromhex(value)} if fits and isinstance(value, str) else {}


def _hash_in_headers(responses: Sequence[Response]) -> Digests:
    """Returns the hash that the hub gives as an ETag, in its own answers and not in that of the storage to which they
    lead.

    Raises ValueError for an ETag that is not a hash.
    """
    own = [response.headers for response in responses if urlsplit(response.url)[:2] == urlsplit(responses[0].url)[:2]]
    linked = [headers["X-Linked-Etag"] for headers in own if "X-Linked-Etag" in headers]
    etag = linked[0] if linked else own[-1].get("ETag", "")
    value = etag.removeprefix("W/").strip('"')
    if not _HASH.fullmatch(value):
        raise ValueError(f"an ETag of {len(value)} characters in place of 40 or 64 hexadecimal digits")
    return {"git" if len(value) == _SHA1_DIGITS else "sha256": bytes.fromhex(value)}


def _headers() -> dict[str, str]:
    """Returns the user's account, if there is one. Public repositories need none."""
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _fetched_before(repository: str, revision: str) -> Path | None:
    commit = revision if _COMMIT.fullmatch(revision) else remembered(_note(repository, revision))
    if commit is None or not _COMMIT.fullmatch(commit):
        return None
    found = cached(_entry(repository, commit))
    return found / _CONTENT if found else None


def _entry(repository: str, commit: str) -> str:
    return entry_name(f"hf:{repository}/{commit[:8]}", f"hf:{repository}@{commit}")


def _note(repository: str, revision: str) -> str:
    return entry_name(f"hf:{repository}", f"hf:{repository}@{revision}")


def _explain(error: ServerRefusalError) -> str:
    """Returns the hub's reasons, as its library `huggingface_hub` tells them apart (utils/_http.py,
    `hf_raise_for_status`)."""
    if error.code == "GatedRepo":
        return f"its owner wants to be asked first; do so on its page, then set HF_TOKEN; or {INSTEAD}"
    if error.code == "RevisionNotFound":
        return "the repository has no such revision; name a branch, tag or commit after the @"
    if error.code == "RepoNotFound" or error.status in (401, 404):
        return "there is no such repository, or it is private; check its name, and set HF_TOKEN if it is yours"
    return f"the hub answers {error.status}; try again later, or {INSTEAD}"
