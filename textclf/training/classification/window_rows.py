"""Texts that are read in windows, in training: every window is an example, and every text counts once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textclf.classify.combining import combine_windows
from textclf.encoders.prepare import PreparedData


@dataclass(frozen=True, eq=False)
class WindowRows:
    """The windows of a split's texts: `texts` is the index of each window's text, int64 [windows], ascending.

    A text that is not read in windows has one.
    """

    texts: np.ndarray

    def weights(self, text_weights: np.ndarray) -> np.ndarray:
        """Returns how much each window counts, float32 [windows], from the weights of the texts.

        The windows of a text share its weight. The mean over the windows is that over the texts, so that losses keep their
        scale.
        """
        counts = np.bincount(self.texts)
        scale = len(self.texts) / len(counts)
        shared: np.ndarray = (text_weights[self.texts] * scale / counts[self.texts]).astype(np.float32)
        return shared

    def chosen(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the windows of some texts (`rows`, ascending), int64 [chosen windows], and for each the place of its text
        in `rows`."""
        place = np.full(int(self.texts[-1]) + 1, -1)
        place[rows] = np.arange(len(rows))
        windows = np.flatnonzero(place[self.texts] >= 0)
        return windows, place[self.texts[windows]]

    def combined(self, values: np.ndarray) -> np.ndarray:
        """Returns the means by text, float32 [texts, …], of values [windows, …]."""
        return combine_windows(values, self.texts)


def windows_of(data: PreparedData, split: str) -> WindowRows:
    """Returns the windows of a split: one for each row unless texts are read in windows."""
    rows = len(data.encoded[split])
    return WindowRows(data.texts.get(split, np.arange(rows)))
