"""Damage to files, random but repeatable: bytes and a seed in, the same bytes with a fault or two out."""

from __future__ import annotations

import random

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
_WORDS = (
    b"\0",
    b"\n",
    b"\xff\xfe",
    b"null",
    b"-1",
    b"1e999",
    b"[]",
    b"{}",
    b'"',
    b"99999999999",
    b"true",
    b"\xed\xa0\x80",
)


def mutated(content: bytes, seed: int) -> bytes:
    """One fault in two of three cases, else up to four."""
    source = random.Random(seed)
    found = bytearray(content)
    for _ in range(1 if source.random() < 0.66 else source.randint(2, 4)):
        _damage(found, source)
    return bytes(found)


def _damage(content: bytearray, source: random.Random) -> None:
    kind = source.randrange(8)
    # Headers and lists stand at the ends of files, and are hit more often than what lies between.
    size = len(content)
    near = source.randrange(min(size, 400) + 1)
    place = source.choice((source.randrange(size + 1), near, size - near))
    if kind == 0:
        del content[place:]
    elif kind == 1 and place < size:
        content[place] ^= 1 << source.randrange(8)
    elif kind == 2 and place < size:
        content[place] = source.randrange(256)
    elif kind == 3:
        content[place:place] = source.randbytes(source.randint(1, 40))
    elif kind == 4:
        del content[place : place + source.randint(1, 40)]
    elif kind == 5:
        width = source.choice((1, 2, 4, 8))
        number = source.choice(_NUMBERS) & (2 ** (8 * width) - 1)
        content[place : place + width] = number.to_bytes(width, source.choice(("little", "big")))
    elif kind == 6:
        start = source.randrange(size + 1)
        content[place:place] = content[start : start + source.randint(1, 400)]
    else:
        content[place:place] = source.choice(_WORDS)
