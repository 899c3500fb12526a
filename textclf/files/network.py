"""Whether this process may use the network, and the folder for what comes over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_TRUE = frozenset(("1", "true", "yes", "on"))

_forbidden: ContextVar[bool] = ContextVar("_forbidden", default=False)


def cache_folder() -> Path:
    """`TEXTCLF_CACHE`, or `textclf` in `XDG_CACHE_HOME`, or `~/.cache/textclf`."""
    if chosen := os.environ.get("TEXTCLF_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".cache") / "textclf"


@contextmanager
def offline(forbidden: bool = True) -> Iterator[None]:
    """Code inside does not use the network. If `forbidden` is false, nothing changes."""
    token = _forbidden.set(forbidden or _forbidden.get())
    try:
        yield
    finally:
        _forbidden.reset(token)


def is_offline() -> bool:
    """Returns whether the network must not be touched: inside `offline`, or by the variable `TEXTCLF_OFFLINE`."""
    return _forbidden.get() or os.environ.get("TEXTCLF_OFFLINE", "").lower() in _TRUE


def offline_variables() -> dict[str, str]:
    """Returns the environment variables that switch off the network in a child process if it is off in this process."""
    return {"TEXTCLF_OFFLINE": "1"} if is_offline() else {}
