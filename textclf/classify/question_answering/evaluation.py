"""Measures a finished question answering model on questions with known answers.

There are two results for the same questions: as textclf answers on a server, with windows, exact spans and "no answer";
and as a phone answers, with one window, whole words, and no bound for "no answer".
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from textclf.classify.question_answering.metrics import (
    AnswerScores,
    Interval,
    QuestionMetrics,
    bootstrap_interval,
    evaluate,
    exact_match,
    token_f1,
)
from textclf.classify.question_answering.question_answerer import Answer, QuestionAnswerer
from textclf.classify.table_settings import READING_ARGUMENTS, reading_settings, settings_of_arguments
from textclf.classify.training_files import is_training_file
from textclf.data.findings.finding import counted
from textclf.data.question_answering.dataset import load_question_file
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tables.frames import Rows, frame_table
from textclf.errors import ArgumentError, DataError
from textclf.files.copies import local_copies
from textclf.files.locations import path_of
from textclf.terminal.progress import Progress

logger = logging.getLogger(__name__)

# Notes about questions or answers that are not measured.
_LEFT_OUT = ("empty_question", "empty_context", "empty_answer")


@dataclass(frozen=True)
class Difference:
    """The exact match and the F1 of one way to answer minus those of another on the same questions, in -1..1, each with
    its 95 % confidence interval."""

    exact_match: float
    f1: float
    exact_match_interval: Interval
    f1_interval: Interval


@dataclass(frozen=True)
class AnswerMetrics:
    """The quality of a model's answers to the same questions: on a `server` and on a `phone`.

    `difference` is the server minus the phone. `phone` and `difference` are None for a model that phones cannot use, of
    another tokenizer or length.
    """

    server: QuestionMetrics
    phone: QuestionMetrics | None = None
    difference: Difference | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the values of a split in `metrics.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnswerMetrics:
        """Returns the inverse of `as_dict`, also of what JSON made of it."""
        phone, difference = values.get("phone"), values.get("difference")
        return cls(
            QuestionMetrics.from_dict(values["server"]),
            None if phone is None else QuestionMetrics.from_dict(phone),
            None if difference is None else _difference_from(difference),
        )

    @property
    def by_place(self) -> dict[str, QuestionMetrics]:
        """The metrics by where the answers are given."""
        return {"server": self.server, **({"phone": self.phone} if self.phone is not None else {})}

    def as_text(self) -> str:
        """Returns aligned lines for a terminal."""
        from textclf.terminal.tables import text_table

        lines = [_line(place, metrics) for place, metrics in self.by_place.items()]
        header = ("answers", "exact match", "95% interval", "F1", "95% interval")
        parts = [f"{counted(self.server.count, 'question')}\n" + text_table(header, lines)]
        kinds = [
            (name, kind, scores)
            for name, metrics in self.by_place.items()
            for kind, scores in (("with an answer", metrics.has_answer), ("without an answer", metrics.no_answer))
            if scores is not None and metrics.has_answer is not None and metrics.no_answer is not None
        ]
        if kinds:
            rows = [(name, kind, f"{one.count:,}", *_shares(one)) for name, kind, one in kinds]
            parts.append(text_table(("answers", "questions", "number", "exact match", "F1"), rows, left_columns=2))
        if self.difference is not None:
            parts.append(self.difference_text())
        return "\n\n".join(parts)

    def difference_text(self) -> str:
        """Returns a sentence that says how much a phone loses."""
        found = self.difference
        assert found is not None
        low, high = (100 * bound for bound in found.f1_interval)
        return (
            f"Server minus phone: exact match {100 * found.exact_match:+.1f} points, F1 {100 * found.f1:+.1f} points (95% "
            f"confidence interval {low:+.1f} to {high:+.1f}). A phone reads one window, returns whole words and does "
            "not weigh answers against no answer."
        )


def _line(place: str, metrics: QuestionMetrics) -> tuple[str, ...]:
    return (
        f"as {'textclf on a server' if place == 'server' else 'a phone'}",
        f"{metrics.exact_match:.1%}",
        _interval(metrics.exact_match_interval),
        f"{metrics.f1:.1%}",
        _interval(metrics.f1_interval),
    )


def _shares(scores: AnswerScores) -> tuple[str, str]:
    return f"{scores.exact_match:.1%}", f"{scores.f1:.1%}"


def _interval(interval: Interval) -> str:
    return f"{interval[0]:.1%} – {interval[1]:.1%}"


def _difference_from(values: Mapping[str, Any]) -> Difference:
    intervals = {name: tuple(values[name]) for name in ("exact_match_interval", "f1_interval")}
    return Difference(**{**values, **intervals})


# --- Answers to a split ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class MeasuredAnswers:
    """A model's answers to the questions of a split, in their order, and how good they are."""

    metrics: AnswerMetrics
    server: list[Answer]
    phone: list[Answer] | None


def measure_answers(answerer: QuestionAnswerer, split: QuestionSplit) -> MeasuredAnswers:
    """Answers all questions of a split in both ways. Raises ModelError if the model's output is not a number."""
    server = answerer.answers(split.texts)
    phone = answerer.answers(split.texts, phone=True) if answerer.fits_phones else None
    golds = golds_of(split)
    return MeasuredAnswers(compared_metrics(server, phone, golds), server, phone)


def golds_of(split: QuestionSplit) -> list[list[str]]:
    """Returns the texts of all correct answers to each question."""
    return [[answer.text for answer in answers] for answers in split.answers]


def compared_metrics(
    server: Sequence[Answer], phone: Sequence[Answer] | None, golds: Sequence[Sequence[str]]
) -> AnswerMetrics:
    on_server = [answer.text for answer in server]
    measured = evaluate(on_server, golds)
    if phone is None:
        return AnswerMetrics(measured)
    on_phone = [answer.text for answer in phone]
    return AnswerMetrics(measured, evaluate(on_phone, golds), difference_of(on_phone, on_server, golds))


def difference_of(first: Sequence[str], second: Sequence[str], golds: Sequence[Sequence[str]]) -> Difference:
    """Returns the second answers' quality minus the first's. The intervals are those of paired bootstrap samples."""
    differences = question_scores(second, golds) - question_scores(first, golds)
    low, high = bootstrap_interval(differences, 0)
    match, f1 = differences.mean(axis=0).tolist()
    return Difference(match, f1, (low[0], high[0]), (low[1], high[1]))


def question_scores(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns the exact match and the F1 of each answer, float64 [questions, 2]."""
    pairs = zip(answers, golds, strict=True)
    return np.array([(exact_match(answer, own), token_f1(answer, own)) for answer, own in pairs], np.float64)


# --- A file ----------------------------------------------------------------------------------------------------------
@local_copies()
def evaluate_answers(
    model: str | Path,
    data: str | Path | Rows,
    *,
    question_column: str | None = None,
    context_column: str | None = None,
    answer_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    quiet: bool = True,
) -> AnswerMetrics:
    """Returns the quality of a model's answers to the questions of a SQuAD file (`.json`) or a table.

    A table is a file, an address or a table in memory, by default with the columns of the training. It may have
    the column `answer_start`. Questions without an answer count as answered correctly if the model gives none. Questions
    that cannot be used, for example because their answer is not in the context, are left out with a warning; a warning is
    logged for the file that the model was trained on, too. Raises DataError for data that cannot be read or used.
    """
    with QuestionAnswerer(model) as answerer:
        split = read_questions(
            answerer,
            data,
            question_column=question_column,
            context_column=context_column,
            answer_column=answer_column,
            delimiter=delimiter,
            encoding=encoding,
            sheet=sheet,
            columns=columns,
        )
        with Progress(quiet=quiet).during(f"Answering {counted(len(split.rows), 'question')}"):
            measured = measure_answers(answerer, split).metrics
        if isinstance(data, str | os.PathLike) and is_training_file(answerer.path, path_of(data)):
            logger.warning(
                "%s: the model was trained on this file, so the results are too optimistic; use questions that it has not "
                "seen",
                path_of(data),
            )
        return measured


def read_questions(
    answerer: QuestionAnswerer,
    data: str | Path | Rows,
    *,
    question_column: str | None = None,
    context_column: str | None = None,
    answer_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    arguments: Mapping[str, str] = MappingProxyType({}),
) -> QuestionSplit:
    """Returns the questions of a file or table as a split; the columns are by default those of the training.

    `arguments` are what messages call some settings (default: the arguments and options of `evaluate`). What of a file
    cannot be used is logged as a warning. Raises DataError for data that cannot be read or used.
    """
    settings = answerer.metadata.settings or {}
    named = {
        "question": question_column or answerer.question_column,
        "context": context_column or answerer.context_column,
        "answer": answer_column or settings.get("answer", "answer"),
    }
    path, reading = reading_settings(data, delimiter, encoding, sheet, columns)
    given = settings_of_arguments({**reading, **named}, {**_ARGUMENTS, **arguments})
    if len(set(named.values())) < len(named):
        raise ArgumentError(
            f"the question, the context and the answer are the columns {', '.join(named.values())}; name three columns"
        )
    frame = None
    if not isinstance(data, str | os.PathLike):
        texts = (named["question"], named["context"], named["answer"])
        frame = frame_table(data, "data", texts, None, "answer_start", "id")
    try:
        split, findings = load_question_file(given, path, frame)
    except DataError as error:
        # There is no recipe here whose settings could be changed.
        raise DataError(_SETTING.sub(lambda found: {**_ARGUMENTS, **arguments}[found[1]], str(error))) from error
    for finding in findings:
        if finding.severity == "warning" or finding.kind in _LEFT_OUT:
            logger.warning("%s", finding.message)
    return split


_SETTING = re.compile(r"\bdataset\.(question|context|answer|encoding|delimiter)\b(?!_)")

_ARGUMENTS = {
    "question": "question_column (--text)",
    "context": "context_column (--text)",
    "answer": "answer_column (--label)",
    **READING_ARGUMENTS,
}
"""What the settings of a recipe are called where there is none."""
