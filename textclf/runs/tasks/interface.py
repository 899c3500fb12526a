"""What a run asks of its task, from the rows of the recipe to the files of the run folder.

`tasks.py` has the tasks that there are; `classification_task.py` is one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from textclf.data.examples import Dataset
from textclf.data.tables.frames import Rows
from textclf.data.tokens.encoded import TextTokenizer
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData, ReadDataset
from textclf.recipe.settings import Recipe
from textclf.runs.pages.writing import Pages
from textclf.runs.record.metrics_file import RunMetrics
from textclf.runs.tasks.check_report import CheckReport
from textclf.terminal.progress import Progress
from textclf.training.saved.run_folder import RunFolder

if TYPE_CHECKING:
    from textclf.exporting.report import VerificationReport
    from textclf.runs.comparison.measurement import EngineMeasures


@dataclass(frozen=True)
class Results:
    """The record of a run and what writes its pages."""

    metrics: RunMetrics
    pages: Pages


class TrainedModel(Protocol):
    """A model that was just trained, by whatever engine."""

    def conclude(self, folder: RunFolder, progress: Progress) -> Results:
        """Writes everything that a later export reads, then the model in the first form that passes its checks, and
        measures it."""

    def leave(self) -> None:
        """Removes what only the training needed."""


class FinishedRun(Protocol):
    """The trained weights of a finished run; `recipe` has the settings of the export that is asked for."""

    @property
    def recipe(self) -> Recipe: ...

    def content(self) -> bytes:
        """Returns the bytes of the model in the form of the recipe."""

    def compare(self, model: Path, report: VerificationReport) -> None:
        """Compares a file with the trained model on the held-out rows. The result, or a problem, goes into the report."""

    def onnx(self, report: VerificationReport) -> bytes:
        """Returns the bytes of the model as an ONNX file. The comparison with the trained model, or a problem, goes into the
        report."""

    def record(self, model: Path, report: VerificationReport) -> None:
        """Measures the run's new `model` and writes the run's metrics and pages again."""


class Evaluation(Protocol):
    """The quality of a model on the rows of a file. `FileMetrics` is that of text classification."""

    def as_dict(self) -> dict[str, Any]:
        """Returns all numbers."""


class ComparedRuns(Protocol):
    """The models of finished runs, measured on the same rows. `RunComparison` is that of text classification."""

    @property
    def warnings(self) -> Sequence[str]: ...

    def as_dict(self) -> dict[str, Any]:
        """Returns all numbers."""

    def as_text(self) -> str:
        """Returns lines for a terminal."""

    def write(self, folder: Path, json: str) -> None:
        """Writes comparison.md, comparison.json with the text `json`, and disagreements.csv."""


class Task(Protocol):
    """The pieces of a task. What needs TensorFlow is imported when it is called."""

    @property
    def name(self) -> str:
        """Its name in recipes and models."""

    @property
    def metrics(self) -> type[RunMetrics]:
        """The record of a run of this task."""

    @property
    def read_dataset(self) -> ReadDataset: ...

    def check(self, recipe: Recipe, shown: str, dataset: Dataset, tokenizer: TextTokenizer) -> CheckReport:
        """Describes the data, with findings about their tokens; `shown` is the recipe's name for people.

        Raises the errors that training would raise about settings that do not fit the rows.
        """

    def prepare_data(self, recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> PreparedData:
        """Returns the dataset with every split as token ids; the recipe has a number as its length."""

    def train(
        self,
        recipe: Recipe,
        data: PreparedData,
        checkpoint: AnyEncoder,
        folder: RunFolder,
        progress: Progress,
        started: float,
    ) -> TrainedModel:
        """Trains as the recipe says. `started` is the time.monotonic() at the start of the command."""

    def finished_run(self, folder: Path, overrides: Sequence[str]) -> FinishedRun:
        """Reads a finished run; `overrides` change the section export of its recipe. Raises RunError and RecipeError."""

    def engine_measures(self) -> EngineMeasures | None:
        """Returns what measures the task when one recipe is trained with several engines; None: it has only one."""

    def check_comparison(self, items: Sequence[Recipe | Path], data: Path | None) -> None:
        """Raises the errors of `compare_runs` that can be found before the recipes among the items are trained: about runs, and
        about rows, all of which are read."""

    def compare_runs(self, folders: Sequence[Path], data: Path | None) -> ComparedRuns:
        """Measures the models of finished runs on the same rows: those of the file `data`, or of the first run's test
        split (of its validation split, if it has no test split)."""

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
    ) -> Evaluation:
        """Does what `textclf.runs.evaluate.evaluate` does."""

    def verify(
        self, model: Path, data: str | Path | Rows | None, *, run: str | Path | None, consumers: Sequence[str] | None
    ) -> VerificationReport:
        """Does what `textclf.verify` does."""
