"""Finds halves of characters: code points that stand for half of a character in UTF-16, and that UTF-8 cannot encode."""

from __future__ import annotations


def first_half(text: str) -> int | None:
    """Returns the index of the first half of a character in a text; None if there is none."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None
