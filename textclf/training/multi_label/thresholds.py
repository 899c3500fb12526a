"""Chooses the threshold of each label on the validation rows: takes probabilities and true labels.

A single threshold of 0.5 would hardly ever predict rare labels, whose probabilities are low even where they are right.

The threshold of the best F1 on few rows of a label is partly chance. Where the probabilities are calibrated, they say for
themselves which threshold has the best expected F1, half of that F1 (Lipton et al. 2014). The geometric mean of both has a
higher F1 on other rows than the first alone, and depends less on the calibration than the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textclf.data.findings.finding import enumerated, visible
from textclf.training.multi_label import calibration

DEFAULT_THRESHOLD = 0.5

LEAST_POSITIVES = 5
"""A threshold is chosen only for a label that this many validation rows have, and this many do not have.

In a simulation with calibrated probabilities of normally distributed logits, thresholds from five such rows raise the F1 on
other rows from 0.06 to 0.21 for a label that is rare (2 % of the rows) and hard to recognise, compared with a threshold of 0.5.
For frequent labels that are easy to recognise, they lower it by 0.04 at most.
"""

_SHOWN_LABELS = 5


@dataclass(frozen=True)
class Thresholds:
    """`values` are float64 [labels]. The labels with the indices `few` have too few rows, so theirs is 0.5; for those of
    `unreached` no threshold has the wanted precision, so theirs is that of the best F1."""

    values: np.ndarray
    few: tuple[int, ...] = ()
    unreached: tuple[int, ...] = ()

    def notes(self, labels: Sequence[str], precision: float | None) -> list[str]:
        """Returns what a person should know about the thresholds, in sentences."""
        notes = []
        if self.few:
            notes.append(
                f"{_shown(labels, self.few)}: fewer than {LEAST_POSITIVES} validation rows have the label (or lack it), so its "
                f"threshold is {DEFAULT_THRESHOLD} and was not chosen; add rows, or set dataset.validation to more of them"
            )
        if self.unreached and precision is not None:
            notes.append(
                f"{_shown(labels, self.unreached)}: no threshold reaches a precision of {precision:.1%} on the validation rows "
                "(training.reject_for_precision), so the threshold is that of the best F1"
            )
        return notes


def _shown(labels: Sequence[str], chosen: Sequence[int]) -> str:
    names = [visible(labels[index]) for index in chosen[:_SHOWN_LABELS]]
    more = [f"{len(chosen) - _SHOWN_LABELS:,} more"] if len(chosen) > _SHOWN_LABELS else []
    return enumerated([*names, *more])


def choose_thresholds(
    probabilities: np.ndarray, truth: np.ndarray, precision: float | None, are_calibrated: bool = False
) -> Thresholds:
    """Takes probabilities float [rows, labels] and true labels bool [rows, labels] of rows that were not trained on.

    The threshold of a label is that of the best F1, with `precision` among those at which at least this share of its
    predictions is right. It is 0.5 for a label of too few rows. If the probabilities are calibrated and no precision is
    wanted, it is the geometric mean of this threshold and that of the best expected F1.
    """
    values = np.full(truth.shape[1], DEFAULT_THRESHOLD)
    few, unreached = [], []
    for index in range(truth.shape[1]):
        own, is_right = probabilities[:, index].astype(np.float64), truth[:, index]
        positives = int(is_right.sum())
        if min(positives, len(truth) - positives) < LEAST_POSITIVES:
            few.append(index)
            continue
        found = _best_f1(own, is_right, precision or 0.0)
        if found is None:
            unreached.append(index)
            found = _best_f1(own, is_right, 0.0)
        assert found is not None
        if are_calibrated and precision is None and calibration.has_enough(positives, len(truth)):
            found = math.sqrt(found * _best_expected_f1(own))
        values[index] = found
    return Thresholds(values, tuple(few), tuple(unreached))


def best_f1_thresholds(probabilities: np.ndarray, truth: np.ndarray) -> Thresholds:
    """Returns the thresholds of the best F1 of each label on these rows."""
    return choose_thresholds(probabilities, truth, None)


def _best_f1(probabilities: np.ndarray, truth: np.ndarray, least_precision: float) -> float | None:
    """Returns the threshold of the best F1 among those with this precision, None if there is none; of equally good ones the one
    nearest to 0.5."""
    order = np.argsort(-probabilities, kind="stable")
    scores, hits = probabilities[order], np.cumsum(truth[order])
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))
    f1 = 2 * hits[ends] / (ends + 1 + hits[-1])
    allowed = (hits[ends] / (ends + 1) >= least_precision) & (hits[ends] > 0)
    if not allowed.any():
        return None
    # Between the last row that gets the label and the first that does not, because 8-bit weights change both a little.
    lower = np.append(scores[ends[:-1] + 1], 0.0)
    middles = (scores[ends] + lower) / 2
    best = np.flatnonzero(allowed & (f1 >= f1[allowed].max() - 1e-12))
    return float(middles[best[np.abs(middles[best] - DEFAULT_THRESHOLD).argmin()]])


def _best_expected_f1(probabilities: np.ndarray) -> float:
    """Returns the threshold of the best F1 that is expected if each probability is the share of such rows with the label."""
    scores = np.sort(probabilities)[::-1]
    hits = np.cumsum(scores)
    best = int(np.argmax(2 * hits / (np.arange(1, len(scores) + 1) + hits[-1])))
    return float(scores[best : best + 2].mean())
