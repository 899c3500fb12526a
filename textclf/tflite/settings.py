"""Reads and checks the settings that textclf stores inside its models, `textclf.json`.

Types and ranges are checked before use. Unknown keys are kept and ignored, because a later version may add keys. A
change that older versions would misunderstand raises the version number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from textclf.errors import ModelError
from textclf.recipe.values import (
    DEFAULT_TASK,
    LARGEST_LENGTH,
    LARGEST_MOST_WINDOWS,
    LONGEST_DELIMITER,
    TASKS,
    quoted,
)
from textclf.tflite.format.packed_files import EXPORT_AGAIN

SETTINGS_FILE = "textclf.json"
SETTINGS_VERSION = 1
"""This version is written into every model. Models without a version are read as this version."""

_LARGEST = 1 << 20
_LONGEST_TEXT = 10_000
_LARGEST_TEMPERATURE = 1000


def read_settings(source: str, content: bytes) -> dict[str, Any]:
    """Returns the settings of a model.

    Raises ModelError, which names the wrong key. `source` is the name of the model in messages.
    """
    if len(content) > _LARGEST:
        raise ModelError(
            f"{source}: {SETTINGS_FILE} in it has {len(content):,} bytes; expected at most {_LARGEST:,}; {EXPORT_AGAIN}"
        )
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source}: {SETTINGS_FILE} in it is not JSON ({error}); {EXPORT_AGAIN}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{source}: {SETTINGS_FILE} in it is {_shown(settings)}, expected an object; {EXPORT_AGAIN}")
    _check_version(source, settings.get("version", SETTINGS_VERSION))
    _check_task(source, settings.get("task", DEFAULT_TASK))
    for key, (holds, expected) in _EXPECTED.items():
        if key in settings and not holds(settings[key]):
            raise ModelError(
                f"{source}: `{key}` of {SETTINGS_FILE} in it is {_shown(settings[key])}; expected {expected}; {EXPORT_AGAIN}"
            )
    return settings


def _check_version(source: str, version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(
            f"{source}: `version` of {SETTINGS_FILE} in it is {_shown(version)}; expected a whole number from 1; {EXPORT_AGAIN}"
        )
    if version > SETTINGS_VERSION:
        raise ModelError(
            f"{source}: was written by a newer textclf: {SETTINGS_FILE} in it has version {quoted(version)}, this textclf "
            f"reads version {SETTINGS_VERSION}; update textclf, or export the model with this one"
        )


def _check_task(source: str, task: object) -> None:
    """Models that name no task are text classifiers, as all were before there were others."""
    if task not in TASKS:
        raise ModelError(
            f"{source}: `task` of {SETTINGS_FILE} in it is {_shown(task)}; this textclf knows {', '.join(TASKS)}; update "
            "textclf, or use the program that the model was made for"
        )


def _shown(value: object) -> str:
    """Returns a value as JSON writes it, shortened."""
    return quoted(json.dumps(value, ensure_ascii=True)[:200])


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return False
    try:
        value.encode()
        return True
    except UnicodeEncodeError:
        return False


def _is_name(value: object) -> bool:
    return value != "" and _is_text(value)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_temperature(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST_TEMPERATURE


def _is_count(most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _one_of(*choices: str) -> tuple[Callable[[object], bool], str]:
    return lambda value: isinstance(value, str) and value in choices, f"one of {', '.join(choices)}"


_EXPECTED: dict[str, tuple[Callable[[object], bool], str]] = {
    "tokenizer": _one_of("device", "bert", "regex"),
    "text": (
        lambda value: isinstance(value, list) and len(value) <= 2 and all(map(_is_name, value)),
        "a list of one or two column names",
    ),
    "label": (lambda value: value is None or _is_name(value), "the name of a column, or null"),
    "overflow": _one_of("head", "tail", "head_tail", "windows"),
    "max_windows": (_is_count(LARGEST_MOST_WINDOWS), f"a whole number from 1 to {LARGEST_MOST_WINDOWS}"),
    "quantization": _one_of("none", "float16", "dynamic", "int4"),
    "compatibility": _one_of("litert", "task-library"),
    "vocabulary_sha256": (
        lambda value: isinstance(value, str) and len(value) == 64 and value.isascii() and value.isalnum(),
        "64 hexadecimal digits",
    ),
    "reject_below": (_is_share, "a number from 0 to 1"),
    "reject_label": (_is_text, "a text"),
    "thresholds": (
        lambda value: isinstance(value, list) and all(map(_is_share, value)),
        "a list of numbers from 0 to 1",
    ),
    "label_separator": (
        lambda value: _is_name(value) and len(str(value)) <= LONGEST_DELIMITER,
        f"a text of 1 to {LONGEST_DELIMITER} characters",
    ),
    "labels_in_columns": (lambda value: isinstance(value, bool), "true or false"),
    "question": (_is_name, "the name of a column"),
    "context": (_is_name, "the name of a column"),
    "answer": (_is_name, "the name of a column"),
    "max_length": (_is_count(LARGEST_LENGTH), f"a whole number from 1 to {LARGEST_LENGTH}"),
    "stride": (_is_count(LARGEST_LENGTH), f"a whole number from 1 to {LARGEST_LENGTH}"),
    "question_length": (_is_count(LARGEST_LENGTH), f"a whole number from 1 to {LARGEST_LENGTH}"),
    "null_bound": (lambda value: value is None or _is_number(value), "a number, or null"),
    "temperature": (_is_temperature, f"a number above 0, at most {_LARGEST_TEMPERATURE}"),
    "engine": (_is_text, "a text"),
    "fixed_length": (lambda value: isinstance(value, bool), "true or false"),
}
