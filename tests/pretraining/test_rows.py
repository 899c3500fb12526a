"""Rows are planned with NumPy and made on the device."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining.corpus import Corpus  # noqa: E402
from pretraining.rows import (  # noqa: E402
    CLASSIFICATION,
    SEPARATOR,
    BatchStream,
    PlannedBatch,
    held_out_batches,
    make_texts,
    plan_epoch,
)
from pretraining.settings import Mixture  # noqa: E402

CPU = torch.device("cpu")
MIXTURE = Mixture(tokens=192, lengths=(16, 32, 48), short=20, crops=0.1, second_texts=0.1, holes=0.1, run_on=0.0)


def make_corpus(passages: int = 600, longest: int = 90) -> Corpus:
    """Every token has another id, so that a row tells where it is from; none is that of [CLS] or [SEP]."""
    lengths = np.random.default_rng(0).integers(4, longest, passages)
    return Corpus(np.arange(200, 200 + lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))


def ids_of(corpus: Corpus) -> torch.Tensor:
    return torch.from_numpy(corpus.ids.astype(np.int32))


def first_passages(corpus: Corpus, batches: list[PlannedBatch]) -> np.ndarray:
    """The number of the passage in which each row starts."""
    starts = np.concatenate([batch.rows[:, 0] for batch in batches])
    return np.searchsorted(corpus.offsets, starts, side="right") - 1


def test_every_passage_is_used_once_in_an_epoch_except_to_fill_up_the_last_batch() -> None:
    corpus = make_corpus()
    batches = plan_epoch(corpus, MIXTURE, seed=1, epoch=0)
    assert all(batch.length * len(batch.rows) == MIXTURE.tokens for batch in batches)
    counts = np.bincount(first_passages(corpus, batches), minlength=len(corpus))
    assert counts.min() == 1
    assert counts.sum() - len(corpus) < MIXTURE.tokens // MIXTURE.longest


def test_rows_have_the_shortest_length_that_holds_them_but_for_the_rest_of_a_length() -> None:
    batches = plan_epoch(make_corpus(), MIXTURE, seed=1, epoch=0)
    longer = dict.fromkeys(MIXTURE.lengths, 0)
    for batch in batches:
        needed = 2 + batch.rows[:, 1] + batch.rows[:, 3] + batch.rows[:, 4]
        assert needed.max() <= batch.length
        assert batch.tokens == needed.sum()
        longer[batch.length] += int((needed <= batch.length - 16).sum())
    assert longer[16] == 0
    assert longer[32] < MIXTURE.tokens // 16
    assert longer[48] < MIXTURE.tokens // 16 + MIXTURE.tokens // 32


def test_the_shares_of_second_texts_pairs_holes_and_crops_are_those_of_the_mixture() -> None:
    batches = plan_epoch(make_corpus(20_000, 18), MIXTURE, seed=1, epoch=0)
    rows = np.concatenate([batch.rows for batch in batches])
    second = rows[:, 3] > 0
    assert second.mean() == pytest.approx(0.1, abs=0.01)
    assert rows[second, 4].mean() == pytest.approx(2 / 3, abs=0.05)
    assert not rows[~second, 4].any()
    assert np.mean([batch.holes for batch in batches]) == pytest.approx(0.1, abs=0.03)


def test_pairs_are_two_segments_with_a_separator_after_each_and_a_continuation_is_one() -> None:
    corpus = make_corpus()
    rows = np.array([[0, 3, 10, 2, 1], [0, 3, 10, 2, 0], [5, 4, 0, 0, 0]])
    texts = make_texts(ids_of(corpus), PlannedBatch(16, rows, False))
    pair, continued, single = texts.ids.tolist()
    assert pair[:8] == [CLASSIFICATION, 200, 201, 202, SEPARATOR, 210, 211, SEPARATOR]
    assert continued[:7] == [CLASSIFICATION, 200, 201, 202, 210, 211, SEPARATOR]
    assert single[:6] == [CLASSIFICATION, 205, 206, 207, 208, SEPARATOR]
    assert texts.mask.sum(1).tolist() == [8, 7, 6]
    assert texts.segments.tolist() == [[0] * 5 + [1] * 3 + [0] * 8, [0] * 16, [0] * 16]
    assert not (texts.ids * ~texts.mask).any()


def test_holes_leave_out_15_percent_and_move_the_others_together() -> None:
    corpus = make_corpus()
    rows = np.array([[0, 46, 0, 0, 0], [100, 20, 200, 20, 1]] * 200)
    whole = make_texts(ids_of(corpus), PlannedBatch(48, rows, False))
    made = make_texts(ids_of(corpus), PlannedBatch(48, rows, True), torch.Generator().manual_seed(0))
    assert made.mask.sum() / whole.mask.sum() == pytest.approx(0.86, abs=0.01)
    for before, after, mask, segments in zip(whole.ids, made.ids, made.mask, made.segments, strict=True):
        kept = after[mask].tolist()
        assert mask[: len(kept)].all()
        assert not after[len(kept) :].any()
        assert [token for token in before.tolist() if token in set(kept) and token] == kept
        assert (after == SEPARATOR).sum() == (before == SEPARATOR).sum()
        # What follows the first [SEP] is the second segment.
        ends = (after == SEPARATOR).nonzero().flatten().tolist()
        assert segments.sum() == ends[-1] - ends[0]


def test_rows_that_run_on_take_the_passages_that_follow_up_to_the_longest_length() -> None:
    corpus = make_corpus(2_000, 10)
    mixture = MIXTURE.model_copy(update={"run_on": 1.0, "second_texts": 0.0})
    rows = np.concatenate([batch.rows for batch in plan_epoch(corpus, mixture, seed=1, epoch=0)])
    assert rows[:, 1].max() == 46
    assert rows[:, 1].mean() > 20
    assert (rows[:, 0] + rows[:, 1]).max() <= len(corpus.ids)


@pytest.mark.parametrize("longest", [384, 512])
def test_rows_of_up_to_512_tokens_are_planned(longest: int) -> None:
    mixture = Mixture(
        tokens=longest * 4, lengths=(128, longest), short=62, crops=0.0, second_texts=0.3, holes=0.0, run_on=0.5
    )
    corpus = make_corpus(200, 600)
    batches = plan_epoch(corpus, mixture, seed=1, epoch=0)
    texts = [make_texts(ids_of(corpus), batch) for batch in batches]
    assert max(int(part.mask.sum(1).max()) for part in texts) == longest


def test_a_stream_continues_at_any_batch_with_the_same_texts() -> None:
    corpus, count = make_corpus(100), len(plan_epoch(make_corpus(100), MIXTURE, 1, 0))
    whole = BatchStream(corpus, MIXTURE, 1, CPU)
    taken = [texts.ids for _, texts in itertools.islice(whole, count + 3)]
    assert (whole.epoch, whole.batch) == (1, 3)
    for begin in (0, 5, count):
        resumed = BatchStream(corpus, MIXTURE, 1, CPU, 0, begin)
        for ids, (_, texts) in zip(taken[begin:], resumed, strict=False):
            torch.testing.assert_close(texts.ids, ids, atol=0, rtol=0)


def test_epochs_and_seeds_have_other_orders() -> None:
    corpus = make_corpus(100)
    orders = [
        first_passages(corpus, plan_epoch(corpus, MIXTURE, seed, epoch)) for seed, epoch in [(1, 0), (1, 1), (2, 0)]
    ]
    assert all(not np.array_equal(*pair) for pair in itertools.combinations([order[:80] for order in orders], 2))


def test_held_out_batches_are_whole_passages_that_need_their_length() -> None:
    corpus = make_corpus()
    short, half, whole = held_out_batches(corpus, MIXTURE, 3, seed=1)
    assert [batch.length for batch in (short, half, whole)] == [12, 24, 48]
    assert half.rows[:, 1].min() > 10
    assert set(whole.rows[:, 0]) <= set(corpus.starts)
    tiny = Corpus(np.arange(200, 209), np.array([0, 3, 6, 9]))
    assert held_out_batches(tiny, MIXTURE, 3, seed=1)[2].rows[:, 1].tolist() == [3] * 4
