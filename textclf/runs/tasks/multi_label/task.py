"""Text classification with any number of labels for each text, as a run asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textclf.data.examples import Dataset
from textclf.data.multi_label.dataset import load_label_sets
from textclf.data.tables.frames import Rows
from textclf.data.tokens.encoded import TextTokenizer
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData, prepare_data
from textclf.recipe.settings import Recipe
from textclf.recipe.values import MULTI_LABEL
from textclf.runs.tasks.multi_label.checking import LabelSetCheckReport, check_label_sets
from textclf.runs.tasks.multi_label.record import LabelSetRunMetrics
from textclf.terminal.progress import Progress
from textclf.training.saved.run_folder import RunFolder

if TYPE_CHECKING:
    from textclf.classify.multi_label.metrics import LabelSetMetrics
    from textclf.exporting.report import VerificationReport
    from textclf.runs.comparison.label_sets import LabelSetComparison
    from textclf.runs.tasks.multi_label.trained import FinishedLabelSets, JustTrained


class MultiLabelClassification:
    """The `Task` of that name."""

    name = MULTI_LABEL
    metrics = LabelSetRunMetrics
    read_dataset = staticmethod(load_label_sets)

    def check(self, recipe: Recipe, shown: str, dataset: Dataset, tokenizer: TextTokenizer) -> LabelSetCheckReport:
        return check_label_sets(recipe, shown, dataset, tokenizer)

    def prepare_data(self, recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> PreparedData:
        return prepare_data(recipe, dataset, tokenizer)

    def train(
        self,
        recipe: Recipe,
        data: PreparedData,
        checkpoint: AnyEncoder,
        folder: RunFolder,
        progress: Progress,
        started: float,
    ) -> JustTrained:
        from textclf.runs.tasks.multi_label.trained import JustTrained
        from textclf.training.loop import fit
        from textclf.training.multi_label.task import MultiLabel

        fitted = fit(recipe, data, checkpoint, folder, progress, started, task=MultiLabel)
        return JustTrained(recipe, data, checkpoint, fitted)

    def finished_run(self, folder: Path, overrides: Sequence[str]) -> FinishedLabelSets:
        from textclf.exporting.multi_label.trained_run import load_trained_label_sets
        from textclf.runs.tasks.multi_label.trained import FinishedLabelSets

        return FinishedLabelSets(load_trained_label_sets(folder, overrides))

    def engine_measures(self) -> None:
        return None

    def check_comparison(self, items: Sequence[Recipe | Path], data: Path | None) -> None:
        from textclf.runs.comparison.label_sets import check_comparison

        check_comparison(items, data)

    def compare_runs(self, folders: Sequence[Path], data: Path | None) -> LabelSetComparison:
        from textclf.runs.comparison.label_sets import compare_runs

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
    ) -> LabelSetMetrics:
        from textclf.classify.multi_label.evaluation import evaluate_label_sets

        return evaluate_label_sets(
            model,
            data,
            text_columns=text_columns,
            label_column=label_column,
            delimiter=delimiter,
            encoding=encoding,
            sheet=sheet,
            columns=columns,
            quiet=quiet,
        )

    def verify(
        self, model: Path, data: str | Path | Rows | None, *, run: str | Path | None, consumers: Sequence[str] | None
    ) -> VerificationReport:
        from textclf.exporting.multi_label.verify import verify_label_set_model

        return verify_label_set_model(model, data, run=run, consumers=consumers)
