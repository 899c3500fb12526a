"""What `textclf check` reports about questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding, percent
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.question_answering.window_findings import window_findings
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.spans import Windows
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare_questions import require_question_head, windows_of
from textclf.model_maker.question_answering.data_checks import check_questions_for_model_maker
from textclf.recipe.settings import Recipe
from textclf.runs.tasks.check_report import CheckReport

ANSWERABLE, NOT_ANSWERABLE = "answerable", "not answerable"


@dataclass(frozen=True)
class QuestionCounts:
    """Numbers of a split. `long_contexts` are questions whose context needs more than one window."""

    questions: int
    answerable: int
    answers: int
    contexts: int
    windows: int
    long_contexts: int


@dataclass(frozen=True)
class QuestionCheckReport(CheckReport):
    """A check of questions about contexts. `labels` is empty; `rows` counts answerable and other questions of each split,
    `questions` has all numbers. `max_length` is the length of a window in tokens."""

    questions: dict[str, QuestionCounts]
    max_length: int

    def facts(self) -> Sequence[tuple[str, str]]:
        return (("Questions", self.split_sizes()), ("Contexts", self._by_split("contexts")))

    def data_lines(self) -> list[str]:
        answerable = ", ".join(
            f"{one.answerable:,} {split} ({percent(one.answerable / max(one.questions, 1))})"
            for split, one in self.questions.items()
        )
        return [
            f"Questions: {self.split_sizes()}",
            f"With an answer: {answerable}",
            f"Answers: {self._by_split('answers')}",
            f"Contexts: {self._by_split('contexts')}",
            f"Windows of {self.max_length} tokens: {self._by_split('windows')}",
            f"Questions with several windows: {self._by_split('long_contexts')}",
        ]

    def _by_split(self, number: str) -> str:
        return ", ".join(f"{getattr(one, number):,} {split}" for split, one in self.questions.items())


def check_questions(recipe: Recipe, shown: str, dataset: Dataset, tokenizer: TextTokenizer) -> QuestionCheckReport:
    """Describes the questions of a dataset, with findings about their tokens and windows.

    Raises RecipeError for a training without epochs of an encoder without a head for questions. Only for it the weights are
    read.
    """
    if not recipe.training.epoch_count:
        require_question_head(kind_of(recipe).load(recipe.encoder, dataset))
    windows = windows_of(recipe, dataset, tokenizer)
    splits = cast("list[QuestionSplit]", dataset.splits)
    questions = {split.name: _counts(split, windows[split.name]) for split in splits}
    rows = {
        name: {ANSWERABLE: one.answerable, NOT_ANSWERABLE: one.questions - one.answerable}
        for name, one in questions.items()
    }
    findings = [*dataset.findings, *window_findings(dataset, windows, tokenizer, recipe.encoder.source)]
    if recipe.training.engine == "model-maker":
        train = cast("QuestionSplit", dataset.train)
        told = check_questions_for_model_maker(recipe, train, len(windows["train"]), tokenizer.vocabulary)
        findings += [Finding("model_maker", text, len(train.rows), severity="note") for text in told]
    return QuestionCheckReport(recipe.name, shown, [], rows, findings, questions, recipe.encoder.fixed_length)


def _counts(split: QuestionSplit, windows: Windows) -> QuestionCounts:
    several = len(set(windows.rows[windows.first_piece > 0].tolist()))
    return QuestionCounts(
        questions=len(split.rows),
        answerable=sum(map(bool, split.answers)),
        answers=sum(map(len, split.answers)),
        contexts=len(set(split.contexts)),
        windows=len(windows),
        long_contexts=several,
    )
