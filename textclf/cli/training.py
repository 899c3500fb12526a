"""The commands about recipes and runs: train, check, export, compare."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import click

from textclf.cli import summaries
from textclf.cli.group import cli, continues_if, help_end, offline_option
from textclf.cli.options import DATA_PATH, PATH, RECIPE, RUN, completed_settings, json_option
from textclf.files.kinds import kind_of
from textclf.recipe.values import ENGINES
from textclf.terminal.door import announce, command_line, json_text, write_report, write_result
from textclf.terminal.native_log import load_tensorflow


# --- The commands ----------------------------------------------------------------------------------------------------
@cli.command(
    "train",
    short_help="Train RECIPE, export and verify the model.",
    epilog=help_end(
        "textclf train recipe.yaml",
        "textclf train recipe.yaml training.epochs=5 --run-dir runs/longer",
        "textclf train recipe.yaml --resume",
        then="textclf classify runs/NAME inbox.csv -o sorted.csv",
    ),
)
@click.argument("recipe", type=RECIPE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=completed_settings())
@click.option("--run-dir", type=PATH, help="Folder to write (default: runs/<name>).")
@click.option("--force", is_flag=True, help="Replace the run folder if it exists.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("--engine", type=click.Choice(ENGINES), help="Override the recipe's training.engine.")
@offline_option
def train_command(
    recipe: str, overrides: tuple[str, ...], run_dir: Path | None, force: bool, resume: bool, engine: str | None
) -> None:
    """Train RECIPE, then export, verify and measure the model.

    KEY=VALUE changes a setting of the recipe, for example training.epochs=5. Exit code 3: the run is complete, but
    model.tflite has another form than the recipe requests, because that form did not pass its checks.
    """
    if force and resume:
        raise click.UsageError("--force starts again and --resume continues: use one of the two")
    announce("Reading the recipe")
    from textclf.recipe.reading import load_recipe

    loaded = load_recipe(recipe, (*overrides, f"training.engine={engine}") if engine else overrides)
    if loaded.training.engine == "native":
        continues_if(lambda: _has_saved_state(run_dir or Path("runs") / loaded.name))
    from textclf.terminal.progress import Progress

    with Progress().during("Starting TensorFlow"):
        load_tensorflow(in_command=True)
        from textclf.runs.train import train

    run = train(loaded, run_dir, force=force, resume=resume)
    from textclf.terminal.summary import show_summary

    if not show_summary(lambda: summaries.of_training(run)):
        write_result(f"Done in {run.metrics['seconds']:.0f} s → {run.dir}", needed=False)
        word, verb = summaries.use_of(run.metrics)
        use = command_line(["textclf", verb, str(run.model_path), "INPUT.csv", "-o", "OUTPUT.csv"])
        for line in summaries.runtime_lines(run):
            write_result(line, needed=False)
        write_result(f"{word} with: {use}", needed=False)
    if run.metrics["export"].get("refused"):
        # The model has another form than the recipe requests.
        sys.exit(3)


def _has_saved_state(target: Path) -> bool:
    from textclf.training.saved.run_folder import RunFolder

    return RunFolder(target).last_state.is_file()


@cli.command(
    "check",
    short_help="Check RECIPE and its data.",
    epilog=help_end(
        "textclf check recipe.yaml",
        "textclf check recipe.yaml dataset.label=queue",
        "textclf check recipe.yaml --json",
        then="textclf train recipe.yaml",
    ),
)
@click.argument("recipe", type=RECIPE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=completed_settings())
@json_option("Print the findings as JSON.")
@offline_option
def check_command(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE and its data without training.

    KEY=VALUE changes a setting of the recipe, for example dataset.label=queue.
    """
    announce("Reading the recipe")
    from textclf.terminal.progress import Progress
    from textclf.terminal.summary import show_summary

    with Progress().spinner("Checking the recipe and its data"):
        from textclf.runs.check import check

        report = check(recipe, overrides)
    if as_json:
        write_result(json_text(report.as_dict()))
        return
    write_report(report.as_text(), marked=True)
    show_summary(lambda: summaries.of_check(report, overrides))


@cli.command(
    "export",
    short_help="Write a run's model in another form.",
    epilog=help_end(
        "textclf export runs/NAME quantization=float16",
        "textclf export runs/NAME compatibility=task-library -o model.tflite",
        "textclf export runs/NAME --to onnx",
        then="textclf verify model.tflite --run runs/NAME",
    ),
)
@click.argument("run", type=RUN)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=completed_settings("export."))
@click.option("-o", "--output", type=PATH, help="File to write (default: in the run's folder).")
@click.option(
    "--to",
    type=click.Choice(["tflite", "onnx"]),
    default="tflite",
    show_default=True,
    help="Kind of file: for phones and browsers, or for servers with ONNX Runtime.",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def export_command(
    run: Path, overrides: tuple[str, ...], output: Path | None, to: Literal["tflite", "onnx"], force: bool
) -> None:
    """Write the model of a finished RUN in another form, without training, and compare it with the trained model.

    KEY=VALUE changes a setting of the export, for example quantization=float16 or compatibility=task-library.
    """
    announce("Starting TensorFlow")
    from textclf.terminal.progress import Progress
    from textclf.terminal.summary import show_summary

    with Progress().spinner("Starting TensorFlow"):
        load_tensorflow(in_command=True)
        from textclf.runs.export import export_run
    with Progress().spinner("Writing the model and comparing it with the trained one"):
        path, report = export_run(run, overrides, output, force=force, to=to)
    if not show_summary(lambda: summaries.of_export(path, report, run)):
        write_report(report.as_text(), needed=False, marked=True)


@cli.command(
    "compare",
    short_help="Compare runs, recipes or engines.",
    epilog=help_end(
        "textclf compare runs/baseline runs/longer",
        "textclf compare runs/baseline runs/longer --data labelled.csv -o compared",
        "textclf compare baseline.yaml mobilebert.yaml",
        "textclf compare recipe.yaml --engines native,model-maker --seeds 3",
    ),
)
@click.argument("items", nargs=-1, required=True, metavar="RUN|RECIPE... [KEY=VALUE]...")
@click.option(
    "--data", type=DATA_PATH, metavar="FILE", help="Labelled rows to measure on (default: the first run's test split)."
)
@click.option("--engines", help=f"Engines that train one RECIPE, separated by commas (default: {','.join(ENGINES)}).")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of trainings per engine."
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="Folder to write (default: runs/<name>-compared if a recipe is trained, none if only runs are compared).",
)
@click.option("--force", is_flag=True, help="Replace the folder if it exists.")
@json_option()
@offline_option
def compare_command(
    items: tuple[str, ...],
    data: Path | None,
    engines: str | None,
    seeds: int,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compare the models of finished runs, and of recipes, which are trained first.

    All models are run on the same rows. The report contains accuracy, macro-F1, loss and size of each run. For each run
    compared with the first, it contains the difference of the accuracies with its confidence interval, whether it is
    significant (McNemar's exact test), the differences per label, and the rows that get different labels. KEY=VALUE changes a
    setting of the recipes.

    One RECIPE alone is trained with several engines on the same split and encoder. The report contains, for each
    training, the time to the first step, examples per second, peak memory, accuracy (for questions: F1 and exact match), time
    of the export, size, latency, and the predictions that quantisation changed. Run nothing else on the machine meanwhile.
    """
    compared, overrides = _items_and_overrides(items)
    names = None if engines is None else [name.strip() for name in engines.split(",")]
    if unknown := [name for name in names or () if name not in ENGINES]:
        raise click.UsageError(
            f"--engines: {unknown[0] or engines!r} is not an engine; choose from {', '.join(ENGINES)}"
        )
    announce("Reading what is compared")
    from textclf.runs.compare import compare
    from textclf.terminal.progress import Progress
    from textclf.terminal.summary import show_summary

    # A training shows its own progress.
    trains = any(kind_of(item) not in ("run", "folder", "model") for item in compared)
    with nullcontext() if trains else Progress().spinner("Classifying the rows with each model"):
        comparison = compare(compared, output, overrides=overrides, data=data, engines=names, seeds=seeds, force=force)
    if as_json:
        write_result(json_text(comparison.as_dict()))
        return
    write_report(comparison.as_text())
    show_summary(lambda: summaries.of_comparison(comparison, items, output))


def _items_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the runs and recipes, and the settings that follow them. A path may contain an equals sign."""
    overrides = [word for word in words[1:] if "=" in word and not Path(word).exists()]
    items = [word for word in words if word not in overrides]
    for item in items:
        PATH.convert(item, None, None)
    return items, overrides
