"""Finds columns by name, and shows names that look alike in messages."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence

from textclf.terminal.door import escaped

_COLUMNS_SHOWN = 20

_LONGEST_NAME = 40

# Pairs of quotation marks that do not enclose the fields of a table.
_OTHER_QUOTES = ("``", "´´", "`´", "“”", "„“", "„”", "””", "‘’", "‚‘", "«»", "»«", "‹›", "「」", "『』")


def plain_name(name: str) -> str:
    """Returns a name normalised for comparison: white space around and inside it, line breaks included, counts as one
    space."""
    return " ".join(name.split())


def matching_columns(name: str, columns: Sequence[str]) -> list[int]:
    """Returns the indices of the columns with this name: exact matches, or else matches that ignore white space."""
    exact = [index for index, column in enumerate(columns) if column == name]
    return exact or [index for index, column in enumerate(columns) if plain_name(column) == plain_name(name)]


def visible(name: str) -> str:
    """Returns a name as messages show it: shortened, with invisible characters written as escapes such as `\\u200b`."""
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    return "".join(escaped(character) if _is_invisible(character) else character for character in short)


def listed(columns: Sequence[str]) -> str:
    """`id`, `text` and so on, for a message."""
    shown = ", ".join(f"`{visible(column)}`" if column else "(no name)" for column in columns[:_COLUMNS_SHOWN])
    more = len(columns) - _COLUMNS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def meant_column(name: str, columns: Sequence[str]) -> tuple[str, str] | None:
    """Returns the column that was probably meant, and how its name differs if that is hard to see."""
    for column in columns:
        inside, marks = column.strip()[1:-1], column.strip()[:1] + column.strip()[-1:]
        if marks in _OTHER_QUOTES and _folded(inside) == _folded(name):
            return column, (
                f"the quotation marks {marks[0]} and {marks[1]} are read as part of each field; "
                'replace them with straight ones (") in the file'
            )
        if column.strip() and _folded(column) == _folded(name):
            return column, _difference(name, column)
    near = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1)
    found = [column for column in columns if near and column.lower() == near[0]]
    return (found[0], _foreign_letters(name, found[0])) if found else None


def column_letter(index: int) -> str:
    """Returns the letters of a column in a spreadsheet: A for the first column, AA after Z."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def _is_invisible(character: str) -> bool:
    return not character.isprintable() or (unicodedata.category(character) in ("Mn", "Me") and ord(character) >= 0xFE00)


def _foreign_letters(name: str, column: str) -> str:
    """The letters of another script in a column's name, where the wanted name is in ASCII only."""
    letters = [character for character in column if not character.isascii()]
    if not letters or not name.isascii() or len(name) != len(column):
        return ""
    if any(unicodedata.name(letter, "").startswith("LATIN") or not letter.isalpha() for letter in letters):
        return ""
    called = f"U+{ord(letters[0]):04X} ({unicodedata.name(letters[0], 'a letter')})"
    return f"it holds the letter {called} of another script; copy the name from the file, or correct the header"


def _without_invisible(name: str) -> str:
    return "".join(character for character in name if character.isspace() or not _is_invisible(character))


def _folded(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", _without_invisible(name)).casefold().split())


def _difference(name: str, column: str) -> str:
    """Returns how two names that look alike differ: the first difference that explains it."""
    if (invisible := [c for c in column if _is_invisible(c) and not c.isspace()]) and invisible != [
        c for c in name if _is_invisible(c) and not c.isspace()
    ]:
        called = unicodedata.name(invisible[0], "a control character")
        code = f"U+{ord(invisible[0]):04X}"
        return f"it contains the invisible character {code} ({called}); remove this character from the header"
    if _without_invisible(name) != name:
        return "the name that you wrote contains an invisible character; type the name again"
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", column):
        return "its accents are separate characters (Unicode NFD against NFC); copy the name from the file"
    one, other = "".join(name.split()), "".join(column.split())
    if one == other:
        return "only the spaces differ"
    if one.casefold() == other.casefold():
        return "only the capitals differ"
    return "the names look alike, but their characters differ; copy the name from the file"
