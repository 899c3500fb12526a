"""Text classification, one label for each text, as a run asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding
from textclf.data.tables.frames import Rows
from textclf.data.tokens.encoded import TextTokenizer
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData, findings_of_tokens, prepare_data
from textclf.model_maker.classification.data_checks import check_data
from textclf.recipe.settings import Recipe
from textclf.runs.tasks.check_report import CheckReport
from textclf.runs.tasks.classification.record import ClassificationMetrics
from textclf.terminal.progress import Progress
from textclf.training.classification.class_weights import label_weights
from textclf.training.saved.run_folder import RunFolder

if TYPE_CHECKING:
    from textclf.classify.tables.job import FileMetrics
    from textclf.exporting.report import VerificationReport
    from textclf.runs.comparison.result import RunComparison
    from textclf.runs.tasks.classification.comparing import ClassificationMeasures
    from textclf.runs.tasks.classification.trained import FinishedClassifier, TrainedClassifier


class TextClassification:
    """The `Task` of that name."""

    name = "text-classification"
    metrics = ClassificationMetrics
    read_dataset = staticmethod(load_dataset)

    def check(self, recipe: Recipe, shown: str, dataset: Dataset, tokenizer: TextTokenizer) -> CheckReport:
        """Raises RecipeError for class weights that do not fit the labels."""
        row_counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels))
        label_weights(recipe.training.class_weights, dataset.labels, row_counts)
        findings = [*dataset.findings, *findings_of_tokens(recipe, dataset, tokenizer)]
        if recipe.training.engine == "model-maker":
            told = check_data(recipe, dataset, tokenizer.vocabulary)
            findings += [Finding("model_maker", text, len(dataset.train.rows), severity="note") for text in told]
        rows = {}
        for split in dataset.splits:
            counts = Counter(split.labels.tolist())
            rows[split.name] = {label: counts[index] for index, label in enumerate(dataset.labels)}
        return CheckReport(recipe.name, shown, list(dataset.labels), rows, findings)

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
    ) -> TrainedClassifier:
        from textclf.runs.tasks.classification.engines import train_with_engine
        from textclf.runs.tasks.classification.trained import TrainedClassifier

        training = train_with_engine(recipe, data, checkpoint, folder, progress, started)
        return TrainedClassifier(recipe, data.dataset, checkpoint, training)

    def finished_run(self, folder: Path, overrides: Sequence[str]) -> FinishedClassifier:
        from textclf.exporting.trained_run import load_trained_run
        from textclf.runs.tasks.classification.trained import FinishedClassifier

        return FinishedClassifier(load_trained_run(folder, overrides))

    def engine_measures(self) -> ClassificationMeasures:
        from textclf.runs.tasks.classification.comparing import ClassificationMeasures

        return ClassificationMeasures()

    def check_comparison(self, items: Sequence[Recipe | Path], data: Path | None) -> None:
        from textclf.runs.comparison.runs import check_comparison

        check_comparison(items, data)

    def compare_runs(self, folders: Sequence[Path], data: Path | None) -> RunComparison:
        from textclf.runs.comparison.runs import compare_runs

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
    ) -> FileMetrics:
        from textclf.classify.tables.job import evaluate_file

        return evaluate_file(
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
        from textclf.exporting.classification.verify import verify_model

        return verify_model(model, data, run=run, consumers=consumers)
