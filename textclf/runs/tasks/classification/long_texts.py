"""Measures a model that reads texts in windows as an app uses its file: with the first window of each text only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.metrics import evaluate
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.tokens.text_windows import WindowPlan, encode_texts
from textclf.runs.record.metrics_file import Record
from textclf.terminal.progress import Progress


class SplitWindows(Record):
    """The windows of a split's texts, and what the first window alone gives.

    `texts` have `windows` in all, `median_windows` in the median and `most_windows` at most; `long_texts` have several, and
    `truncated_texts` have more text than is read. `first_window_accuracy` and `accuracy` (of all windows) are in 0..1.
    """

    texts: int
    windows: int
    long_texts: int
    truncated_texts: int
    median_windows: float
    most_windows: int
    first_window_accuracy: float
    first_window_macro_f1: float
    accuracy: float

    @property
    def long_share(self) -> float:
        """The share of the texts that need several windows, in 0..1."""
        return self.long_texts / self.texts

    @property
    def gain(self) -> float:
        """The accuracy of all windows minus that of the first window, in -1..1."""
        return self.accuracy - self.first_window_accuracy


class LongTexts(Record):
    """How a model reads long texts: each window begins `stride` tokens after the one before, at most `max_windows` a text.

    `splits` are the results of the exported file on the held-out splits.
    """

    stride: int
    max_windows: int
    splits: Mapping[str, SplitWindows]


def measure_long_texts(
    classifier: Classifier, splits: Sequence[Split], probabilities: Mapping[str, np.ndarray]
) -> LongTexts | None:
    """Returns what an app sees beside what textclf sees; None for a model that does not read windows.

    `probabilities` are those of the file with all windows, by split, float32 [rows, labels].
    """
    plan = classifier.long_texts
    if not isinstance(plan, WindowPlan):
        return None
    measured = {split.name: _of_split(classifier, plan, split, probabilities[split.name]) for split in splits}
    return LongTexts(stride=plan.stride, max_windows=plan.most, splits=measured)


def _of_split(classifier: Classifier, plan: WindowPlan, split: Split, probabilities: np.ndarray) -> SplitWindows:
    read = encode_texts(classifier.tokenizer, split.texts, classifier.max_length, plan)
    counts = read.window_counts
    first = evaluate(classifier.first_window_probabilities(split.texts), split.labels, classifier.labels)
    return SplitWindows(
        texts=len(read),
        windows=len(read.texts),
        long_texts=int((counts > 1).sum()),
        truncated_texts=int(read.truncated.sum()),
        median_windows=float(np.median(counts)),
        most_windows=int(counts.max()),
        first_window_accuracy=first.accuracy,
        first_window_macro_f1=first.macro_f1,
        accuracy=evaluate(probabilities, split.labels, classifier.labels).accuracy,
    )


def say_long_texts(found: LongTexts | None, reported: str, progress: Progress) -> None:
    """Prints what an app sees of the reported split, if the model reads windows."""
    if found is None:
        return
    split = found.splits[reported]
    progress.say(
        f"{split.long_texts:,} of {counted(split.texts, 'text')} of the {reported} split ({split.long_share:.1%}) need several "
        f"windows. An app that reads only the first window has an accuracy of {split.first_window_accuracy:.1%}, all windows "
        f"{split.accuracy:.1%}"
    )
