"""A Hugging Face repository into the cache, by the library `huggingface_hub`: resumed, locked and atomic as that does it.

In: a repository and a revision. Out: a folder with the configuration, the vocabulary and one form of the weights, each
file compared with the hash that the repository gives for it.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from textclf.encoders.cache import cache_folder
from textclf.encoders.download import INSTEAD
from textclf.errors import EncoderError
from textclf.progress import Progress

# Of several forms of the same weights one is fetched, the first that a repository has.
_WEIGHTS = (
    ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
    ("tf_model.h5",),
)
_OTHERS = ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "README.md")
_SHA1_DIGITS, _SHA256_DIGITS = 40, 64
_SERVER_ERRORS, _TOO_MANY = 500, 429
_TIMEOUT = 10  # seconds
_CHUNK = 2**20


def fetch_repository(repository: str, revision: str, *, offline: bool) -> Path:
    """The folder of `repository` at `revision` (a branch, tag or commit).

    With `offline`, or where the hub cannot be reached, what was fetched before is used. Raises EncoderError if there is
    none, for a repository or revision that does not exist or is closed, and for a file that arrived damaged.
    """
    name = f"hf:{repository}@{revision}"
    if offline:
        if folder := _fetched_before(repository, revision):
            return folder
        raise EncoderError(f"{name}: was not fetched before and the network is not to be used; {INSTEAD}")
    try:
        folder = _fetch(repository, revision)
    except EncoderError:
        raise
    # The library's errors, and those of the HTTP library below it, change with its versions.
    except Exception as error:
        if _is_unreachable(error) and (before := _fetched_before(repository, revision)):
            Progress().say(f"{name}: the hub cannot be reached; what was fetched before is used")
            return before
        raise EncoderError(f"{name}: {_explain(error)}") from error
    _check_hashes(folder, name)
    return folder


def _fetch(repository: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    endpoint = os.environ.get("HF_ENDPOINT")
    files = _list_files(repository, revision, endpoint)
    weights = next((form for form in _WEIGHTS if form[0] in files or form[-1] in files), None)
    if weights is None:
        wanted = ", ".join(form[0] for form in _WEIGHTS)
        raise EncoderError(
            f"hf:{repository}@{revision}: holds none of {wanted}; is it a MobileBERT in transformers' form?"
        )
    return Path(
        snapshot_download(
            repository,
            revision=revision,
            cache_dir=_cache(),
            allow_patterns=[*_OTHERS, *weights],
            endpoint=endpoint,
        )
    )


def _list_files(repository: str, revision: str, endpoint: str | None) -> list[str]:
    """The repository's files; a hub that is busy is asked three times, one that cannot be reached once."""
    from huggingface_hub import HfApi

    for pause in (1, 4, None):
        try:
            about = HfApi(endpoint=endpoint).model_info(repository, revision=revision, timeout=_TIMEOUT)
            return [sibling.rfilename for sibling in about.siblings or []]
        except OSError as error:
            status = _status(error)
            if pause is None or status is None or not (status == _TOO_MANY or status >= _SERVER_ERRORS):
                raise
            Progress().say(f"hf:{repository}: the hub answers {status}; trying again in {pause} s")
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _fetched_before(repository: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download

    for form in _WEIGHTS:
        try:
            folder = snapshot_download(
                repository,
                revision=revision,
                cache_dir=_cache(),
                allow_patterns=[*_OTHERS, *form],
                local_files_only=True,
            )
        except OSError:
            continue
        if any((Path(folder) / name).exists() for name in (form[0], form[-1])):
            return Path(folder)
    return None


def _cache() -> Path:
    return cache_folder() / "hugging_face"


def _is_unreachable(error: BaseException) -> bool:
    """Whether the hub could not be asked, or was out of order: then what was fetched before may serve."""
    status = _status(error)
    return status is None or status >= _SERVER_ERRORS


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of the library is about, if it is about one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _explain(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = _status(error)
    if isinstance(error, GatedRepoError):
        return f"its owner wants to be asked first; do so on its page, then set HF_TOKEN; or {INSTEAD}"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision; name a branch, tag or commit after the @"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it is private; check its name, and set HF_TOKEN if it is yours"
    what = str(error).partition("\n")[0] or type(error).__name__
    if status is not None:
        return f"the hub answers {status} ({what}); try again later, or {INSTEAD}"
    return f"cannot be fetched ({what}); {INSTEAD}"


def _check_hashes(folder: Path, name: str) -> None:
    """Compares each file with the hash that its name in the library's cache is: SHA-256, or git's for small files."""
    for link in folder.rglob("*"):
        file = link.resolve()
        if not file.is_file():
            continue
        if len(file.name) == _SHA256_DIGITS:
            digest = hashlib.sha256()
        elif len(file.name) == _SHA1_DIGITS:
            digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        else:
            continue
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != file.name:
            file.unlink()
            link.unlink(missing_ok=True)
            raise EncoderError(f"{name}: {link.name} arrived damaged and was removed; run the command again")
