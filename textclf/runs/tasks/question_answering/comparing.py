"""What a comparison of engines asks of question answering: the files of a split, the results of a run, and the timed model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.data.examples import Dataset, Split
from textclf.data.question_answering.questions import QuestionSplit
from textclf.recipe.settings import QUESTION_ANSWERING_DEFAULTS, Recipe
from textclf.runs.comparison.measurement import Common, Measurement
from textclf.runs.tasks.question_answering.record import AnsweringMetrics

_TIMED_QUESTIONS = 300
"""More questions would take minutes at 384 tokens and hardly change the rate."""

_OF_TABLES = ("question", "context", "answer", "answer_start", "id", "delimiter", "sheet", "columns")


@dataclass(frozen=True, kw_only=True)
class AnswererMeasurement(Measurement):
    """A training of a question answerer. The results are by where the answers are given; None: phones cannot use the model.

    The export changed `changed_answers` of the answers to `compared_questions` questions.
    """

    predictions = "answers"
    command = "answer"
    unit = "questions"

    f1: float
    exact_match: float
    phone_f1: float | None
    phone_exact_match: float | None
    changed_answers: int
    compared_questions: int

    @property
    def scores(self) -> Mapping[str, float | None]:
        return {
            "F1 on a server": self.f1,
            "exact match on a server": self.exact_match,
            "F1 on a phone": self.phone_f1,
            "exact match on a phone": self.phone_exact_match,
        }

    @property
    def changed(self) -> tuple[int, int]:
        return self.changed_answers, self.compared_questions


class AnsweringMeasures:
    """The `EngineMeasures` of question answering."""

    def write_split(self, recipe: Recipe, dataset: Dataset, folder: Path) -> dict[str, Any]:
        defaults = QUESTION_ANSWERING_DEFAULTS["dataset"]
        settings: dict[str, Any] = {"test": None, "encoding": "utf-8", **{key: defaults.get(key) for key in _OF_TABLES}}
        for split in dataset.splits:
            settings[split.name] = (folder / f"{split.name}.json").absolute()
            settings[split.name].write_text(_squad(cast("QuestionSplit", split)), encoding="utf-8")
        return settings

    def measurement(self, run: Path, common: Common) -> Measurement:
        metrics = AnsweringMetrics.read(run)
        scores, export = metrics.test or metrics.validation, metrics.export
        assert export.changed_answers is not None
        assert export.questions is not None
        phone = scores.phone
        return AnswererMeasurement(
            **common,
            f1=scores.server.f1,
            exact_match=scores.server.exact_match,
            phone_f1=None if phone is None else phone.f1,
            phone_exact_match=None if phone is None else phone.exact_match,
            changed_answers=export.changed_answers,
            compared_questions=export.questions,
        )

    @contextmanager
    def open(self, model: Path, split: Split) -> Iterator[_TimedAnswerer]:
        with QuestionAnswerer(model, num_threads=1) as answerer:
            yield _TimedAnswerer(answerer, split)


@dataclass(frozen=True)
class _TimedAnswerer:
    answerer: QuestionAnswerer
    split: Split

    def at_full_length(self, row: int) -> int:
        return len(self.answerer.logits_at_full_length([self.split.texts[row]]))

    def predict(self) -> int:
        asked = self.split.texts[:_TIMED_QUESTIONS]
        self.answerer.answers(asked)
        return len(asked)


def _squad(split: QuestionSplit) -> str:
    """The questions in the form of SQuAD 2.0, in their order, with all answers. Characters beyond ASCII are escaped, so that
    halves of characters can be written too."""
    paragraphs = []
    for name, (question, context), answers in zip(split.ids, split.texts, split.answers, strict=True):
        given = [{"text": answer.text, "answer_start": answer.start} for answer in answers]
        asked = {"id": name, "question": question, "answers": given, "is_impossible": not given}
        paragraphs.append({"context": context, "qas": [asked]})
    return json.dumps({"version": "v2.0", "data": [{"title": split.name, "paragraphs": paragraphs}]})
