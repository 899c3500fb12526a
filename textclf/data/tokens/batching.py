"""Chooses the rows of each batch and the length of its padding: takes token lengths and returns lists of rows.

Real texts are short. Rows of similar length share a batch, so that little time is spent on padding. The batches and
their order depend only on the seed and the epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Few different lengths of batches, so that buffers and compiled code are reused.
_LENGTH_STEP = 8

# Rows are sorted by length inside random pools of this many batches, so that every epoch mixes the rows again.
_POOL_BATCHES = 64

# Activations take 0.65 MB a token at the published size. In parts of this many tokens, a step of 32 rows of 128 needs
# 2.5 GiB instead of 4.0 GiB and takes a tenth longer. Shorter batches are not split.
_TOKENS_A_PART = 1536


@dataclass(frozen=True)
class Batch:
    """Row numbers (int [rows]) and the length to which they are padded."""

    rows: np.ndarray
    length: int


def padded_length(tokens: int, max_length: int) -> int:
    """Returns the length to which a row of this many tokens is padded.

    MobileBERT's trigram lets the last token see what follows it. A row keeps at least one [PAD] after it, unless it
    fills `max_length`, so that its output is the same as at `max_length`.
    """
    return min(max_length, -(-(tokens + 1) // _LENGTH_STEP) * _LENGTH_STEP)


def part_count(batch: Batch) -> int:
    """The number of parts in which a CPU computes the batch, so that its activations need little memory."""
    return -(-len(batch.rows) * batch.length // _TOKENS_A_PART)


def training_batches(
    lengths: Sequence[int] | np.ndarray, batch_size: int, max_length: int, *, seed: int, epoch: int
) -> list[Batch]:
    """Returns every row once, in batches of rows of similar length, in a random order."""
    random = np.random.default_rng([seed, epoch])
    sizes = np.asarray(lengths)
    order = random.permutation(len(sizes))
    batches = []
    pool_size = batch_size * _POOL_BATCHES
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        # The incomplete batch is at a random place among the lengths, not always at the longest rows.
        offset = int(random.integers(batch_size)) if len(pool) % batch_size else 0
        edges = [0, *range(offset or batch_size, len(pool), batch_size), len(pool)]
        batches += [pool[begin:end] for begin, end in itertools.pairwise(edges)]
    random.shuffle(batches)
    return [Batch(rows, padded_length(int(sizes[rows].max()), max_length)) for rows in batches]


def evaluation_batches(lengths: Sequence[int] | np.ndarray, batch_size: int, max_length: int) -> list[Batch]:
    """Returns every row once, sorted by length."""
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(sizes, kind="stable")
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [Batch(rows, padded_length(int(sizes[rows].max()), max_length)) for rows in groups]
