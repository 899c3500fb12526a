"""The commands, each a thin function over the library. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from textclf import __version__
from textclf.errors import TextclfError
from textclf.native_log import without_chatter


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command. Exit codes: 0 done, 2 something that the user can mend, 1 any other failure."""
    # A level that the user has set stays.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_chatter():
        try:
            cli.main(args=list(arguments) if arguments is not None else None, prog_name="textclf")
        except TextclfError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="textclf %(version)s")
def cli() -> None:
    """From a CSV and a short recipe to a checked, labelled TFLite text classifier, and to labels for a CSV."""


@cli.command("train")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Folder to write; by default runs/<name>.")
@click.option("--force", is_flag=True, help="Replace the run folder if it exists.")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
def train_command(recipe: str, overrides: tuple[str, ...], run_dir: Path | None, force: bool, resume: bool) -> None:
    """Train RECIPE, export the model, verify it and measure it.

    KEY=VALUE changes a setting of the recipe, for example training.epochs=5.
    """
    if force and resume:
        raise click.UsageError("--force starts again and --resume goes on: give one of the two")
    from textclf.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    from textclf.trainer import train

    run = train(loaded, run_dir, force=force, resume=resume)
    click.echo(f"{run.dir}: complete in {run.metrics['seconds']:.0f} s")
    click.echo(f"Classify with: textclf classify {run.model_path} INPUT.csv -o OUTPUT.csv")


@cli.command("check")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check_command(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE and its data without training."""
    from textclf.checking import check

    report = check(recipe, overrides)
    click.echo(_json(report.as_dict()) if as_json else report.as_text())


@cli.command("classify")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("input_file", metavar="[INPUT.csv]", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV file to write.")
@click.option("--text", "text_columns", multiple=True, metavar="COLUMN", help="Column of the text; twice for a pair.")
@click.option("--text-input", multiple=True, metavar="TEXT", help="Classify this text instead; twice for a pair.")
@click.option("--scores", is_flag=True, help="Add the probability of every label.")
@click.option("--force", is_flag=True, help="Replace OUTPUT.csv if it exists.")
def classify_command(
    model: Path,
    input_file: Path | None,
    output: Path | None,
    text_columns: tuple[str, ...],
    text_input: tuple[str, ...],
    scores: bool,
    force: bool,
) -> None:
    """Classify the rows of a CSV, or one text.

    Adds the columns predicted_label and predicted_score; every other column and the order of rows stay.
    """
    if bool(text_input) == bool(input_file):
        raise click.UsageError("give either INPUT.csv with -o OUTPUT.csv, or --text-input")
    if input_file is None:
        from textclf.predictor import Classifier

        classifier = Classifier(model)
        [prediction] = classifier.classify([text_input])
        ranked = sorted(prediction.scores.items(), key=lambda item: -item[1])
        for label, score in ranked if scores else ranked[:1]:
            click.echo(f"{label}\t{score:.4f}")
        return
    if output is None:
        raise click.UsageError("-o OUTPUT.csv is missing")
    from textclf.batch import classify_file

    summary = classify_file(model, input_file, output, text_columns=text_columns, scores=scores, force=force)
    click.echo(f"{output}: {summary.rows} rows classified in {summary.seconds:.1f} s")


@cli.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--text", "text_columns", multiple=True, metavar="COLUMN", help="Column of the text; twice for a pair.")
@click.option("--label", "label_column", metavar="COLUMN", help="Column of the true label.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def evaluate_command(
    model: Path, data: Path, text_columns: tuple[str, ...], label_column: str | None, as_json: bool
) -> None:
    """Measure MODEL on the labelled rows of DATA."""
    from textclf.batch import evaluate_file
    from textclf.report import metrics_text

    metrics = evaluate_file(model, data, text_columns=text_columns, label_column=label_column)
    click.echo(_json(metrics.as_dict()) if as_json else metrics_text(metrics))


@cli.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect_command(model: Path, as_json: bool) -> None:
    """Show what a .tflite MODEL holds: labels, tokenizer, inputs and outputs, tensor types, size."""
    from textclf.export.inspection import inspect_model

    inspection = inspect_model(model)
    click.echo(_json(inspection.as_dict()) if as_json else inspection.as_text())


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)
