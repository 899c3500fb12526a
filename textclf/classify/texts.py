"""Checks the texts for a `Classifier`: returns rows of strings, or raises an error with the position."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, cast

from textclf.data.half_characters import first_half
from textclf.data.tables.arrow_frames import is_arrow
from textclf.data.tables.frames import frame_columns, frame_values, is_list_of_rows, is_missing
from textclf.errors import ArgumentError, DataError
from textclf.recipe.values import all_columns, quoted

NO_TEXT = "has no text"
"""The reason why a row gets no label if all its texts are empty or white space."""


def has_text(row: Iterable[str]) -> bool:
    """Returns whether a row has a text to classify. One side of a pair may be empty."""
    return any(text.strip() for text in row)


def column_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names of columns as a tuple. A single name may be a string."""
    return (names,) if isinstance(names, str) else tuple(names)


def checked_rows(texts: Iterable[str | Sequence[str]], widths: Set[int], columns: str) -> list[tuple[str, ...]]:
    """Returns texts as tuples of strings. Raises DataError with the position of a value that is not a text, or of a
    wrong number of texts (`widths`).

    `columns` are the names of those that the model was trained on, "" where they are not known.
    """
    if isinstance(texts, str):
        raise DataError(f"texts is one string, expected a list of texts; write [{shown_text(texts)}]")
    if hasattr(texts, "columns"):
        raise DataError(
            f"texts is a {type(texts).__name__}, expected a list of texts; use classify_frame for a frame, or pass one "
            "column of it"
        )
    if isinstance(texts, bytes | bytearray | Mapping | Set) or not hasattr(texts, "__iter__"):
        raise DataError(f'texts is {described_value(texts)}, expected a list of texts such as ["where is my parcel"]')
    try:
        given = list(texts)
    except TypeError:  # an array without dimensions
        raise DataError(f"texts is {described_value(texts)}, expected a list of texts") from None
    rows: list[tuple[str, ...]] = []
    for position, row in enumerate(given):
        is_plain = (
            type(row) is tuple and len(row) in widths and all(type(text) is str and text.isascii() for text in row)
        )
        rows.append(cast("tuple[str, ...]", row) if is_plain else _checked_row(row, position, widths, columns))
    return rows


def _checked_row(given: object, position: int, widths: Set[int], columns: str) -> tuple[str, ...]:
    row = (given,) if isinstance(given, str) else given
    if not isinstance(row, tuple | list):
        wanted = "a string" if widths == {1} else "two strings" if widths == {2} else "a string or two"
        missing = "; leave it out, or pass an empty string" if is_missing(given) else ""
        raise DataError(f"texts[{position}] is {described_value(given)}, expected {wanted}{missing}")
    for cell, text in enumerate(row):
        where = f"texts[{position}]" if isinstance(given, str) else f"texts[{position}][{cell}]"
        if not isinstance(text, str):
            raise DataError(f"{where} is {described_value(text)}, expected a string")
        check_whole(text, where)
    if len(row) not in widths:
        count = {1: "one text", 2: "two texts"}.get(len(row), f"{len(row)} texts")
        wanted = {1: "one text", 2: "two texts"}[min(widths)] if len(widths) == 1 else "one text or two"
        trained = f"the model was trained on {columns}" if columns else f"the model reads {wanted}"
        raise DataError(f"texts[{position}] has {count}, but {trained}; give {wanted} for each row")
    return tuple(row)


def check_whole(text: str, where: str) -> None:
    """Raises DataError for a text with half of a character, which UTF-8 cannot encode; `where` is its place."""
    if (place := first_half(text)) is not None:
        raise DataError(
            f"{where} holds half of a character (U+{ord(text[place]):04X} at index {place}); decode the text again, "
            'or replace it with text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
        )


def described_value(value: object) -> str:
    """Returns a value and its type, as messages show them."""
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"a {kind}" if hasattr(value, "__len__") or callable(value) else f"{value!r:.60} ({kind})"


def shown_text(text: str) -> str:
    return f'"{text if len(text) <= 40 else text[:39] + "…"}"'


def check_is_frame(frame: object) -> None:
    pandas = sys.modules.get("pandas")
    is_frame = pandas is not None and isinstance(frame, pandas.DataFrame)
    if not is_frame and not is_arrow(frame) and not is_list_of_rows(frame):
        raise DataError(
            f"frame is {described_value(frame)}, expected a pandas DataFrame, a pyarrow Table, a polars DataFrame or a list of "
            "dicts; use classify for a list of texts"
        )


def text_cells(frame: Any, column: str) -> list[str]:
    """Returns the texts of one column, "" for missing ones (None, NaN, pd.NA, or a dict without the column)."""
    columns = frame_columns(frame)
    if column not in columns:  # of an empty list
        return []
    values = frame_values(frame, columns.index(column), "frame")
    index = getattr(frame, "index", None) if hasattr(frame, "iloc") else None
    cells: list[str] = []
    for position, value in enumerate(values):
        if isinstance(value, str):
            cells.append(value)
        elif is_missing(value):
            cells.append("")
        else:
            label = "" if index is None else f" (index {index[position]})"
            how = "astype(str)" if index is not None else "cast(pyarrow.string())" if is_arrow(frame) else "str"
            remedy = f"convert the column with {how}"
            raise DataError(
                f"row {position}{label} of column {quoted(column)} is {described_value(value)}, expected text; {remedy} if "
                "its values are meant as texts"
            )
    return cells


def check_frame(existing: Sequence[object], columns: Sequence[str], added: Sequence[str]) -> None:
    names = ", ".join(f"`{column}`" for column in existing)
    if not columns:
        raise DataError(
            f"the model does not say which column holds its text; name it in text_columns, there are {names}"
        )
    for column in columns:
        if existing.count(column) != 1:
            raise DataError(
                f"the frame has {existing.count(column)} columns `{column}`, expected one; there are {names}"
            )
    taken = [column for column in added if column in existing]
    if taken:
        raise DataError(
            f"the frame has a column `{taken[0]}` already; rename or drop it, or give the new columns a column_prefix"
        )


def checked_argument(name: str, check: Callable[[object], Any], value: object) -> Any:
    """Returns what `check`, a check of a recipe's setting, makes of an argument; its ValueError becomes an ArgumentError."""
    try:
        return check(value)
    except ValueError as error:
        raise ArgumentError(f"{name} {error}") from None


def named_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of all columns of tables without a header; one name may be passed as a string.

    Raises ArgumentError for names that no table can have.
    """
    given = [columns] if isinstance(columns, str) else list(columns)
    return checked_argument("columns (--columns)", all_columns, given or None) or ()
