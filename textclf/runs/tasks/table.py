"""The tasks that a recipe can name. Only here is a recipe or a model asked for its task; the task answers the rest."""

from __future__ import annotations

import os
from pathlib import Path

from textclf.errors import ModelError
from textclf.onnx import reading as onnx
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.recipe.values import DEFAULT_TASK
from textclf.runs.tasks.classification.task import TextClassification
from textclf.runs.tasks.interface import Task
from textclf.runs.tasks.multi_label.task import MultiLabelClassification
from textclf.runs.tasks.question_answering.task import QuestionAnswering
from textclf.tflite.metadata import read_metadata

# A further task adds a line here, and its name to `Task` in recipe/values.py.
_TASKS: dict[str, Task] = {
    "text-classification": TextClassification(),
    "multi-label-classification": MultiLabelClassification(),
    "question-answering": QuestionAnswering(),
}


def task_of(recipe: Recipe) -> Task:
    """Returns the task that the recipe names."""
    return _TASKS[recipe.task]


def task_of_run(folder: Path) -> Task:
    """Returns the task of a finished run; the default task, whose errors say what is missing, if it has no recipe."""
    recipe = folder / "recipe.yaml"
    return task_of(load_recipe(recipe)) if os.path.isfile(recipe) else _TASKS[DEFAULT_TASK]


def task_of_model(model: Path) -> Task:
    """Returns the task of a model; the default task, whose check says what is wrong, if its metadata cannot be read."""
    try:
        read = onnx.read_metadata if model.suffix == ".onnx" else read_metadata
        return _TASKS[read(model).task]
    except ModelError:
        return _TASKS[DEFAULT_TASK]
