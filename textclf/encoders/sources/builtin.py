"""The encoders in the package, in this version and in earlier ones: says what changed since a run recorded an encoder."""

from __future__ import annotations

from textclf.encoders.sources.locate import DEFAULT_BUILTIN, builtin_names, load_checkpoint

EARLIER = {
    "63fc801309ad17f28c72f6c3e358998e3565b4798957212323ec5dc96cd939d7": "mobilebert-small of textclf 0.1",
    "58a86f7c2eec92883e7d6195d36f588400603c2e7af3d8941282325ce4f3412e": "mobilebert-small before its second training",
    "b8f480064d2078a48baca603952269fcc092e11f194f832c65cd7d69dbca0643": "mobilebert-medium before its second training",
}
"""The built-in encoders of earlier versions by fingerprint (`EncoderCheckpoint.fingerprint`)."""

_SHOWN_DIGITS = 8


def is_builtin(source: str) -> bool:
    """Whether a recipe's `encoder.source` is an encoder of the package."""
    return source.partition(":")[0].lower() == "builtin"


def builtin_with(sha256: str) -> str | None:
    """Returns the name of the built-in encoder with this fingerprint; None if this version has no such encoder."""
    return next((name for name in builtin_names() if _fingerprint(name) == sha256), None)


def builtin_change(source: str, sha256: str) -> str | None:
    """Returns what changed if the built-in encoder that `source` names is not the one with the fingerprint `sha256`.

    Returns None if it is the same encoder, or if `source` is not a built-in encoder.
    """
    if not is_builtin(source):
        return None
    name = source.partition(":")[2] or DEFAULT_BUILTIN
    now = _fingerprint(name) if name in builtin_names() else None
    if now == sha256:
        return None
    before = builtin_with(sha256) or EARLIER.get(sha256) or "another one"
    after = "not part of this version" if now is None else f"{name} (SHA-256 {now[:_SHOWN_DIGITS]}…)"
    return f"the built-in encoder changed: it was {before} (SHA-256 {sha256[:_SHOWN_DIGITS]}…), and `{source}` is now {after}"


def _fingerprint(name: str) -> str:
    return load_checkpoint(f"builtin:{name}").fingerprint()
