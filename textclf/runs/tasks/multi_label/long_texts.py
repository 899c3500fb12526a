"""Measures a model of several labels that reads texts in windows as an app uses its file: with the first window only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.multi_label.metrics import measure_label_sets
from textclf.data.examples import Split
from textclf.data.tokens.text_windows import WindowPlan
from textclf.runs.record.long_texts import WindowCounts, WindowSettings, count_windows
from textclf.terminal.progress import Progress


class LabelSetSplitWindows(WindowCounts):
    """The windows of a split's texts, and what the first window alone gives, with the same thresholds.

    The F1s of the first window and `micro_f1` (of all windows) are in 0..1.
    """

    first_window_micro_f1: float
    first_window_macro_f1: float
    micro_f1: float

    @property
    def gain(self) -> float:
        """The micro-F1 of all windows minus that of the first window, in -1..1."""
        return self.micro_f1 - self.first_window_micro_f1


class LabelSetLongTexts(WindowSettings):
    """How a model reads long texts. `splits` are the results of the exported file on the held-out splits."""

    splits: Mapping[str, LabelSetSplitWindows]


def measure_long_texts(
    classifier: Classifier, splits: Sequence[Split], probabilities: Mapping[str, np.ndarray]
) -> LabelSetLongTexts | None:
    """Returns what an app sees beside what textclf sees; None for a model that does not read windows.

    `probabilities` are those of the file with all windows, by split, float32 [rows, labels].
    """
    plan = classifier.long_texts
    if not isinstance(plan, WindowPlan):
        return None
    measured = {split.name: _of_split(classifier, plan, split, probabilities[split.name]) for split in splits}
    return LabelSetLongTexts(stride=plan.stride, max_windows=plan.most, splits=measured)


def _of_split(
    classifier: Classifier, plan: WindowPlan, split: Split, probabilities: np.ndarray
) -> LabelSetSplitWindows:
    thresholds = classifier.thresholds
    assert thresholds is not None
    first, whole = (
        measure_label_sets(given, split.labels, thresholds, classifier.labels)
        for given in (classifier.first_window_probabilities(split.texts), probabilities)
    )
    return LabelSetSplitWindows(
        **dict(count_windows(classifier, plan, split)),
        first_window_micro_f1=first.micro_f1,
        first_window_macro_f1=first.macro_f1,
        micro_f1=whole.micro_f1,
    )


def say_long_texts(found: LabelSetLongTexts | None, reported: str, progress: Progress) -> None:
    """Prints what an app sees of the reported split, if the model reads windows."""
    if found is None:
        return
    split = found.splits[reported]
    progress.say(
        f"{split.need_of(reported)} An app that reads only the first window has a micro-F1 of "
        f"{split.first_window_micro_f1:.1%}, all windows {split.micro_f1:.1%}"
    )
