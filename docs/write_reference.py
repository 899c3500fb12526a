"""Writes the reference pages that come from code: recipe.md, commands.md, python.md, and docs/recipe.schema.json.

    python docs/write_reference.py            # what `make reference` runs

`pages()` returns the texts by path, so that a test can compare them with the files.
"""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import textclf
import textclf.cli.main  # noqa: F401 (adds the commands to the group)
from textclf.cli.group import cli
from textclf.recipe.rules import RULES
from textclf.recipe.settings import (
    AVERAGE_WORDS_DEFAULTS,
    AVERAGE_WORDS_ONLY,
    ONLY_FOR_TASK,
    QUESTION_ANSWERING_DEFAULTS,
)
from textclf.recipe.writing import recipe_json_schema

FOLDER = Path(__file__).parent

USUAL = (
    "name",
    "dataset.train",
    "dataset.validation",
    "dataset.test",
    "dataset.text",
    "dataset.label",
    "encoder.source",
    "encoder.max_length",
    "training.epochs",
    "training.batch_size",
    "training.learning_rate",
    "training.class_weights",
    "training.early_stopping",
    "training.seed",
    "export.quantization",
    "export.compatibility",
)
"""The settings that most recipes need. All others are shown as advanced."""

_GENERATED = "<!-- This page is generated from the code by `make reference`. Change the code, not this page. -->"


def pages() -> dict[Path, str]:
    return {
        FOLDER / "reference" / "recipe.md": recipe_page(),
        FOLDER / "reference" / "commands.md": commands_page(),
        FOLDER / "reference" / "python.md": python_page(),
        FOLDER / "recipe.schema.json": json.dumps(recipe_json_schema(), indent=2) + "\n",
    }


# --- The recipe --------------------------------------------------------------------------------------------------------
def recipe_page() -> str:
    schema = recipe_json_schema()
    keys = dict(_keys(schema, schema["$defs"]))
    usual = [_key_text(key, keys[key]) for key in USUAL]
    advanced = [_key_text(key, values) for key, values in keys.items() if key not in USUAL]
    rules = [f"- {_one_line(inspect.getdoc(rule) or '')}" for rule in RULES]
    return "\n".join(
        [
            "# Recipe keys",
            "",
            _GENERATED,
            "",
            "A recipe is a YAML file. `name` and `dataset.train` are required; every other key has a default. `a.b` means "
            "the key `b` in the section `a`. The same names are used on the command line, for example "
            "`textclf train my_recipe.yaml training.epochs=5`. All problems of a recipe are reported at once, with file, "
            "line and column.",
            "",
            "Editors complete and check the keys if a recipe begins with "
            "`# yaml-language-server: $schema=PATH/recipe.schema.json`. The schema is the file "
            "[recipe.schema.json](../recipe.schema.json).",
            "",
            "## Usual keys",
            "",
            *usual,
            "## Advanced keys",
            "",
            *advanced,
            "## Rules across keys",
            "",
            "These rules concern several keys together. A recipe that breaks one is refused, with the place and the remedy.",
            "",
            *rules,
            "",
        ]
    )


def _keys(
    section: dict[str, Any], definitions: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    required = section.get("required", ())
    for name, value in section["properties"].items():
        found = _section_of(value, definitions)
        if found is None:
            yield prefix + name, {**value, "required": name in required}
        else:
            yield from _keys(found, definitions, f"{prefix}{name}.")


def _section_of(value: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the section to which a key's schema refers, or None for a single value."""
    if "$ref" in value:
        return _section_of(definitions[value["$ref"].rpartition("/")[2]], definitions)
    if "properties" in value:
        return value
    return next((one for one in value.get("anyOf", ()) if "properties" in one), None)


def _key_text(key: str, value: dict[str, Any]) -> str:
    section, _, name = key.rpartition(".")
    for_questions = QUESTION_ANSWERING_DEFAULTS.get(section, {})
    facts = [f"Values: {_values(value)}"]
    if value["required"]:
        facts.append("required")
    elif name in AVERAGE_WORDS_ONLY:
        facts.append(f"default: {_shown(AVERAGE_WORDS_DEFAULTS['encoder'][name])}")
    elif key in ONLY_FOR_TASK["question-answering"]:
        facts.append(f"default: {_shown(for_questions.get(name))}")
    elif value.get("default") is not None or "null" in _values(value):
        facts.append(f"default: {_shown(value.get('default'))}")
    if name in AVERAGE_WORDS_DEFAULTS.get(section, {}) and name not in AVERAGE_WORDS_ONLY:
        facts.append(f"default with `average-words`: {_shown(AVERAGE_WORDS_DEFAULTS[section][name])}")
    if name in for_questions and key not in ONLY_FOR_TASK["question-answering"]:
        facts.append(f"default with `question-answering`: {_shown(for_questions[name])}")
    return f"### `{key}`\n\n{_escaped(_one_line(value.get('description', '')))}\n\n*{'; '.join(facts)}.*\n"


def _values(schema: dict[str, Any]) -> str:
    """Describes in words the values that a JSON Schema allows."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_values(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(_shown(one) for one in schema["enum"])
    if "const" in schema:
        return _shown(schema["const"])
    kind = schema.get("type")
    if isinstance(kind, list):  # text that YAML may read as something else
        return "text"
    if kind == "array":
        return f"a list of {_values(schema['items'])}"
    if kind == "object":
        return f"a map from a label to {_values(schema['additionalProperties'])}"
    if kind in ("number", "integer"):
        return "a whole number" + _range(schema) if kind == "integer" else "a number" + _range(schema)
    return {"boolean": "true, false", "null": "null", "string": "text"}[str(kind)]


def _range(schema: dict[str, Any]) -> str:
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    said = [f"{words} {schema[key]:,}" for key, words in bounds if key in schema]
    return f" ({', '.join(said)})" if said else ""


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "empty"


# --- The commands ------------------------------------------------------------------------------------------------------
def commands_page() -> str:
    root = click.Context(cli, info_name="textclf", **cli.context_settings)
    parts = [
        "# Commands",
        "",
        _GENERATED,
        "",
        "`textclf COMMAND --help` shows the same text in the terminal.",
        "",
    ]
    for context in _contexts(root):
        parts += _command_text(context)
    return "\n".join(parts)


def _contexts(parent: click.Context) -> Iterator[click.Context]:
    """The commands below a group, each with the context in which it would run."""
    assert isinstance(parent.command, click.Group)
    for name in parent.command.list_commands(parent):
        command = parent.command.get_command(parent, name)
        assert command is not None
        context = click.Context(command, parent=parent, info_name=name)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield context
        if isinstance(command, click.Group):
            yield from _contexts(context)


def _command_text(context: click.Context) -> list[str]:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `{context.command_path}`", "", "```text", f"{context.command_path} {usage}", "```", ""]
    lines += [_escaped(_one_line(part)) + "\n" for part in inspect.cleandoc(command.help or "").split("\n\n")]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:  # arguments are described in the text
            lines.append(f"- `{record[0]}`: {_escaped(_one_line(record[1]))}")
    return [*lines, ""]


_DASK_NAMES = ("classify", "classify_files", "answer_files", "FolderSummary", "AnswerFolderSummary")


# --- Python ------------------------------------------------------------------------------------------------------------
def python_page() -> str:
    """The names of the package; the site's builder puts their signatures and docstrings in place of the lines with :::."""
    classes = [name for name in textclf.__all__ if name[0].isupper()]
    functions = [name for name in textclf.__all__ if name not in classes]
    parts = [
        "# Python",
        _GENERATED,
        "Every public name is imported from `textclf`. Importing it loads neither TensorFlow nor LiteRT; each name is loaded "
        "on its first use. Names that are not on this page are internal and may change.",
    ]
    for title, names in (("Functions", functions), ("Classes", classes)):
        parts += [f"## {title}", *(f"::: textclf.{name}" for name in names)]
    parts += [
        "## With Dask",
        "These are in the module `textclf.dask` and need the extra `dask`.",
        *(f"::: textclf.dask.{name}" for name in _DASK_NAMES),
    ]
    return "\n\n".join(parts) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """Returns plain text as Markdown: outside of backticks, no character is markup."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*\[\]_])", r"\\\1", html.escape(part, quote=False)) for part in parts[::2]]
    return "`".join(parts)


def main() -> None:
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
