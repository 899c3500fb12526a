"""How a table is read that a command or a function names: takes arguments, and returns them as the settings of a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from textclf.classify.texts import checked_argument, named_columns
from textclf.errors import ArgumentError
from textclf.files.locations import path_of
from textclf.recipe.settings import DatasetSettings
from textclf.recipe.values import checked_delimiter, checked_encoding, quoted

READING_ARGUMENTS = {
    "encoding": "encoding (--encoding)",
    "delimiter": "delimiter (--delimiter)",
    "sheet": "sheet (--sheet)",
    "train": "data",
}
"""What the settings about reading are called where there is no recipe."""


def reading_settings(
    data: object, delimiter: str | None, encoding: str, sheet: str | None, columns: Sequence[str]
) -> tuple[Path, dict[str, Any]]:
    """Returns the path of a table, `data` for one in memory, and how it is read, as settings of a dataset.

    A table in memory is read as textclf keeps it. Raises ArgumentError.
    """
    if not isinstance(data, str | os.PathLike):
        path = Path("data")
        return path, {"train": path, "delimiter": ",", "encoding": "utf-8", "sheet": None, "columns": None}
    path = path_of(data)
    return path, {
        "train": path.absolute(),
        "delimiter": checked_argument(READING_ARGUMENTS["delimiter"], checked_delimiter, delimiter),
        "encoding": checked_argument(READING_ARGUMENTS["encoding"], checked_encoding, encoding),
        "sheet": sheet,
        "columns": named_columns(columns) or None,
    }


def settings_of_arguments(values: Mapping[str, Any], arguments: Mapping[str, str]) -> DatasetSettings:
    """Returns the settings with these values; `arguments` are what messages call them.

    Raises ArgumentError for the first value that no setting can have.
    """
    try:
        return DatasetSettings.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0])
        problem = (
            fault.get("ctx", {}).get("error") or f"is {quoted(fault['input'])}, but must be plain text; correct it"
        )
        raise ArgumentError(f"{arguments.get(name, name)} {problem}") from None
