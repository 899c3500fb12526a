"""The metrics of rows with several labels as text for a terminal."""

from __future__ import annotations

from textclf.classify.multi_label.metrics import LabelSetMetrics, result_warnings
from textclf.data.findings.finding import counted
from textclf.runs.pages.formats import percent
from textclf.runs.tasks.multi_label.mistakes import most_confused
from textclf.terminal.tables import text_table

_SHOWN_PAIRS = 10


def label_set_text(metrics: LabelSetMetrics) -> str:
    """Returns aligned plain text: the overall numbers, one line for each label, and the most confused pairs."""
    low, high = metrics.micro_f1_interval
    overall = [
        (
            "micro-F1",
            percent(metrics.micro_f1),
            f"over all labels of {counted(metrics.rows, 'row')}; 95% confidence interval: {percent(low)} to {percent(high)}",
        ),
        ("macro-F1", percent(metrics.macro_f1), "the mean of the labels' F1"),
        ("sample F1", percent(metrics.sample_f1), "the mean of the rows' F1"),
        ("average precision", percent(metrics.mean_average_precision), "the mean over the labels; needs no thresholds"),
        (
            "exact match",
            percent(metrics.exact_match),
            f"{metrics.exact_rows:,} of {counted(metrics.rows, 'row')} have exactly the right labels",
        ),
        ("Hamming loss", percent(metrics.hamming_loss), "the share of wrong decisions about a label of a row"),
        ("loss", f"{metrics.loss:.4f}", ""),
        ("labels per row", f"{metrics.predicted_labels:.2f}", f"predicted; {metrics.true_labels:.2f} in the data"),
    ]
    width = max(len(name) for name, _, _ in overall)
    parts = [
        "\n".join(f"{name:<{width}}  {value:>6}   {about}".rstrip() for name, value, about in overall),
        text_table(
            ("label", "threshold", "precision", "recall", "F1", "average precision", "rows", "predicted"),
            [
                (
                    label.label,
                    f"{label.threshold:.3f}",
                    *(percent(value) for value in (label.precision, label.recall, label.f1)),
                    "–" if label.average_precision is None else percent(label.average_precision),
                    f"{label.support:,}",
                    f"{label.predicted:,}",
                )
                for label in metrics.per_label
            ],
        ),
    ]
    if pairs := most_confused(metrics, _SHOWN_PAIRS):
        lines = [(pair.missing, pair.wrong, f"{pair.rows:,}", percent(pair.share)) for pair in pairs]
        parts.append(
            "Most confused labels: one is missing, the other wrong\n"
            + text_table(("missing label", "wrong label", "rows", "share"), lines, 2)
        )
    parts += [f"Warning: {warning}" for warning in result_warnings({"labelled": metrics}, "labelled")]
    return "\n\n".join(parts)
