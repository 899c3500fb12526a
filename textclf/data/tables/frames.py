"""Tables in memory: takes a pandas DataFrame, a table of Arrow or a list of dicts, and returns a table that `open_table` reads.

The rows are written as CSV in memory, or as JSON Lines if labels are lists, so that a frame passes every check that a file
passes. Rows are numbered by their position, from 0. pandas is never imported here: a caller who has a frame has imported it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from textclf.data.half_characters import first_half
from textclf.data.tables.arrow_frames import arrow_table, arrow_values, is_arrow
from textclf.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    Rows: TypeAlias = pd.DataFrame | "ArrowTable" | Sequence[Mapping[str, Any]]
else:
    # `typing.get_type_hints` of public functions works without pandas.
    Rows = Any | Sequence[Mapping[str, Any]]
"""A table in memory: a pandas DataFrame, a pyarrow Table or RecordBatch, a polars DataFrame, or one dict for each row.
Other objects are accepted that hand out Arrow data (`__arrow_c_stream__`) or have `to_pandas`."""


class ArrowTable(Protocol):
    """A table that hands out its rows as Arrow data, by the PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@dataclass(frozen=True)
class FrameTable:
    """A table in memory under a name for messages. `content` is UTF-8: CSV separated by commas, or JSON Lines if
    `has_lists`."""

    name: str
    content: bytes
    has_lists: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def is_rows(data: object) -> bool:
    """Returns whether this is a table in memory. A path, or several paths, is not."""
    return _is_frame(data) or is_arrow(data) or hasattr(data, "to_pandas") or is_list_of_rows(data)


def is_list_of_rows(data: object) -> bool:
    """Returns whether this is a list or tuple that contains only mappings."""
    return isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data)


def as_frame(data: Any, name: str) -> Any:
    """Returns the pyarrow Table of Arrow data, the DataFrame of an object with `to_pandas`, and any other object unchanged."""
    if _is_frame(data):
        return data
    if is_arrow(data):
        return arrow_table(data, name)
    if not hasattr(data, "to_pandas"):
        return data
    try:
        return data.to_pandas()
    except Exception as error:  # another library's, of any kind
        kind, reason = type(data).__name__, " ".join(str(error).split())
        raise DataError(
            f"{name}: this {kind} cannot be converted with to_pandas() ({type(error).__name__}: {reason}); pass a pandas "
            "DataFrame or a list of dicts"
        ) from error


def _is_frame(data: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def frame_table(
    data: Rows,
    name: str,
    text_columns: Sequence[str],
    label_column: str | None,
    *other_columns: str,
    lists: bool = False,
) -> FrameTable:
    """Returns the table of `data`. Texts are strings or missing (None, NaN, pd.NA); labels are strings, or values such as
    numbers that are written as `str` writes them, and so are the values of `other_columns`. With `lists`, a label may also
    be a list, a tuple, a set or an array of such values.

    All other columns are left empty, because they are not used. Raises DataError for an object that is not a table, for
    a table without rows, for a column that is needed and occurs twice, and, with the row's position, for a text or label
    of another type.
    """
    rows: Any = as_frame(data, name)
    if not is_rows(rows):
        raise DataError(
            f"{name}: is a {type(rows).__name__}; pass a pandas DataFrame, a pyarrow Table, a polars DataFrame or a list of dicts"
        )
    if not len(rows):
        raise DataError(f"{name}: has no rows; pass a table with at least one row")
    keys = frame_columns(rows)
    columns = [str(key) for key in keys]
    values_columns = [column for column in (label_column, *other_columns) if column is not None]
    _check_columns(columns, [*text_columns, *values_columns], name)
    cells: list[list[Any]] = []
    for place, column in enumerate(columns):
        read: Callable[[object, str], Any] | None = _text if column in text_columns else None
        if read is None and column in values_columns:
            read = _label_or_list if lists and column == label_column else _label
        if read is None:
            cells.append([""] * len(rows))
            continue
        cells.append(
            [
                "" if is_missing(value) else read(value, f"{name}: row {position} of column `{column}`")
                for position, value in enumerate(frame_values(rows, place, name))
            ]
        )
    if lists and any(isinstance(cell, list) for column in cells for cell in column):
        lines = (
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in zip(*cells, strict=True)
        )
        return FrameTable(name, "".join(f"{line}\n" for line in lines).encode(), has_lists=True)
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(zip(*cells, strict=True))
    return FrameTable(name, written.getvalue().encode())


def frame_columns(frame: Any) -> list[Any]:
    """Returns the names of the columns of a table that `as_frame` has returned. A dict may lack some of them."""
    if isinstance(frame, Sequence):
        return list(dict.fromkeys(key for row in frame for key in row))
    return list(frame.columns) if _is_frame(frame) else list(frame.column_names)


def frame_values(frame: Any, place: int, name: str) -> list[Any]:
    """Returns the values of the column at a place, from 0."""
    if isinstance(frame, Sequence):
        key = frame_columns(frame)[place]
        return [row.get(key) for row in frame]
    values: list[Any] = frame.iloc[:, place].tolist() if _is_frame(frame) else arrow_values(frame, place, name)
    return values


def _check_columns(columns: Sequence[str], needed: Sequence[str], name: str) -> None:
    counts = Counter(columns)
    for column in needed:
        if counts[column] > 1:
            raise DataError(f"{name}: has {counts[column]} columns `{column}`; rename or drop all but one of them")


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"{place} is {value!r:.60} ({type(value).__name__}), expected text; convert the column with astype(str) if its "
            "values are meant as texts"
        )
    return _whole(value, place)


def _label(value: object, place: str) -> str:
    if isinstance(value, bytes | bytearray | Mapping) or (not isinstance(value, str) and hasattr(value, "__len__")):
        raise DataError(
            f"{place} is {value!r:.60} ({type(value).__name__}), expected one label: a string or a number "
            "(several labels of a row are one string with dataset.label_separator between them)"
        )
    return _whole(str(value), place)


def _label_or_list(value: object, place: str) -> str | list[Any]:
    """Returns a label as text, or the labels of a list."""
    if not isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return _label(value, place)
    elements = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
    return [_element(element, place) for element in elements]


def _element(value: object, place: str) -> Any:
    """Returns an element of a list as JSON has it. The reader of the rows says which elements are no labels."""
    if is_missing(value):
        return None
    if isinstance(value, list | tuple | set | frozenset | np.ndarray | Mapping):
        return {} if isinstance(value, Mapping) else []
    for kind, types in ((bool, bool | np.bool_), (int, int | np.integer), (float, float | np.floating)):
        if isinstance(value, types):
            return kind(value)
    return _label(value, place)


def _whole(text: str, place: str) -> str:
    """Returns the text. Raises DataError for one that UTF-8 cannot encode."""
    if (half := first_half(text)) is not None:
        raise DataError(f"{place} holds half of a character (U+{ord(text[half]):04X}); decode the text again")
    return text


def is_missing(value: object) -> bool:
    """Returns whether a cell has no value: None, NaN, pd.NA or pd.NaT."""
    if isinstance(value, float | np.floating | Decimal):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")
