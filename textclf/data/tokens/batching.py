"""Which rows stand together in a batch, and how far each batch is padded: token lengths in, lists of rows out.

Real texts are short. Rows of like length share a batch, so that little is computed on padding; which batches there are
and their order depends on the seed and the epoch alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Batches of few different lengths: buffers are reused, and compiled code where there is any.
_LENGTH_STEP = 8

# Rows are sorted by length inside random pools of this many batches, so that every epoch mixes rows anew.
_POOL_BATCHES = 64

# Activations take 0.65 MB a token at the published size. In parts of so many tokens, a step of 32 rows of 128 takes 2.5 in
# place of 4.0 GiB, and a tenth longer; shorter batches stay whole.
_TOKENS_A_PART = 1536


@dataclass(frozen=True)
class Batch:
    """Row numbers (int [rows]) and the length to which they are padded."""

    rows: np.ndarray
    length: int


def padded_length(tokens: int, max_length: int) -> int:
    """The length to which a row of so many tokens is padded.

    MobileBERT's trigram lets the last token see what follows it. A row keeps at least one [PAD] after it, unless it
    fills `max_length`, so that its output is the same as at `max_length`.
    """
    return min(max_length, -(-(tokens + 1) // _LENGTH_STEP) * _LENGTH_STEP)


def part_count(batch: Batch) -> int:
    """In how many parts a processor computes the batch, so that its activations fit into modest memory."""
    return -(-len(batch.rows) * batch.length // _TOKENS_A_PART)


def training_batches(
    lengths: Sequence[int] | np.ndarray, batch_size: int, max_length: int, *, seed: int, epoch: int
) -> list[Batch]:
    """Every row once, in batches of rows of like length, in a random order."""
    random = np.random.default_rng([seed, epoch])
    sizes = np.asarray(lengths)
    order = random.permutation(len(sizes))
    batches = []
    pool_size = batch_size * _POOL_BATCHES
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        # An incomplete batch falls on a random place among the lengths rather than always on the longest rows.
        offset = int(random.integers(batch_size)) if len(pool) % batch_size else 0
        edges = [0, *range(offset or batch_size, len(pool), batch_size), len(pool)]
        batches += [pool[begin:end] for begin, end in itertools.pairwise(edges)]
    random.shuffle(batches)
    return [Batch(rows, padded_length(int(sizes[rows].max()), max_length)) for rows in batches]


def evaluation_batches(lengths: Sequence[int] | np.ndarray, batch_size: int, max_length: int) -> list[Batch]:
    """Every row once, sorted by length."""
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(sizes, kind="stable")
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [Batch(rows, padded_length(int(sizes[rows].max()), max_length)) for rows in groups]
