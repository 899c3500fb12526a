"""Question answering, a span of a context for each question, as a run asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from textclf.data.examples import Dataset
from textclf.data.question_answering.dataset import load_questions
from textclf.data.tables.frames import Rows
from textclf.data.tokens.encoded import TextTokenizer
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.errors import TextclfError
from textclf.recipe.settings import Recipe
from textclf.runs.question_answering.checking import QuestionCheckReport, check_questions
from textclf.runs.record.metrics_file import RunMetrics
from textclf.terminal.progress import Progress
from textclf.training.saved.run_folder import RunFolder

if TYPE_CHECKING:
    from textclf.exporting.verify import VerificationReport
    from textclf.runs.tasks.interface import FinishedRun, TrainedModel


class QuestionAnswering:
    """The `Task` of that name."""

    metrics = RunMetrics
    read_dataset = staticmethod(load_questions)

    def check(self, recipe: Recipe, shown: str, dataset: Dataset, tokenizer: TextTokenizer) -> QuestionCheckReport:
        return check_questions(recipe, shown, dataset, tokenizer)

    def train(
        self,
        recipe: Recipe,
        data: PreparedData,
        checkpoint: AnyEncoder,
        folder: RunFolder,
        progress: Progress,
        started: float,
    ) -> TrainedModel:
        _refuse()

    def finished_run(self, folder: Path, overrides: Sequence[str]) -> FinishedRun:
        _refuse()

    def verify(
        self, model: Path, data: str | Path | Rows | None, *, run: str | Path | None, consumers: Sequence[str] | None
    ) -> VerificationReport:
        _refuse()


def _refuse() -> NoReturn:
    raise TextclfError("this version of textclf checks the data of question-answering, but cannot train it yet")
