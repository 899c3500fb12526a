"""Trains a model, whatever its task: takes a recipe and writes a run folder with a verified `.tflite` model."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textclf.data.tables.frames import FrameTable, Rows
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import load_recipe_data, prepare
from textclf.errors import RunError, VerificationError
from textclf.model_maker.environment import require_environment
from textclf.recipe.automatic import reason_for_epochs
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.runs.pages.writing import write_pages
from textclf.runs.record.frames import check_can_be_kept, files_of, keep_tables, tables_of
from textclf.runs.record.latency import latency_of
from textclf.runs.record.metrics_file import WITHHELD, RunMetrics
from textclf.runs.tasks.table import task_of
from textclf.terminal.progress import Progress
from textclf.training.machine.hardware import use_tensorflow
from textclf.training.machine.memory import memory_errors
from textclf.training.saved.run_folder import METRICS, RunFolder, open_run_folder

# The most copies of the weights that a run has on disk at one time: two saved states with both moments of the optimiser,
# while one replaces the other, the best epoch, its copy in checkpoints/best, and the exported file.
_COPIES_ON_DISK = 9


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the model in it, and the values of `metrics.json`."""

    dir: Path
    model_path: Path
    metrics: dict[str, Any]


def train(
    recipe: Recipe | str | Path,
    run_dir: str | Path | None = None,
    *,
    data: Mapping[str, Rows] | None = None,
    force: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains the model that a recipe describes, exports it, verifies it and measures it.

    `recipe` is a Recipe or the path of one. `data` replaces the recipe's files with tables in memory, such as pandas
    DataFrames, pyarrow Tables or lists of dicts: `{"train": frame}`, and `validation` and `test` likewise. Messages call the
    tables data[train] and so on, and number their rows by position, from 0. The run keeps the columns of the text and the
    label in `data/<split>.csv`, in which row 1 is the header, or in `data/<split>.jsonl` if labels are lists. Its
    `recipe.yaml` names these files, so that the run can be repeated from its folder. To resume such a run, pass the same
    data.

    `run_dir` is the folder to write, by default `runs/<name>`. An existing folder is replaced only with `force`, and only
    if textclf wrote everything in it. `resume` continues an interrupted run from its last saved step; the result is the
    same as without the interruption. A resumed run replaces an existing folder if it was started with `force`. Progress is
    printed to standard error unless `quiet`.

    If the exported file differs too much from the trained model in the form that the recipe asks for
    (export.quantization), the next larger form that passes is written: int4 → dynamic → float16 → none. Then
    `metrics["export"]["quantization"]` is the form written, `metrics["export"]["refused"]` lists the other forms with the
    reasons, and the command `textclf train` ends with exit code 3. If no form passes, VerificationError is raised. The run
    folder is then complete except for `model.tflite`, and `textclf export` can export the model in another form.

    Raises a TextclfError if a problem in the recipe, the data, the encoder or the folder prevents the run.
    """
    started = time.monotonic()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    task = task_of(recipe)
    tables = tables_of(recipe, data)
    check_can_be_kept(recipe, tables)
    progress = Progress(quiet=quiet)
    if recipe.training.engine == "model-maker":
        # Reported before anything is read, downloaded or written.
        require_environment()
    else:
        use_tensorflow("train")
    target = Path(run_dir) if run_dir is not None else Path("runs") / recipe.name
    with open_run_folder(
        target, force=force, resume=resume, inputs=_inputs(recipe, tables), say=progress.say
    ) as folder:
        if folder.finished is not None:
            return _finished_run(target, task.metrics.from_dict(folder.finished, target / METRICS))
        with progress.during("Reading the data"):
            asked = recipe
            recipe, dataset = load_recipe_data(recipe, frames=tables, read=task.read_dataset)
        checkpoint = kind_of(recipe).load(recipe.encoder, dataset)
        _check_space(folder, checkpoint)
        tokenizer = prepare(recipe, dataset, checkpoint).tokenizer
        with progress.during("Splitting the texts into tokens"):
            prepared = task.prepare_data(recipe, dataset, tokenizer)
        for finding in prepared.dataset.findings:
            (progress.warn if finding.severity == "warning" else progress.note)(finding.message)
        if (reason := reason_for_epochs(asked, recipe, len(dataset.train.rows))) is not None:
            progress.note(reason)
        recipe, prepared = keep_tables(recipe, prepared, tables, folder)
        with memory_errors(recipe, folder, "the model was trained"):
            trained = task.train(recipe, prepared, checkpoint, folder, progress, started)
        with memory_errors(recipe, folder, "the trained model was exported and measured"):
            results = trained.conclude(folder, progress)
        metrics = results.metrics
        if metrics.export.withheld is None:
            latency = latency_of(folder.path / "model.tflite")
            metrics = metrics.with_changes(export=metrics.export.model_copy(update={"latency": latency}))
        metrics = metrics.with_changes(seconds=round(time.monotonic() - started, 1))
        metrics = write_pages(folder.path, metrics, results.pages)
        trained.leave()
        folder.finish()
    return _finished_run(target, metrics)


def _finished_run(target: Path, metrics: RunMetrics) -> Run:
    """The run that `train` returns. Raises VerificationError if its model was not written."""
    reason = metrics.export.withheld
    if reason is not None:
        raise VerificationError(
            f"{target}: the training is complete, but {WITHHELD}: {reason}. The trained weights were "
            f"kept; export them in another form or within wider bounds, for example: textclf export {target} quantization=none"
        )
    return Run(target, target / "model.tflite", metrics.as_dict())


def _inputs(recipe: Recipe, tables: Mapping[str, FrameTable]) -> list[Path]:
    """The files and folders that a run of this recipe reads, where `tables` take the place of some files."""
    source = recipe.encoder.source
    files = [path for paths in files_of(recipe, tables).values() for path in paths]
    return [*files, *([Path(source)] if os.path.isabs(source) else [])]


def _check_space(folder: RunFolder, checkpoint: AnyEncoder) -> None:
    needed = _COPIES_ON_DISK * sum(array.nbytes for array in checkpoint.weights.values())
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise RunError(
            f"{folder.target}: only {free / 1e6:,.0f} MB are free on this disk, but the training writes up to "
            f"{needed / 1e6:,.0f} MB; free some space, or choose another {folder.kind.argument}"
        )
