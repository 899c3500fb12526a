"""The training rows in batches and parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import VOCABULARY
from textclf.data.examples import Dataset, Split
from textclf.data.tokens.batching import Batch
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.encoders.prepare import PreparedData
from textclf.recipe.settings import TrainingSettings
from textclf.training.rows import TrainingRows

LENGTH = 128


@pytest.fixture(scope="module")
def data() -> PreparedData:
    """120 rows of 3 to 128 tokens."""
    tokenizer = Tokenizer(VOCABULARY, "bert")
    texts = [("good " * (number + 1),) for number in range(120)]
    split = Split("train", texts, np.arange(120, dtype=np.int32), list(range(2, 122)), Path("train.csv"))
    dataset = Dataset(["a"], split, split, None, [], {})
    return PreparedData(dataset, tokenizer, LENGTH, {"train": tokenizer.encode(texts, LENGTH)})


def training_rows(data: PreparedData, *, spare_memory: bool, **settings: int) -> TrainingRows:
    weights = np.linspace(0, 1, 120).astype(np.float32)
    return TrainingRows(data, TrainingSettings(**settings), np.arange(120), weights, spare_memory=spare_memory)


def test_a_batch_in_parts_has_every_row_once_with_its_target_and_weight(data):
    rows = training_rows(data, spare_memory=False, batch_size=30, accumulate=4)
    batch = rows.batches(seed=1, epoch=0)[0]
    parts = rows.parts(batch)
    assert [len(part.weights) for part in parts] == [len(batch.rows) // 4 + (k < len(batch.rows) % 4) for k in range(4)]
    assert np.concatenate([part.targets for part in parts]).tolist() == batch.rows.tolist()
    np.testing.assert_allclose(np.concatenate([part.weights for part in parts]), batch.rows / 119, rtol=1e-6)
    tokens = np.concatenate([part.tokens.mask.sum(axis=1) for part in parts])
    assert tokens.tolist() == np.minimum(batch.rows + 3, LENGTH).tolist()


def test_each_part_is_padded_no_further_than_its_own_rows_need(data):
    rows = training_rows(data, spare_memory=False, accumulate=2)
    short, long = rows.parts(Batch(np.array([0, 1, 118, 119]), LENGTH))
    assert (short.tokens.ids.shape, long.tokens.ids.shape) == ((2, 8), (2, LENGTH))


def test_memory_is_spared_by_parts_of_at_most_1536_tokens(data):
    batch = Batch(np.arange(88, 120), LENGTH)
    spared = training_rows(data, spare_memory=True).parts(batch)
    assert len(spared) == 3
    assert max(part.tokens.ids.size for part in spared) <= 1536
    assert len(training_rows(data, spare_memory=False).parts(batch)) == 1
    assert len(training_rows(data, spare_memory=True, batch_size=32, accumulate=8).parts(batch)) == 8
    assert len(training_rows(data, spare_memory=True).parts(Batch(np.array([119]), LENGTH))) == 1
