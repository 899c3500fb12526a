"""`textclf check`: reports what is wrong with a recipe and its data, without training and without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from textclf.data.findings.finding import Finding
from textclf.data.tables.frames import Rows
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import load_recipe_data, prepare
from textclf.errors import ArgumentError
from textclf.recipe.automatic import reason_for_epochs
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.runs.record.frames import check_can_be_kept, tables_of
from textclf.runs.tasks.check_report import CheckReport
from textclf.runs.tasks.table import task_of

__all__ = ["CheckReport", "check"]


def check(
    recipe: str | Path | Recipe, overrides: Iterable[str] = (), *, data: Mapping[str, Rows] | None = None
) -> CheckReport:
    """Checks a recipe and its data without training, and returns what it found.

    `recipe` is the path of a recipe, which `overrides` such as `training.epochs=5` change, or a Recipe as `load_recipe`
    returns it. `data` replaces the recipe's files with tables in memory, such as pandas DataFrames, pyarrow Tables
    or lists of dicts: `{"train": frame}`, and `validation` and `test` likewise. Their rows are numbered by position, from 0,
    and messages call the tables data[train] and so on.

    Raises the errors that training would raise about the recipe, the data or the encoder's vocabulary.
    """
    if isinstance(recipe, Recipe):
        if tuple(overrides):
            raise ArgumentError(
                "overrides are given with a Recipe; pass them to load_recipe, or pass the recipe's path"
            )
        shown = recipe.name
    else:
        shown, recipe = str(recipe), load_recipe(recipe, overrides)
    task, kind = task_of(recipe), kind_of(recipe)
    asked = recipe
    tables = tables_of(recipe, data)
    check_can_be_kept(recipe, tables)
    recipe, dataset = load_recipe_data(recipe, frames=tables, kind=kind, read=task.read_dataset)
    tokenizer = prepare(recipe, dataset, kind=kind).tokenizer
    report = task.check(recipe, shown, dataset, tokenizer)
    findings, rows = list(report.findings), len(dataset.train.rows)
    if (reason := reason_for_epochs(asked, recipe, rows)) is not None:
        findings.append(Finding("few_training_rows", reason, rows, severity="note"))
    return replace(report, findings=findings)
