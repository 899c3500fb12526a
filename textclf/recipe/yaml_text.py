"""Reads the text of a recipe into a tree of values with their places.

Its size is bounded and nothing in it is executed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from textclf.errors import RecipeError
from textclf.recipe.values import Written, quoted

LARGEST_FILE = 1_000_000
"""The largest recipe in bytes. A recipe has a few dozen lines; a larger file is of another kind."""

LARGEST_TREE = 20_000
"""The largest number of values. Each use of an anchor counts, so nested anchors cannot grow without end."""

PLAIN_TAGS = ("!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!value", "!!merge", "!!seq", "!!map")
"""The types that YAML may detect for a value."""

SHOWN_PROBLEMS = 50

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A place in a recipe, for sorting and for messages."""

    order: tuple[int, int, int]
    shown: str


@dataclass(frozen=True)
class _Problem:
    order: tuple[int, int, int]
    line: str


@dataclass
class Draft:
    """A recipe while it is read: untyped values, the places of keys and values, and the problems so far."""

    file: str
    folder: Path
    values: dict[str, Any] | None = None
    keys: dict[Location, Place] = field(default_factory=dict)
    places: dict[Location, Place] = field(default_factory=dict)
    problems: list[_Problem] = field(default_factory=list)
    size: int = 0
    lines: list[str] = field(default_factory=list)

    def at(self, line: int, column: int) -> Place:
        """Returns a place in the file; `line` and `column` count from 0 as YAML's marks do, and are shown from 1."""
        return Place((0, line, column), f"{self.file}:{line + 1}:{column + 1}")

    def add(self, place: Place, message: str) -> None:
        self.problems.append(_Problem(place.order, f"{place.shown}: {message}"))

    def written(self, location: Location, places: Mapping[Location, Place]) -> Location:
        """Returns the place of a key.

        For a key that is not written, returns the place of the nearest section around it.
        """
        while location and location not in places:
            location = location[:-1]
        return location

    def place_of_key(self, location: Location) -> Place:
        return self.keys.get(self.written(location, self.keys)) or self.at(0, 0)

    def place_of_value(self, location: Location) -> Place:
        return self.places.get(self.written(location, self.places)) or self.at(0, 0)


def read_text(file: Path) -> str:
    """Returns the text of a recipe file. Raises RecipeError for a file that cannot be read as text."""
    try:
        if file.is_dir():
            raise RecipeError(f"{file}: this is a folder; name the recipe file in it, for example {_recipe_in(file)}")
        with open(file, "rb", opener=_open_at_once) as stream:
            content = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise RecipeError(f"{file}: there is no such file; {_similar_file(file)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{file}: cannot be read ({reason}); check the path and its permissions") from None
    if len(content) > LARGEST_FILE:
        raise RecipeError(f"{file}: larger than {LARGEST_FILE:,} bytes; name a recipe, a short YAML file, not the data")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise RecipeError(f"{file}:1:1: the file is UTF-16; save the recipe as UTF-8 text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise RecipeError(
            f"{file}:{line}:{column}: byte 0x{content[error.start]:02x} is not UTF-8; save the recipe as UTF-8 text"
        ) from None
    if not text.strip():
        raise RecipeError(f"{file}:1:1: the file is empty; write a recipe, at least `name` and `dataset.train`")
    return text


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file without waiting for the writer of a named pipe."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    return descriptor


def _recipe_in(folder: Path) -> Path:
    return next(iter(sorted(folder.glob("*.y*ml"))), folder / "recipe.yaml")


def _similar_file(file: Path) -> str:
    try:
        siblings = [sibling.name for sibling in file.parent.iterdir() if sibling.suffix in (".yaml", ".yml")]
    except OSError:
        return f"there is no folder {file.parent} either: check the path"
    near = difflib.get_close_matches(file.name, siblings, n=1)
    return f"did you mean {file.parent / near[0]}?" if near else "check the path"


def read_yaml(draft: Draft, text: str) -> None:
    """Fill the draft from YAML text. Text that is not YAML, or not a section of keys, is a problem of the draft."""
    if _invisible_indentation(draft, text):
        return
    draft.lines = text.splitlines()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = draft.at(mark.line, mark.column) if mark else draft.at(0, 0)
        draft.add(place, _syntax_message(error))
        return
    except yaml.reader.ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        place = draft.at(len(before) - 1, len(before[-1]))
        draft.add(place, f"the character U+{error.character:04X} is not allowed in YAML; remove it")
        return
    except RecursionError:
        draft.add(draft.at(0, 0), "the values are nested too deeply; a recipe has sections of plain values")
        return
    if node is None:
        draft.add(draft.at(0, 0), "there are only comments here; write a recipe, at least `name` and `dataset.train`")
    elif not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "plain text"
        message = f"a recipe is a section of `key: value` lines, but this is {kind}; start with `name: my-classifier`"
        draft.add(draft.at(node.start_mark.line, node.start_mark.column), message)
    else:
        try:
            draft.values = plain(draft, node, ())
        except TooLargeError:
            draft.add(
                draft.at(0, 0), "the anchors of this file expand without end or too far; write the values out instead"
            )


OTHER_SPACES = "\u00a0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff"
"""Characters from web pages and word processors that look like a space or are invisible, but are not spaces in YAML."""

TYPOGRAPHIC_QUOTES = "“”„‟‘’‚«»"


def _invisible_indentation(draft: Draft, text: str) -> bool:
    """Reports each character that only looks like a space and is used for indentation or between values.

    Returns whether any is.
    """
    found = False
    for number, line in enumerate(text.split("\n")):
        if match := re.match(rf"[ -]*[{OTHER_SPACES}]|[ -]*\w+:[{OTHER_SPACES}]", line):
            code = ord(line[match.end() - 1])
            message = f"the invisible character U+{code:04X} is not a space in YAML; replace it by an ordinary space"
            draft.add(draft.at(number, match.end() - 1), message)
            found = True
    return found


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = f"{error.problem}"
    if r"'\t'" in problem:
        return "YAML does not allow a tab here; indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a second `:` or a wrong indentation; put the value in quotes, or align the key with its neighbours"
    if "found another document" in problem:
        return "a second YAML document begins; keep one recipe in a file and remove the `---` line"
    if "escape" in problem:
        return "in double quotes a backslash starts an escape; write / in place of it, or use single quotes"
    if "undefined alias" in problem:
        return f"{problem}; a value that starts with `*` needs quotes"
    if "cannot start any token" in problem or "expected the node content" in problem:
        return f"not YAML: {problem}; put the value in quotes"
    context = f" {error.context}" if error.context else ""
    return f"not YAML: {problem}{context}; check quotes, brackets and indentation"


class TooLargeError(Exception):
    """The tree of values is larger than LARGEST_TREE."""


def plain(draft: Draft, node: yaml.Node, location: Location) -> Any:
    """Returns a YAML node as dictionaries, lists and `Written`, and stores the places of all keys and values in the
    draft."""
    draft.size += 1
    if draft.size > LARGEST_TREE or len(location) > 50:
        raise TooLargeError
    place = draft.at(node.start_mark.line, node.start_mark.column)
    draft.places[location] = place
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    if tag not in PLAIN_TAGS:
        draft.add(place, f"the tag `{tag}` means nothing in a recipe; remove it")
    if isinstance(node, yaml.SequenceNode):
        return [plain(draft, item, (*location, index)) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _plain_section(draft, node, location)
    assert isinstance(node, yaml.ScalarNode)
    if node.style is None and (fault := _unquoted_fault(draft, node)):
        draft.add(place, fault)
    return Written.of(node.value, tag == "!!null", draft.folder)


def _unquoted_fault(draft: Draft, node: yaml.ScalarNode) -> str | None:
    """Reports unquoted text that YAML surely understands differently from what was meant."""
    value: str = node.value
    line = draft.lines[node.end_mark.line] if node.end_mark.line < len(draft.lines) else ""
    if comment := re.fullmatch(r" (#\S*) *", line[node.end_mark.column :]):
        return (
            f"the value ends before ` {comment[1]}`, which is a comment in YAML; write "
            f'"{value} {comment[1]}" in quotes, or remove the comment'
        )
    if len(value) > 1 and value[0] in TYPOGRAPHIC_QUOTES and value[-1] in TYPOGRAPHIC_QUOTES:
        return f"{quoted(value)} is in typographic quotation marks; use straight ones, or none"
    if re.match(rf"[{OTHER_SPACES}]|.*[{OTHER_SPACES}]$", value, re.DOTALL):
        return (
            f"{quoted(value)} begins or ends with an invisible character; remove it, or put the value in double quotes "
            "if it belongs there"
        )
    return None


def _plain_section(draft: Draft, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
    section: dict[str, Any] = {}
    for key_node, value_node in node.value:
        inner = (*location, key_node.value)
        place = draft.at(key_node.start_mark.line, key_node.start_mark.column)
        if not isinstance(key_node, yaml.ScalarNode):
            draft.add(place, "a key must be a word; if this is a value with brackets, put it in quotes")
            continue
        key = key_node.value
        if key in section:
            first = draft.keys[inner].shown
            draft.add(place, f"the key `{key}` is here for the second time (first at {first}); keep one of them")
            continue
        draft.keys[inner] = place
        section[key] = plain(draft, value_node, inner)
    return section
