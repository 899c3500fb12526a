"""Batches: every row once, rows of like length together, the same for the same seed."""

from __future__ import annotations

import numpy as np

from textclf.data.tokens.batching import evaluation_batches, padded_length, training_batches

LENGTHS = np.random.default_rng(0).integers(4, 100, 1000)


def test_every_row_is_in_one_batch_of_the_epoch():
    for rows in (1, 31, 32, 33, 1000):
        batches = training_batches(LENGTHS[:rows], 32, 128, seed=1, epoch=0)
        assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(rows))
        assert max(len(batch.rows) for batch in batches) <= 32


def test_rows_of_like_length_share_a_batch():
    batches = training_batches(LENGTHS, 32, 128, seed=1, epoch=0)
    computed = sum(len(batch.rows) * batch.length for batch in batches)
    assert computed < 1.2 * LENGTHS.sum()
    assert len({batch.length for batch in batches[:8]}) > 3, "batches come in the order of their length"


def test_seed_and_epoch_decide_the_batches():
    def rows(seed: int, epoch: int) -> list[list[int]]:
        return [batch.rows.tolist() for batch in training_batches(LENGTHS, 32, 128, seed=seed, epoch=epoch)]

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(1, 1)
    assert rows(1, 0) != rows(2, 0)
    assert {frozenset(batch) for batch in rows(1, 0)} != {frozenset(batch) for batch in rows(1, 1)}


def test_a_row_keeps_a_pad_after_it_unless_it_fills_the_whole_length():
    assert [padded_length(tokens, 128) for tokens in (1, 7, 8, 9, 127, 128)] == [8, 8, 16, 16, 128, 128]
    assert padded_length(10, 12) == 12


def test_evaluation_batches_hold_every_row_sorted_by_length():
    batches = evaluation_batches(LENGTHS, 64, 128)
    order = np.concatenate([batch.rows for batch in batches])
    assert sorted(order) == list(range(1000))
    assert (np.diff(LENGTHS[order]) >= 0).all()
    assert evaluation_batches([], 64, 128) == []
