"""What a command shows at its end on a terminal: a box with the results, and the commands that come next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textclf.data.findings.finding import counted
from textclf.terminal.door import command_line
from textclf.terminal.screen import Kind
from textclf.terminal.summary import Summary

if TYPE_CHECKING:
    from textclf.classify.job import BatchSummary
    from textclf.classify.metrics import Metrics
    from textclf.classify.question_answering.job import AnswerSummary
    from textclf.exporting.report import VerificationReport
    from textclf.runs.check import CheckReport
    from textclf.runs.comparison.engines import Comparison
    from textclf.runs.tasks.interface import ComparedRuns
    from textclf.runs.train import Run
    from textclf.tflite.inspection import Inspection


# --- Recipes and runs ------------------------------------------------------------------------------------------------
def of_training(run: Run) -> Summary:
    from textclf.classify.metrics import Metrics, interval_text
    from textclf.runs.classification.record import estimate_of

    metrics = run.metrics
    split = "test" if "test" in metrics else "validation"
    export, warnings = metrics["export"], metrics["warnings"]
    if export.get("refused"):
        outcome = "trained, but not exported in the form that the recipe asks for"
    elif export.get("doubt"):
        outcome = "trained and exported; there are too few rows to verify it"
    else:
        outcome = "trained, exported and verified"
    facts = [
        ("Model", str(run.model_path)),
        ("Size", f"{_size(run.model_path)}, quantization: {export['quantization']}"),
        ("Accuracy", _accuracy(Metrics.from_dict(metrics[split]), f"{split} rows")),
        ("Report", str(run.dir / "report.html")),
        ("Time", _duration(metrics["seconds"])),
    ]
    if warnings:
        facts.insert(3, ("Warnings", f"{len(warnings):,}, in the report"))
    estimate = estimate_of(metrics["history"], metrics["best_epoch"], metrics[split]["rows"])
    if estimate is not None:
        shown = (
            f"{_percent(estimate.accuracy)}, estimated by cross-validation on {estimate.rows:,} training rows "
            f"({interval_text(estimate.interval)})"
        )
        facts[2:3] = [("Accuracy", shown), (f"On the {split} rows", facts[2][1])]
    return Summary(
        title=f"{metrics['name']}: {outcome}",
        kind="warning" if warnings or export.get("refused") else "success",
        facts=facts,
        next_steps=[
            ("Classify a table", command("classify", run.dir, "INPUT.csv", "-o", "OUTPUT.csv")),
            ("Classify a text", f'{command("classify", run.dir, "--text-input")} "TEXT"'),
        ],
    )


def of_check(report: CheckReport, overrides: Sequence[str]) -> Summary:
    warnings = sum(finding.severity == "warning" for finding in report.findings)
    notes = len(report.findings) - warnings
    findings = ", ".join(counted(count, what) for count, what in ((warnings, "warning"), (notes, "note")) if count)
    return Summary(
        title=f"{report.recipe}: the recipe and its data can be used for training",
        kind="warning" if warnings else "success",
        facts=[
            *report.facts(),
            ("Findings", findings or "no problems found in the data"),
        ],
        next_steps=[("Train the model", command("train", report.recipe, *overrides))],
    )


def of_export(path: Path, report: VerificationReport, run: Path) -> Summary:
    parity = report.parity
    facts = [("Model", str(path)), ("Size", _size(path))]
    if parity is not None:
        facts.append(("Compared", f"{parity.changed} changed"))
        facts += [(name, f"{_percent(trained)} → {_percent(exported)}") for name, trained, exported in parity.scores]
    return Summary(
        title=f"{path.name}: exported and verified",
        facts=facts,
        next_steps=[
            ("Test it with the installed runtimes", command("verify", path, "--run", run)),
            ("Classify a table", command("classify", path, "INPUT.csv", "-o", "OUTPUT.csv")),
        ],
    )


def of_comparison(comparison: Comparison | ComparedRuns, items: Sequence[str], output: Path | None) -> Summary:
    from textclf.runs.comparison.engines import Comparison
    from textclf.runs.comparison.result import RunComparison

    if not isinstance(comparison, RunComparison):
        assert isinstance(comparison, Comparison)
        return Summary(title=f"{comparison.name}: the engines are compared")
    facts = [(model.name, _accuracy(model.metrics, "rows")) for model in comparison.models]
    for pair in comparison.pairs:
        low, high = (f"{100 * bound:+.1f}" for bound in pair.interval)
        judged = "significant" if pair.is_significant else "not significant, so it may be chance"
        facts.append(
            (
                "Difference",
                f"{pair.second} against {pair.first}: {100 * pair.accuracy:+.1f} points "
                f"(95 % confidence interval: {low} to {high}), {judged}",
            )
        )
    return Summary(
        title=f"{counted(len(comparison.models), 'model')} compared on {counted(comparison.rows, 'row')}",
        facts=facts,
        next_steps=[("Write every row on which they disagree", command("compare", *items, "-o", "compared"))]
        if output is None
        else [],
    )


# --- Models ----------------------------------------------------------------------------------------------------------
def of_job(summary: BatchSummary, model: Path) -> Summary:
    facts = [
        ("Output", summary.output),
        ("Classified", f"{sum(summary.labels.values()):,} of {counted(summary.rows, 'row')}"),
    ]
    if summary.accuracy is not None and summary.confusion is not None:
        rows = sum(map(sum, summary.confusion))
        facts.append(("Accuracy", f"{_percent(summary.accuracy)} on {counted(rows, 'row')} with a true label"))
    if summary.truncated:
        facts.append(("Truncated", f"{counted(summary.truncated, 'text')}; only the beginning was used"))
    if summary.uneven_rows:
        facts.append(("Uneven", f"{counted(summary.uneven_rows, 'row')} with fewer or more cells than the header"))
    if summary.rejected:
        facts.append(("Rejected", f"{counted(summary.rejected, 'row')} too uncertain for a label"))
    if summary.unknown_truths:
        facts.append(
            (
                "Not compared",
                f"{counted(summary.unknown_truths, 'row')} with a label that the model does not know: "
                f"{summary.unknown_labels}",
            )
        )
    failed = sum(summary.errors.values())
    if failed:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary.errors.items())
        facts.append(("No label", f"{counted(failed, 'row')}, for the reasons in the column of errors: {reasons}"))
    facts.append(("Time", f"{_duration(summary.seconds)}, {summary.rows_per_second:,.0f} rows per second"))
    return Summary(
        title="The table is classified" if not failed else "The table is classified, but some rows have no label",
        kind="warning" if failed else "success",
        facts=facts,
        next_steps=[("Measure the model on rows with true labels", command("evaluate", _short(model), "LABELLED.csv"))],
    )


def of_answers(summary: AnswerSummary, model: Path) -> Summary:
    facts = [
        ("Output", summary.output),
        ("Answered", f"{summary.answered:,} of {counted(summary.rows, 'row')}"),
    ]
    if summary.unanswered:
        facts.append(("No answer", f"{counted(summary.unanswered, 'row')}: the context does not answer the question"))
    if summary.truncated:
        facts.append(("Truncated", f"{counted(summary.truncated, 'question')}; only the beginning was used"))
    if summary.uneven_rows:
        facts.append(("Uneven", f"{counted(summary.uneven_rows, 'row')} with fewer or more cells than the header"))
    failed = sum(summary.errors.values())
    if failed:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary.errors.items())
        facts.append(("No result", f"{counted(failed, 'row')}, for the reasons in the column of errors: {reasons}"))
    facts.append(("Time", f"{_duration(summary.seconds)}, {summary.rows_per_second:,.1f} rows per second"))
    return Summary(
        title="The questions are answered"
        if not failed
        else "The questions are answered, but some rows have no result",
        kind="warning" if failed else "success",
        facts=facts,
        next_steps=[("Measure the model on known answers", command("evaluate", _short(model), "LABELLED.csv"))],
    )


def of_evaluation(metrics: Metrics, model: Path) -> Summary:
    return Summary(
        title=f"{model}: measured",
        facts=[
            ("Accuracy", _accuracy(metrics, "rows")),
            ("Macro-F1", _percent(metrics.macro_f1)),
        ],
        next_steps=[
            ("Compare it with another model of these labels", command("compare", _short(model), "OTHER_RUN")),
            ("Classify a table", command("classify", _short(model), "INPUT.csv", "-o", "OUTPUT.csv")),
        ],
    )


def of_inspection(inspection: Inspection) -> Summary:
    return Summary(
        title=inspection.name or inspection.file,
        facts=[
            ("File", inspection.file),
            ("Size", f"{inspection.bytes / 1e6:.2f} MB"),
            ("Labels", f"{len(inspection.labels):,}"),
            ("Reads", f"up to {inspection.max_length:,} tokens"),
        ],
        next_steps=[
            ("Check it", command("verify", _short(inspection.file))),
            ("Classify a text", f'{command("classify", _short(inspection.file), "--text-input")} "TEXT"'),
        ],
    )


def of_verification(report: VerificationReport, run: Path | None) -> Summary:
    doubt = report.parity.doubt if report.parity is not None else None
    kind: Kind = "error" if report.problems else "success" if doubt is None else "warning"
    verdict = "NOT verified" if report.problems else "verified" if doubt is None else "not judged, on too few rows"
    facts = []
    if report.problems:
        facts.append(("Problems", f"{len(report.problems):,}"))
    if report.parity is not None:
        facts.append(("Trained model", f"{report.parity.changed} differ"))
    if report.rows is not None:
        facts += [(name, f"{_percent(score)} on {rows}") for name, score, rows in report.rows.scores]
    if report.consumers:
        facts.append(("Runtimes", ", ".join(result.name for result in report.consumers)))
    if report.problems:
        next_steps = [] if run is None else [("Export the model again", command("export", run))]
    else:
        next_steps = [("Classify a table", command("classify", _short(report.model), "INPUT.csv", "-o", "OUTPUT.csv"))]
    return Summary(title=f"{report.model}: {verdict}", kind=kind, facts=facts, next_steps=next_steps)


# --- Words -----------------------------------------------------------------------------------------------------------
def command(name: str, *words: object) -> str:
    """A command line that a shell understands."""
    return command_line(["textclf", name, *map(str, words)])


def _short(model: str | Path) -> Path:
    """The folder of the run where it stands for the model."""
    path = Path(model)
    is_of_run = path.name == "model.tflite" and (path.parent / "metrics.json").is_file()
    return path.parent if is_of_run else path


def _accuracy(metrics: Metrics, rows: str) -> str:
    from textclf.classify.metrics import accuracy_interval, interval_text

    return f"{_percent(metrics.accuracy)} on {metrics.rows:,} {rows} ({interval_text(accuracy_interval(metrics))})"


def _percent(share: float) -> str:
    """Never "100.0 %" for what is not all, nor "0.0 %" for what is not nothing."""
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
