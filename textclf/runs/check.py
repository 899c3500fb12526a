"""`textclf check`: reports what is wrong with a recipe and its data, without training and without TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding, visible
from textclf.data.findings.of_tokens import token_findings
from textclf.data.tables.frames import Rows
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import load_recipe_data, prepare
from textclf.errors import ArgumentError
from textclf.model_maker.data_checks import check_data
from textclf.recipe.automatic import reason_for_epochs
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.runs.record.frames import tables_of
from textclf.runs.tasks.table import task_of

_SHOWN_LABELS = 20


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: the numbers of rows by split and label, and the problems found in the data."""

    name: str
    recipe: str
    labels: list[str]
    rows: dict[str, dict[str, int]]
    findings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """Lines for a terminal."""
        splits = ", ".join(f"{sum(counts.values()):,} {split}" for split, counts in self.rows.items())
        lines = [f"{self.recipe}: the recipe is valid", f"Rows: {splits}", f"Labels: {len(self.labels):,}"]
        shown = {label: visible(label).strip("`") for label in self.labels[:_SHOWN_LABELS]}
        width = max(map(len, shown.values()))
        for label, name in shown.items():
            counts = ", ".join(f"{counts[label]:,} {split}" for split, counts in self.rows.items())
            lines.append(f"  {name:<{width}}  {counts}")
        if len(self.labels) > _SHOWN_LABELS:
            lines.append(f"  … and {len(self.labels) - _SHOWN_LABELS:,} more")
        for severity in ("warning", "note"):
            lines += [f"{severity.capitalize()}: {one}" for one in self.findings if one.severity == severity]
        return "\n".join(lines if self.findings else [*lines, "No problems found in the data."])


def check(
    recipe: str | Path | Recipe, overrides: Iterable[str] = (), *, data: Mapping[str, Rows] | None = None
) -> CheckReport:
    """Checks a recipe and its data without training, and returns what it found.

    `recipe` is the path of a recipe, which `overrides` such as `training.epochs=5` change, or a Recipe as `load_recipe`
    returns it. `data` replaces the recipe's files with tables in memory, pandas DataFrames or lists of dicts:
    `{"train": frame}`, and `validation` and `test` likewise. Their rows are numbered by position, from 0, and messages
    call the tables data[train] and so on.

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
    recipe, dataset = load_recipe_data(recipe, frames=tables_of(recipe, data), kind=kind, read=task.read_dataset)
    tokenizer = prepare(recipe, dataset, kind=kind).tokenizer
    task.check(recipe, dataset)
    encoder = recipe.encoder
    findings = [*dataset.findings, *token_findings(dataset, tokenizer, encoder.fixed_length, encoder.source)]
    rows = len(dataset.train.rows)
    if (reason := reason_for_epochs(asked, recipe, rows)) is not None:
        findings.append(Finding("few_training_rows", reason, rows, severity="note"))
    if recipe.training.engine == "model-maker":
        told = check_data(recipe, dataset, tokenizer.vocabulary)
        findings += [Finding("model_maker", message, len(dataset.train.rows), severity="note") for message in told]
    return CheckReport(recipe.name, shown, list(dataset.labels), _rows(dataset), findings)


def _rows(dataset: Dataset) -> dict[str, dict[str, int]]:
    rows = {}
    for split in dataset.splits:
        counts = Counter(split.labels.tolist())
        rows[split.name] = {label: counts[index] for index, label in enumerate(dataset.labels)}
    return rows
