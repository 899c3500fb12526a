"""Chooses the training rows from which the feature standardisation and the fitted first head are computed."""

from __future__ import annotations

import numpy as np

# Enough rows for 512 means and deviations, and for every label, but no more than some seconds can compute.
_MEASURED_ROWS, _MEASURED_ROWS_A_LABEL, _MOST_MEASURED_ROWS = 1024, 32, 4096

# With more labels than this, the cost of the head decides: equally many rows of each label, and fewer in all.
_MANY_LABELS, _MOST_ROWS_OF_MANY_LABELS = 150, 3072


def measured_rows(labels: np.ndarray, label_count: int) -> np.ndarray:
    """Returns row numbers int64, ascending. `labels` are label indices by row.

    If there are few labels, the rows are spread evenly over the data. If there are many, the same number of rows is taken
    of each label that has enough: where labels have a row or two each, any other choice would favour some by chance.
    """
    rows = len(labels)
    if label_count <= _MANY_LABELS:
        wanted = max(_MEASURED_ROWS, min(_MEASURED_ROWS_A_LABEL * label_count, _MOST_MEASURED_ROWS))
        return _spread(rows, wanted)
    rows_a_label = max(1, _MOST_ROWS_OF_MANY_LABELS // label_count)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=label_count)
    place = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.sort(order[place < rows_a_label])
    measured: np.ndarray = chosen[_spread(len(chosen), max(_MEASURED_ROWS, _MOST_ROWS_OF_MANY_LABELS))]
    return measured


def _spread(count: int, wanted: int) -> np.ndarray:
    """Returns at most `wanted` of the numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))
