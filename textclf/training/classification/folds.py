"""Divides training rows into folds for cross-validation: takes features and labels, returns the fold of each row."""

from __future__ import annotations

import numpy as np

_FOLDS, _FOLDS_OF_FEW_ROWS, _FEW_ROWS = 5, 10, 500

# Rows whose features agree to this many decimals have the same text.
_DECIMALS = 3


def stratified_folds(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float32 features [rows, width] and label indices [rows] → the fold of each row, int64 [rows].

    There are 10 folds for up to 500 rows, 5 for more, and never more than rows. Each has about the same share of every
    label. Rows with the same features are in one fold, because a row would otherwise be predicted by its own copy.
    """
    rows = len(features)
    count = min(_FOLDS_OF_FEW_ROWS if rows <= _FEW_ROWS else _FOLDS, rows)
    _, first, group = np.unique(np.round(features, _DECIMALS), axis=0, return_index=True, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(first))
    order = order[np.argsort(labels[first[order]], kind="stable")]
    fold_of_group: np.ndarray = np.zeros(len(first), np.int64)
    fold_of_group[order] = np.arange(len(order)) % count
    folds: np.ndarray = fold_of_group[group.reshape(-1)]
    return folds
