"""The commands, each a thin function over the library. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from textclf import __version__
from textclf.errors import DataError, EncoderError, TextclfError
from textclf.model_maker import ENGINES
from textclf.native_log import without_chatter
from textclf.terminal import printable


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


def _forbid_network(context: click.Context, parameter: click.Parameter, forbidden: bool) -> None:
    """Keeps the command, and nothing that runs after it in this process, from the network."""
    if forbidden:
        from textclf.encoders.cache import offline

        context.with_resource(offline())


offline_option = click.option(
    "--offline", is_flag=True, expose_value=False, callback=_forbid_network, help="Never touch the network."
)


@cli.command("train")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Folder to write; by default runs/<name>.")
@click.option("--force", is_flag=True, help="Replace the run folder if it exists.")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
@click.option("--engine", type=click.Choice(ENGINES), help="What trains, in place of the recipe's training.engine.")
@offline_option
def train_command(
    recipe: str, overrides: tuple[str, ...], run_dir: Path | None, force: bool, resume: bool, engine: str | None
) -> None:
    """Train RECIPE, export the model, verify it and measure it.

    KEY=VALUE changes a setting of the recipe, for example training.epochs=5. Exit code 3: the run is complete, but
    model.tflite is not in the form that the recipe asks for, which did not pass its checks.
    """
    if force and resume:
        raise click.UsageError("--force starts again and --resume goes on: give one of the two")
    from textclf.recipe import load_recipe

    loaded = load_recipe(recipe, (*overrides, f"training.engine={engine}") if engine else overrides)
    from textclf.progress import Progress

    with Progress().during("Starting TensorFlow"):
        from textclf.trainer import train

    run = train(loaded, run_dir, force=force, resume=resume)
    click.echo(f"{run.dir}: complete in {run.metrics['seconds']:.0f} s")
    click.echo(f"Classify with: textclf classify {run.model_path} INPUT.csv -o OUTPUT.csv")
    if run.metrics["export"].get("refused"):
        # The model is in another form than the recipe asks for.
        sys.exit(3)


@cli.command("check")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@offline_option
def check_command(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE and its data without training."""
    from textclf.checking import check

    report = check(recipe, overrides)
    click.echo(_json(report.as_dict()) if as_json else report.as_text())


@cli.command("classify")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@click.option("-o", "--output", help="File to write; compressed if it ends in .gz or .zst; - for standard output.")
@click.option("--text", "text_columns", multiple=True, metavar="COLUMN", help="Column of the text; twice for a pair.")
@click.option("--text-input", multiple=True, metavar="TEXT", help="Classify this text instead; twice for a pair.")
@click.option("--scores", is_flag=True, help="Add the probability of every label.")
@click.option("--top-k", type=click.IntRange(min=1), default=1, metavar="K", help="Add the K likeliest labels.")
@click.option(
    "--reject-below",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Give no label, or the model's for none of these, where the likeliest has a probability below P; "
    "by default the bound that training chose, if it did.",
)
@click.option("--where-label", is_flag=True, help="Compare with the true labels that the input holds.")
@click.option("--label", "label_column", metavar="COLUMN", help="Column of the true label, for --where-label.")
@click.option("--delimiter", metavar="CHARACTER", help="What separates fields; found by itself if not given.")
@click.option("--encoding", default="utf-8", show_default=True, help="How the input is encoded.")
@click.option("--prefix", "column_prefix", default="", help="Put this before the names of the added columns.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be classified.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Interpreters side by side; one a core.")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--resume", is_flag=True, help="Go on with a job that was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def classify_command(
    context: click.Context,
    model: Path,
    inputs: tuple[str, ...],
    text_input: tuple[str, ...],
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Classify the rows of tables, or one text.

    An INPUT is a CSV or TSV file, plain or compressed with gzip, zstd, bzip2 or xz, a pattern such as 'logs/*.csv.gz',
    or - for standard input. Adds the columns predicted_label, predicted_score and error; every other column and the
    order of rows stay. Exit code 3: all is done, but some rows could not be classified; error says why.
    """
    if bool(text_input) == bool(inputs):
        raise click.UsageError("give either INPUT with -o OUTPUT, or --text-input")
    if text_input:
        _refuse_others(context, "--text-input", ("model", "text_input", "scores", "top_k", "reject_below", "as_json"))
        _classify_text(model, text_input, options, as_json)
        return
    if output is None:
        raise click.UsageError("-o OUTPUT is missing; - writes to standard output")
    if options["force"] and options["resume"]:
        raise click.UsageError("--force starts again and --resume continues: give one of the two")
    options["num_threads"] = options.pop("threads")
    with _stopped_by_signals():
        from textclf.batch import classify_file

        summary = classify_file(model, inputs, output, quiet=False, **options)
    # Standard output may hold the rows.
    click.echo(_json(summary.as_dict()) if as_json else summary.as_text(), err=output == "-")
    if summary.errors:
        sys.exit(3)


def _refuse_others(context: click.Context, option: str, used: Sequence[str]) -> None:
    """Options that are given and would have no effect are an error."""
    source = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in used and context.get_parameter_source(name) is source:
            raise click.UsageError(f"{parameter.opts[0]} has no effect with {option}; leave it out")


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a job with one line that says how to continue; the exit codes are those of a shell."""

    def stop(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    received: list[int] = []
    replaced = None
    if threading.current_thread() is threading.main_thread():
        replaced = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        click.echo(f"Error: {interrupt or 'interrupted before the first row'}", err=True)
        sys.exit(128 + (received[0] if received else signal.SIGINT))
    finally:
        if replaced is not None:
            signal.signal(signal.SIGTERM, replaced)


def _classify_text(model: Path, text_input: tuple[str, ...], options: dict[str, Any], as_json: bool) -> None:
    from textclf.predictor import Classifier

    with Classifier(model, num_threads=1) as classifier:
        [prediction] = classifier.classify([text_input], reject_below=options["reject_below"])
    if prediction.error:
        raise DataError(f"--text-input: {prediction.error.partition(': ')[2]}; give a text to classify")
    ranked = sorted(prediction.scores.items(), key=lambda item: -item[1])
    most_probable = ranked[0][0]
    ranked[0] = (prediction.label, prediction.score)
    shown = ranked if options["scores"] else ranked[: options["top_k"]]
    if as_json:
        labels = [{"label": label, "score": score} for label, score in shown]
        click.echo(_json({"labels": labels, "rejected": prediction.rejected}))
        return
    for label, score in shown:
        click.echo(f"{printable(label) or '(no label)'}\t{score:.4f}")
    if prediction.rejected:
        click.echo(f"The text is too uncertain for the label {printable(most_probable)}.", err=True)


@cli.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--text", "text_columns", multiple=True, metavar="COLUMN", help="Column of the text; twice for a pair.")
@click.option("--label", "label_column", metavar="COLUMN", help="Column of the true label.")
@click.option("--delimiter", metavar="CHARACTER", help="What separates fields; found by itself if not given.")
@click.option("--encoding", default="utf-8", show_default=True, help="How the data is encoded.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def evaluate_command(model: Path, data: str, as_json: bool, **options: Any) -> None:
    """Measure MODEL on the labelled rows of DATA, a table as for classify."""
    from textclf.batch import evaluate_file
    from textclf.report import metrics_text

    metrics = evaluate_file(model, data, quiet=False, **options)
    click.echo(_json(metrics.as_dict()) if as_json else metrics_text(metrics))


@cli.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect_command(model: Path, as_json: bool) -> None:
    """Show what a .tflite MODEL holds: labels, tokenizer, inputs and outputs, tensor types, size."""
    from textclf.export.inspection import inspect_model

    inspection = inspect_model(model)
    click.echo(_json(inspection.as_dict()) if as_json else inspection.as_text())


@cli.command("encoder")
@click.argument("source")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--check", "golden", is_flag=True, help="Compare with the published values of google/mobilebert-uncased.")
@offline_option
def encoder_command(source: str, as_json: bool, golden: bool) -> None:
    """Show what encoder SOURCE is: builtin, a folder, an archive, a URL, or tfhub:…, kaggle:…, hf:…"""
    from textclf.encoders.description import checked_description, format_description

    description = checked_description(source, golden=golden)
    click.echo(_json(description) if as_json else format_description(description))
    if golden and description["golden_check"]["passed"] is False:
        raise EncoderError(
            f"{source}: {description['golden_check']['message']}; get the encoder again from where it is published"
        )


@cli.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; by default in the run's folder.")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def export_command(run: Path, overrides: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Write the model of a finished RUN in another form, without training, and compare it with the trained one.

    KEY=VALUE changes how it is written, for example quantization=float16 or compatibility=task-library.
    """
    from textclf.export.verify import export_run

    _, report = export_run(run, overrides, output, force=force)
    click.echo(report.as_text())


@cli.command("verify")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="Folder of the run that trained it, to compare with.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify_command(model: Path, data: Path | None, run: Path | None, as_json: bool) -> None:
    """Check a .tflite MODEL: its structure, the trained model's answers, and the runtimes that are installed.

    With --run, the rows of DATA are compared with the trained model (default: its validation and test rows). Without it,
    they are classified, by the installed runtimes too, and their labels, if any, give the accuracy. Exit code 2: a check
    failed.
    """
    from textclf.export.verify import verify_model

    report = verify_model(model, data, run)
    click.echo(_json(report.as_dict()) if as_json else report.as_text())
    if report.problems:
        sys.exit(2)


@cli.command("compare")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--engines", default=",".join(ENGINES), show_default=True, help="Engines, separated by commas.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many trainings of each.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write; by default runs/<name>-compared."
)
@click.option("--force", is_flag=True, help="Replace the folder if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@offline_option
def compare_command(
    recipe: str,
    overrides: tuple[str, ...],
    engines: str,
    seeds: int,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train RECIPE with several engines on the same split and encoder, and put their numbers side by side.

    Of each training: time to the first step, examples a second, peak memory, accuracy, time of the export, size,
    latency, labels that quantisation changed. The machine should have nothing else to do.
    """
    names = list(dict.fromkeys(name.strip() for name in engines.split(",")))
    if unknown := [name for name in names if name not in ENGINES]:
        raise click.UsageError(f"--engines: {unknown[0] or engines!r} is no engine; known are {', '.join(ENGINES)}")
    from textclf.recipe import load_recipe

    recipes = {name: load_recipe(recipe, (*overrides, f"training.engine={name}")) for name in names}
    from textclf.model_maker.comparison import compare

    first = recipes[names[0]]
    chosen = [first.training.seed + number for number in range(seeds)]
    folder = output or Path("runs") / f"{first.name}-compared"
    comparison = compare(recipes, chosen, folder, force=force)
    click.echo(_json(comparison.as_dict()) if as_json else comparison.as_text())
    click.echo(f"{folder}: comparison.md, comparison.json and the runs", err=True)


@cli.group("model-maker")
def model_maker_group() -> None:
    """The real TFLite Model Maker, as a training engine in an environment of its own."""


@model_maker_group.command("setup")
@click.option(
    "--python", type=click.Path(path_type=Path, exists=True), help="A Python 3.9; found or fetched by itself."
)
@offline_option
def model_maker_setup_command(python: Path | None) -> None:
    """Make the environment that training.engine=model-maker needs: 2.5 GB in textclf's cache folder."""
    from textclf.model_maker.environment import set_up

    set_up(python)


@model_maker_group.command("remove")
def model_maker_remove_command() -> None:
    """Delete the environment and everything that its set-up made."""
    from textclf.model_maker.environment import place, remove

    freed = remove()
    click.echo(f"{place()}: removed, {freed / 1e9:.1f} GB" if freed else "Model Maker is not set up: nothing to remove")


@model_maker_group.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def model_maker_status_command(as_json: bool) -> None:
    """Tell whether the environment is there, and what is in it."""
    from textclf.model_maker.environment import status, status_text

    found = status()
    click.echo(_json(found) if as_json else status_text(found))


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)
