"""Tables in memory: a pandas DataFrame or a list of dicts in, a table as `open_table` reads it out.

The rows are written as CSV in memory, so that every check of a file is a check of a frame, too. Rows are numbered by
their position, from 0.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from textclf.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = "pd.DataFrame | Sequence[Mapping[str, Any]]"
"""A table in memory: a DataFrame, or one dict for each row."""


@dataclass(frozen=True)
class FrameTable:
    """A table in memory under a name for messages; `content` is its CSV in UTF-8, separated by commas."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def is_rows(data: object) -> bool:
    """Whether this is a table in memory; a path, or several, is none."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return True
    return isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data)


def frame_table(data: Rows, name: str, text_columns: Sequence[str], label_column: str | None) -> FrameTable:
    """The table of `data`, whose texts are strings or missing; labels are written as `str` writes them.

    The other columns are left empty, because nobody reads them. Raises DataError for what is no table, and for a text
    that is not a string.
    """
    if not is_rows(data):
        raise DataError(f"{name}: is a {type(data).__name__}; give a pandas DataFrame or a list of dicts")
    columns = (
        list(dict.fromkeys(key for row in data for key in row)) if isinstance(data, Sequence) else list(data.columns)
    )
    read: list[list[str]] = []
    for place, column in enumerate(columns):
        values = [row.get(column) for row in data] if isinstance(data, Sequence) else data.iloc[:, place].tolist()
        if column in text_columns:
            read.append([_text(value, position, column, name) for position, value in enumerate(values)])
        elif column == label_column:
            read.append(["" if _is_missing(value) else str(value) for value in values])
        else:
            read.append([""] * len(values))
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(zip(*read, strict=True))
    try:
        return FrameTable(name, written.getvalue().encode())
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise DataError(f"{name}: a text or label holds half of a character (U+{half:04X}); decode it again") from None


def _text(value: object, position: int, column: str, name: str) -> str:
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return ""
    raise DataError(
        f"{name}: row {position} of column `{column}` is {value!r:.60} ({type(value).__name__}), expected text; convert the "
        "column with astype(str) if its values are meant as texts"
    )


def _is_missing(value: object) -> bool:
    return value is None or value != value or type(value).__name__ in ("NAType", "NaTType")
