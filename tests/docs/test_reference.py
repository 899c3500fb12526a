"""The reference pages know everything that the code can report, and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import textclf
from textclf import errors
from textclf.data.question_answering.findings import ODDITIES
from textclf.data.tables.lines import FaultKind
from textclf.recipe.settings import WatcherSettings

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REFERENCE = REPOSITORY / "docs" / "reference"
PACKAGE = Path(textclf.__file__).parent

SPLITS = ("validation", "test")
"""What stands for `{name}` in the kind of a finding."""

FOLDERS_OF_FINDINGS = ("data", "runs")


MAKERS = {
    "Finding": (0, 3),
    "of_rows": (0, 3),
    "Note": (0, 3),
    "_note": (0, 3),
    "of_questions": (1, 4),
    "of_split": (0, 4),
}
"""What makes a finding, and at which places it takes the kind and the severity."""

PASSING_ON = ("of_rows", "_note", "findings_of_notes", "of_questions", "of_split", "_findings_of_oddities")
"""Functions that make findings of a kind that they are given."""


def headings(page: str) -> list[str]:
    return re.findall(r"^### `(\w+)`$", (REFERENCE / page).read_text(encoding="utf-8"), re.MULTILINE)


def section(page: str, heading: str) -> str:
    text = (REFERENCE / page).read_text(encoding="utf-8")
    return text.partition(f"### `{heading}`\n")[2].partition("\n#")[0]


# --- Findings ----------------------------------------------------------------------------------------------------------
def kinds_in_code() -> dict[str, set[str]]:
    """Every kind of finding that a module makes, with the severities in which it is made."""
    kinds: dict[str, set[str]] = {}
    for folder in FOLDERS_OF_FINDINGS:
        for file in sorted((PACKAGE / folder).rglob("*.py")):
            for kind, severity in _kinds_of(ast.parse(file.read_text(encoding="utf-8"))):
                kinds.setdefault(kind, set()).add(severity)
    for kind, (severity, _) in ODDITIES.items():
        kinds.setdefault(kind, set()).add(severity.capitalize())
    return kinds


def _kinds_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in ast.walk(function):
            if not (isinstance(call, ast.Call) and _name(call.func) in MAKERS):
                continue
            if function.name in PASSING_ON:
                continue
            for kind in _values(call.args[MAKERS[_name(call.func)][0]], function):
                yield kind, _severity(call, kind)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _values(expression: ast.expr, function: ast.FunctionDef) -> list[str]:
    """The texts that an expression can be: a text, one of two, or a variable that a loop in the function sets."""
    if isinstance(expression, ast.Constant):
        return [str(expression.value)]
    if isinstance(expression, ast.IfExp):
        return _values(expression.body, function) + _values(expression.orelse, function)
    if isinstance(expression, ast.JoinedStr):
        ending = "".join(str(part.value) for part in expression.values if isinstance(part, ast.Constant))
        return [f"{split}{ending}" for split in SPLITS]
    assert isinstance(expression, ast.Name), ast.dump(expression)
    found = [kind for node in ast.walk(function) for kind in _first_texts(node, expression.id)]
    assert found, f"line {expression.lineno}: cannot tell the kinds of `{expression.id}`"
    return found


def _first_texts(node: ast.AST, variable: str) -> Iterator[str]:
    """The texts that begin the tuples of a loop over `variable, …`, or the keys of a dict over which it loops."""
    if isinstance(node, ast.For | ast.comprehension):
        names = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
        if getattr(names[0], "id", None) == variable and isinstance(node.iter, ast.Tuple):
            for item in node.iter.elts:
                first = item.elts[0] if isinstance(item, ast.Tuple) else item
                if isinstance(first, ast.Constant):
                    yield str(first.value)
    elif (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.value, ast.Dict)
        and getattr(node.target, "id", "") == "found"
    ):
        yield from (str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))


def _severity(call: ast.Call, kind: str) -> str:
    from textclf.data.findings.of_examples import _NOTES_THAT_WARN

    if _name(call.func) in ("Note", "_note"):
        return "Warning" if kind in _NOTES_THAT_WARN else "Note"
    place = MAKERS[_name(call.func)][1]
    given = [word.value for word in call.keywords if word.arg == "severity"] or call.args[place : place + 1]
    return "Note" if given and isinstance(given[0], ast.Constant) and given[0].value == "note" else "Warning"


def test_every_kind_of_finding_in_the_code_has_an_entry_and_every_entry_a_kind() -> None:
    documented = headings("findings.md")
    assert sorted(documented) == sorted(kinds_in_code())


def test_each_entry_has_the_severity_of_the_code_and_says_what_to_do() -> None:
    for kind, severities in kinds_in_code().items():
        entry = section("findings.md", kind)
        assert {entry.partition(".")[0]} == severities, kind
        assert "**What to do:** " in entry, kind


# --- Errors ------------------------------------------------------------------------------------------------------------
def test_every_error_has_an_entry_with_its_description_its_causes_and_a_remedy() -> None:
    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, textclf.TextclfError) and value is not textclf.TextclfError
    }
    assert sorted(headings("errors.md")) == sorted(classes)
    for name, value in classes.items():
        entry = " ".join(section("errors.md", name).split())
        described = " ".join((value.__doc__ or "").split()).rstrip(".")
        assert entry.startswith(described.partition(":")[0].partition(";")[0]), name
        assert "**Causes:** " in entry, name
        assert "**What to do:** " in entry, name


def test_every_reason_for_a_row_without_a_label_and_every_watcher_is_in_a_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (REFERENCE / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    reasons = {*get_args(FaultKind), "empty", "model"} - {"blank"}  # blank lines are written unchanged
    assert sorted(rows) == sorted([*reasons, *WatcherSettings.model_fields])


# --- Generated pages ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", REPOSITORY / "docs" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_those_of_the_code(writer: ModuleType) -> None:
    for path, text in writer.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run make reference"
