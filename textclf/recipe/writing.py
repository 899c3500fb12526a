"""A recipe as YAML and the JSON Schema for editors."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from textclf.recipe.settings import AVERAGE_WORDS_ONLY, WINDOWS_ONLY, Recipe
from textclf.recipe.yaml_text import OTHER_SPACES, TYPOGRAPHIC_QUOTES


def dump_recipe(recipe: Recipe, relative_to: Path | None = None) -> str:
    """Returns the recipe as YAML with all defaults written out. `load_recipe` reads it as an equal recipe.

    Paths are absolute. With `relative_to`, the folder that the recipe is written into, paths that share more than the
    root with it are relative to it. So both can be moved together, and the recipe does not reveal the names of outer
    folders.
    """
    values = recipe.model_dump(mode="json")
    if relative_to is not None:
        for section, name in (
            ("dataset", "train"),
            ("dataset", "validation"),
            ("dataset", "test"),
            ("encoder", "source"),
        ):
            value = values[section][name]
            values[section][name] = (
                [_relative_path(one, relative_to) for one in value]
                if isinstance(value, list)
                else _relative_path(value, relative_to)
            )
    if len(recipe.dataset.text) == 1:
        values["dataset"]["text"] = recipe.dataset.text[0]
    for name in ("sheet", "columns"):  # most tables have neither sheets nor a missing header
        if values["dataset"][name] is None:
            del values["dataset"][name]
    if not recipe.averages_words:
        for name in AVERAGE_WORDS_ONLY:
            del values["encoder"][name]
    if not recipe.reads_windows:
        for name in WINDOWS_ONLY:
            del values["encoder"][name]
    if recipe.dataset.labels_from is not None:
        for name in ("label", "label_separator", "labels"):
            del values["dataset"][name]
    elif recipe.has_several_labels:
        del values["dataset"]["labels_from"]
    for key in recipe.foreign_settings:
        section, name = key.split(".")
        values[section].pop(name, None)
    header = "# A recipe with every default written out. Train it again: textclf train THIS_FILE\n"
    return header + yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def yaml_value(value: Any) -> str:
    """Returns a plain value or a list of them as YAML in one line. `load_recipe` reads it as the same value."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """Quotes text that `load_recipe` would report as a mistake without quotes."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        odd = re.search(rf"^[{TYPOGRAPHIC_QUOTES}]|[{OTHER_SPACES}]", data)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if odd else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def _relative_path(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not os.path.isabs(value):
        return value
    try:
        shared = os.path.commonpath([value, folder])
        relative = Path(os.path.relpath(value, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return value
    if Path(shared) == Path(Path(value).anchor):
        return value
    return relative if relative.startswith("..") else f"./{relative}"


def recipe_json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a recipe, for editors; published as docs/recipe.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
