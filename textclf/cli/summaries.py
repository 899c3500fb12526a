"""What a command shows at its end on a terminal: a box with the results, and the commands that come next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textclf.data.findings.finding import counted
from textclf.files.locations import without_secrets
from textclf.recipe.values import MULTI_LABEL, QUESTION_ANSWERING
from textclf.terminal.door import command_line
from textclf.terminal.screen import Kind
from textclf.terminal.summary import Summary

if TYPE_CHECKING:
    from textclf.classify.metrics import Metrics
    from textclf.classify.multi_label.metrics import LabelSetMetrics
    from textclf.classify.question_answering.evaluation import AnswerMetrics
    from textclf.classify.question_answering.job import AnswerSummary
    from textclf.classify.tables.job import BatchSummary
    from textclf.exporting.report import VerificationReport
    from textclf.runs.check import CheckReport
    from textclf.runs.comparison.answers import AnswerComparison
    from textclf.runs.comparison.engines import Comparison
    from textclf.runs.comparison.label_sets import LabelSetComparison
    from textclf.runs.tasks.interface import ComparedRuns
    from textclf.runs.train import Run
    from textclf.tflite.inspection import Inspection


# --- Recipes and runs ------------------------------------------------------------------------------------------------
def of_training(run: Run) -> Summary:
    metrics = run.metrics
    split = "test" if "test" in metrics else "validation"
    export, warnings = metrics["export"], metrics["warnings"]
    answers = answers_questions(metrics)
    if export.get("refused"):
        outcome = "trained, but not exported in the form that the recipe requests"
    elif export.get("doubt"):
        outcome = f"trained and exported; there are too few {'questions' if answers else 'rows'} to verify it"
    else:
        outcome = "trained, exported and verified"
    facts = [
        ("Model", str(run.model_path)),
        ("Size", f"{_size(run.model_path)}, quantization: {export['quantization']}"),
        *_quality(metrics, split),
        *([("Warnings", f"{len(warnings):,}, in the report")] if warnings else []),
        *[("Runtimes" if number == 0 else "", line) for number, line in enumerate(runtime_lines(run))],
        ("Report", str(run.dir / "report.html")),
        ("Time", _duration(metrics["seconds"])),
    ]
    return Summary(
        title=f"{metrics['name']}: {outcome}",
        kind="warning" if warnings or export.get("refused") else "success",
        facts=facts,
        next_steps=_uses(run.dir, answers=answers),
    )


def runtime_lines(run: Run) -> list[str]:
    """Returns which runtimes load the model of a run, and what to do for the others."""
    from textclf.tflite.inspection import inspect_model
    from textclf.tflite.runtimes import loading_lines

    return loading_lines(inspect_model(run.model_path).runtimes)


def _quality(metrics: Mapping[str, Any], split: str) -> list[tuple[str, str]]:
    if answers_questions(metrics):
        return _quality_of_answers(metrics, split)
    if metrics.get("task") == MULTI_LABEL:
        from textclf.classify.multi_label.metrics import LabelSetMetrics

        own = _label_set_facts(LabelSetMetrics.from_dict(metrics[split]), f"{split} rows")
        return [*own, *_first_window(metrics, split, "first_window_micro_f1")]
    return _quality_of_labels(metrics, split)


def _label_set_facts(metrics: LabelSetMetrics, rows: str) -> list[tuple[str, str]]:
    """Returns micro-F1, macro-F1 and the share of rows with exactly the right labels."""
    from textclf.classify.metrics import interval_text

    interval = interval_text(metrics.micro_f1_interval)
    return [
        ("Micro-F1", f"{_percent(metrics.micro_f1)} on {metrics.rows:,} {rows} ({interval})"),
        ("Macro-F1", _percent(metrics.macro_f1)),
        ("Exact match", f"{_percent(metrics.exact_match)} of the rows have exactly the right labels"),
    ]


def answers_questions(metrics: Mapping[str, Any]) -> bool:
    """Returns whether the metrics are those of a run of question answering."""
    return metrics.get("task") == QUESTION_ANSWERING


def use_of(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Returns what the model of a run does, `Classify`, and the command for it."""
    return ("Answer", "answer") if answers_questions(metrics) else ("Classify", "classify")


def _uses(model: Path, *, answers: bool) -> list[tuple[str, str]]:
    """Returns how a model is used: on a table and on one text."""
    if answers:
        one = f'{command("answer", model, "--context", "TEXT.txt", "--question")} "QUESTION"'
        return [
            ("Answer the questions of a table", command("answer", model, "INPUT.csv", "-o", "OUTPUT.csv")),
            ("Answer a question about a text", one),
        ]
    return [
        ("Classify a table", command("classify", model, "INPUT.csv", "-o", "OUTPUT.csv")),
        ("Classify a text", f'{command("classify", model, "--text-input")} "TEXT"'),
    ]


def _quality_of_labels(metrics: Mapping[str, Any], split: str) -> list[tuple[str, str]]:
    from textclf.classify.metrics import Metrics, interval_text
    from textclf.runs.tasks.classification.record import estimate_of

    measured = _accuracy(Metrics.from_dict(metrics[split]), f"{split} rows")
    estimate = estimate_of(metrics["history"], metrics["best_epoch"], metrics[split]["rows"])
    if estimate is None:
        return [("Accuracy", measured), *_first_window(metrics, split, "first_window_accuracy")]
    shown = (
        f"{_percent(estimate.accuracy)}, estimated by cross-validation on {estimate.rows:,} training rows "
        f"({interval_text(estimate.interval)})"
    )
    first_window = _first_window(metrics, split, "first_window_accuracy")
    return [("Accuracy", shown), (f"On the {split} rows", measured), *first_window]


def _first_window(metrics: Mapping[str, Any], split: str, score: str) -> list[tuple[str, str]]:
    """Returns what an app sees of texts that textclf reads in windows; `score` is the name of its first number."""
    if "long_texts" not in metrics:
        return []
    reached = metrics["long_texts"]["splits"][split][score]
    return [
        ("In an app", f"{_percent(reached)} on the same rows, because an app reads only the first window of a text")
    ]


def _quality_of_answers(metrics: Mapping[str, Any], split: str) -> list[tuple[str, str]]:
    from textclf.classify.question_answering.evaluation import AnswerMetrics

    return _answer_facts(AnswerMetrics.from_dict(metrics[split]), f"{split} questions")


def _answer_facts(metrics: AnswerMetrics, questions: str) -> list[tuple[str, str]]:
    """Returns F1 and exact match by where the answers are given."""
    return [
        (
            f"On a {place}",
            f"F1 {_percent(one.f1)}, exact match {_percent(one.exact_match)} on {one.count:,} {questions} (95 % confidence "
            f"interval of F1: {100 * one.f1_interval[0]:.1f}–{100 * one.f1_interval[1]:.1f} %)",
        )
        for place, one in metrics.by_place.items()
    ]


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
    next_steps = []
    if path.suffix == ".tflite":
        tests = ("Test it with the installed runtimes", command("verify", path, "--run", run))
        next_steps = [tests, _uses(path, answers=_is_answerer(path))[0]]
    return Summary(title=f"{path.name}: exported and verified", facts=facts, next_steps=next_steps)


def of_comparison(comparison: Comparison | ComparedRuns, items: Sequence[str], output: Path | None) -> Summary:
    from textclf.runs.comparison.answers import AnswerComparison
    from textclf.runs.comparison.engines import Comparison
    from textclf.runs.comparison.label_sets import LabelSetComparison
    from textclf.runs.comparison.result import RunComparison

    if isinstance(comparison, Comparison):
        return Summary(title=f"{comparison.name}: the engines are compared")
    more = [("Write the rows on which they disagree", command("compare", *items, "-o", "compared"))]
    if isinstance(comparison, AnswerComparison):
        return _of_answer_comparison(comparison, [] if output is not None else more)
    if isinstance(comparison, LabelSetComparison):
        return _of_label_set_comparison(comparison, [] if output is not None else more)
    assert isinstance(comparison, RunComparison)
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
        next_steps=more if output is None else [],
    )


def _of_answer_comparison(comparison: AnswerComparison, next_steps: list[tuple[str, str]]) -> Summary:
    facts = [fact for model in comparison.models for fact in _named(model.name, model.metrics)]
    facts += [("Difference", pair.verdict()) for pair in comparison.pairs]
    return Summary(
        title=f"{counted(len(comparison.models), 'model')} compared on {counted(comparison.questions, 'question')}",
        facts=facts,
        next_steps=next_steps,
    )


def _of_label_set_comparison(comparison: LabelSetComparison, next_steps: list[tuple[str, str]]) -> Summary:
    facts = [(model.name, _label_set_facts(model.metrics, "rows")[0][1]) for model in comparison.models]
    facts += [("Difference of micro-F1", pair.verdict()) for pair in comparison.pairs]
    return Summary(
        title=f"{counted(len(comparison.models), 'model')} compared on {counted(comparison.rows, 'row')}",
        facts=facts,
        next_steps=next_steps,
    )


def _named(name: str, metrics: AnswerMetrics) -> list[tuple[str, str]]:
    return [(f"{name}, {place.lower()}", shown) for place, shown in _answer_facts(metrics, "questions")]


# --- Models ----------------------------------------------------------------------------------------------------------
def of_job(summary: BatchSummary, model: Path) -> Summary:
    facts = [
        ("Output", summary.output),
        ("Classified", f"{summary.classified:,} of {counted(summary.rows, 'row')}"),
    ]
    if summary.without_label:
        facts.append(("Without a label", f"{counted(summary.without_label, 'row')} to which no label applies"))
    if summary.accuracy is not None and summary.confusion is not None:
        rows = sum(map(sum, summary.confusion))
        facts.append(("Accuracy", f"{_percent(summary.accuracy)} on {counted(rows, 'row')} with a true label"))
    if summary.micro_f1 is not None and summary.exact_match is not None:
        compared = counted(summary.compared_rows or 0, "row")
        facts.append(("Micro-F1", f"{_percent(summary.micro_f1)} on {compared} with true labels"))
        facts.append(("Exact match", f"{_percent(summary.exact_match)} of them have exactly the right labels"))
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


def of_evaluation(metrics: Metrics | LabelSetMetrics, model: Path) -> Summary:
    from textclf.classify.metrics import Metrics

    facts = (
        [("Accuracy", _accuracy(metrics, "rows")), ("Macro-F1", _percent(metrics.macro_f1))]
        if isinstance(metrics, Metrics)
        else _label_set_facts(metrics, "rows")
    )
    return Summary(
        title=f"{model}: measured",
        facts=facts,
        next_steps=[
            ("Compare it with another model of these labels", command("compare", _short(model), "OTHER_RUN")),
            ("Classify a table", command("classify", _short(model), "INPUT.csv", "-o", "OUTPUT.csv")),
        ],
    )


def of_answer_evaluation(metrics: AnswerMetrics, model: Path) -> Summary:
    return Summary(
        title=f"{model}: measured",
        facts=_answer_facts(metrics, "questions"),
        next_steps=[
            ("Compare it with another model", command("compare", _short(model), "OTHER_RUN")),
            _uses(_short(model), answers=True)[0],
        ],
    )


def of_inspection(inspection: Inspection) -> Summary:
    answers = not inspection.labels
    return Summary(
        title=inspection.name or inspection.file,
        facts=[
            ("File", inspection.file),
            ("Size", f"{inspection.bytes / 1e6:.2f} MB"),
            ("Task", "answers questions") if answers else ("Labels", f"{len(inspection.labels):,}"),
            (
                "Reads",
                f"up to {inspection.max_length:,} tokens{' in a window' if inspection.windows is not None else ''}",
            ),
        ],
        next_steps=[
            ("Check it", command("verify", _short(inspection.file))),
            _uses(_short(inspection.file), answers=answers)[1],
        ],
    )


def of_verification(report: VerificationReport, run: Path | None) -> Summary:
    kinds: dict[str, Kind] = {"verified": "success", "failed": "error"}
    verdicts = {"failed": "NOT verified", "no verdict": "no verdict, because there are too few rows"}
    facts = [
        (words, ", ".join(names))
        for result, words in (("passed", "Passed"), ("failed", "Failed"), ("not checked", "Not checked"))
        if (names := [check.name for check in report.checks if check.result == result])
    ]
    if report.parity is not None:
        facts.append(("Trained model", f"{report.parity.changed} differ"))
    if report.rows is not None:
        facts += [(name, f"{_percent(score)} on {rows}") for name, score, rows in report.rows.scores]
    if report.problems:
        next_steps = [] if run is None else [("Export the model again", command("export", run))]
    else:
        next_steps = [_uses(_short(report.model), answers=_is_answerer(Path(report.model)))[0]]
    return Summary(
        title=f"{report.model}: {verdicts.get(report.verdict, report.verdict)}",
        kind=kinds.get(report.verdict, "warning"),
        facts=facts,
        next_steps=next_steps,
    )


# --- Words -----------------------------------------------------------------------------------------------------------
def command(name: str, *words: object) -> str:
    """A command line that a shell understands."""
    return command_line(["textclf", name, *(without_secrets(str(word)) for word in words)])


def _short(model: str | Path) -> Path:
    """Returns the folder of the run if `model` is its model.tflite, otherwise `model`."""
    path = Path(model)
    is_of_run = path.name == "model.tflite" and (path.parent / "metrics.json").is_file()
    return path.parent if is_of_run else path


def _is_answerer(model: Path) -> bool:
    """Returns whether a model answers questions."""
    from textclf.errors import ModelError
    from textclf.tflite.metadata import read_metadata

    try:
        return not read_metadata(model).labels
    except ModelError:
        return False


def _accuracy(metrics: Metrics, rows: str) -> str:
    from textclf.classify.metrics import accuracy_interval, interval_text

    return f"{_percent(metrics.accuracy)} on {metrics.rows:,} {rows} ({interval_text(accuracy_interval(metrics))})"


def _percent(share: float) -> str:
    """Returns "100.0 %" only for exactly 1, and "0.0 %" only for exactly 0."""
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
