"""Texts of Arrow's dates, times, durations and decimals: takes an array and returns an array of texts.

They are the texts that `str` gives to the same values in Python, such as `2024-05-01 09:30:00` and `1 day, 0:00:00`, but also
exist for values that Python cannot hold: nanoseconds and years after 9999.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def has_own_text(kind: Any) -> bool:
    """Returns whether `text_array` takes arrays of this type."""
    types = import_module("pyarrow").types
    return bool(types.is_temporal(kind) or types.is_decimal(kind))


def text_array(array: Any) -> Any:
    """Returns the texts of an Array or ChunkedArray of dates, times, durations or decimals. Raises ArrowException."""
    arrow = import_module("pyarrow")
    types, kind = arrow.types, array.type
    if types.is_duration(kind):
        per_second = _UNITS[kind.unit]
        counts = array.cast(arrow.int64()).to_pylist()
        return arrow.array(
            [None if count is None else _duration(count, per_second) for count in counts], arrow.string()
        )
    texts = array.cast(arrow.string())
    if not (types.is_timestamp(kind) or types.is_time(kind)):
        return texts
    replaced = import_module("pyarrow.compute").replace_substring_regex
    if kind.unit != "s":
        texts = replaced(texts, r"\.0+(\D|$)", r"\1")
        if kind.unit == "ms":
            texts = replaced(texts, r"(\.\d{3})", r"\1000")
        elif kind.unit == "ns":
            texts = replaced(texts, r"(\.\d{6})000(\D|$)", r"\1\2")
    if types.is_timestamp(kind) and kind.tz is not None:
        texts = replaced(texts, "Z$", "+00:00")
        texts = replaced(texts, r"([+-]\d\d)(\d\d)$", r"\1:\2")
    return texts


def _duration(count: int, per_second: int) -> str:
    """Returns the text of a duration of `count` parts of a second, as `str` of a timedelta."""
    seconds, parts = divmod(count, per_second)
    days, seconds = divmod(seconds, 86_400)
    nanoseconds = parts * (10**9 // per_second)
    before = f"{days} day{'' if abs(days) == 1 else 's'}, " if days else ""
    fraction = f".{nanoseconds // 1000:06}" if nanoseconds % 1000 == 0 else f".{nanoseconds:09}"
    return f"{before}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction if nanoseconds else ''}"
