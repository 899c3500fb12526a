"""How a model reads long texts in windows: the part of `metrics.json` that text classifiers with one label and with several
share."""

from __future__ import annotations

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.tokens.text_windows import WindowPlan, encode_texts
from textclf.runs.record.metrics_file import Record


class WindowSettings(Record):
    """Each window begins `stride` tokens after the one before, and a text has at most `max_windows`."""

    stride: int
    max_windows: int


class WindowCounts(Record):
    """The windows of a split's texts.

    `texts` have `windows` in all, `median_windows` in the median and `most_windows` at most; `long_texts` have several, and
    `truncated_texts` have more text than is read.
    """

    texts: int
    windows: int
    long_texts: int
    truncated_texts: int
    median_windows: float
    most_windows: int

    @property
    def long_share(self) -> float:
        """The share of the texts that need several windows, in 0..1."""
        return self.long_texts / self.texts

    def need_of(self, split: str) -> str:
        """A sentence that says how many texts of the split need several windows."""
        return (
            f"{self.long_texts:,} of {counted(self.texts, 'text')} of the {split} split ({self.long_share:.1%}) need several "
            "windows."
        )


def count_windows(classifier: Classifier, plan: WindowPlan, split: Split) -> WindowCounts:
    """Returns the numbers of windows of a split's texts."""
    read = encode_texts(classifier.tokenizer, split.texts, classifier.max_length, plan)
    counts = read.window_counts
    return WindowCounts(
        texts=len(read),
        windows=len(read.texts),
        long_texts=int((counts > 1).sum()),
        truncated_texts=int(read.truncated.sum()),
        median_windows=float(np.median(counts)),
        most_windows=int(counts.max()),
    )
