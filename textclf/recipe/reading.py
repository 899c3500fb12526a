"""Takes a recipe's YAML and the command line's overrides, and returns a `Recipe` or raises one error with every
problem.

Each problem is reported as `file:line:column`. The reader is bounded, and nothing in a file is executed.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
)
from pydantic_core import ErrorDetails

from textclf.errors import RecipeError
from textclf.files.kinds import not_a_recipe
from textclf.files.locations import shown_address, without_secrets
from textclf.recipe.rules import RULES
from textclf.recipe.settings import Recipe
from textclf.recipe.values import (
    Written,
    folder_safe,
    is_unicode,
    nearest,
    quoted,
    suggestion,
)
from textclf.recipe.yaml_text import SHOWN_PROBLEMS, Draft, Location, Place, TooLargeError, plain, read_text, read_yaml
from textclf.terminal.door import printable

OTHER_NAMES = {
    "lr": "training.learning_rate",
    "epoch": "training.epochs",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "batch": "training.batch_size",
    "bs": "training.batch_size",
    "dropout_rate": "training.dropout",
    "seq_len": "encoder.max_length",
    "max_len": "encoder.max_length",
    "max_seq_length": "encoder.max_length",
    "model": "encoder.source",
    "text_column": "dataset.text",
    "label_column": "dataset.label",
}
"""The names that other programs use for settings of a recipe."""


# --- Reading ---------------------------------------------------------------------------------------------------------
def load_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """Read, type and check a recipe.

    `overrides` are texts such as `training.epochs=5` or `dataset.text=[question, answer]`; the last one wins. Relative
    paths in the file start at the file's folder; in an override they start at the current directory, where a shell
    completes them. All paths of the result are absolute. This function does not check whether the files exist.

    Raises RecipeError with every problem of the file and the overrides, one per line, sorted by position.
    """
    file = Path(path)
    if reason := not_a_recipe(path):
        raise RecipeError(f"{shown_address(str(path))}: {reason}")
    draft = Draft(str(file), Path(os.path.abspath(file)).parent)
    read_yaml(draft, read_text(file))
    for number, override in enumerate(overrides):
        _apply_override(draft, number, override)
    recipe = None if draft.values is None else _validate(draft, draft.values)
    if draft.problems or recipe is None:
        in_order = sorted(draft.problems, key=lambda problem: problem.order)
        lines = list(dict.fromkeys(problem.line for problem in in_order))
        more = [f"… and {len(lines) - SHOWN_PROBLEMS:,} problems more"] if len(lines) > SHOWN_PROBLEMS else []
        raise RecipeError("\n".join(lines[:SHOWN_PROBLEMS] + more))
    return recipe


# --- Overrides -------------------------------------------------------------------------------------------------------
def _apply_override(draft: Draft, number: int, override: str) -> None:
    """Put the value of `KEY=VALUE` into the draft, in place of what the file says."""
    place = Place((1, number, 0), f"command line: {printable(without_secrets(override))}")
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not dotted:
        draft.add(place, _not_an_override_message(override))
        return
    if not is_unicode(override):
        draft.add(place, "holds bytes that are not UTF-8; write the value in UTF-8")
        return
    known = _dotted_keys(Recipe)
    if dotted not in known:
        ends = [name for name in known if name.rpartition(".")[2] == dotted.rpartition(".")[2]]
        remedy = suggestion(ends[0] if ends else dotted, known, "keys are written like training.epochs or dataset.test")
        draft.add(place, f"unknown key `{dotted}`; {remedy}")
        return
    try:
        value = _override_value(text)
    except (yaml.YAMLError, TooLargeError, RecursionError):
        draft.add(
            place, "not a valid value; close every bracket and quote, for example dataset.text='[question, answer]'"
        )
        return
    if draft.values is not None:
        _set(draft, draft.values, tuple(dotted.split(".")), value, place)


def _not_an_override_message(override: str) -> str:
    if override[:1] in "\u2010\u2011\u2012\u2013\u2014\u2212" and override:
        return f"begins with U+{ord(override[0]):04X}, which only looks like a hyphen; type -- for an option"
    if override.endswith((".yaml", ".yml")):
        return "not of the form KEY=VALUE; one recipe is taken, before the settings"
    return "not of the form KEY=VALUE; write for example training.epochs=5, without spaces"


def _override_value(text: str) -> Any:
    """Reads the value of an override. Only brackets and quotes are YAML; other text is used unchanged, as in a shell.

    Without this, `dataset.delimiter=,` and paths with `#` or `: ` would be YAML errors or lose a part.
    """
    text = text.strip()
    if text[:1] not in ("[", "{", '"', "'"):
        return Written.of(text, text in ("", "~", "null", "Null", "NULL"), Path.cwd())
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    scratch = Draft("", Path.cwd())
    value = None if node is None else plain(scratch, node, ())
    if node is None or scratch.problems:
        raise yaml.YAMLError("a value in brackets or quotes that cannot be used")
    return value


def _set(draft: Draft, section: dict[str, Any], location: tuple[str, ...], value: Any, place: Place) -> None:
    for key in location[:-1]:
        inner = section.get(key)
        if key == "encoder" and isinstance(inner, Written) and not inner.is_null:
            inner = {"source": inner}
        if not isinstance(inner, dict):
            if inner is not None and not (isinstance(inner, Written) and inner.is_null):
                return  # The file has another value where a section is expected. That problem is reported instead.
            inner = {}
        section[key] = inner
        section = inner
    section[location[-1]] = value
    for places in (draft.keys, draft.places):
        for inner_location in [known for known in places if known[: len(location)] == location]:
            del places[inner_location]
        places[location] = place


def _dotted_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Returns every key that a recipe may have, sections included, as `training.epochs`."""
    dotted = []
    for key, definition in section.model_fields.items():
        dotted.append(prefix + key)
        if isinstance(definition.annotation, type) and issubclass(definition.annotation, BaseModel):
            dotted += _dotted_keys(definition.annotation, f"{prefix}{key}.")
    return dotted


# --- Validation ------------------------------------------------------------------------------------------------------
def _validate(draft: Draft, values: dict[str, Any]) -> Recipe | None:
    """Type the values and apply the rules; all problems go into the draft.

    When some values are bad, the rules are applied to the good ones: bad values are replaced by defaults, and what a
    rule says about such a key is left out.
    """
    bad: set[str] = set()
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        _report_faults(draft, faults)
        repaired, bad = _without_faults(values, faults)
        try:
            recipe = Recipe.model_validate(repaired)
        except ValidationError:
            return None
    for rule in RULES:
        for breach in rule(recipe):
            if not any(key == one or key.startswith(f"{one}.") for key in breach.keys for one in bad):
                draft.add(draft.place_of_value(tuple(breach.keys[0].split("."))), breach.message)
    return recipe


def _without_faults(values: dict[str, Any], faults: list[ErrorDetails]) -> tuple[dict[str, Any], set[str]]:
    """Returns a copy of the values with faulty ones removed and missing ones filled in, and the dotted keys of both."""
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    bad = set()
    required = {"name", "dataset.train"}
    for fault in faults:
        keys = [str(key) for key in fault["loc"]]
        inside = len(keys) > 1 and isinstance(copy.get(keys[0]), dict)
        section, key = (copy[keys[0]], keys[1]) if inside else (copy, keys[0])
        section.pop(key, None)
        bad.add(".".join(keys[:2] if inside else keys[:1]))
    copy.setdefault("dataset", {})
    for dotted in required & bad:
        outer, _, inner = dotted.rpartition(".")
        (copy[outer] if outer else copy)[inner] = "missing"
    if "dataset" in bad:
        copy["dataset"] = {"train": "missing"}
    return copy, bad


def _report_faults(draft: Draft, faults: list[ErrorDetails]) -> None:
    """Pydantic's errors as problems of the draft, in the words of a recipe."""
    unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
    meant = {(*location[:-1], nearest(str(location[-1]), _section_keys(location[:-1]))) for location in unknown}
    for fault in faults:
        location = fault["loc"]
        if fault["type"] == "extra_forbidden":
            draft.add(draft.place_of_key(location), _unknown_key_message(location))
        elif fault["type"] != "missing":
            written = draft.written(location, draft.places)
            draft.add(draft.place_of_value(location), f"{_dotted(written)} {_fault_message(fault)}")
        elif location not in meant:  # else the misspelt key is reported, with the right spelling
            draft.add(draft.place_of_key(location), _missing_message(location, draft))


def setting_named(name: str) -> str | None:
    """Returns the dotted key of a recipe for a word such as `epochs` or `training.epochs`; None where no key is called
    so."""
    known = _dotted_keys(Recipe)
    word = name.lower().replace("-", "_")
    return next((key for key in known if word in (key, key.rpartition(".")[2])), None)


def _section_keys(location: Location) -> list[str]:
    section: type[BaseModel] = Recipe
    for key in location:
        section = typing.cast("type[BaseModel]", section.model_fields[str(key)].annotation)
    return list(section.model_fields)


def _unknown_key_message(location: Location) -> str:
    key, inside = str(location[-1]), _section_keys(location[:-1])
    where = f" in `{_dotted(location[:-1])}`" if location[:-1] else ""
    elsewhere = [name for name in _dotted_keys(Recipe) if name.rpartition(".")[2] == key]
    if dotted := setting_named(key) if "." in key else None:
        section, name = dotted.split(".", 1)
        return f"unknown key `{key}`; write `{section}:` and under it, indented, `{name}:`"
    if key == "<<":
        return "merge keys (`<<`) are not understood in a recipe; write the keys out"
    other = OTHER_NAMES.get(key.lower().replace("-", "_").replace(" ", "_"))
    if other:
        name = other.rpartition(".")[2]
        remedy = f"did you mean `{name}`?" if name in inside else f"did you mean `{other}`?"
    elif not nearest(key, inside) and elsewhere:
        section = elsewhere[0].rpartition(".")[0]
        remedy = f"it belongs in `{section}`" if section else "it belongs at the left margin, outside of any section"
    else:
        remedy = suggestion(key, inside, f"known keys: {', '.join(inside)}")
    return f"unknown key `{key}`{where}; {remedy}"


def _missing_message(location: Location, draft: Draft) -> str:
    if location == ("name",):
        return f"`name` is missing; add a line such as `name: {folder_safe(Path(draft.file).stem)}`"
    if location == ("dataset",):
        return "the section `dataset` is missing; add `dataset:` and under it, indented, `train: my_data.csv`"
    example = Recipe.model_fields["dataset"].annotation.model_fields[str(location[-1])].examples[0]  # type: ignore
    return f"`{_dotted(location)}` is missing; add under `{location[0]}:` a line such as `{location[-1]}: {example}`"


def _fault_message(fault: ErrorDetails) -> str:
    """Returns what is wrong with a value and what to write instead, to follow its key."""
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if value == "":
        return "has no value; write one, or remove the line"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        remedy = suggestion(str(value), choices, "correct it or remove the line")
        return f"is {quoted(value)}, but must be {' or '.join(choices)}; {remedy}"
    wanted = {
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "int_parsing_size": "a smaller whole number",
        "float_parsing": "a number, with a point before decimals",
        "float_type": "a number, with a point before decimals",
        "finite_number": "a finite number",
        "string_type": "plain text",
        "model_type": "a section of indented `key: value` lines",
        "model_attributes_type": "a section of indented `key: value` lines",
        "greater_than": "more than {gt}",
        "greater_than_equal": "{ge} or more",
        "less_than": "less than {lt}",
        "less_than_equal": "{le} or less",
        "string_too_short": "plain text",
    }.get(kind)
    if wanted is None:
        return f"is {quoted(value)}: {fault['msg']}; correct it or remove the line"
    return f"is {quoted(value)}, but must be {wanted.format(**context)}; correct it or remove the line"


def _dotted(location: Location) -> str:
    """`dataset.labels[2]`, counted from 1 as people do, for ("dataset", "labels", 1)."""
    return "".join(f"[{key + 1}]" if isinstance(key, int) else f".{key}" for key in location).removeprefix(".")
