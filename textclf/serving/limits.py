"""What a service accepts: the sizes of requests, of the queue and of batches, and the token that clients must send."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from textclf.errors import ArgumentError

TOKEN_VARIABLE = "TEXTCLF_TOKEN"
"""The environment variable with the token, where no file is named."""

_SHORTEST_TOKEN = 16

_LONGEST_TOKEN = 4096

_NEW_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True)
class Limits:
    """Bytes of a body; texts of a request, of the queue and of a batch; characters of a text; milliseconds that a text waits
    for others before an incomplete batch starts.

    A request that the queue could never take is refused by its number of texts. Raises ArgumentError for limits below 1.
    """

    max_body: int = 1 << 20
    max_texts: int = 256
    max_characters: int = 100_000
    max_queue: int = 1024
    max_batch: int = 64
    max_wait_ms: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "max_wait_ms" else 1
            if not value >= least:
                option = field.name.replace("_", "-")
                raise ArgumentError(f"{field.name} (--{option}) is {value}, expected {least} or more")
        object.__setattr__(self, "max_texts", min(self.max_texts, self.max_queue))


def read_token(path: str | Path | None) -> str | None:
    """Returns the token in a file or, without a file, in `TEXTCLF_TOKEN`; None if neither is there.

    White space around it is removed. Raises ArgumentError for a file that cannot be read, and for a token that is short or
    that a header cannot contain.
    """
    if path is not None:
        source = f"{path}"
        try:
            with open(path, "rb") as file:
                content = file.read(_LONGEST_TOKEN + 1)
        except OSError as error:
            raise ArgumentError(
                f"{path}: the token cannot be read ({error.strerror or error}); name a file with a token (--token-file)"
            ) from error
        token = content.decode("utf-8", "replace").strip()
    elif TOKEN_VARIABLE in os.environ:
        source, token = TOKEN_VARIABLE, os.environ[TOKEN_VARIABLE].strip()
    else:
        return None
    if not all("!" <= character <= "~" for character in token):
        raise ArgumentError(
            f"{source}: the token contains white space or characters that are not ASCII; write one word, for example with: "
            f"{_NEW_TOKEN}"
        )
    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN:
        raise ArgumentError(
            f"{source}: the token has {len(token)} characters, expected {_SHORTEST_TOKEN} to {_LONGEST_TOKEN:,}; write one "
            f"with: {_NEW_TOKEN}"
        )
    return token
