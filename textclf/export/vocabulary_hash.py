"""What tells one vocabulary from another: the pieces in, a hash out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def vocabulary_hash(vocabulary: Sequence[str]) -> str:
    """SHA-256 of the pieces, one a line, in hexadecimal digits."""
    return hashlib.sha256("".join(f"{piece}\n" for piece in vocabulary).encode()).hexdigest()
