"""Measures a model that reads texts in windows as an app uses its file: with the first window of each text only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.metrics import evaluate
from textclf.data.examples import Split
from textclf.data.tokens.text_windows import WindowPlan
from textclf.runs.record.long_texts import WindowCounts, WindowSettings, count_windows
from textclf.terminal.progress import Progress


class SplitWindows(WindowCounts):
    """The windows of a split's texts, and what the first window alone gives.

    `first_window_accuracy` and `accuracy` (of all windows) are in 0..1.
    """

    first_window_accuracy: float
    first_window_macro_f1: float
    accuracy: float

    @property
    def gain(self) -> float:
        """The accuracy of all windows minus that of the first window, in -1..1."""
        return self.accuracy - self.first_window_accuracy


class LongTexts(WindowSettings):
    """How a model reads long texts. `splits` are the results of the exported file on the held-out splits."""

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
    first = evaluate(classifier.first_window_probabilities(split.texts), split.labels, classifier.labels)
    return SplitWindows(
        **dict(count_windows(classifier, plan, split)),
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
        f"{split.need_of(reported)} An app that reads only the first window has an accuracy of "
        f"{split.first_window_accuracy:.1%}, all windows {split.accuracy:.1%}"
    )
