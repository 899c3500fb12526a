"""`textclf compare`: compares the results of runs and recipes.

Recipes are trained first. A single recipe is trained with several engines, and the engines are compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from textclf.errors import ArgumentError, RecipeError, RunError
from textclf.files.data_files import named_paths
from textclf.files.kinds import kind_of, run_path
from textclf.files.locations import path_of, without_secrets
from textclf.recipe.reading import load_recipe
from textclf.recipe.rules import RULES
from textclf.recipe.settings import Recipe
from textclf.recipe.values import ENGINES
from textclf.runs.comparison.engines import Comparison, compare_engines
from textclf.runs.comparison.folder import FORMAT, VERSION, open_comparison_folder, writing
from textclf.runs.tasks.interface import ComparedRuns, Task
from textclf.runs.tasks.table import task_of, task_of_run
from textclf.terminal.progress import Progress

Item = str | os.PathLike[str] | Recipe
"""The folder of a run, the file of a recipe, or a Recipe."""


def compare(
    items: Item | Sequence[Item],
    output: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    engines: Sequence[str] | None = None,
    seeds: int = 1,
    force: bool = False,
    quiet: bool = False,
) -> ComparedRuns | Comparison:
    """Compares any number of runs and recipes. Recipes are trained first.

    All models are run on the same rows: the test split of the first run (or its validation split, if it has no test
    split), or the labelled rows of the file `data`. If `items` is a single recipe, it is trained with each of the
    `engines`, by default all, and with `seeds` seeds, on the same split. `overrides` such as `training.epochs=5` change
    the recipes.

    `output` is the folder for comparison.md, comparison.json, disagreements.csv and the new runs. By default it is
    runs/<name of the first recipe>-compared; if only runs are compared, nothing is written by default. An existing folder
    is replaced only with `force`, and only if textclf wrote everything in it.

    Raises a TextclfError if a problem in the runs, the recipes, the data or the folder prevents the comparison.
    """
    given = [items] if isinstance(items, str | os.PathLike | Recipe) else list(items)
    if not given:
        raise ArgumentError("items is empty; pass the runs or recipes to compare")
    recipes = [item for item in given if _is_recipe(item)]
    if overrides and not recipes:
        raise ArgumentError(
            f"`{without_secrets(overrides[0])}` is a setting of a recipe, but only runs are compared; remove it"
        )
    target = Path(output) if output is not None else None
    if len(given) == len(recipes) == 1:
        if data is not None:
            raise ArgumentError("data (--data) is for comparing runs or several recipes, not engines; remove it")
        return _compare_engines(recipes[0], engines or ENGINES, seeds, overrides, target, force=force, quiet=quiet)
    if engines is not None or seeds != 1:
        option = "seeds (--seeds)" if engines is None else "engines (--engines)"
        raise ArgumentError(
            f"{option} is for a single recipe; to compare several, set training.engine or training.seeds in each recipe"
        )
    return _compare_runs(given, target, overrides, None if data is None else path_of(data), force=force, quiet=quiet)


def _is_recipe(item: Item) -> bool:
    """Whether an item must be trained first. Every other item should be a run."""
    return isinstance(item, Recipe) or kind_of(item) not in ("run", "folder", "model")


def _default_output(recipe: Recipe) -> Path:
    """The folder of a comparison with training, if the caller gives none."""
    return Path("runs") / f"{recipe.name}-compared"


# --- Engines ---------------------------------------------------------------------------------------------------------
def _compare_engines(
    item: Item,
    engines: Sequence[str],
    seeds: int,
    overrides: Sequence[str],
    output: Path | None,
    *,
    force: bool,
    quiet: bool,
) -> Comparison:
    if unknown := [engine for engine in engines if engine not in ENGINES]:
        raise ArgumentError(f"engines: {unknown[0]!r} is not an engine; choose from {', '.join(ENGINES)}")
    recipes = {engine: _recipe_for(item, engine, overrides) for engine in dict.fromkeys(engines)}
    first = next(iter(recipes.values()))
    chosen = [first.training.seed + number for number in range(seeds)]
    folder = output or _default_output(first)
    comparison = compare_engines(recipes, chosen, folder, force=force, quiet=quiet)
    Progress(quiet=quiet).say(f"Written to {folder}: comparison.md, comparison.json and the runs")
    return comparison


def _recipe_for(item: Item, engine: str, overrides: Sequence[str]) -> Recipe:
    if not isinstance(item, Recipe):
        return load_recipe(item, (*overrides, f"training.engine={engine}"))
    training = item.training.model_copy(update={"engine": engine})
    recipe = _without_overrides(item, overrides).model_copy(update={"training": training})
    if problems := [breach.message for rule in RULES for breach in rule(recipe)]:
        raise RecipeError("\n".join(problems))
    return recipe


# --- Runs ------------------------------------------------------------------------------------------------------------
def _compare_runs(
    items: Sequence[Item],
    output: Path | None,
    overrides: Sequence[str],
    data: Path | None,
    *,
    force: bool,
    quiet: bool,
) -> ComparedRuns:
    progress = Progress(quiet=quiet)
    # Problems in recipes and runs are found before hours are spent on training.
    loaded = [_loaded(item, overrides) for item in items]
    recipes = [item for item in loaded if isinstance(item, Recipe)]
    runs = [item for item in loaded if isinstance(item, Path)]
    if output is None and recipes:
        output = _default_output(recipes[0])
    task = _task_of_all(loaded)
    if output is None:
        comparison = task.compare_runs(runs, data)
        _say_warnings(comparison, progress)
        return comparison
    with open_comparison_folder(output, force=force, say=progress.say) as folder:
        folder.check_apart_from([*_inputs(loaded), *([data] if data is not None else [])])
        if recipes:
            _start_tensorflow(progress)
        with progress.during("Reading the data of all runs and recipes"):
            task.check_comparison(loaded, data)
        with writing(folder, progress.say) as path:
            all_runs = [
                _trained(item, path / "runs" / f"{number}-{item.name}", progress, quiet=quiet)
                if isinstance(item, Recipe)
                else item
                for number, item in enumerate(loaded, 1)
            ]
            comparison = task.compare_runs(all_runs, data)
            _say_warnings(comparison, progress)
            values = {"format": FORMAT, "version": VERSION, **comparison.as_dict()}
            comparison.write(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    runs_too = " and the new runs" if recipes else ""
    progress.say(f"Written to {output}: comparison.md, comparison.json, disagreements.csv{runs_too}")
    return comparison


def _loaded(item: Item, overrides: Sequence[str]) -> Recipe | Path:
    if isinstance(item, Recipe):
        return _without_overrides(item, overrides)
    return load_recipe(item, overrides) if _is_recipe(item) else run_path(item)


def _without_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The Recipe itself. Raises ArgumentError for overrides, which only apply to files."""
    if overrides:
        raise ArgumentError(f"`{without_secrets(overrides[0])}` cannot change a Recipe; pass it to load_recipe instead")
    return recipe


def _trained(recipe: Recipe, run_dir: Path, progress: Progress, *, quiet: bool) -> Path:
    """Trains the recipe and returns the folder of its run."""
    _start_tensorflow(progress)
    from textclf.runs.train import train

    progress.say(f"{run_dir.name}: training")
    return train(recipe, run_dir, quiet=quiet).dir


def _start_tensorflow(progress: Progress) -> None:
    """Loads TensorFlow, without its messages. Raises MissingPackageError if it is not installed."""
    from textclf.terminal.native_log import load_tensorflow

    with progress.during("Starting TensorFlow"):
        load_tensorflow()


def _inputs(items: Sequence[Recipe | Path]) -> list[Path]:
    """The files and folders that the comparison reads."""
    inputs: list[Path] = []
    for item in items:
        if isinstance(item, Recipe):
            settings = item.dataset
            inputs += [
                path for split in (settings.train, settings.validation, settings.test) for path in named_paths(split)
            ]
            inputs += [Path(item.encoder.source)] if os.path.isabs(item.encoder.source) else []
        else:
            inputs.append(item)
    return inputs


def _task_of_all(items: Sequence[Recipe | Path]) -> Task:
    """Returns the task of all runs and recipes. Raises RunError if they have different ones."""
    tasks = [task_of(item) if isinstance(item, Recipe) else task_of_run(item) for item in items]
    for item, task in zip(items, tasks, strict=True):
        if task is not tasks[0]:
            first, other = (_shown(one) for one in (items[0], item))
            raise RunError(
                f"{other}: its task differs from that of {first} ({task.name} and {tasks[0].name}), so no row can measure "
                "both; compare models of one task"
            )
    return tasks[0]


def _shown(item: Recipe | Path) -> str:
    return item.name if isinstance(item, Recipe) else str(item)


def _say_warnings(comparison: ComparedRuns, progress: Progress) -> None:
    for warning in comparison.warnings:
        progress.warn(warning)
