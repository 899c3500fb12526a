"""How a table is read that a command or a function names: takes arguments, and returns them as the settings of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from textclf.errors import ArgumentError
from textclf.recipe.settings import DatasetSettings
from textclf.recipe.values import quoted


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
