"""Completes the beginning of a setting such as `training.ep` or `training.calibrate=t`, for a shell.

The keys and their values are read from the JSON Schema that is part of the package: this takes a few milliseconds, the
schema's own code a hundred.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from textclf.files.package_data import schema_path

_LONGEST_HELP = 100

_PATHS = ("dataset.train", "dataset.validation", "dataset.test", "encoder.source", "encoder")

_ENCODERS = ("builtin", "average-words")


class Completion(NamedTuple):
    """A word, and what it means. A word that ends in `=` is not complete yet."""

    word: str
    help: str


def complete_setting(incomplete: str, section: str = "") -> list[Completion]:
    """Returns the settings that begin so: keys with an equals sign or, after it, `KEY=VALUE` for each possible value.

    With a `section` such as `export.` only its keys are returned, without the section's name.
    """
    key, equals, value = incomplete.partition("=")
    keys = {name.removeprefix(section): one for name, one in _keys().items() if name.startswith(section)}
    if not equals:
        return [Completion(f"{name}=", _help(schema)) for name, schema in keys.items() if name.startswith(key)]
    if key not in keys:
        return []
    full = section + key
    values = [*(_ENCODERS if full in ("encoder", "encoder.source") else ()), *_values(keys[key])]
    words = [word for word in dict.fromkeys(values) if word.startswith(value)]
    words += _paths(value) if full in _PATHS else []
    return [Completion(f"{key}={word}", _help(keys[key])) for word in words]


def _keys() -> dict[str, dict[str, Any]]:
    """The schema of each key that a recipe may have, as `training.epochs`."""
    path = schema_path()
    if path is None:
        from textclf.recipe.writing import recipe_json_schema

        schema = recipe_json_schema()
    else:
        schema = json.loads(path.read_text(encoding="utf-8"))
    return dict(_keys_in(schema, schema["$defs"], ""))


def _keys_in(section: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in section["properties"].items():
        inner = _section(schema, definitions)
        if inner is None:
            yield prefix + name, schema
            continue
        if any("string" in one.get("type", ()) for one in _alternatives(_resolved(schema, definitions))):
            yield prefix + name, inner  # the short form, `encoder=builtin`
        yield from _keys_in(inner, definitions, f"{prefix}{name}.")


def _section(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    return next((one for one in _alternatives(_resolved(schema, definitions)) if "properties" in one), None)


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference: str | None = schema.get("$ref")
    found: dict[str, Any] = definitions[reference.rpartition("/")[2]] if reference else schema
    return found


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    alternatives: list[dict[str, Any]] = schema.get("anyOf", [schema])
    return alternatives


def _values(schema: dict[str, Any]) -> Iterator[str]:
    """The values that a setting may have, where they can be listed."""
    for one in _alternatives(schema):
        types = one.get("type", ())
        if "enum" in one:
            yield from map(str, one["enum"])
        elif "const" in one:
            yield str(one["const"])
        elif types == "boolean":
            yield from ("true", "false")
        elif types == "null":
            yield "null"


def _help(schema: dict[str, Any]) -> str:
    sentence = str(schema.get("description", "")).partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= _LONGEST_HELP else sentence[: _LONGEST_HELP - 1] + "…"


def _paths(beginning: str) -> list[str]:
    """Tables and folders that begin so, folders with a slash."""
    folder, slash, start = beginning.rpartition("/")
    try:
        entries = sorted(Path(f"{folder}{slash}" or ".").iterdir())
    except OSError:
        return []
    return [
        f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if entry.name.startswith(start) and not (entry.name.startswith(".") and not start)
    ]
