"""The command about all runs of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textclf.cli.group import cli, help_end
from textclf.cli.options import PATH, json_option
from textclf.data.findings.finding import counted
from textclf.recipe.values import DEFAULT_TASK, MULTI_LABEL, QUESTION_ANSWERING
from textclf.runs.choices import SORTS
from textclf.terminal.door import command_line, json_text, write_message, write_report, write_result
from textclf.terminal.tables import text_table

if TYPE_CHECKING:
    from textclf.runs.listing import RunEntry

_TASKS: dict[str, str] = {DEFAULT_TASK: "one label", MULTI_LABEL: "several labels", QUESTION_ANSWERING: "questions"}


@cli.command(
    "runs",
    short_help="List runs and their results.",
    epilog=help_end(
        "textclf runs",
        "textclf runs experiments --sort score",
        "textclf runs --tensorboard events",
        then="textclf compare runs/NAME runs/OTHER",
    ),
)
@click.argument("folder", type=PATH, default="runs")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="date",
    show_default=True,
    help="Order: names from A to Z, latencies with the shortest first, everything else with the newest or largest first.",
)
@click.option(
    "--tensorboard",
    type=PATH,
    metavar="FOLDER",
    help="Also write the training logs as event files for TensorBoard, a folder for each run.",
)
@json_option("Print the runs as JSON.")
def runs_command(folder: Path, sort: str, tensorboard: Path | None, as_json: bool) -> None:
    """List the runs below FOLDER (default: runs): task, encoder, training rows, result with its 95 % confidence interval, size
    and latency of the model, and state. For an unfinished or damaged run, the list shows what to do.

    Only the records of the runs are read. The date is that of the record. The latency is the median time of LiteRT for one
    input of the model's full length on one thread, measured at the end of the run. Compare only runs on the same machine and
    with the same length.
    """
    from textclf.runs.listing import list_runs

    found = list_runs(folder, sort=sort)
    files = []
    if tensorboard is not None:
        from textclf.runs.event_files import write_event_files

        files = write_event_files(found.runs, tensorboard)
    if as_json:
        write_result(json_text(found.as_dict()))
    elif not found.runs:
        write_report(f"{folder}: no runs. Train one with: textclf train RECIPE")
    else:
        write_report(_table(found.runs))
        problems = [line for run in found.runs for line in _problem(run)]
        if problems:
            write_report("\n" + "\n".join(problems))
    if found.others and not as_json:
        write_report(f"\nWithout a run: {', '.join(found.others)}")
    if tensorboard is not None:
        write_message(
            f"{counted(len(files), 'event file')} written; look at them with: "
            f"{command_line(['tensorboard', '--logdir', str(tensorboard)])}"
        )


def _table(runs: Sequence[RunEntry]) -> str:
    header = [
        "Run",
        "Task",
        "Encoder",
        "Result (95 % interval)",
        "State",
        "Date (UTC)",
        "Rows",
        "Size",
        "Latency",
    ]
    return text_table(
        header,
        [
            (
                run.folder,
                _TASKS.get(run.task or "", run.task or ""),
                run.encoder or "",
                "" if run.score is None else run.score.as_text(),
                run.state,
                run.date[:16].replace("T", " "),
                "" if run.rows is None else f"{run.rows:,}",
                "" if run.size is None else f"{run.size / 1e6:.1f} MB",
                "" if run.size is None else "not measured" if run.latency is None else run.latency.as_text(),
            )
            for run in runs
        ],
        left_columns=5,
    )


def _problem(run: RunEntry) -> list[str]:
    if run.problem is None:
        return []
    return [f"{run.folder}: {run.problem}", *([f"  {run.remedy}"] if run.remedy is not None else [])]
