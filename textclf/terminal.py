"""What reaches a person's terminal: text from data, models and file names in, text that a terminal only shows out."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without control characters, which could colour, rewrite or answer on behalf of the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
