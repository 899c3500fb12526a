"""Question answering, a span of a context for each question, as a run asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textclf.data.examples import Dataset
from textclf.data.question_answering.dataset import load_questions
from textclf.data.tables.frames import Rows
from textclf.data.tokens.encoded import TextTokenizer
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.encoders.prepare_questions import PreparedQuestions, prepare_questions
from textclf.errors import ArgumentError
from textclf.recipe.settings import Recipe
from textclf.recipe.values import QUESTION_ANSWERING
from textclf.runs.tasks.question_answering.checking import QuestionCheckReport, check_questions
from textclf.runs.tasks.question_answering.record import AnsweringMetrics
from textclf.terminal.progress import Progress
from textclf.training.saved.run_folder import RunFolder

if TYPE_CHECKING:
    from textclf.classify.question_answering.evaluation import AnswerMetrics
    from textclf.exporting.report import VerificationReport
    from textclf.runs.comparison.answers import AnswerComparison
    from textclf.runs.tasks.question_answering.comparing import AnsweringMeasures
    from textclf.runs.tasks.question_answering.trained import FinishedAnswerer, JustTrained


class QuestionAnswering:
    """The `Task` of that name."""

    name = QUESTION_ANSWERING
    metrics = AnsweringMetrics
    read_dataset = staticmethod(load_questions)

    def check(self, recipe: Recipe, shown: str, dataset: Dataset, tokenizer: TextTokenizer) -> QuestionCheckReport:
        return check_questions(recipe, shown, dataset, tokenizer)

    def prepare_data(self, recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> PreparedQuestions:
        return prepare_questions(recipe, dataset, tokenizer)

    def train(
        self,
        recipe: Recipe,
        data: PreparedData,
        checkpoint: AnyEncoder,
        folder: RunFolder,
        progress: Progress,
        started: float,
    ) -> JustTrained:
        from textclf.runs.tasks.question_answering.engines import train_with_engine
        from textclf.runs.tasks.question_answering.trained import JustTrained

        questions, encoder = cast("PreparedQuestions", data), cast("EncoderCheckpoint", checkpoint)
        training = train_with_engine(recipe, questions, encoder, folder, progress, started)
        return JustTrained(recipe, questions, encoder, training)

    def finished_run(self, folder: Path, overrides: Sequence[str]) -> FinishedAnswerer:
        from textclf.exporting.question_answering.trained_run import load_trained_answerer
        from textclf.runs.tasks.question_answering.trained import FinishedAnswerer

        return FinishedAnswerer(load_trained_answerer(folder, overrides))

    def engine_measures(self) -> AnsweringMeasures:
        from textclf.runs.tasks.question_answering.comparing import AnsweringMeasures

        return AnsweringMeasures()

    def check_comparison(self, items: Sequence[Recipe | Path], data: Path | None) -> None:
        from textclf.runs.comparison.answers import check_comparison

        check_comparison(items, data)

    def compare_runs(self, folders: Sequence[Path], data: Path | None) -> AnswerComparison:
        from textclf.runs.comparison.answers import compare_runs

        return compare_runs(folders, data)

    def evaluate(
        self,
        model: Path,
        data: str | Path | Rows,
        *,
        text_columns: Sequence[str],
        label_column: str | None,
        delimiter: str | None,
        encoding: str,
        sheet: str | None,
        columns: Sequence[str],
        quiet: bool,
    ) -> AnswerMetrics:
        from textclf.classify.question_answering.evaluation import evaluate_answers

        if len(text_columns) == 1:
            raise ArgumentError(
                f"text_columns (--text) names only {text_columns[0]}; name two columns, first the question, then the context"
            )
        question, context = text_columns or (None, None)
        return evaluate_answers(
            model,
            data,
            question_column=question,
            context_column=context,
            answer_column=label_column,
            delimiter=delimiter,
            encoding=encoding,
            sheet=sheet,
            columns=columns,
            quiet=quiet,
        )

    def verify(
        self, model: Path, data: str | Path | Rows | None, *, run: str | Path | None, consumers: Sequence[str] | None
    ) -> VerificationReport:
        from textclf.exporting.question_answering.verify import verify_answers

        return verify_answers(model, data, run=run, consumers=consumers)
