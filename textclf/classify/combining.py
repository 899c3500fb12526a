"""Combines what a model predicts for the windows of a text: takes values by window, and returns values by text.

The logits of a text are the mean of the logits of its windows. For a linear last layer these are the logits of the mean of
the windows' features.
"""

from __future__ import annotations

import numpy as np

from textclf.classify.metrics import softmax

# Logits are known from probabilities up to a constant, which the softmax ignores. Smaller ones have no logarithm.
_SMALLEST = np.finfo(np.float32).tiny


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


def combine_probabilities(probabilities: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Returns the probabilities of each text, float32 [texts, labels], from those of its windows [windows, labels].

    They are the softmax of the combined logits; a text with one window keeps its probabilities to the bit. `texts` as in
    `combine_windows`. A probability that is not a number stays one.
    """
    if not len(texts) or texts[-1] == len(texts) - 1:
        return probabilities
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    combined: np.ndarray = softmax(combine_windows(logits, texts)).astype(np.float32)
    starts = np.flatnonzero(np.diff(texts, prepend=-1))
    alone = np.diff(starts, append=len(texts)) == 1
    combined[alone] = probabilities[starts[alone]]
    return combined
