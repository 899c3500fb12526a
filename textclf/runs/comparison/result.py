"""The result of a comparison of runs, as text for a terminal, Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf.classify.metrics import (
    Metrics,
    accuracy_difference_interval,
    accuracy_interval,
    mcnemar_p_value,
)
from textclf.data.findings.finding import counted
from textclf.files.writing import write_text
from textclf.runs.pages.formats import markdown_text
from textclf.terminal.tables import text_table

_SIGNIFICANT = 0.05

# The terminal shows the beginning of long lists; the files contain all of them.
_SHOWN_LABELS = 10

_SHOWN_ROWS = 5

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class ComparedModel:
    """One run: its metrics on the compared rows, the bytes of its model, its encoder and its number of training rows."""

    name: str
    metrics: Metrics
    bytes: int
    encoder: str
    training_rows: int

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["metrics"] = {**self.metrics.as_dict(), "accuracy_interval": list(accuracy_interval(self.metrics))}
        return values


@dataclass(frozen=True)
class LabelDifference:
    """The second run's recall and F1 of a label minus those of the first, in -1..1; `support` rows have the label."""

    label: str
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class PairDifference:
    """The run `second` against the run `first`.

    `accuracy` is the second's accuracy minus the first's, in -1..1, with its 95 % confidence `interval`. For `gained` rows
    only the second run is correct, for `lost` rows only the first; `p_value` is that of McNemar's exact test. The runs
    predict different labels for `disagreeing_rows`. `labels` are sorted by the size of the difference, the largest first.
    """

    first: str
    second: str
    accuracy: float
    interval: tuple[float, float]
    gained: int
    lost: int
    p_value: float
    disagreeing_rows: int
    labels: list[LabelDifference]

    @property
    def is_significant(self) -> bool:
        """Whether fewer than one in twenty comparisons of equally good models would differ this much by chance."""
        return self.p_value < _SIGNIFICANT


@dataclass(frozen=True)
class Disagreement:
    """A row for which not all runs predict the same label: its number in a spreadsheet, its text, its true label, and the
    label that each run predicts, in the order of the runs."""

    row: int
    text: str
    label: str
    given: tuple[str, ...]


@dataclass(frozen=True)
class RunComparison:
    """Runs measured on the same rows. `rows` is their number, `measured_on` describes them."""

    measured_on: str
    rows: int
    warnings: list[str]
    models: list[ComparedModel]
    pairs: list[PairDifference]
    disagreements: list[Disagreement]

    def as_dict(self) -> dict[str, Any]:
        """All numbers. Of the rows on which the runs disagree, only the number."""
        return {
            "kind": "runs",
            "measured_on": self.measured_on,
            "rows": self.rows,
            "warnings": self.warnings,
            "runs": [model.as_dict() for model in self.models],
            "pairs": [asdict(pair) for pair in self.pairs],
            "disagreeing_rows": len(self.disagreements),
        }

    def table(self) -> list[list[str]]:
        """The first line is the header. Each line has the name of a measurement and one column per run."""
        models = self.models
        intervals = [accuracy_interval(model.metrics) for model in models]
        return [
            ["", *(model.name for model in models)],
            ["accuracy", *(f"{100 * model.metrics.accuracy:.1f} %" for model in models)],
            ["95 % confidence interval", *(f"{100 * low:.1f}–{100 * high:.1f} %" for low, high in intervals)],
            ["macro-F1", *(f"{100 * model.metrics.macro_f1:.1f} %" for model in models)],
            ["loss", *(f"{model.metrics.loss:.4f}" for model in models)],
            ["model.tflite", *(f"{model.bytes / 1e6:.2f} MB" for model in models)],
            ["encoder", *(model.encoder for model in models)],
            ["training rows", *(f"{model.training_rows:,}" for model in models)],
        ]

    def as_text(self) -> str:
        header, *lines = self.table()
        parts = [f"Measured on {self.measured_on}.", text_table(header, lines)]
        parts += [_pair_text(pair, self.rows) for pair in self.pairs]
        if self.disagreements:
            parts.append(self._disagreements_text())
        return "\n\n".join(parts)

    def _disagreements_text(self) -> str:
        shown = self.disagreements[:_SHOWN_ROWS]
        names = [model.name for model in self.models]
        table = text_table(
            ["row", "text", "true label", *names],
            [[f"{one.row}", shortened(one.text, _SHOWN_CHARACTERS), one.label, *one.given] for one in shown],
            left_columns=3 + len(names),
        )
        count = len(self.disagreements)
        more = f"; the first {len(shown)} are" if count > len(shown) else ""
        return f"Rows with different predictions: {count:,} of {self.rows:,}{more}\n{table}"

    def as_markdown(self) -> str:
        header, *lines = self.table()
        names = [model.name for model in self.models]
        parts = [
            f"# {' and '.join(map(markdown_text, names))}",
            f"Measured on {markdown_text(self.measured_on)}.",
            *(f"**Warning:** {markdown_text(warning)}" for warning in self.warnings),
            markdown_table([header[0] or "measured", *header[1:]], lines),
        ]
        for pair in self.pairs:
            parts += [
                f"## {markdown_text(pair.second)} against {markdown_text(pair.first)}",
                markdown_text(_verdict(pair, self.rows)),
                markdown_table(LABEL_HEADER, [label_line(label) for label in pair.labels]),
            ]
        if len(self.models) > 1:
            parts.append(
                f"The runs disagree on {len(self.disagreements):,} of {counted(self.rows, 'row')}; see disagreements.csv."
            )
        return "\n\n".join(parts) + "\n"

    def write_disagreements(self, path: Path) -> None:
        """Writes a CSV file with one line for each row on which the runs disagree."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "text", "true label", *(model.name for model in self.models)])
            writer.writerows([one.row, one.text, one.label, *one.given] for one in self.disagreements)

    def write(self, folder: Path, json: str) -> None:
        """Writes comparison.md, comparison.json with the text `json`, and disagreements.csv."""
        self.write_disagreements(folder / "disagreements.csv")
        write_text(folder / "comparison.json", json)
        write_text(folder / "comparison.md", self.as_markdown())


# --- Two runs --------------------------------------------------------------------------------------------------------
def difference_of(
    first: ComparedModel, second: ComparedModel, given: tuple[np.ndarray, np.ndarray], truth: np.ndarray
) -> PairDifference:
    """`given` are the label indices int [rows] that the two runs predict, `truth` the true ones."""
    is_right, is_second_right = (labels == truth for labels in given)
    gained, lost = int((is_second_right & ~is_right).sum()), int((is_right & ~is_second_right).sum())
    labels = [
        LabelDifference(one.label, other.recall - one.recall, other.f1 - one.f1, one.support)
        for one, other in zip(first.metrics.per_label, second.metrics.per_label, strict=True)
    ]
    return PairDifference(
        first=first.name,
        second=second.name,
        accuracy=(gained - lost) / len(truth),
        interval=accuracy_difference_interval(len(truth), gained, lost),
        gained=gained,
        lost=lost,
        p_value=mcnemar_p_value(gained, lost),
        disagreeing_rows=int((given[0] != given[1]).sum()),
        labels=sorted(labels, key=lambda label: (-abs(label.f1), -abs(label.recall))),
    )


# --- Words for people ------------------------------------------------------------------------------------------------
LABEL_HEADER = ("label", "recall", "F1", "rows")


def _pair_text(pair: PairDifference, rows: int) -> str:
    changed = [label for label in pair.labels if label.f1 or label.recall]
    text = _verdict(pair, rows)
    if changed:
        text += "\n" + text_table(LABEL_HEADER, [label_line(label) for label in changed[:_SHOWN_LABELS]])
    if len(changed) > _SHOWN_LABELS:
        text += f"\nand {counted(len(changed) - _SHOWN_LABELS, 'label')} with smaller differences"
    return text


def _verdict(pair: PairDifference, rows: int) -> str:
    low, high = pair.interval
    judged = "significant" if pair.is_significant else "not significant; it may be chance"
    p_value = "p < 0.001" if pair.p_value < 0.001 else f"p = {pair.p_value:.3f}"
    return (
        f"{pair.second} against {pair.first}: accuracy {signed(pair.accuracy)} points "
        f"(95 % confidence interval: {signed(low)} to {signed(high)}).\n"
        f"Only {pair.second} is correct: {counted(pair.gained, 'row')}; only {pair.first} is correct: "
        f"{counted(pair.lost, 'row')}; "
        f"different predictions: {pair.disagreeing_rows:,} of {counted(rows, 'row')}.\n"
        f"McNemar's exact test: {p_value}; at the 5 % level the difference is {judged}."
    )


def label_line(label: LabelDifference) -> list[str]:
    """The cells below LABEL_HEADER."""
    return [label.label, signed(label.recall), signed(label.f1), f"{label.support:,}"]


def signed(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def one_line(texts: Sequence[str], limit: int = 200) -> str:
    """The texts of a row on one line, at most `limit` characters."""
    return shortened(" | ".join(" ".join(text.split()) for text in texts), limit)


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [[_markdown_cell(cell) for cell in line] for line in (header, *lines)]
    rows.insert(1, ["---", *["---:"] * (len(header) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _markdown_cell(text: str) -> str:
    """A number is not escaped. Everything else may come from the data."""
    return text if re.fullmatch(r"[+-]?\d[\d.,–]*(?: %| MB)?", text) else markdown_text(text)
