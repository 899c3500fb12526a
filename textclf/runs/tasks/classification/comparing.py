"""What a comparison of engines asks of text classification: the files of a split, the results of a run, and the timed model."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textclf.classify.classifier import Classifier
from textclf.data.examples import Dataset, Split
from textclf.recipe.settings import Recipe
from textclf.runs.comparison.measurement import Common, Measurement
from textclf.runs.tasks.classification.record import ClassificationMetrics


@dataclass(frozen=True, kw_only=True)
class ClassifierMeasurement(Measurement):
    """A training of a classifier. The export changed the predictions for `changed_labels` of `compared_rows` rows."""

    predictions = "labels"
    command = "classify"
    unit = "rows"

    accuracy: float
    macro_f1: float
    changed_labels: int
    compared_rows: int

    @property
    def scores(self) -> Mapping[str, float | None]:
        return {"accuracy": self.accuracy, "macro-F1": self.macro_f1}

    @property
    def changed(self) -> tuple[int, int]:
        return self.changed_labels, self.compared_rows


class ClassificationMeasures:
    """The `EngineMeasures` of text classification."""

    def write_split(self, recipe: Recipe, dataset: Dataset, folder: Path) -> dict[str, Any]:
        settings: dict[str, Any] = {"test": None}
        for split in dataset.splits:
            file = (folder / f"{split.name}.csv").absolute()
            settings[split.name] = file
            with file.open("w", encoding="utf-8", newline="") as opened:
                writer = csv.writer(opened)
                writer.writerow([*recipe.dataset.text, recipe.dataset.label])
                writer.writerows(
                    [*texts, dataset.labels[label]] for texts, label in zip(split.texts, split.labels, strict=True)
                )
        read_as = {"delimiter": ",", "encoding": "utf-8", "sheet": None, "columns": None}
        return {**settings, **read_as, "labels": tuple(dataset.labels)}

    def measurement(self, run: Path, common: Common) -> Measurement:
        metrics = ClassificationMetrics.read(run)
        scores, export = metrics.test or metrics.validation, metrics.export
        assert export.changed_labels is not None
        assert export.rows is not None
        return ClassifierMeasurement(
            **common,
            accuracy=scores.accuracy,
            macro_f1=scores.macro_f1,
            changed_labels=export.changed_labels,
            compared_rows=export.rows,
        )

    @contextmanager
    def open(self, model: Path, split: Split) -> Iterator[_TimedClassifier]:
        with Classifier(model, num_threads=1) as classifier:
            yield _TimedClassifier(classifier, split)


@dataclass(frozen=True)
class _TimedClassifier:
    classifier: Classifier
    split: Split

    def at_full_length(self, row: int) -> int:
        self.classifier.probabilities_at_full_length([self.split.texts[row]])
        return 1

    def predict(self) -> int:
        self.classifier.probabilities(self.split.texts)
        return len(self.split.texts)
