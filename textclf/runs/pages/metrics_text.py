"""The metrics of labelled rows as text for a terminal."""

from __future__ import annotations

from textclf.classify.metrics import Metrics, accuracy_interval, guessing_warning
from textclf.data.findings.finding import counted
from textclf.runs.pages.formats import percent
from textclf.runs.pages.mistakes import most_confused
from textclf.terminal.tables import text_table

# The largest confusion matrix that fits into 80 columns.
_GRID_LABELS = 12


def metrics_text(metrics: Metrics) -> str:
    """Returns aligned plain text with the confusion matrix or, for many labels, the most confused pairs."""
    low, high = accuracy_interval(metrics)
    right = metrics.right_rows
    parts = [
        f"accuracy  {percent(metrics.accuracy)}   {right:,} of {counted(metrics.rows, 'row')}; "
        f"95% confidence interval: {percent(low)} to {percent(high)}\n"
        f"macro-F1  {percent(metrics.macro_f1)}   the mean of the labels' F1\n"
        f"loss      {metrics.loss:.4f}",
        text_table(
            ("label", "precision", "recall", "F1", "rows"),
            [
                (
                    label.label,
                    *(percent(value) for value in (label.precision, label.recall, label.f1)),
                    f"{label.support:,}",
                )
                for label in metrics.per_label
            ],
        ),
    ]
    if len(metrics.per_label) <= _GRID_LABELS:
        parts.append("Confusion matrix: true labels in rows, predicted labels in columns\n" + _text_grid(metrics))
    elif right < metrics.rows:
        pairs = [(pair.label, pair.predicted, f"{pair.rows:,}", percent(pair.share)) for pair in most_confused(metrics)]
        parts.append(
            "Most confused labels\n" + text_table(("true label", "predicted label", "rows", "share"), pairs, 2)
        )
    if (warning := guessing_warning(metrics, "measured")) is not None:
        parts.append(f"Warning: {warning}")
    return "\n\n".join(parts)


def _text_grid(metrics: Metrics) -> str:
    numbers = [str(number) for number in range(1, len(metrics.per_label) + 1)]
    rows = [
        (f"{number:>{len(numbers[-1])}} {label.label}", *(f"{count:,}" for count in counts))
        for number, label, counts in zip(numbers, metrics.per_label, metrics.confusion_matrix().tolist(), strict=True)
    ]
    return text_table(("", *numbers), rows)
