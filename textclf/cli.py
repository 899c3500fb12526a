"""The commands, each a thin function over the library. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import faulthandler
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from textclf import __version__, terminal
from textclf.arguments import check_is_data, check_is_recipe, kind_of, model_path, run_path
from textclf.errors import DataError, EncoderError, TextclfError
from textclf.model_maker import ENGINES
from textclf.native_log import load_tensorflow
from textclf.terminal import json_text, printable, write_message, write_result
from textclf.values import checked_delimiter, checked_encoding

DEBUG = "TEXTCLF_DEBUG"
"""The environment variable that asks for the traceback of a fault in textclf itself."""


# --- Running a command -----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 2 a fault that the user can fix, 3 some rows have no label, 130 interrupted,
    1 any other failure."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with terminal.surroundings():
        if not faulthandler.is_enabled():
            # A stream in memory has no number; then the system alone reports a crash.
            with suppress(OSError, ValueError):
                faulthandler.enable(2)
        try:
            code = _exit_code(words)
        except BaseException:
            code = 1
            _report_fault()
        try:
            terminal.leave()
        except BrokenPipeError:
            code = code or 1
        except TextclfError as error:
            code = code or 2
            write_message(f"Error: {error}")
    sys.exit(code)


def _exit_code(words: list[str]) -> int:
    """Runs the command; every failure ends in one message."""
    try:
        ended = cli.main(args=words, prog_name="textclf", standalone_mode=False, obj=words)
        return ended if isinstance(ended, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except TextclfError as error:
        write_message(f"Error: {error}")
        return 2
    except click.ClickException as error:
        write_message(f"Error: {_usage_message(error, words)}")
        return 2
    except _InterruptedError as error:
        write_message(str(error))
        return 130
    except (KeyboardInterrupt, click.Abort):
        write_message("Interrupted")
        return 130
    except BrokenPipeError:
        terminal.forget_output()
        return 1
    except MemoryError:
        write_message("Error: the memory is full; use smaller data, a smaller batch or fewer threads, or more memory")
        return 1
    except OSError as error:
        code, message = _system_message(error)
        write_message(f"Error: {message}")
        return code


def _report_fault() -> None:
    """What nobody foresaw, in one line; the traceback only for who asks."""
    kind, fault, trace = sys.exc_info()
    assert kind is not None
    last = traceback.extract_tb(trace)[-1] if trace else None
    place = f" at {os.path.basename(last.filename)}:{last.lineno}" if last else ""
    if os.environ.get(DEBUG, "") not in ("", "0"):
        write_message(traceback.format_exc().rstrip())
    said = " ".join(str(fault).split())
    said = said if len(said) <= 300 else said[:299] + "…"
    write_message(
        f"Error: textclf failed in a way that it should not ({kind.__name__}: {said}{place}); "
        f"set {DEBUG}=1 and run the command again to see the traceback, then report it"
    )


def _system_message(error: OSError) -> tuple[int, str]:
    """The exit code and the message for a failure of the system that no module foresaw."""
    try:
        os.getcwd()
    except OSError:
        return 2, "the current folder does not exist any more; change to another one, then run the command again"
    file = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    remedy = "check the path, its permissions and the space on the disk"
    return 1, f"{file}{error.strerror or error}; {remedy}"


class _InterruptedError(Exception):
    """Ctrl-C, with the one line that is printed for it."""


class _Command(click.Command):
    """A command that says, when it is interrupted, how to continue."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError(_after_interruption(ctx)) from None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _through_the_door(super().get_help_option(ctx))


class _Group(click.Group):
    command_class = _Command
    group_class = type

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _through_the_door(super().get_help_option(ctx))


def _through_the_door(option: click.Option | None) -> click.Option | None:
    """The option --help, printing as everything does."""

    def show_help(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            write_result(context.get_help())
            context.exit()

    if option is not None:
        option.callback = show_help
    return option


def _show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        write_result(f"textclf {__version__}")
        context.exit()


_UNFINISHED = "textclf.unfinished"
"""Where a command notes, for the message after Ctrl-C, how to tell whether --resume has something to continue."""


def _after_interruption(context: click.Context) -> str:
    unfinished: Callable[[], bool] | None = context.meta.get(_UNFINISHED)
    if unfinished is None:
        return "Interrupted"
    if not unfinished():
        return "Interrupted before anything was saved; run the command again"
    words = [word for word in context.obj if word != "--force"]
    words += [] if "--resume" in words else ["--resume"]
    return f"Interrupted; continue with: {shlex.join(['textclf', *words])}"


# --- Wrong usage -----------------------------------------------------------------------------------------------------

_TAKES_SETTINGS = {
    "train": "train RECIPE",
    "check": "check RECIPE",
    "compare": "compare RECIPE",
    "export": "export RUN",
}


def _usage_message(error: click.ClickException, words: list[str]) -> str:
    """Click's message, with what this program takes instead."""
    message = " ".join(error.format_message().split()).rstrip(".")
    message = (
        message[:1].lower() + message[1:] if message.startswith(("No ", "Missing ", "Got ", "Invalid ")) else message
    )
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "textclf"
    if isinstance(error, click.NoSuchOption) and (remedy := _setting_for(error.option_name, context, words)):
        return f"no such option: {error.option_name}; {remedy}"
    if isinstance(error, click.UsageError) and message.startswith("no such command") and words:
        kind = kind_of(words[0])
        if kind in ("recipe", "run", "model"):
            usual = {"recipe": "train", "run": "inspect", "model": "inspect"}[kind]
            return f"{message}; to {usual} it: textclf {usual} {words[0]}"
    if message.startswith("missing argument 'RECIPE'"):
        return f"{message}; for example: {command} my_recipe.yaml. See {command} --help"
    return message if ";" in message else f"{message}; see {command} --help"


def _setting_for(option: str, context: click.Context | None, words: list[str]) -> str | None:
    """How to write what was given as an option and is a setting of the recipe."""
    from textclf.recipe import OTHER_NAMES, setting_named

    name = option.lstrip("-").replace("-", "_")
    key = OTHER_NAMES.get(name.lower()) or setting_named(name)
    command = context.info_name if context else None
    if key is None or "." not in key:
        return None
    if command not in _TAKES_SETTINGS:
        return f"{key} is a setting of the recipe: textclf train RECIPE {key}=VALUE"
    given = next((word for word in words if word.split("=")[0] == option), option)
    after = words[words.index(given) + 1 :] if given in words else []
    value = given.partition("=")[2] or (after[0] if after and not after[0].startswith("-") else "VALUE")
    return (
        f"settings are written KEY=VALUE: textclf {_TAKES_SETTINGS[command]} {shlex.join([f'{key}={value}'])}"
        if value != "VALUE"
        else f"settings are written KEY=VALUE: textclf {_TAKES_SETTINGS[command]} {key}=VALUE"
    )


# --- Arguments and options -------------------------------------------------------------------------------------------


class _Checked(click.ParamType):
    """A value that a function of the library checks: its ValueError follows the name of the option."""

    def __init__(self, name: str, check: Callable[[Any], Any]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._check(value)
        except ValueError as error:
            name = param.opts[0] if param is not None and param.param_type_name == "option" else self.name
            raise click.UsageError(f"{name} {error}", ctx) from None


def _checked_path(value: str | os.PathLike[str]) -> Path:
    if not os.fspath(value).strip():
        raise ValueError("has no value; write a path")
    if "\0" in os.fspath(value):
        raise ValueError("holds a NUL character, which no path can; write a path")
    return Path(value)


def _checked_program(value: str) -> Path:
    if not _checked_path(value).is_file():
        raise ValueError(f"is `{value}`, where there is no file; write the path of a Python 3.9")
    return Path(value)


def _checked_recipe(value: str) -> str:
    check_is_recipe(_checked_path(value))
    return value


def _checked_data(value: str) -> str:
    if value != "-":
        check_is_data(_checked_path(value))
    return value


def _checked_column(value: str) -> str:
    if not value.strip():
        raise ValueError("has no value; write the name of a column")
    return value


def _checked_probability(value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:  # so is NaN
        raise ValueError(f"is `{value}`, but must be a number from 0 to 1")
    return number


_PATH = _Checked("PATH", _checked_path)
_RECIPE = _Checked("RECIPE", _checked_recipe)
_MODEL = _Checked("MODEL", lambda value: model_path(_checked_path(value)))
_RUN = _Checked("RUN", lambda value: run_path(_checked_path(value)))
_DATA = _Checked("DATA", _checked_data)
_DATA_PATH = _Checked("DATA", lambda value: Path(_checked_data(value)))
_PYTHON = _Checked("PATH", _checked_program)
_COLUMN = _Checked("COLUMN", _checked_column)
_PROBABILITY = _Checked("P", _checked_probability)
_DELIMITER = _Checked("CHARACTER", checked_delimiter)
_ENCODING = _Checked("ENCODING", checked_encoding)


def _checked_text_columns(
    context: click.Context, parameter: click.Parameter, columns: tuple[str, ...]
) -> tuple[str, ...]:
    if len(columns) > 2:
        raise click.UsageError(f"--text is given {len(columns)} times; name one column, or two for a sentence pair")
    if len(columns) == 2 and columns[0] == columns[1]:
        raise click.UsageError(f"--text names the column `{columns[0]}` twice; name two columns, or one")
    return columns


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Train a checked, labelled TFLite text classifier from a CSV and a short recipe, and classify CSV files with it."""


def _forbid_network(context: click.Context, parameter: click.Parameter, forbidden: bool) -> None:
    """Keeps the command, and nothing that runs after it in this process, from the network."""
    if forbidden:
        from textclf.encoders.cache import offline

        context.with_resource(offline())


offline_option = click.option(
    "--offline", is_flag=True, expose_value=False, callback=_forbid_network, help="Never use the network."
)


# --- The commands ----------------------------------------------------------------------------------------------------


@cli.command("train", short_help="Train RECIPE, export and verify the model.")
@click.argument("recipe", type=_RECIPE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--run-dir", type=_PATH, help="Folder to write (default: runs/<name>).")
@click.option("--force", is_flag=True, help="Replace the run folder if it exists.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("--engine", type=click.Choice(ENGINES), help="Override the recipe's training.engine.")
@offline_option
def train_command(
    recipe: str, overrides: tuple[str, ...], run_dir: Path | None, force: bool, resume: bool, engine: str | None
) -> None:
    """Train RECIPE, export the model, verify it and measure it.

    KEY=VALUE changes a setting of the recipe, for example training.epochs=5. Exit code 3: the run is complete, but
    model.tflite is not in the form that the recipe asks for, which did not pass its checks.
    """
    if force and resume:
        raise click.UsageError("--force starts again and --resume continues: use one of the two")
    from textclf.recipe import load_recipe

    loaded = load_recipe(recipe, (*overrides, f"training.engine={engine}") if engine else overrides)
    if loaded.training.engine == "native":
        _continues_if(lambda: _has_saved_state(run_dir or Path("runs") / loaded.name))
    from textclf.progress import Progress

    with Progress().during("Starting TensorFlow"):
        load_tensorflow()
        from textclf.trainer import train

    run = train(loaded, run_dir, force=force, resume=resume)
    write_result(f"Done in {run.metrics['seconds']:.0f} s → {run.dir}", needed=False)
    write_result(
        f"Classify with: textclf classify {shlex.quote(str(run.model_path))} INPUT.csv -o OUTPUT.csv", needed=False
    )
    if run.metrics["export"].get("refused"):
        # The model is in another form than the recipe asks for.
        sys.exit(3)


def _continues_if(unfinished: Callable[[], bool]) -> None:
    click.get_current_context().meta[_UNFINISHED] = unfinished


def _has_saved_state(target: Path) -> bool:
    from textclf.run_folder import RunFolder

    return RunFolder(target).last_state.is_file()


@cli.command("check", short_help="Check RECIPE and its data.")
@click.argument("recipe", type=_RECIPE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@offline_option
def check_command(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE and its data without training.

    KEY=VALUE changes a setting of the recipe, for example dataset.label=queue.
    """
    from textclf.checking import check

    report = check(recipe, overrides)
    write_result(json_text(report.as_dict()) if as_json else report.as_text())


@cli.command("classify", short_help="Classify tables, or one text.")
@click.argument("model", type=_MODEL)
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, type=_DATA)
@click.option("-o", "--output", help="File to write, compressed if it ends in .gz or .zst; - for standard output.")
@click.option(
    "--text",
    "text_columns",
    multiple=True,
    type=_COLUMN,
    callback=_checked_text_columns,
    metavar="COLUMN",
    help="Column with the text; twice for a sentence pair.",
)
@click.option(
    "--text-input", multiple=True, metavar="TEXT", help="Classify this text instead; twice for a sentence pair."
)
@click.option("--scores", is_flag=True, help="Add the probability of every label.")
@click.option("--top-k", type=click.IntRange(min=1), default=1, metavar="K", help="Add the K most probable labels.")
@click.option(
    "--reject-below",
    type=_PROBABILITY,
    metavar="P",
    help="Write no label, or the model's reject label, where the most probable label has a probability below P "
    "(default: the bound that training chose, if it chose one).",
)
@click.option("--where-label", is_flag=True, help="Compare with the true labels in the input.")
@click.option(
    "--label", "label_column", type=_COLUMN, metavar="COLUMN", help="Column with the true label, for --where-label."
)
@click.option(
    "--delimiter", type=_DELIMITER, metavar="CHARACTER", help="What separates the fields (default: detected)."
)
@click.option("--encoding", type=_ENCODING, default="utf-8", show_default=True, help="Text encoding of the input.")
@click.option("--prefix", "column_prefix", default="", help="Put this before the names of the added columns.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be classified.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of parallel interpreters (default: one per core).",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--resume", is_flag=True, help="Continue an interrupted job.")
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

    MODEL is a .tflite file or the folder of a run. INPUT is a CSV or TSV file, plain or compressed with gzip, zstd,
    bzip2 or xz, a pattern such as 'logs/*.csv.gz', or - for standard input. The output has all columns and rows of the
    input in the same order, and the new columns predicted_label, predicted_score and error.

    Exit code 3: the job is complete, but some rows have no label; their column error says why.
    """
    if bool(text_input) == bool(inputs):
        raise click.UsageError("give either INPUT with -o OUTPUT, or --text-input")
    if text_input:
        _refuse_others(context, "--text-input", ("model", "text_input", "scores", "top_k", "reject_below", "as_json"))
        _classify_text(model, text_input, options, as_json)
        return
    if output is None:
        raise click.UsageError("-o OUTPUT is missing; write -o - for standard output")
    if options["force"] and options["resume"]:
        raise click.UsageError("--force starts again and --resume continues: use one of the two")
    options["num_threads"] = options.pop("threads")
    with _stopped_by_signals():
        from textclf.batch import classify_file

        summary = classify_file(model, inputs, output, quiet=False, **options)
    text = json_text(summary.as_dict()) if as_json else summary.as_text()
    if output == "-":  # there the rows are
        write_message(text)
    else:
        write_result(text, needed=as_json)
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
        write_message(f"Error: {interrupt or 'interrupted before the first row'}")
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
        write_result(json_text({"labels": labels, "rejected": prediction.rejected}))
        return
    for label, score in shown:
        write_result(f"{printable(label) or '(no label)'}\t{score:.4f}")
    if prediction.rejected:
        write_message(f"The text is too uncertain for the label {most_probable}.")


@cli.command("evaluate", short_help="Measure MODEL on labelled rows.")
@click.argument("model", type=_MODEL)
@click.argument("data", type=_DATA)
@click.option(
    "--text",
    "text_columns",
    multiple=True,
    type=_COLUMN,
    callback=_checked_text_columns,
    metavar="COLUMN",
    help="Column with the text; twice for a sentence pair.",
)
@click.option("--label", "label_column", type=_COLUMN, metavar="COLUMN", help="Column with the true label.")
@click.option(
    "--delimiter", type=_DELIMITER, metavar="CHARACTER", help="What separates the fields (default: detected)."
)
@click.option("--encoding", type=_ENCODING, default="utf-8", show_default=True, help="Text encoding of the data.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def evaluate_command(model: Path, data: str, as_json: bool, **options: Any) -> None:
    """Measure MODEL on the labelled rows of DATA, a table as for classify."""
    from textclf.batch import evaluate_file
    from textclf.report import metrics_text

    metrics = evaluate_file(model, data, quiet=False, **options)
    write_result(json_text(metrics.as_dict()) if as_json else metrics_text(metrics))


@cli.command("inspect", short_help="Show what a MODEL contains.")
@click.argument("model", type=_MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect_command(model: Path, as_json: bool) -> None:
    """Show what a .tflite MODEL contains: labels, tokenizer, inputs and outputs, tensor types, size."""
    from textclf.export.inspection import inspect_model

    inspection = inspect_model(model)
    write_result(json_text(inspection.as_dict()) if as_json else inspection.as_text())


@cli.command("encoder", short_help="Show what an encoder is.")
@click.argument("source")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--check", "golden", is_flag=True, help="Compare with the published values of google/mobilebert-uncased.")
@offline_option
def encoder_command(source: str, as_json: bool, golden: bool) -> None:
    """Show what an encoder is. SOURCE: builtin, a folder, an archive, a URL, tfhub:…, kaggle:… or hf:…"""
    if golden:
        load_tensorflow()
    from textclf.encoders.description import checked_description, format_description

    description = checked_description(source, golden=golden)
    write_result(json_text(description) if as_json else format_description(description))
    if golden and description["golden_check"]["passed"] is False:
        raise EncoderError(
            f"{source}: {description['golden_check']['message']}; get the encoder again from where it is published"
        )


@cli.command("export", short_help="Write a run's model in another form.")
@click.argument("run", type=_RUN)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("-o", "--output", type=_PATH, help="File to write (default: in the run's folder).")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def export_command(run: Path, overrides: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Write the model of a finished RUN in another form, without training, and compare it with the trained model.

    KEY=VALUE changes how it is written, for example quantization=float16 or compatibility=task-library.
    """
    load_tensorflow()
    from textclf.export.verify import export_run

    _, report = export_run(run, overrides, output, force=force)
    write_result(report.as_text(), needed=False)


@cli.command("verify", short_help="Check a MODEL and the installed runtimes.")
@click.argument("model", type=_MODEL)
@click.argument("data", required=False, type=_DATA_PATH)
@click.option("--run", type=_RUN, help="Folder of the run that trained it, to compare with.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify_command(model: Path, data: Path | None, run: Path | None, as_json: bool) -> None:
    """Check a .tflite MODEL: its structure, the trained model's answers, and the runtimes that are installed.

    With --run, the rows of DATA are compared with the trained model (default: its validation and test rows). Without it,
    they are classified, by the installed runtimes too, and their labels, if any, give the accuracy. Exit code 2: a check
    failed.
    """
    if run is not None:
        load_tensorflow()
    from textclf.export.verify import verify_model

    report = verify_model(model, data, run)
    write_result(json_text(report.as_dict()) if as_json else report.as_text())
    if report.problems:
        sys.exit(2)


@cli.command("compare", short_help="Train with several engines and compare.")
@click.argument("recipe", type=_RECIPE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--engines", default=",".join(ENGINES), show_default=True, help="Engines, separated by commas.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of trainings per engine."
)
@click.option("-o", "--output", type=_PATH, help="Folder to write (default: runs/<name>-compared).")
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
    """Train RECIPE with several engines on the same split and encoder, and show their results side by side.

    For each training: time to the first step, examples per second, peak memory, accuracy, time of the export, size,
    latency, and the predictions that quantisation changed. Run nothing else on the machine meanwhile.
    """
    names = list(dict.fromkeys(name.strip() for name in engines.split(",")))
    if unknown := [name for name in names if name not in ENGINES]:
        raise click.UsageError(f"--engines: {unknown[0] or engines!r} is no engine; choose from {', '.join(ENGINES)}")
    from textclf.recipe import load_recipe

    recipes = {name: load_recipe(recipe, (*overrides, f"training.engine={name}")) for name in names}
    load_tensorflow()
    from textclf.model_maker.comparison import compare

    first = recipes[names[0]]
    chosen = [first.training.seed + number for number in range(seeds)]
    folder = output or Path("runs") / f"{first.name}-compared"
    comparison = compare(recipes, chosen, folder, force=force)
    write_result(json_text(comparison.as_dict()) if as_json else comparison.as_text())
    write_message(f"Written to {folder}: comparison.md, comparison.json and the runs")


@cli.group("model-maker", short_help="Set up TFLite Model Maker as an engine.")
def model_maker_group() -> None:
    """Set up the real TFLite Model Maker as a training engine, in a separate environment."""


@model_maker_group.command("setup", short_help="Make the environment (2.5 GB).")
@click.option("--python", type=_PYTHON, help="A Python 3.9 (default: found, or else downloaded).")
@offline_option
def model_maker_setup_command(python: Path | None) -> None:
    """Make the environment for training.engine=model-maker: 2.5 GB in textclf's cache folder."""
    from textclf.model_maker.environment import set_up

    set_up(python)


@model_maker_group.command("remove", short_help="Delete the environment.")
def model_maker_remove_command() -> None:
    """Delete the environment and everything that its set-up wrote."""
    from textclf.model_maker.environment import place, remove

    freed = remove()
    text = f"{place()}: removed, {freed / 1e9:.1f} GB" if freed else "Model Maker is not set up: nothing to remove"
    write_result(text, needed=False)


@model_maker_group.command("status", short_help="Show whether it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def model_maker_status_command(as_json: bool) -> None:
    """Show whether the environment exists, and what is in it."""
    from textclf.model_maker.environment import status, status_text

    found = status()
    write_result(json_text(found) if as_json else status_text(found))
