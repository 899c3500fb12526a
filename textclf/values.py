"""Values that a recipe and the command line both accept, checked once: a value as written in, the checked value out.

Each check raises ValueError with a message that follows the name of the key, option or argument.
"""

from __future__ import annotations

import codecs
import difflib
import encodings.aliases
from collections.abc import Iterable

from textclf.terminal import printable

DELIMITER_NAMES = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "ctrl-a": "\1", r"\x01": "\1"}
"""Words for delimiters that are awkward to write in YAML or in a shell."""

LONGEST_DELIMITER = 5
_NO_DELIMITERS = frozenset("\"'\r\n\0\ufeff\ufdd0")

_NOT_OF_FILES = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "charmap", "undefined"})
"""Codecs of Python that turn text into bytes, but of which no file is made."""

COMMON_ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")


def checked_delimiter(value: object) -> object:
    """A character or a few, such as `||`, or one of the words of DELIMITER_NAMES → the characters; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        value = DELIMITER_NAMES.get(value.lower(), value)
    if isinstance(value, str) and 0 < len(value) <= LONGEST_DELIMITER and not any(map(_is_no_delimiter, value)):
        return value
    what = "has no value" if value == "" else f"is {quoted(value)}, not a delimiter"
    raise ValueError(
        f"{what}; write one character in quotes (or a few, such as `||`), or one of the words tab, comma, semicolon, pipe"
    )


def _is_no_delimiter(character: str) -> bool:
    return character.isalnum() or character in _NO_DELIMITERS


def checked_encoding(value: object) -> str:
    """The name of a text encoding that Python knows."""
    name = str(value)
    try:
        if codecs.lookup(name).name in _NOT_OF_FILES:
            raise LookupError
        "a".encode(name)  # refuses codecs that are no text encodings, such as rot13
        codecs.getincrementaldecoder(name)
        return name
    except (LookupError, ValueError):  # ValueError: a name with a NUL character, and the codec "undefined"
        known = {alias.replace("_", "-") for alias in encodings.aliases.aliases.values()}
        near = nearest(name, COMMON_ENCODINGS) or nearest(name, known)
        remedy = f"did you mean `{near}`?" if near else f"usual ones are {', '.join(COMMON_ENCODINGS)}"
        raise ValueError(f"is {quoted(name)}, not a text encoding that Python knows; {remedy}") from None


def quoted(value: object) -> str:
    """A value as messages show it, shortened."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        return "a list"
    text = printable(str(value)[:61])
    return f"`{text if len(text) <= 60 else text[:59] + '…'}`"


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that is spelt most like the word, capitals, hyphens and underscores aside."""
    plain = {choice.lower().replace("-", "_"): choice for choice in choices}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), plain, n=1)
    return plain[near[0]] if near else None
