"""Detects what kind of file a person passed as RECIPE, MODEL, RUN or data.

Takes a path and returns the kind of the file, or raises an error that names the kind and the command that accepts it.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Literal

from textclf.errors import ModelError, RecipeError, RunError, TextclfError
from textclf.files.locations import is_address, location_of, shown_address
from textclf.files.model_path import MODEL_FILE, model_path_of
from textclf.terminal.door import command_line

Kind = Literal["url", "missing", "folder", "run", "model", "table", "squad", "json", "archive", "recipe", "other"]

_SAMPLE = 1 << 16

_TABLE_ENDINGS = tuple(
    ".csv .tsv .tab .csv.gz .tsv.gz .csv.zst .tsv.zst .jsonl .ndjson .jsonl.gz .jsonl.zst .parquet .xlsx".split()
)

_SQUAD_ENDINGS = tuple(f".json{packed}" for packed in ("", ".gz", ".zst", ".bz2", ".xz"))

_SQUAD_START = re.compile(rb'\s*\{\s*"(version|data)"\s*:')

_SQUAD_LIST = re.compile(rb'"data"\s*:\s*\[\s*\{')

_DELIMITERS = ",;\t|"

_RECIPE = "recipe.yaml"


def kind_of(given: str | os.PathLike[str]) -> Kind:
    """Detects what a path leads to from its first bytes and its name. Pipes and devices are not read."""
    text = os.fspath(given)
    if is_address(text) and not os.path.exists(text):
        return "url"
    try:
        path = Path(text)
        if path.is_dir():
            return "run" if (path / "metrics.json").is_file() or (path / MODEL_FILE).is_file() else "folder"
        if not path.exists():
            return "missing"
        if not path.is_file():
            return "other"
        with path.open("rb") as file:
            start = file.read(_SAMPLE)
    except (OSError, ValueError):
        return "missing"
    return _kind_of_content(text.lower(), start)


def _kind_of_content(name: str, start: bytes) -> Kind:
    if start[4:8] == b"TFL3" or name.endswith((".tflite", ".onnx")):
        return "model"
    if name.endswith((".yaml", ".yml")):
        return "recipe"
    if name.endswith(_TABLE_ENDINGS):
        return "table"
    if start[:4] == b"PAR1":
        return "table"
    if start[:2] == b"\x1f\x8b" or start[:4] in (b"PK\x03\x04", b"\x28\xb5\x2f\xfd"):
        return "archive"
    if start.lstrip()[:1] == b"[":
        return "json"
    if is_squad_start(start):
        return "squad"
    if start.lstrip()[:1] == b"{":  # a recipe may be written as JSON
        return "other"
    return "table" if _columns(start) else "other"


def is_squad_start(start: bytes) -> bool:
    """Returns whether a file that begins with these bytes is in the format of SQuAD. Other keys may come first."""
    start = start.removeprefix(b"\xef\xbb\xbf")
    if _SQUAD_START.match(start):
        return True
    return start.lstrip()[:1] == b"{" and b'"paragraphs"' in start and _SQUAD_LIST.search(start) is not None


def is_squad(file: Path) -> bool:
    """Returns whether the name is that of a SQuAD file, `.json` or compressed; other data of questions are tables."""
    return file.name.lower().endswith(_SQUAD_ENDINGS)


def columns_of(path: str | os.PathLike[str]) -> list[str]:
    """Guesses the column names in the first row of a table. Returns an empty list if there are none."""
    try:
        with open(path, "rb") as file:
            start = file.read(_SAMPLE)
        is_text = start.lstrip()[:1] not in (b"{", b"[") and start[:4] not in (b"PAR1", b"PK\x03\x04")
        return _columns(start) or [] if is_text else []
    except (OSError, ValueError):
        return []


def _columns(start: bytes) -> list[str] | None:
    """Returns the header of text that looks delimited: its first rows have the same number of fields, two or more."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = start[: len(start) // 2 * 2].decode("utf-16", "replace")
    else:
        text = start.decode("utf-8-sig", "replace")
    if "\0" in text:
        return None
    lines = text.splitlines()[:20]
    for delimiter in _DELIMITERS:
        if not lines or delimiter not in lines[0]:
            continue
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            continue
        if len(rows[0]) > 1 and (len(rows) == 1 or len(rows[1]) == len(rows[0])):
            return [name.strip() for name in rows[0]]
    return None


# --- A recipe --------------------------------------------------------------------------------------------------------
def not_a_recipe(given: str | os.PathLike[str]) -> str | None:
    """Says why this cannot be a recipe and what to do (the text follows its name), or returns None if it may be one."""
    text = os.fspath(given)
    kind = kind_of(text)
    if kind == "url":
        return "this is a web address; download the recipe first, then name the file"
    if kind == "missing" and "=" in text:
        return (
            "there is no such file. If this is a setting, name the recipe before it, for example "
            f"`textclf train recipe.yaml {text}`"
        )
    if kind == "run":
        inside = Path(text) / _RECIPE
        found = f"; to train it again, name its recipe: {inside}" if inside.is_file() else "; name a recipe instead"
        return f"this is the folder of a run{found}"
    if kind == "model":
        beside = Path(text).with_name(_RECIPE)
        found = f"; the recipe that trained it is {beside}" if beside.is_file() else "; name a recipe, a YAML file"
        return f"this is a model, not a recipe{found}. To look at a model: textclf inspect {text}"
    if kind == "table":
        return _table_instead_of_recipe(text)
    if kind == "squad":
        return "this is a SQuAD file, not a recipe; write a recipe with `task: question-answering` that names it"
    if kind == "json":
        return f"this is a list of JSON records, not a recipe. To write a recipe for it: textclf new {command_line([text])}"
    if kind == "archive":
        return "this is compressed, not a recipe; unpack it, or name a recipe, a YAML file"
    return None


def _table_instead_of_recipe(path: str) -> str:
    columns = columns_of(path)
    shown = ", ".join(f"`{name}`" for name in columns[:20]) + (", …" if len(columns) > 20 else "")
    about = f"; its columns are {shown}" if columns else ""
    return f"this is a table, not a recipe{about}. To write a recipe for it: textclf new {command_line([path])}"


def check_is_recipe(given: str | os.PathLike[str]) -> None:
    """Raises RecipeError for a file that is clearly not a recipe."""
    if reason := not_a_recipe(given):
        raise RecipeError(f"{shown_address(os.fspath(given))}: {reason}")


# --- A model and a run -----------------------------------------------------------------------------------------------
def model_path(given: str | os.PathLike[str]) -> Path:
    """Returns the `.tflite` file: the path itself, or the model in the folder of a run. Raises ModelError."""
    text, kind = os.fspath(given), kind_of(given)
    reasons = {
        "url": "this is a web address; download the model first, then name the file",
        "recipe": "this is a recipe, not a model; train it first (textclf train), then name model.tflite in its run",
        "table": "this is a table, not a model; name the model first, then the data",
        "json": "this is JSON, not a model; name a .tflite file",
        "squad": "this is a SQuAD file, not a model; name the model first, then the data",
    }
    if kind in reasons:
        raise ModelError(f"{shown_address(text)}: {reasons[kind]}")
    return model_path_of(text)


def run_path(given: str | os.PathLike[str]) -> Path:
    """Returns the folder of a run: the path itself, or the folder of the model that the path leads to.

    Raises RunError.
    """
    text, kind = os.fspath(given), kind_of(given)
    if kind == "model" and (Path(text).parent / "metrics.json").is_file():
        return Path(text).parent
    reasons = {
        "url": "this is a web address; name the folder of a run",
        "model": "this is a model without its run; name the folder that `textclf train` wrote",
        "recipe": "this is a recipe; name the folder of the run that it trained, such as runs/NAME",
        "table": "this is a table; name the folder of a run, such as runs/NAME",
        "squad": "this is a SQuAD file; name the folder of a run, such as runs/NAME",
    }
    if kind in reasons:
        raise RunError(f"{shown_address(text)}: {reasons[kind]}")
    return Path(text)


def check_is_data(given: str | os.PathLike[str]) -> None:
    """Raises a TextclfError for a path that is clearly not a table: a model, a recipe, the folder of a run, or an address
    that is not read."""
    if location_of(given) is not None:
        return
    text, kind = os.fspath(given), kind_of(given)
    reasons = {
        "model": "this is a model, not a table; name the model first, then the data",
        "recipe": "this is a recipe, not a table; name a CSV file or another table",
        "run": "this is the folder of a run, not a table; name a CSV file or another table",
    }
    if kind in reasons:
        raise TextclfError(f"{text}: {reasons[kind]}")
