"""Measures the models of finished runs on the same rows: which model is better, and is the difference significant?

The models run on LiteRT, so no TensorFlow is needed. A comparison is fair only on rows that no run, or every run, was
trained on. Therefore the data files of each run are read again; their hashes must be those in its metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.metrics import evaluate
from textclf.data.dataset import load_dataset, load_examples
from textclf.data.examples import Dataset, Split
from textclf.data.findings.finding import named
from textclf.data.tokens.row_keys import Reading
from textclf.encoders.prepare import ReadDataset, load_recipe_data, reading_of
from textclf.encoders.sources.builtin import is_builtin
from textclf.errors import ArgumentError, DataError, RunError, TextclfError
from textclf.files.copies import local_copies
from textclf.files.data_files import data_files, sha256_of
from textclf.files.locations import Location
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import DatasetSettings, Recipe
from textclf.runs.comparison.fairness import overlap_of
from textclf.runs.comparison.result import (
    ComparedModel,
    Disagreement,
    RunComparison,
    difference_of,
    one_line,
)
from textclf.runs.record.metrics_file import RunMetrics


@dataclass(frozen=True)
class FinishedRun:
    """A run's model, its recipe and its metrics."""

    name: str
    recipe: Recipe
    metrics: RunMetrics
    classifier: Classifier

    @property
    def reading(self) -> Reading:
        """The way its model reads rows; it cannot distinguish rows that it reads as equal."""
        return reading_of(self.recipe, self.classifier.tokenizer)

    def dataset(self, read: ReadDataset) -> Dataset:
        """The rows that it was trained and measured on, with the same split; `read` is the reader of its task.

        Raises DataError if a data file is missing or has changed.
        """
        require_unchanged(self.name, self.recipe, self.metrics)
        _, dataset = load_recipe_data(self.recipe, self.classifier.tokenizer, read=read)
        return dataset


class Contender(NamedTuple):
    """What is compared: a run, or a recipe before its training, with the labels of its model."""

    name: str
    recipe: Recipe
    labels: Sequence[str]


LabelledRows: TypeAlias = Callable[[DatasetSettings, Sequence[str], Path], Split]
"""Takes the columns of a recipe, the labels of its model and a file, and returns the rows of the file."""


class ComparedRows(NamedTuple):
    """The rows on which runs are compared, what they are in words, and warnings."""

    split: Split
    description: str
    warnings: list[str]


def require_unchanged(name: str, recipe: Recipe, metrics: RunMetrics) -> None:
    """Raises DataError if a data file of the run `name` is missing or has changed."""
    recorded = {(Path(file).name, digest) for file, digest in metrics.files.items()}
    settings = recipe.dataset
    for path in (path for split in (settings.train, settings.validation, settings.test) for path in data_files(split)):
        if not isinstance(path, Location) and not path.exists():
            raise DataError(f"{path}: the data file of the run {name} is missing")
        if (path.name, sha256_of(path)) not in recorded:
            raise DataError(f"{path}: the file has changed since the run {name} was trained on it")


@local_copies()
def compare_runs(folders: Sequence[Path], data: Path | None = None) -> RunComparison:
    """Measures the models of finished runs on the same rows.

    The rows are those of the first run's test split (or of its validation split, if it has no test split), or those of the
    file `data`, which needs the columns of the first run's recipe. Rows that only some of the runs were trained on are
    left out. Raises RunError for runs with different labels or columns and if no row is left, DataError for data that
    cannot be read or has changed, and ModelError for a run without a model.
    """
    with ExitStack() as stack:
        runs = open_runs(folders, stack)
        return _compare(runs, *rows_to_compare(runs, data, load_dataset, _labelled_rows))


def rows_to_compare(
    runs: Sequence[FinishedRun],
    data: Path | None,
    read: ReadDataset,
    labelled_rows: LabelledRows,
) -> ComparedRows:
    """Returns the rows on which `compare_runs` measures. `read` and `labelled_rows` are those of the task: they read the rows
    of a recipe and those of a file."""
    datasets, warnings = _datasets(runs, read, needed=data is None)
    warnings += _warnings_about_encoders(runs)
    first = runs[0]
    if data is None:
        measured = _first_split(datasets[0])
        warnings += _warnings_about_splits(runs, datasets, measured)
    else:
        measured = labelled_rows(first.recipe.dataset, first.classifier.labels, data)
    kept, found = _fair_rows(runs, datasets, measured)
    description = _description(measured, kept, runs[0].name if data is None else None)
    return ComparedRows(_selected(measured, kept), description, [*warnings, *found])


def check_comparison(items: Sequence[Recipe | Path], data: Path | None) -> None:
    """Raises the errors of `compare_runs` that can be found before the recipes among the items are trained."""
    check_before_training(items, data, load_dataset, _labelled_rows)


@local_copies()
def check_before_training(
    items: Sequence[Recipe | Path], data: Path | None, read: ReadDataset, labelled_rows: LabelledRows
) -> None:
    """Does what `check_comparison` does. `read` and `labelled_rows` are those of `rows_to_compare`.

    All rows are read: those of each recipe, and those that will be measured.
    """
    with ExitStack() as stack:
        runs = iter(open_runs([item for item in items if not isinstance(item, Recipe)], stack))
        contenders = []
        for item in items:
            if isinstance(item, Recipe):
                recipe, dataset = load_recipe_data(item, read=read)
                contenders.append(Contender(item.name, recipe, dataset.labels))
                continue
            run = next(runs)
            if data is None and not contenders:
                _datasets([run], read, needed=True)
            contenders.append(_contender(run))
        _check_comparable(contenders)
        if data is not None:
            labelled_rows(contenders[0].recipe.dataset, contenders[0].labels, data)


def _contender(run: FinishedRun) -> Contender:
    return Contender(run.name, run.recipe, run.classifier.labels)


# --- The runs --------------------------------------------------------------------------------------------------------
def open_runs(folders: Sequence[Path], stack: ExitStack) -> list[FinishedRun]:
    """The runs with their models. The stack closes the models."""
    runs = [
        FinishedRun(
            name=name,
            metrics=RunMetrics.read(folder),
            classifier=stack.enter_context(Classifier(folder)),
            recipe=load_recipe(folder / "recipe.yaml"),
        )
        for folder, name in zip(folders, unique_names(folders), strict=True)
    ]
    _check_comparable([_contender(run) for run in runs])
    return runs


def unique_names(folders: Sequence[Path]) -> list[str]:
    """The names of the folders, with as many parent folders as make them different. Raises ArgumentError for a folder
    that is given twice."""
    places = [folder.resolve() for folder in folders]
    names: list[str] = []
    for index, place in enumerate(places):
        if place in places[:index]:
            raise ArgumentError(f"{folders[index]}: this run is given twice; give each run once")
    for depth in range(1, max((len(place.parts) for place in places), default=0) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return names


def _check_comparable(contenders: Sequence[Contender]) -> None:
    for other in contenders[1:]:
        first = contenders[0]
        ours, theirs = first.labels, other.labels
        if set(ours) != set(theirs):
            only = [
                f"only {run.name} has {named(sorted(more))}"
                for run, more in ((first, set(ours) - set(theirs)), (other, set(theirs) - set(ours)))
                if more
            ]
            raise RunError(
                f"{other.name}: its labels differ from those of {first.name}: {'; '.join(only)}; compare runs with the same "
                "labels, or set dataset.labels in both recipes and train again"
            )
        if first.recipe.dataset.text != other.recipe.dataset.text:
            columns = [" and ".join(run.recipe.dataset.text) for run in (other, first)]
            raise RunError(
                f"{other.name}: reads the column {columns[0]}, but {first.name} reads {columns[1]}; compare runs with the "
                "same dataset.text"
            )


def _datasets(
    runs: Sequence[FinishedRun], read: ReadDataset, *, needed: bool
) -> tuple[list[Dataset | None], list[str]]:
    """The data of each run, and warnings about data that cannot be read and is None. It is an error if the rows of the
    first run are `needed`."""
    datasets: list[Dataset | None] = []
    warnings = []
    for run in runs:
        try:
            datasets.append(run.dataset(read))
        except TextclfError as error:
            if needed and run is runs[0]:
                raise DataError(
                    f"{error}; restore the file, or measure on other labelled rows with data= (--data FILE)"
                ) from error
            datasets.append(None)
            warnings.append(
                f"{error}. Some of the measured rows may be its training rows, which would make the comparison unfair; "
                "restore the file, or measure on rows that no run was trained on"
            )
    return datasets, warnings


def _warnings_about_encoders(runs: Sequence[FinishedRun]) -> list[str]:
    """Runs that name the same built-in encoder can have begun with different weights, those of their version of textclf."""
    first, *others = [run.metrics.encoder for run in runs]
    return [
        f"the built-in encoder changed between {runs[0].name} (SHA-256 {first.sha256[:8]}…) and {run.name} (SHA-256 "
        f"{other.sha256[:8]}…), although both recipes name `{first.source}`, so the runs differ in more than their recipes"
        for run, other in zip(runs[1:], others, strict=True)
        if is_builtin(first.source) and other.source == first.source and other.sha256 != first.sha256
    ]


# --- The rows --------------------------------------------------------------------------------------------------------
def _first_split(dataset: Dataset | None) -> Split:
    assert dataset is not None, "the data of the first run is needed"
    return dataset.test or dataset.validation


def _labelled_rows(settings: DatasetSettings, labels: Sequence[str], data: Path) -> Split:
    """All rows of a file that have a text."""
    examples = load_examples(settings, data)
    index_of = {label: index for index, label in enumerate(labels)}
    if unknown := sorted(set(examples.labels) - index_of.keys()):
        raise DataError(
            f"{data}: has labels that the runs do not have: {named(unknown)}; correct or remove these rows. The labels of the "
            f"runs are {named(labels)}"
        )
    truth = np.array([index_of[label] for label in examples.labels], np.int32)
    return Split("data", examples.texts, truth, examples.rows, data)


def _description(split: Split, kept: np.ndarray, run: str | None) -> str:
    used = f"{len(kept):,}" if kept.all() else f"{int(kept.sum()):,} of {len(kept):,}"
    return f"{used} rows of {split.file.name}" + (f", the {split.name} split of {run}" if run is not None else "")


def _warnings_about_splits(
    runs: Sequence[FinishedRun], datasets: Sequence[Dataset | None], measured: Split
) -> list[str]:
    warnings = []
    if measured.name == "validation":
        warnings.append(
            f"{runs[0].name} has no test split. Its validation rows also chose its best epoch, so its results on them are "
            "slightly optimistic; set dataset.test, or measure on other labelled rows with data= (--data FILE)"
        )
    for run, dataset in zip(runs[1:], datasets[1:], strict=True):
        if dataset is not None and sorted(_first_split(dataset).texts) != sorted(measured.texts):
            warnings.append(
                f"{run.name} was measured on different rows after its training (its own {_first_split(dataset).name} split), so "
                "its results here differ from those in its report"
            )
    return warnings


def _fair_rows(
    runs: Sequence[FinishedRun], datasets: Sequence[Dataset | None], measured: Split
) -> tuple[np.ndarray, list[str]]:
    """Which of the measured rows are used, bool [rows], and warnings about the others."""
    rows = len(measured.rows)
    trained_on = {
        run.name: _rows_trained_on(run, dataset, measured)
        for run, dataset in zip(runs, datasets, strict=True)
        if dataset is not None
    }
    unfair, by_all, whose = overlap_of(trained_on, rows)
    warnings = []
    if unfair.any():
        what = f"{int(unfair.sum()):,} of {rows:,} rows are training rows of {whose}, but not of every run"
        if unfair.all():
            raise RunError(
                f"{what}, so no row is left for a fair comparison; train all runs on the same split, or measure on "
                "labelled rows that no run was trained on with data= (--data FILE)"
            )
        warnings.append(
            f"{what}. They are left out, because they would make the comparison unfair; to use all rows, train all runs on "
            "the same split"
        )
    if by_all.any():
        warnings.append(
            f"{int(by_all.sum()):,} of {rows:,} rows are training rows of every run, so the accuracies are too high; "
            "measure on rows that no run was trained on"
        )
    return ~unfair, warnings


def _rows_trained_on(run: FinishedRun, dataset: Dataset, measured: Split) -> np.ndarray:
    """Which of the measured rows the run's model reads as equal to one of its training rows, bool [rows]."""
    reading = run.reading
    training = set(reading(dataset.train.texts).keys)
    return np.array([key in training for key in reading(measured.texts).keys], bool)


def _selected(split: Split, kept: np.ndarray) -> Split:
    numbers = np.flatnonzero(kept).tolist()
    return Split(
        split.name, [split.texts[i] for i in numbers], split.labels[kept], [split.rows[i] for i in numbers], split.file
    )


# --- The comparison --------------------------------------------------------------------------------------------------
def _compare(runs: Sequence[FinishedRun], split: Split, measured_on: str, warnings: list[str]) -> RunComparison:
    labels = runs[0].classifier.labels
    models, given = [], []
    for run in runs:
        order = [run.classifier.labels.index(label) for label in labels]
        probabilities = run.classifier.probabilities(split.texts)[:, order]
        given.append(probabilities.argmax(axis=1))
        models.append(
            ComparedModel(
                name=run.name,
                metrics=evaluate(probabilities, split.labels, labels),
                bytes=run.classifier.path.stat().st_size,
                encoder=run.metrics.encoder.source,
                training_rows=run.metrics.rows["train"],
            )
        )
    pairs = [
        difference_of(models[0], model, (given[0], theirs), split.labels)
        for model, theirs in zip(models[1:], given[1:], strict=True)
    ]
    answers = np.stack(given, axis=1)
    disagreements = [
        Disagreement(
            row=split.rows[index],
            text=one_line(split.texts[index]),
            label=labels[split.labels[index]],
            given=tuple(labels[label] for label in answers[index]),
        )
        for index in np.flatnonzero((answers != answers[:, :1]).any(axis=1)).tolist()
    ]
    return RunComparison(measured_on, len(split.rows), warnings, models, pairs, disagreements)
