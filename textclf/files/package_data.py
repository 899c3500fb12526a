"""Finds the example recipes, their data and the JSON Schema of a recipe: in a checkout, or in the installed package."""

from __future__ import annotations

from pathlib import Path

from textclf.errors import TextclfError

_PACKAGE = Path(__file__).resolve().parent.parent

INSTALLED = "examples"
"""The folder of the package into which `setup.py` copies these files when it builds a wheel."""

SCHEMA = "recipe.schema.json"


def examples_folder() -> Path:
    """Returns the folder that contains `recipes` and `datasets`. Raises TextclfError if there is none."""
    for folder in (_PACKAGE / INSTALLED, _PACKAGE.parent):
        if (folder / "recipes").is_dir() and (folder / "datasets").is_dir():
            return folder
    raise TextclfError("the example recipes are not part of this installation; install textclf again")


def example_paths() -> dict[str, Path]:
    """Returns the example recipes by name. Raises TextclfError if there are none."""
    return {path.stem: path for path in sorted((examples_folder() / "recipes").glob("*.yaml"))}


def schema_path() -> Path | None:
    """Returns the JSON Schema of a recipe, or None if it is not part of this installation."""
    places = (_PACKAGE / INSTALLED / SCHEMA, _PACKAGE.parent / "docs" / SCHEMA)
    return next((path for path in places if path.is_file()), None)
