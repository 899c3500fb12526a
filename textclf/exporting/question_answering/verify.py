"""`textclf verify` of a question answering model: takes a model file and returns a report of its problems.

Four things are checked: the structure of the file, as the runtime of phones needs it; whether its outputs are numbers;
whether its answers are those of the trained model; and whether the Task Library's BertQuestionAnswerer, if it is
installed, gives the same answers as textclf in its phone mode.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.classify.question_answering.evaluation import AnswerMetrics, golds_of, measure_answers, read_questions
from textclf.classify.question_answering.question_answerer import Answer, QuestionAnswerer
from textclf.data.findings.finding import counted
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tables.frames import Rows
from textclf.errors import ModelError, VerificationError
from textclf.exporting.apps import PhoneAnswer, run_question_answerer
from textclf.exporting.checks import (
    conclude_answers,
    conclude_rows,
    conclude_structure,
    conclude_trained_model,
    is_asked,
    skip_trained_model,
)
from textclf.exporting.question_answering.hard_questions import hard_questions
from textclf.exporting.question_answering.model_file import MAX_CHANGED_ANSWERS, Answers, compare_answers
from textclf.exporting.question_answering.trained_run import TrainedAnswerer, load_trained_answerer
from textclf.exporting.report import VerificationReport
from textclf.files.copies import local_copies
from textclf.files.locations import path_of
from textclf.files.model_path import model_path_of
from textclf.terminal.native_log import load_tensorflow
from textclf.tflite.checks import structure_problems
from textclf.tflite.metadata import ModelMetadata, load_model, metadata_of, read_metadata
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.question_answering import OUTPUTS, TASK_LIBRARY_LENGTH, output_problems
from textclf.tflite.runtimes import RUNTIMES, Compatibility

CONSUMER = "task-library"

_CONSUMERS = (CONSUMER,)

# Both runtimes compute in float32. With 8-bit weights, other builds of a runtime round the inputs of matrix products
# differently: the sums of two logits of a trained model then differ by up to some tenths.
MAX_LOGIT_DIFFERENCE, MAX_ROUNDED_DIFFERENCE = 1e-2, 0.5

# As many as the export accepts. Rounding also decides on some texts without sense whether any of the best starts and ends make an
# answer at all: of a trained model, 4 of 320 answers, and one more logit differed by 0.54, all others by 0.14 at most.
MAX_ANSWERS_ROUNDED_FURTHER = MAX_CHANGED_ANSWERS

_COLUMNS = {
    "question": "the question column of the training",
    "context": "the context column of the training",
    "answer": "the answer column of the training",
}
"""What messages call the columns of the questions: `verify` has no options for them."""

# Some of their contexts need many windows.
_QUESTIONS_IN_WINDOWS = 64

# More questions show little more about a runtime, and take it minutes.
_COMPARED_QUESTIONS = 500


@dataclass(frozen=True)
class AnsweredRows:
    """The quality of the model's answers to the questions of a file."""

    data: str
    metrics: AnswerMetrics

    @property
    def scores(self) -> list[tuple[str, float, str]]:
        """Exact match and F1, as on a server, and the questions that they were measured on."""
        server = self.metrics.server
        questions = counted(server.count, "question")
        return [("Exact match", server.exact_match, questions), ("F1", server.f1, questions)]

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        found = ", ".join(
            f"as a {place} exact match {metrics.exact_match:.1%} and F1 {metrics.f1:.1%}"
            for place, metrics in self.metrics.by_place.items()
        )
        return f"{self.data}: {counted(self.metrics.server.count, 'question')}, {found}"


@dataclass(frozen=True)
class QuestionConsumerResult:
    """BertQuestionAnswerer compared with textclf in its phone mode: the number of questions, the answers that differ in
    their text, those of them that differ by more than rounding explains, and the largest difference of a logit among
    equal answers."""

    name: str
    questions: int
    changed_answers: int
    far_answers: int
    largest_difference: float

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        return (
            f"compared with {self.name} (BertQuestionAnswerer): {self.changed_answers:,} of "
            f"{counted(self.questions, 'answer')} different ({self.far_answers:,} by more than rounding), largest logit "
            f"difference {self.largest_difference:.6f}"
        )


@local_copies()
def verify_answers(
    model: str | Path,
    data: str | Path | Rows | None = None,
    *,
    run: str | Path | None = None,
    consumers: Sequence[str] | None = None,
) -> VerificationReport:
    """Does what `textclf.verify` does, for a question answering model."""
    path = model_path_of(model)
    report = VerificationReport(str(path))
    content = load_model(path)[1]
    graph = TfliteModel(content, str(path))
    trained = load_trained_answerer(Path(run)) if run is not None else None
    vocabulary = trained.checkpoint.vocabulary if trained is not None else None
    problems = structure_problems(
        content, vocabulary=vocabulary, compatibility=_compatibility(content), output_problems=output_problems
    )
    if not conclude_structure(report, content, problems, _CONSUMERS):
        return report
    try:
        answerer = QuestionAnswerer(path)
        report.checked += _structure(metadata_of(graph), graph, answerer)
        problems = _answer_problems(answerer)
    except ModelError as error:
        problems = [str(error)]
    details = f"numbers as logits for {counted(_QUESTIONS_IN_WINDOWS, 'question')} about difficult texts"
    if not conclude_answers(report, problems, details, _CONSUMERS):
        return report
    split = None if data is None else read_questions(answerer, data, arguments=_COLUMNS)
    if trained is not None:
        before = len(report.problems)
        compare_with_run(report, answerer, trained, split)
        conclude_trained_model(report, before)
    else:
        skip_trained_model(report)
        if split is not None:
            name = str(path_of(data)) if isinstance(data, str | os.PathLike) else "data"
            report.rows = AnsweredRows(name, measure_answers(answerer, split).metrics)
        conclude_rows(report)
    if is_asked(report, CONSUMER, consumers, _unfit(answerer)):
        _compare_with_phone(report, answerer, split)
    return report


def _unfit(answerer: QuestionAnswerer) -> str | None:
    """Returns why the runtime of phones cannot answer, or None."""
    if answerer.fits_phones:
        return None
    return f"it needs inputs of {TASK_LIBRARY_LENGTH} tokens in BERT's order, and these are of {answerer.max_length}"


def _compatibility(content: bytes) -> Compatibility:
    """Returns the runtimes for which the file was made; Model Maker's are for the Task Library."""
    try:
        compatibility: Compatibility = (read_metadata(content).settings or {}).get("compatibility", "task-library")
    except ModelError:  # the check of the structure says what is wrong
        return "task-library"
    return compatibility


def _structure(metadata: ModelMetadata, graph: TfliteModel, answerer: QuestionAnswerer) -> list[str]:
    """Returns what of the structure was checked and is as the runtime of phones needs it."""
    length = answerer.max_length
    runtimes = RUNTIMES[(metadata.settings or {}).get("compatibility", "task-library")]
    checked = [
        f"inputs {', '.join(metadata.input_names)}: int32 [1, {length}]",
        f"outputs {' and '.join(metadata.output_names)}: float32 [1, {length}]",
        f"BERT's tokenizer with {len(metadata.vocabulary):,} entries among the process units of the graph",
        f"{counted(len(graph.operators), 'operation')} in versions that {' and '.join(runtimes)} support",
    ]
    if length != TASK_LIBRARY_LENGTH:
        checked.append(f"the length of {length} suits textclf only: the runtime of phones needs {TASK_LIBRARY_LENGTH}")
    elif metadata.output_names[0] != OUTPUTS[0]:
        checked.append("the start is the first output: runtimes that read no names would swap starts and ends")
    return checked


def _answer_problems(answerer: QuestionAnswerer) -> list[str]:
    questions = hard_questions()[:_QUESTIONS_IN_WINDOWS]
    pending = [answerer.submit(questions)]
    if answerer.fits_phones:
        pending.append(answerer.submit(questions, phone=True))
    for one in pending:
        bad = int((~np.isfinite(one.logits()).all(axis=(1, 2))).sum())
        if bad:
            return [f"{bad:,} windows of {counted(len(questions), 'question')} get logits that are not numbers"]
    return []


def compare_with_run(
    report: VerificationReport, answerer: QuestionAnswerer, run: TrainedAnswerer, split: QuestionSplit | None
) -> None:
    """Compares a file with the trained model of a run, on a split, by default on its held-out questions."""
    load_tensorflow()  # what is not installed is said before questions are read
    settings = answerer.metadata.settings or {}
    splits = run.held_out() if split is None else [split]
    export = run.recipe.export
    trained, exported, golds = [], [], []
    for one in splits:
        trained.append(run.answers(one))
        exported.append(file_answers(answerer, one))
        golds += golds_of(one)
    try:
        report.parity = compare_answers(
            joined_answers(trained),
            joined_answers(exported),
            golds,
            settings.get("quantization", export.quantization),
            null_bound=run.null_bound,
            temperature=run.temperature,
            max_changed_answers=export.max_changed_labels,
            max_lost_f1=export.max_lost_accuracy,
        )
    except VerificationError as error:
        report.problems.append(str(error))


def file_answers(answerer: QuestionAnswerer, split: QuestionSplit) -> Answers:
    """Returns the file's logits and candidates for the questions of a split."""
    logits, selected = [], []
    for pending in answerer.in_parts(split.texts):
        logits.append(pending.logits())
        selected += pending.selected()
    return Answers(np.concatenate(logits), selected)


def joined_answers(answers: Sequence[Answers]) -> Answers:
    """Returns the answers to several splits as those to one."""
    selected = [one for part in answers for one in part.selected]
    return Answers(np.concatenate([part.logits for part in answers]), selected)


def _compare_with_phone(report: VerificationReport, answerer: QuestionAnswerer, split: QuestionSplit | None) -> None:
    own = [] if split is None else [(question, context) for question, context in split.texts if "\0" not in context]
    questions = [*hard_questions(), *own[:_COMPARED_QUESTIONS]]
    try:
        theirs = run_question_answerer(answerer.path, questions)
    except VerificationError as error:
        report.conclude(CONSUMER, [str(error)], "")
        return
    ours = answerer.answers(questions, phone=True)
    rounded = (answerer.metadata.settings or {}).get("quantization") in ("dynamic", "int4")
    result = compared_answers(ours, theirs, MAX_ROUNDED_DIFFERENCE if rounded else MAX_LOGIT_DIFFERENCE)
    report.consumers.append(result)
    allowed = int(MAX_ANSWERS_ROUNDED_FURTHER * result.questions) if rounded else 0
    problems = []
    if result.far_answers > allowed:
        problems.append(
            f"{CONSUMER} gives {result.far_answers:,} of {counted(result.questions, 'question')} clearly another answer than "
            f"textclf does as a phone (at most {allowed} may differ by more than rounding)"
        )
    report.conclude(CONSUMER, problems, result.as_text().partition(": ")[2])


def compared_answers(
    ours: Sequence[Answer], theirs: Sequence[Sequence[PhoneAnswer]], tolerance: float
) -> QuestionConsumerResult:
    """Compares the answers of BertQuestionAnswerer with ours. Answers whose logits differ by at most `tolerance` may
    change their places."""
    changed = far = 0
    largest = 0.0
    for own, found in zip(ours, theirs, strict=True):
        first = found[0] if found else None
        if own.is_answer != (first is not None):
            changed, far = changed + 1, far + 1
        elif first is not None:
            difference = abs(own.logit - first.logit)
            same = own.text == first.text
            changed += not same
            far += difference > tolerance
            largest = max(largest, difference if same else 0.0)
    return QuestionConsumerResult(CONSUMER, len(ours), changed, far, largest)
