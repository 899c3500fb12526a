"""The order of the rooms: what each module of textclf imports, and what a finished model needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import textclf

PACKAGE = Path(textclf.__file__).parent
ROOMS = [
    "errors",
    "extras",
    "terminal",
    "processes",
    "files",
    "recipe",
    "data",
    "encoders",
    "tflite",
    "onnx",
    "classify",
    "serving",
    "cluster",
    "dask",
    "training",
    "exporting",
    "model_maker",
    "runs",
    "cli",
]
"""From the ground up: a module imports from its own room and from those before it."""

LIGHT_ROOMS = ROOMS[: ROOMS.index("dask") + 1]
"""What a finished model is used with, and what comes before: without TensorFlow."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(file.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ([f"textclf.{name.name}" for name in node.names] if node.module == "textclf" else [node.module])
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def room_of(module: str) -> str | None:
    """None for the package itself, whose names anybody may import, and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "textclf" and len(parts) > 1 and parts[1] in ROOMS else None


def test_every_module_stands_in_a_room() -> None:
    entries = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert entries - {"__init__", "__main__"} - set(ROOMS) == COMPATIBLE_NAMES


COMPATIBLE_NAMES = {"dataset", "predictor"}
"""Names of modules from which programs of before import."""


def test_rooms_import_only_from_the_rooms_below_them() -> None:
    upward = [
        f"{module} imports {other}"
        for module, tree in modules()
        for other in imported(tree)
        if (room := room_of(module)) and (theirs := room_of(other)) and ROOMS.index(theirs) > ROOMS.index(room)
    ]
    assert upward == []


def test_no_light_room_imports_tensorflow() -> None:
    """Neither at once nor in a function: a test with a blocked import would see the former alone."""
    names = [module for module, _ in modules() if room_of(module) in LIGHT_ROOMS]
    heavy = ("tensorflow", "keras", "textclf.training", "textclf.exporting")
    found = [
        f"{module} imports {other}"
        for module, tree in modules()
        if module in names and module not in WITH_TENSORFLOW
        for other in imported(tree)
        if other.split(".")[0] in heavy or ".".join(other.split(".")[:2]) in heavy
    ]
    assert found == []


WITH_TENSORFLOW = {
    "textclf.encoders.dense",
    "textclf.encoders.mobilebert",
    "textclf.encoders.average_words",
    "textclf.encoders.trainable",
    "textclf.terminal.native_log",
}
"""The encoders' forward passes, and what imports TensorFlow quietly: only training and `load_encoder` use them."""


def test_only_the_table_of_tasks_asks_a_recipe_for_its_task() -> None:
    """Everything else is given the pieces of the task. A model of another task is refused where models are opened."""
    asking = {
        module
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "task"
        and re.search(r"\b(recipe|metadata|read_metadata\(.*\))$", ast.unparse(node.value))
    }
    assert asking == {"textclf.runs.tasks.table", "textclf.classify.interpreters"}


def test_what_serves_every_task_imports_none() -> None:
    trees = dict(modules())
    found = [
        f"{module} imports {other}"
        for module in FOR_EVERY_TASK
        for other in imported(trees[module])
        if "classification" in other or "question_answering" in other
    ]
    assert found == []


FOR_EVERY_TASK = (
    *(
        f"textclf.training.{name}"
        for name in (
            "loop",
            "step",
            "model",
            "task",
            "rows",
            "features",
            "optimizer",
            "machine.memory",
            "saved.run_folder",
            "saved.saving",
            "watching.reactions",
        )
    ),
    *(
        f"textclf.runs.{name}"
        for name in ("train", "check", "export", "tasks.interface", "pages.writing", "record.metrics_file")
    ),
    "textclf.exporting.writing",
)


def test_light_rooms_can_be_imported_where_there_is_no_tensorflow() -> None:
    names = [module for module, _ in modules() if room_of(module) in [*LIGHT_ROOMS, "cli"]]
    code = (
        "import sys, importlib\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        f"for name in {[name for name in names if name not in WITH_TENSORFLOW]!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
