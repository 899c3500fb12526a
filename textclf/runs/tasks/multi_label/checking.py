"""What `textclf check` reports about rows with several labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from textclf.data.examples import Dataset, Split
from textclf.data.findings.finding import percent
from textclf.data.tokens.encoded import TextTokenizer
from textclf.encoders.prepare import findings_of_tokens
from textclf.recipe.settings import Recipe
from textclf.runs.tasks.check_report import CheckReport
from textclf.training.multi_label.weights import side_weights


@dataclass(frozen=True)
class LabelSetCounts:
    """Numbers of a split: of rows, of rows without a label and with two or more, and the mean number of labels of a row."""

    rows: int
    without_label: int
    several: int
    labels_per_row: float


@dataclass(frozen=True)
class LabelSetCheckReport(CheckReport):
    """A check of rows with several labels. `rows` counts, by split, the rows that have each label; `sets` are numbers of rows
    by split."""

    sets: dict[str, LabelSetCounts]

    def facts(self) -> Sequence[tuple[str, str]]:
        return (*super().facts(), ("Labels per row", self._by_split(lambda one: f"{one.labels_per_row:.2f}")))

    def split_sizes(self) -> str:
        return self._by_split(lambda one: f"{one.rows:,}")

    def data_lines(self) -> list[str]:
        first, *labels = super().data_lines()
        return [
            first,
            f"Labels per row: {self._by_split(lambda one: f'{one.labels_per_row:.2f}')}",
            f"Rows without a label: {self._by_split(lambda one: self._share(one.without_label, one))}",
            f"Rows with two labels or more: {self._by_split(lambda one: self._share(one.several, one))}",
            *labels,
        ]

    def _by_split(self, shown: Callable[[LabelSetCounts], str]) -> str:
        return ", ".join(f"{shown(one)} {split}" for split, one in self.sets.items())

    @staticmethod
    def _share(count: int, one: LabelSetCounts) -> str:
        return f"{count:,} ({percent(count / max(one.rows, 1))})"


def check_label_sets(recipe: Recipe, shown: str, dataset: Dataset, tokenizer: TextTokenizer) -> LabelSetCheckReport:
    """Describes the rows of a dataset, with findings about their tokens. Raises RecipeError for class weights that do not fit
    the labels."""
    train = dataset.train
    side_weights(recipe.training.class_weights, dataset.labels, train.labels.sum(axis=0), len(train.rows))
    findings = [*dataset.findings, *findings_of_tokens(recipe, dataset, tokenizer)]
    rows = {
        split.name: dict(zip(dataset.labels, split.labels.sum(axis=0).tolist(), strict=True))
        for split in dataset.splits
    }
    sets = {split.name: _counts(split) for split in dataset.splits}
    return LabelSetCheckReport(recipe.name, shown, list(dataset.labels), rows, findings, sets)


def _counts(split: Split) -> LabelSetCounts:
    counts: np.ndarray = split.labels.sum(axis=1)
    return LabelSetCounts(
        rows=len(counts),
        without_label=int((counts == 0).sum()),
        several=int((counts > 1).sum()),
        labels_per_row=float(counts.mean()) if len(counts) else 0.0,
    )
