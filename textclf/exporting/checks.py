"""What `textclf verify` says of a model of any task: the checks that were not made, and the commands that add them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textclf.data.findings.finding import counted
from textclf.exporting.apps import CONSUMERS, how_to_add, installed_consumers
from textclf.exporting.report import ANSWERS, ROWS, STRUCTURE, TRAINED_MODEL, VerificationReport
from textclf.files.model_path import run_of_model
from textclf.terminal.door import command_line
from textclf.tflite.inspection import runtimes_of
from textclf.tflite.metadata import metadata_of
from textclf.tflite.model_file import TfliteModel

_STOPPED = "a check before it failed"


def conclude_structure(
    report: VerificationReport, content: bytes, problems: Sequence[str], consumers: Sequence[str] = CONSUMERS
) -> bool:
    """Adds the check of the structure and the runtimes that load the file. Returns whether the other checks can be made;
    if not, they and the programs `consumers` are listed as not checked."""
    if problems:
        report.conclude(STRUCTURE, problems, "")
        _skip_all(report, (ANSWERS, TRAINED_MODEL, ROWS, *consumers))
        return False
    graph = TfliteModel(content, report.model)
    metadata = metadata_of(graph)
    report.runtimes = runtimes_of(graph, metadata, Path(report.model))
    holds = f"{len(metadata.labels):,} labels, " if metadata.labels else ""
    report.conclude(
        STRUCTURE,
        [],
        f"{counted(len(graph.inputs), 'input')}, {holds}{len(metadata.vocabulary):,} entries in the vocabulary, "
        f"{counted(len(graph.operators), 'operation')}",
    )
    return True


def conclude_answers(
    report: VerificationReport, problems: Sequence[str], details: str, consumers: Sequence[str] = CONSUMERS
) -> bool:
    """Adds the check of the answers. Returns whether the other checks can be made, as `conclude_structure` does."""
    report.conclude(ANSWERS, problems, details)
    if problems:
        _skip_all(report, (TRAINED_MODEL, ROWS, *consumers))
    return not problems


def _skip_all(report: VerificationReport, names: Sequence[str]) -> None:
    for name in names:
        report.skip(name, _STOPPED)


def conclude_trained_model(report: VerificationReport, before: int) -> None:
    """Adds the comparison with the trained model, whose problems are those after the first `before`."""
    problems = report.problems[before:]
    del report.problems[before:]
    parity = report.parity
    details, doubt = ("", None) if parity is None else (parity.as_text().partition(": ")[2], parity.doubt)
    report.conclude(TRAINED_MODEL, problems, details, doubt=doubt)
    report.skip(ROWS, "the rows are compared with the trained model")


def skip_trained_model(report: VerificationReport) -> None:
    """Notes that no run was named."""
    path = Path(report.model)
    command = command_line(["textclf", "verify", str(path), "--run", str(run_of_model(path) or "runs/NAME")])
    report.skip(TRAINED_MODEL, "no run was named", command)


def conclude_rows(report: VerificationReport, problems: Sequence[str] = ()) -> None:
    """Adds the results on the rows of a table, or that none was named."""
    if report.rows is None:
        report.skip(ROWS, "no table was named", command_line(["textclf", "verify", report.model, "LABELLED.csv"]))
    else:
        report.conclude(ROWS, problems, report.rows.as_text())


def is_asked(report: VerificationReport, name: str, consumers: Sequence[str] | None, unfit: str | None) -> bool:
    """Returns whether a program is compared with textclf, and lists it as not checked if it is not.

    `consumers` are the names that a person passed; by default, every program is asked that is installed and loads the file.
    `unfit` is the reason why the file can be compared with no such program, or None.
    """
    if consumers is not None and name not in consumers:
        report.skip(name, "it was not to be asked")
    elif unfit is not None:
        report.skip(name, unfit)
    elif consumers is not None:
        return True
    elif refusal := _refusal(report, name):
        report.skip(name, *refusal)
    elif name not in installed_consumers():
        report.skip(name, "not installed", how_to_add(name))
    else:
        return True
    return False


_RUNTIMES = {"mediapipe": "MediaPipe Tasks", "task-library": "Task Library", "browser": "MediaPipe Tasks"}


def _refusal(report: VerificationReport, name: str) -> tuple[str, str | None] | None:
    """Returns why a program does not load the file, and the command that writes one for it."""
    for support in report.runtimes:
        if support.runtime == _RUNTIMES[name] and not support.loads:
            return f"it does not load the file: {support.reason}", support.remedy
    return None
