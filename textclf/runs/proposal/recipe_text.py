"""Writes settings and their reasons as a recipe with comments."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textclf.files.locations import Location
from textclf.recipe.values import DEFAULT_TASK, Task
from textclf.recipe.writing import yaml_value
from textclf.runs.proposal.settings import Setting
from textclf.terminal.door import printable

_WIDTH = 110


def recipe_text(
    name: str,
    about: str,
    hints: Sequence[str],
    sections: Mapping[str, Sequence[Setting]],
    folder: Path,
    task: Task = DEFAULT_TASK,
) -> str:
    """Returns the recipe as YAML. Paths are relative to `folder`, into which it is written."""
    lines = [*_comment(about, ""), "#", *(f"# {printable(hint)}" for hint in hints), "", f"name: {yaml_value(name)}"]
    if task != DEFAULT_TASK:
        lines += ["", f"task: {task}"]
    for section, settings in sections.items():
        lines += ["", f"{section}:"]
        for setting in settings:
            value = yaml_value(_written(setting.value, folder))
            lines += _comment(setting.reason, "  ")
            lines.append(f"  {'' if setting.active else '# '}{setting.key}: {value}")
    return "\n".join(lines) + "\n"


def relative_path(path: Path, folder: Path) -> str:
    """Returns the path from a folder, with slashes, or the absolute path if the two share no more than the root."""
    if isinstance(path, Location):
        return str(path)
    target, start = os.path.realpath(path), os.path.realpath(folder)
    try:
        shared = os.path.commonpath([target, start])
    except ValueError:  # on another drive of Windows
        return target
    return target if Path(shared) == Path(Path(target).anchor) else Path(os.path.relpath(target, start)).as_posix()


def _written(value: Any, folder: Path) -> Any:
    return relative_path(value, folder) if isinstance(value, Path) else value


def _comment(text: str, indent: str) -> list[str]:
    """Comment lines. Words from the data stay on these lines, whatever characters they contain."""
    prefix = f"{indent}# "
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_long_words=False,
        break_on_hyphens=False,
    )
