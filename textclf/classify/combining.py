"""Combines what a model predicts for the windows of a text: takes values by window, and returns values by text.

The logits of a text are the mean of the logits of its windows. For a linear last layer these are the logits of the mean of
the windows' features.
"""

from __future__ import annotations

import numpy as np

from textclf.classify.metrics import softmax
from textclf.classify.multi_label.metrics import sigmoid

# Logits are known from probabilities up to a constant, which the softmax ignores. Smaller ones have no logarithm.
_SMALLEST = np.finfo(np.float32).tiny

# The float32 number below 1. Of probabilities beyond it and below its counterpart, the logit counts as theirs: at the upper
# end, a float32 has no room for a larger one, and a window must not decide alone because the lower end has more.
_LARGEST = 1.0 - 2.0**-24


def combine_windows(values: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Returns the mean over the windows of each text, float32 [texts, …].

    `values` are float [windows, …], for example logits. `texts` are the index of each window's text, int [windows], in
    ascending order from 0; each text has a window. A text with one window keeps its values.
    """
    if not len(texts) or texts[-1] == len(texts) - 1:
        return values
    starts = np.flatnonzero(np.diff(texts, prepend=-1))
    counts = np.diff(starts, append=len(texts)).reshape(-1, *[1] * (values.ndim - 1))
    means: np.ndarray = np.add.reduceat(values.astype(np.float64), starts, axis=0) / counts
    return means.astype(np.float32)


def combine_probabilities(probabilities: np.ndarray, texts: np.ndarray, *, several_labels: bool = False) -> np.ndarray:
    """Returns the probabilities of each text, float32 [texts, labels], from those of its windows [windows, labels].

    They are the softmax of the combined logits, or, of a model of several labels, the sigmoid of each. A text with one
    window keeps its probabilities to the bit. `texts` as in `combine_windows`. A probability that is not a number stays one.
    """
    if not len(texts) or texts[-1] == len(texts) - 1:
        return probabilities
    exact = probabilities.astype(np.float64)
    if several_labels:
        kept = np.clip(exact, 1.0 - _LARGEST, _LARGEST)
        logits = combine_windows(np.log(kept) - np.log1p(-kept), texts)
        combined: np.ndarray = sigmoid(logits).astype(np.float32)
    else:
        logits = combine_windows(np.log(np.maximum(exact, _SMALLEST)), texts)
        combined = softmax(logits).astype(np.float32)
    starts = np.flatnonzero(np.diff(texts, prepend=-1))
    alone = np.diff(starts, append=len(texts)) == 1
    combined[alone] = probabilities[starts[alone]]
    return combined
