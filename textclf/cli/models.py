"""The commands about finished models and encoders: classify, evaluate, inspect, verify, encoder."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textclf.cli import summaries
from textclf.cli.group import cli, help_end, offline_option
from textclf.cli.options import (
    DATA,
    DATA_PATH,
    MODEL,
    PROBABILITY,
    RUN,
    columns_option,
    dask_options,
    delimiter_option,
    encoding_option,
    json_option,
    label_option,
    sheet_option,
    text_option,
)
from textclf.errors import DataError, EncoderError
from textclf.terminal.door import (
    announce,
    json_text,
    printable,
    result_screen,
    write_message,
    write_report,
    write_result,
)
from textclf.terminal.native_log import load_tensorflow

if TYPE_CHECKING:
    from textclf.classify.classifier import Prediction
    from textclf.classify.question_answering.job import AnswerSummary
    from textclf.classify.tables.job import BatchSummary
    from textclf.terminal.summary import Summary


@cli.command(
    "classify",
    short_help="Classify tables, or one text.",
    epilog=help_end(
        "textclf classify runs/NAME inbox.csv -o sorted.csv",
        "textclf classify model.tflite 'logs/*.csv.gz' -o labelled.csv.gz --scores",
        "cat inbox.csv | textclf classify model.tflite - -o - > sorted.csv",
        "textclf classify runs/NAME 'in/*.parquet' -o out/ --dask tcp://scheduler:8786",
        "textclf classify runs/NAME --text-input 'where is my parcel'",
    ),
)
@click.argument("model", type=MODEL)
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, type=DATA)
@click.option("-o", "--output", help="File to write, compressed if it ends in .gz or .zst; - for standard output.")
@text_option
@click.option(
    "--text-input", multiple=True, metavar="TEXT", help="Classify this text instead; twice for a sentence pair."
)
@click.option("--scores", is_flag=True, help="Add the probability of every label.")
@click.option("--top-k", type=click.IntRange(min=1), default=1, metavar="K", help="Add the K most probable labels.")
@click.option(
    "--reject-below",
    type=PROBABILITY,
    metavar="P",
    help="Write no label, or the model's reject label, if the most probable label has a probability below P "
    "(default: the threshold that training chose, if it chose one). A model of several labels writes the labels with P or more.",
)
@click.option("--where-label", is_flag=True, help="Compare with the true labels in the input.")
@label_option("Column with the true label, for --where-label.")
@delimiter_option
@encoding_option
@sheet_option
@columns_option
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
@dask_options("Classify", partition_rows=50_000)
@json_option("Print the summary as JSON.")
@offline_option
@click.pass_context
def classify_command(
    context: click.Context,
    /,
    model: Path,
    inputs: tuple[str, ...],
    text_input: tuple[str, ...],
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Classify the rows of tables, or one text.

    MODEL is a .tflite file or the folder of a run. INPUT is a table (CSV, TSV, JSON Lines, a JSON array, Parquet or an Excel
    workbook; text files may be compressed with gzip, zstd, bzip2 or xz), a pattern such as 'logs/*.csv.gz', an address such
    as https://… or s3://…, or - for standard input.

    The output has all columns and rows of the input in the same order, and the new columns predicted_label, predicted_score
    and error. With a model of several labels per row, the new columns are predicted_labels and error.

    With --dask, the rows are divided into partitions, which the workers of a Dask cluster classify. OUTPUT is a folder with a
    file for each partition and manifest.json.

    Exit code 3: the job is complete, but some rows have no label; their column error says why.
    """
    if bool(text_input) == bool(inputs):
        raise click.UsageError("pass either INPUT with -o OUTPUT, or --text-input")
    refuse_without_dask(options)
    announce("Loading the model")
    if text_input:
        refuse_others(context, "--text-input", ("model", "text_input", "scores", "top_k", "reject_below", "as_json"))
        _classify_text(model, text_input, options, as_json)
        return
    if output is None:
        raise click.UsageError("-o OUTPUT is missing; write -o - for standard output")
    if options["force"] and options["resume"]:
        raise click.UsageError("--force starts again and --resume continues: use one of the two")
    options["num_threads"] = options.pop("threads")
    with stopped_by_signals():
        summary = _classify_tables(model, inputs, output, options)
    end_of_job(summary, lambda: summaries.of_job(summary, model), output, as_json=as_json)


def refuse_without_dask(options: Mapping[str, Any]) -> None:
    for name in ("partition_rows", "output_format"):
        if options["scheduler"] is None and options[name] is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} has no effect without --dask; leave it out")


def without_dask(options: dict[str, Any], output: str) -> dict[str, Any]:
    """Takes the options of `dask_options` out of the others and returns those that were passed; none without --dask."""
    own = {name: options.pop(name) for name in ("scheduler", "partition_rows", "output_format")}
    if own["scheduler"] is not None and output == "-":
        raise click.UsageError("-o - is standard output, but the output with --dask is a folder; name a folder")
    return {name: value for name, value in own.items() if value is not None}


def _classify_tables(model: Path, inputs: tuple[str, ...], output: str, options: dict[str, Any]) -> BatchSummary:
    if of_dask := without_dask(options, output):
        from textclf.cluster.job import classify_files

        return classify_files(model, inputs, output, quiet=False, **of_dask, **options)
    from textclf.classify.tables.job import classify_file

    return classify_file(model, inputs, output, quiet=False, **options)


def end_of_job(
    summary: BatchSummary | AnswerSummary, box: Callable[[], Summary], output: str, *, as_json: bool
) -> None:
    """Shows the summary of a job over tables, as a box on a terminal. Exits with code 3 if rows have no result."""
    from textclf.terminal.summary import show_summary

    text = json_text(summary.as_dict()) if as_json else summary.as_text()
    if output == "-":  # standard output has the rows
        write_message(text)
    elif as_json:
        write_result(text)
    elif not show_summary(box):
        write_report(text, needed=False)
    if summary.errors:
        sys.exit(3)


def refuse_others(context: click.Context, option: str, used: Sequence[str]) -> None:
    """Raises an error for options that were passed and would have no effect."""
    source = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in (*used, "offline") and context.get_parameter_source(name) is source:
            raise click.UsageError(f"{parameter.opts[0]} has no effect with {option}; leave it out")


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Ends a job on Ctrl-C and SIGTERM with one line that says how to continue, and with a shell's exit codes."""

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
        write_message(str(interrupt) or "interrupted before the first row", "error")
        sys.exit(128 + (received[0] if received else signal.SIGINT))
    finally:
        if replaced is not None:
            signal.signal(signal.SIGTERM, replaced)


def _classify_text(model: Path, text_input: tuple[str, ...], options: dict[str, Any], as_json: bool) -> None:
    from textclf.classify.classifier import Classifier

    with Classifier(model, num_threads=1) as classifier:
        several = classifier.thresholds is not None
        if several:
            from textclf.classify.multi_label.rows import check_options

            check_options(classifier.name, top_k=options["top_k"])
        [prediction] = classifier.classify([text_input], reject_below=options["reject_below"])
    if prediction.error:
        raise DataError(f"--text-input: {prediction.error.partition(': ')[2]}; pass a text to classify")
    if several:
        _write_several(prediction, scores=options["scores"], as_json=as_json)
        return
    ranked = sorted(prediction.scores.items(), key=lambda item: -item[1])
    most_probable = ranked[0][0]
    ranked[0] = (prediction.label, prediction.score)
    shown = ranked if options["scores"] else ranked[: options["top_k"]]
    if as_json:
        labels = [{"label": label, "score": score} for label, score in shown]
        write_result(json_text({"labels": labels, "rejected": prediction.rejected}))
        return
    lines = [(printable(label) or "(no label)", f"{score:.4f}") for label, score in shown]
    if result_screen().width is None:
        write_result("\n".join("\t".join(line) for line in lines))
    else:
        from textclf.terminal.tables import text_table

        write_result(text_table(lines[0], lines[1:]))
    if prediction.rejected:
        write_message(f"The probability of the label {most_probable} is below the threshold.")


def _write_several(prediction: Prediction, *, scores: bool, as_json: bool) -> None:
    """Writes the labels of a text, or with `scores` every label, the most probable first."""
    ranked = sorted(prediction.scores.items(), key=lambda item: -item[1])
    shown = ranked if scores else [item for item in ranked if item[0] in prediction.labels]
    if as_json:
        labels = [
            {"label": label, "score": score, **({"predicted": label in prediction.labels} if scores else {})}
            for label, score in shown
        ]
        write_result(json_text({"labels": labels}))
        return
    predicted = {True: "predicted", False: ""}
    lines = [
        (printable(label), f"{score:.4f}", *([predicted[label in prediction.labels]] if scores else []))
        for label, score in shown
    ]
    lines = lines or [("(no label)", f"{prediction.score:.4f}")]
    if result_screen().width is None:
        write_result("\n".join("\t".join(line).rstrip("\t") for line in lines))
    else:
        from textclf.terminal.tables import text_table

        write_result(text_table(lines[0], lines[1:]))
    if not prediction.labels:
        write_message("No label applies: the probability of each is below its threshold.")


@cli.command(
    "evaluate",
    short_help="Measure MODEL on labelled rows.",
    epilog=help_end(
        "textclf evaluate runs/NAME labelled.csv",
        "textclf evaluate model.tflite labelled.csv --text message --label queue",
        then="textclf compare runs/NAME runs/OTHER --data labelled.csv",
    ),
)
@click.argument("model", type=MODEL)
@click.argument("data", type=DATA)
@text_option
@label_option("Column with the true label.")
@delimiter_option
@encoding_option
@sheet_option
@columns_option
@json_option("Print the metrics as JSON.")
@offline_option
def evaluate_command(model: Path, data: str, as_json: bool, **options: Any) -> None:
    """Measure MODEL on the labelled rows of DATA, a table as for classify.

    For a model of several labels per row, DATA has them as in training: in one column, which --label may name, or in a column
    of 0 and 1 for each label.

    For a model that answers questions, DATA is a SQuAD file (.json) or a table, --text names the columns of the question and
    of the context, and --label that of the answer. The answers of textclf and those of a phone are measured.
    """
    announce("Loading the model")
    from textclf.classify.metrics import Metrics
    from textclf.classify.multi_label.metrics import LabelSetMetrics
    from textclf.classify.question_answering.evaluation import AnswerMetrics
    from textclf.runs.evaluate import evaluate
    from textclf.runs.pages.metrics_text import metrics_text
    from textclf.runs.tasks.multi_label.metrics_text import label_set_text
    from textclf.terminal.summary import show_summary

    metrics = evaluate(model, data, quiet=False, **options)
    if as_json:
        write_result(json_text(metrics.as_dict()))
        return
    if isinstance(metrics, AnswerMetrics):
        write_report(metrics.as_text())
        show_summary(lambda: summaries.of_answer_evaluation(metrics, model))
        return
    assert isinstance(metrics, Metrics | LabelSetMetrics)
    text = label_set_text(metrics) if isinstance(metrics, LabelSetMetrics) else metrics_text(metrics)
    # A label may be the word before a warning, but no table follows a blank line without its header.
    tables, beginning, warning = text.partition("\n\nWarning: ")
    write_report(tables)
    if beginning:
        write_report(beginning[1:] + warning, marked=True)
    show_summary(lambda: summaries.of_evaluation(metrics, model))


@cli.command(
    "inspect",
    short_help="Show what a MODEL contains.",
    epilog=help_end(
        "textclf inspect runs/NAME",
        "textclf inspect model.tflite --json",
        then="textclf verify model.tflite",
    ),
)
@click.argument("model", type=MODEL)
@json_option()
def inspect_command(model: Path, as_json: bool) -> None:
    """Show what a .tflite MODEL contains: labels, tokenizer, inputs and outputs, tensor types, size, and which runtimes load
    it."""
    announce("Reading the model")
    from textclf.terminal.summary import show_summary
    from textclf.tflite.inspection import inspect_model

    inspection = inspect_model(model)
    if as_json:
        write_result(json_text(inspection.as_dict()))
        return
    write_report(inspection.as_text())
    show_summary(lambda: summaries.of_inspection(inspection))


@cli.command(
    "encoder",
    short_help="Describe an encoder.",
    epilog=help_end(
        "textclf encoder builtin",
        "textclf encoder hf:google/mobilebert-uncased --check",
        "textclf encoder my_encoder/ --json",
    ),
)
@click.argument("source")
@json_option()
@click.option("--check", "golden", is_flag=True, help="Compare with the published values of google/mobilebert-uncased.")
@offline_option
def encoder_command(source: str, as_json: bool, golden: bool) -> None:
    """Describe an encoder. SOURCE is builtin, a folder, an archive, a URL, tfhub:…, kaggle:… or hf:…"""
    announce("Reading the encoder")
    from textclf.terminal.progress import Progress

    with Progress().spinner("Reading the encoder"):
        if golden:
            load_tensorflow(in_command=True)
        from textclf.encoders.description import checked_description, format_description

        description = checked_description(source, golden=golden)
    if as_json:
        write_result(json_text(description))
    else:
        write_report(format_description(description))
    if golden and description["golden_check"]["passed"] is False:
        raise EncoderError(
            f"{source}: {description['golden_check']['message']}; get the encoder again from where it is published"
        )


@cli.command(
    "verify",
    short_help="Check a MODEL and the installed runtimes.",
    epilog=help_end(
        "textclf verify model.tflite",
        "textclf verify model.tflite labelled.csv",
        "textclf verify model.tflite --run runs/NAME",
        then="textclf classify model.tflite inbox.csv -o sorted.csv",
    ),
)
@click.argument("model", type=MODEL)
@click.argument("data", required=False, type=DATA_PATH)
@click.option("--run", type=RUN, help="Folder of the run that trained the model, to compare with.")
@json_option("Print the report as JSON.")
@offline_option
def verify_command(model: Path, data: Path | None, run: Path | None, as_json: bool) -> None:
    """Check a .tflite MODEL: its structure, its predictions, and the installed runtimes.

    With --run, the rows of DATA are compared with the trained model (default: its validation and test rows). Without it, the
    rows are classified, also by the installed runtimes, and the accuracy is reported if the rows have labels.

    The report lists the checks that were made, those that were not made with the command that adds them, and the runtimes
    that load the file.

    Exit code 0: every check that was made passed; the report says `structure only` if the predictions were not compared with
    anything, and `no verdict` if there were too few rows. Exit code 2: a check failed, or the model or DATA cannot be read.
    """
    announce("Reading the model")
    from textclf.terminal.progress import Progress
    from textclf.terminal.summary import show_summary

    with Progress().spinner("Checking the model"):
        if run is not None:
            load_tensorflow(in_command=True)
        from textclf.runs.verify import verify

        report = verify(model, data, run=run)
    if as_json:
        write_result(json_text(report.as_dict()))
    else:
        write_report(report.as_text(), marked=True)
        show_summary(lambda: summaries.of_verification(report, run))
    if report.problems:
        sys.exit(2)
