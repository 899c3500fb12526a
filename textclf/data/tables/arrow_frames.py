"""Tables of Arrow in memory: pyarrow's Table and RecordBatch, polars' DataFrame and other objects with `__arrow_c_stream__`.

Takes such an object and returns a pyarrow Table, its values, and the same kind of object with further columns.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from textclf import extras
from textclf.data.tables.arrow_texts import has_own_text, text_array
from textclf.errors import DataError

_CAPSULES = ("__arrow_c_stream__", "__arrow_c_array__")


def is_arrow(data: object) -> bool:
    """Returns whether an object hands out Arrow data. Objects of pandas also do, but a DataFrame is
    read as it is."""
    return not _is_pandas(data) and any(hasattr(data, name) for name in _CAPSULES)


def arrow_table(data: Any, name: str) -> Any:
    """Returns the pyarrow Table of an object. Raises DataError for one that is not a table, such as a column."""
    extras.require("pyarrow", f"to read a {type(data).__name__}")
    arrow = import_module("pyarrow")
    if isinstance(data, arrow.Table):
        return data
    try:
        if isinstance(data, arrow.RecordBatch) or not hasattr(data, _CAPSULES[0]):
            return arrow.Table.from_batches([arrow.record_batch(data)])
        return arrow.table(data)
    except Exception as error:  # another library's, of any kind
        kind, reason = type(data).__name__, " ".join(str(error).split())
        raise DataError(f"{name}: this {kind} is no table ({reason}); pass a table, such as a pyarrow Table") from None


def arrow_values(table: Any, place: int, name: str) -> list[Any]:
    """Returns the values of a column as Python's: None for null, text for times and decimals, as Parquet files are read.

    Raises DataError for values that Python cannot hold, such as text that is not UTF-8.
    """
    arrow = import_module("pyarrow")
    column = table.column(place)
    try:
        while isinstance(column.type, arrow.BaseExtensionType) or arrow.types.is_dictionary(column.type):
            column = _plain(arrow, column)
        if has_own_text(column.type):
            column = text_array(column)
        values: list[Any] = column.to_pylist()
    except (ValueError, arrow.ArrowException) as error:
        shown = table.column_names[place]
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{name}: the values of column `{shown}` ({column.type}) cannot be read ({reason}); write them as text"
        ) from None
    return values


def _plain(arrow: Any, column: Any) -> Any:
    """Returns the values that a dictionary or an extension type stands for."""
    if isinstance(column.type, arrow.BaseExtensionType):
        return arrow.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return arrow.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)


def with_columns(data: Any, table: Any, added: Mapping[str, Sequence[Any]], integers: Sequence[str] = ()) -> Any:
    """Returns a copy with further columns, NaN as null, of the kind of `data`: a polars DataFrame, a RecordBatch, or a Table.

    Columns that are not arrays have texts, except for the columns of `integers`.
    """
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(data, polars.DataFrame):
        kinds = {name: polars.Int64 if name in integers else polars.String for name in added}
        return data.with_columns(
            polars.Series(name, values, None if isinstance(values, np.ndarray) else kinds[name], nan_to_null=True)
            for name, values in added.items()
        )
    arrow = import_module("pyarrow")
    result = table
    for name, values in added.items():
        array = (
            arrow.array(values, from_pandas=True)
            if isinstance(values, np.ndarray)
            else arrow.array(values, arrow.int64() if name in integers else arrow.string())
        )
        result = result.append_column(name, array)
    if isinstance(data, arrow.RecordBatch):
        arrays = [_one_chunk(arrow, column) for column in result.columns]
        return arrow.RecordBatch.from_arrays(arrays, schema=result.schema)
    return result


def _one_chunk(arrow: Any, column: Any) -> Any:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else arrow.concat_arrays(column.chunks)
        if column.num_chunks
        else arrow.array([], column.type)
    )


def _is_pandas(data: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame | pandas.Series | pandas.Index)
