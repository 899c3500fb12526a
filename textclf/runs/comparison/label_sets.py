"""Measures the models of finished runs with several labels per row on the same rows: which is better?

The rows are chosen as for text classifiers (`runs.py`): a comparison is fair only on rows that no run, or every run, was
trained on. The models run on LiteRT, so no TensorFlow is needed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf.classify.metrics import mcnemar_p_value
from textclf.classify.multi_label.metrics import (
    LabelSetMetrics,
    measure_label_sets,
    micro_f1_difference_interval,
    predicted_sets,
)
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.multi_label.dataset import load_label_set_file, load_label_sets
from textclf.files.writing import write_text
from textclf.recipe.settings import DatasetSettings, Recipe
from textclf.runs.comparison.result import (
    LABEL_HEADER,
    LabelDifference,
    label_line,
    markdown_table,
    one_line,
    shortened,
    signed,
)
from textclf.runs.comparison.runs import check_before_training, open_runs, rows_to_compare
from textclf.runs.pages.formats import markdown_text
from textclf.terminal.tables import text_table

_SHOWN_LABELS, _SHOWN_ROWS, _SHOWN_CHARACTERS = 10, 5, 50


@dataclass(frozen=True)
class ComparedLabelSets:
    """One run: its metrics on the compared rows, the bytes of its model, its encoder and its number of training rows."""

    name: str
    metrics: LabelSetMetrics
    bytes: int
    encoder: str
    training_rows: int


@dataclass(frozen=True)
class LabelSetPair:
    """The run `second` against the run `first`.

    `micro_f1` is the second's micro-F1 minus the first's, in -1..1, with its 95 % confidence `interval`, and `macro_f1` the
    difference of macro-F1. For `gained` rows only the second run predicts exactly the right labels, for `lost` rows only the
    first; `p_value` is that of McNemar's exact test. The runs predict different labels for `disagreeing_rows`. `labels` are
    sorted by the size of the difference, the largest first.
    """

    first: str
    second: str
    micro_f1: float
    interval: tuple[float, float]
    macro_f1: float
    gained: int
    lost: int
    p_value: float
    disagreeing_rows: int
    labels: list[LabelDifference]

    @property
    def is_significant(self) -> bool:
        """Whether the interval of the difference of micro-F1 excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def verdict(self) -> str:
        """Returns a sentence for people."""
        low, high = map(signed, self.interval)
        judged = "significant" if self.is_significant else "not significant; it may be chance"
        p_value = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        return (
            f"{self.second} against {self.first}: micro-F1 {signed(self.micro_f1)} points (95 % confidence interval: {low} to "
            f"{high}), {judged}; macro-F1 {signed(self.macro_f1)} points; exactly the right labels: {self.gained:,} rows gained, "
            f"{self.lost:,} lost (McNemar's exact test: {p_value}); different labels: {counted(self.disagreeing_rows, 'row')}"
        )


@dataclass(frozen=True)
class LabelSetDisagreement:
    """A row for which not all runs predict the same labels: its number in a spreadsheet, its text, its true labels, and those
    that each run predicts, in the order of the runs; as text with the separator of the first run."""

    row: int
    text: str
    labels: str
    given: tuple[str, ...]


@dataclass(frozen=True)
class LabelSetComparison:
    """Runs measured on the same rows. `rows` is their number, `measured_on` describes them."""

    measured_on: str
    rows: int
    warnings: list[str]
    models: list[ComparedLabelSets]
    pairs: list[LabelSetPair]
    disagreements: list[LabelSetDisagreement]

    def as_dict(self) -> dict[str, Any]:
        """All numbers. Of the rows on which the runs disagree, only the number."""
        return {
            "kind": "runs",
            "task": "multi-label-classification",
            "measured_on": self.measured_on,
            "rows": self.rows,
            "warnings": self.warnings,
            "runs": [{**asdict(model), "metrics": model.metrics.as_dict()} for model in self.models],
            "pairs": [asdict(pair) for pair in self.pairs],
            "disagreeing_rows": len(self.disagreements),
        }

    def table(self) -> list[list[str]]:
        """The first line is the header. Each line has the name of a measurement and one column per run."""
        models = self.models
        metrics = [model.metrics for model in models]
        intervals = [one.micro_f1_interval for one in metrics]
        return [
            ["", *(model.name for model in models)],
            ["micro-F1", *(f"{100 * one.micro_f1:.1f} %" for one in metrics)],
            ["95 % confidence interval", *(f"{100 * low:.1f}–{100 * high:.1f} %" for low, high in intervals)],
            ["macro-F1", *(f"{100 * one.macro_f1:.1f} %" for one in metrics)],
            ["average precision", *(f"{100 * one.mean_average_precision:.1f} %" for one in metrics)],
            ["exact match", *(f"{100 * one.exact_match:.1f} %" for one in metrics)],
            ["loss", *(f"{one.loss:.4f}" for one in metrics)],
            ["model.tflite", *(f"{model.bytes / 1e6:.2f} MB" for model in models)],
            ["encoder", *(model.encoder for model in models)],
            ["training rows", *(f"{model.training_rows:,}" for model in models)],
        ]

    def as_text(self) -> str:
        """Returns lines for a terminal."""
        header, *lines = self.table()
        parts = [f"Measured on {self.measured_on}.", text_table(header, lines)]
        parts += [_pair_text(pair) for pair in self.pairs]
        if self.disagreements:
            parts.append(self._disagreements_text())
        return "\n\n".join(parts)

    def _disagreements_text(self) -> str:
        shown = self.disagreements[:_SHOWN_ROWS]
        names = [model.name for model in self.models]
        table = text_table(
            ["row", "text", "true labels", *names],
            [[f"{one.row}", shortened(one.text, _SHOWN_CHARACTERS), one.labels, *one.given] for one in shown],
            left_columns=3 + len(names),
        )
        count = len(self.disagreements)
        more = f"; the first {len(shown)} are" if count > len(shown) else ""
        return f"Rows with different labels: {count:,} of {self.rows:,}{more}\n{table}"

    def as_markdown(self) -> str:
        """Returns the text of comparison.md."""
        header, *lines = self.table()
        names = [model.name for model in self.models]
        parts = [
            f"# {' and '.join(map(markdown_text, names))}",
            f"Measured on {markdown_text(self.measured_on)}.",
            *(f"**Warning:** {markdown_text(warning)}" for warning in self.warnings),
            markdown_table(["measured", *header[1:]], lines),
        ]
        for pair in self.pairs:
            parts += [
                f"## {markdown_text(pair.second)} against {markdown_text(pair.first)}",
                markdown_text(pair.verdict()),
                markdown_table(LABEL_HEADER, [label_line(label) for label in pair.labels]),
            ]
        if len(self.models) > 1:
            parts.append(
                f"The runs disagree on {len(self.disagreements):,} of {counted(self.rows, 'row')}; see disagreements.csv."
            )
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path, json: str) -> None:
        """Writes comparison.md, comparison.json with the text `json`, and disagreements.csv."""
        with (folder / "disagreements.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "text", "true labels", *(model.name for model in self.models)])
            writer.writerows([one.row, one.text, one.labels, *one.given] for one in self.disagreements)
        write_text(folder / "comparison.json", json)
        write_text(folder / "comparison.md", self.as_markdown())


def _pair_text(pair: LabelSetPair) -> str:
    changed = [label for label in pair.labels if label.f1 or label.recall]
    text = pair.verdict()
    if changed:
        text += "\n" + text_table(LABEL_HEADER, [label_line(label) for label in changed[:_SHOWN_LABELS]])
    if len(changed) > _SHOWN_LABELS:
        text += f"\nand {counted(len(changed) - _SHOWN_LABELS, 'label')} with smaller differences"
    return text


# --- The comparison --------------------------------------------------------------------------------------------------
def compare_runs(folders: Sequence[Path], data: Path | None = None) -> LabelSetComparison:
    """Measures the models of finished runs on the same rows, each with its thresholds.

    The rows and the errors are those of `runs.compare_runs`.
    """
    with ExitStack() as stack:
        runs = open_runs(folders, stack)
        split, measured_on, warnings = rows_to_compare(runs, data, load_label_sets, _labelled_rows)
        labels = runs[0].classifier.labels
        models, given = [], []
        for run in runs:
            order = [run.classifier.labels.index(label) for label in labels]
            thresholds = run.classifier.thresholds
            assert thresholds is not None
            probabilities = run.classifier.probabilities(split.texts)[:, order]
            given.append(predicted_sets(probabilities, thresholds[order]))
            models.append(
                ComparedLabelSets(
                    name=run.name,
                    metrics=measure_label_sets(probabilities, split.labels, thresholds[order], labels),
                    bytes=run.classifier.path.stat().st_size,
                    encoder=run.metrics.encoder.source,
                    training_rows=run.metrics.rows["train"],
                )
            )
        pairs = [
            _pair(models[0], model, (given[0], theirs), split.labels)
            for model, theirs in zip(models[1:], given[1:], strict=True)
        ]
        separator = runs[0].classifier.label_separator
        return LabelSetComparison(
            measured_on, len(split.rows), warnings, models, pairs, _disagreements(split, given, labels, separator)
        )


def check_comparison(items: Sequence[Recipe | Path], data: Path | None) -> None:
    """Raises the errors of `compare_runs` that can be found before the recipes among the items are trained."""
    check_before_training(items, data, load_label_sets, _labelled_rows)


def _labelled_rows(settings: DatasetSettings, labels: Sequence[str], data: Path) -> Split:
    return load_label_set_file(settings, data.absolute(), labels)


def _pair(
    first: ComparedLabelSets, second: ComparedLabelSets, given: tuple[np.ndarray, np.ndarray], truth: np.ndarray
) -> LabelSetPair:
    """`given` are the labels that the two runs predict, `truth` the true ones: bool [rows, labels]."""
    is_right, is_second_right = ((labels == truth).all(axis=1) for labels in given)
    gained, lost = int((is_second_right & ~is_right).sum()), int((is_right & ~is_second_right).sum())
    labels = [
        LabelDifference(one.label, other.recall - one.recall, other.f1 - one.f1, one.support)
        for one, other in zip(first.metrics.per_label, second.metrics.per_label, strict=True)
    ]
    return LabelSetPair(
        first=first.name,
        second=second.name,
        micro_f1=second.metrics.micro_f1 - first.metrics.micro_f1,
        interval=micro_f1_difference_interval(*given, truth),
        macro_f1=second.metrics.macro_f1 - first.metrics.macro_f1,
        gained=gained,
        lost=lost,
        p_value=mcnemar_p_value(gained, lost),
        disagreeing_rows=int((given[0] != given[1]).any(axis=1).sum()),
        labels=sorted(labels, key=lambda label: (-abs(label.f1), -abs(label.recall))),
    )


def _disagreements(
    split: Split, given: Sequence[np.ndarray], labels: Sequence[str], separator: str
) -> list[LabelSetDisagreement]:
    def joined(row: np.ndarray) -> str:
        return separator.join(labels[index] for index in np.flatnonzero(row).tolist())

    different = np.any([sets != given[0] for sets in given], axis=(0, 2))
    return [
        LabelSetDisagreement(
            row=split.rows[index],
            text=one_line(split.texts[index]),
            labels=joined(split.labels[index]),
            given=tuple(joined(sets[index]) for sets in given),
        )
        for index in np.flatnonzero(different).tolist()
    ]
