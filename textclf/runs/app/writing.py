"""Writes the apps of `textclf app`: for each platform a folder with a small project that uses the model.

The sources are the same for every model. What they need of it is in the file model_settings.json beside the model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import textclf
from textclf.errors import ArgumentError, ModelError, RunError
from textclf.files.kinds import model_path
from textclf.files.output_folder import read_json
from textclf.files.writing import write_bytes
from textclf.runs.app.platforms import Plan, plan_of
from textclf.runs.choices import PLATFORMS, Platform
from textclf.runs.demo.model import OpenedModel, open_model, tokenizer_facts

if TYPE_CHECKING:
    from importlib.abc import Traversable

FOLDER = "app"
"""The folder of a run in which its apps are."""

SETTINGS = "model_settings.json"

_FORMAT = "textclf-app"

_LARGEST_SETTINGS = 1 << 28

# What the page of `textclf demo` computes with.
_PAGE_FILES = ("interpreter.js", "tokenizers.js", "models.js", "kernels.wasm")

# The templates with `{{…}}`.
_FILLED = ("README.md", "app/build.gradle.kts", "Podfile")

_REQUIREMENTS = "ai-edge-litert==2.3.0\nnumpy>=1.26\n"

_REQUIREMENT_OF_BERT = "tokenizers==0.23.3\n"


@dataclass(frozen=True)
class App:
    """The app for one platform. `path` is its folder, None if the platform cannot use the model, for the reason in
    `problem`. `notes` say in what it differs from textclf."""

    platform: Platform
    path: Path | None
    notes: tuple[str, ...] = ()
    problem: str | None = None


def write_app(
    model: str | Path,
    platforms: Sequence[str] = PLATFORMS,
    output: str | Path | None = None,
    *,
    force: bool = False,
) -> list[App]:
    """Writes an app for each of `platforms` into a folder of its name in `output`, and returns where they are.

    `model` is the folder of a run, or a `.tflite` file. `output` is by default the folder app of the run. If no platform is
    named, those that cannot use the model are left out, and their `App.problem` says why. With `force` the files of earlier
    apps are replaced; other files stay. Raises ArgumentError for an unknown platform or a missing `output`, ModelError for a
    model that cannot be used, and RunError for a folder that exists or cannot be written.
    """
    if unknown := set(platforms) - set(PLATFORMS):
        raise ArgumentError(f"the platform {min(unknown)!r} is unknown; expected {', '.join(PLATFORMS)}")
    source = Path(model)
    if output is None and not source.is_dir():
        raise ArgumentError(f"{model}: is a file, so there is no run for its apps; choose a folder (output, or -o)")
    folder = Path(output) if output is not None else source / FOLDER
    opened = open_model(model_path(model), "apps use")
    try:
        planned, apps = _planned(opened, platforms, source)
        contents = {platform: dict(_files(platform, plan, opened)) for platform, plan in planned.items()}
    finally:
        opened.close()
    for platform, files in contents.items():
        _check_place(folder / platform, planned[platform], files, force=force)
    for platform, files in contents.items():
        _write(folder / platform, files)
        apps[platform] = App(platform, folder / platform, planned[platform].notes)
    return [apps[platform] for platform in PLATFORMS if platform in apps]


def _planned(
    opened: OpenedModel, platforms: Sequence[str], source: Path
) -> tuple[dict[Platform, Plan], dict[Platform, App]]:
    """Returns how the apps are made, and those that are left out."""
    plans: dict[Platform, Plan] = {}
    left_out: dict[Platform, App] = {}
    wanted = [platform for platform in PLATFORMS if platform in platforms]
    for platform in wanted:
        try:
            plans[platform] = plan_of(platform, opened, source)
        except ModelError as error:
            if len(wanted) < len(PLATFORMS):
                raise
            left_out[platform] = App(platform, None, problem=str(error))
    if not plans:
        raise ModelError("; ".join(str(app.problem) for app in left_out.values()))
    return plans, left_out


# --- The files -------------------------------------------------------------------------------------------------------
def _files(platform: Platform, plan: Plan, model: OpenedModel) -> Iterator[tuple[str, bytes]]:
    """Yields the relative path and the content of each file. Of equal paths the last counts."""
    values = {**plan.values, "name": model.facts["name"], "notes": "".join(f"\n- Note: {note}" for note in plan.notes)}
    settings = {"format": _FORMAT, "textclf": textclf.__version__, **_facts(platform, model)}
    # First, because an app that was not written completely is recognised by it.
    yield _inside(plan, SETTINGS), _json(settings)
    templates = resources.files("textclf.runs.app").joinpath("templates")
    for name in plan.templates:
        for path, content in _tree(templates.joinpath(name)):
            yield path, _filled(content, values) if path in _FILLED else content
    if plan.graph is not None:
        page = resources.files("textclf.runs.demo").joinpath("page")
        for file in _PAGE_FILES:
            yield file, page.joinpath(file).read_bytes()
        yield "model_graph.json", _json(plan.graph.description)
        yield "model.bin", plan.graph.constants
        return
    yield _inside(plan, "model.tflite"), model.content
    if platform == "python":
        bert = settings["tokenizer"]["kind"] == "bert"
        yield "requirements.txt", (_REQUIREMENTS + (_REQUIREMENT_OF_BERT if bert else "")).encode()


def _facts(platform: Platform, model: OpenedModel) -> dict[str, Any]:
    """Returns what the sources read. The runtimes of Android and iOS tokenize themselves."""
    facts = {**model.facts, "inputs": list(model.opened.metadata.input_names), "outputs": model.outputs}
    return facts if platform in ("android", "ios") else {**facts, "tokenizer": tokenizer_facts(model)}


def _tree(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _tree(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_bytes()


def _filled(content: bytes, values: Mapping[str, str]) -> bytes:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], content.decode()).encode()


def _inside(plan: Plan, name: str) -> str:
    return name if plan.assets == "." else f"{plan.assets}/{name}"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


# --- The folder ------------------------------------------------------------------------------------------------------
def _check_place(place: Path, plan: Plan, files: Mapping[str, bytes], *, force: bool) -> None:
    """Raises RunError if the app may not be written there."""
    try:
        if not os.path.lexists(place) or (place.is_dir() and not os.listdir(place)):
            return
        settings = read_json(place / _inside(plan, SETTINGS), _LARGEST_SETTINGS) if place.is_dir() else None
        if not isinstance(settings, dict) or settings.get("format") != _FORMAT:
            raise RunError(
                f"{place}: exists already and is not an app of textclf, so it is not changed; choose another folder (-o)"
            )
        blocked = next((name for name in files if (place / name).is_dir()), None)
        if blocked is not None:
            raise RunError(f"{place / blocked}: is a folder, but the app has a file there; choose another folder (-o)")
    except (OSError, ValueError) as error:
        raise _unwritable(place, error) from error
    if not force:
        raise RunError(
            f"{place}: exists already; choose another folder (-o), or replace the files of the app, with your changes in "
            "them, with force=True (--force)"
        )


def _write(place: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = place / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> RunError:
    reason = getattr(error, "strerror", None) or error
    return RunError(f"{path}: cannot be written ({reason}); choose another folder (-o)")
