"""`encoder.max_length: auto` takes the length that 99.5 % of the training rows need."""

from __future__ import annotations

import numpy as np

from tests.tiny import VOCABULARY, write_recipe
from textclf.data.examples import Dataset, Split
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.encoders.prepare import settle_max_length
from textclf.recipe.reading import load_recipe


def dataset_of(word_counts: list[int]) -> Dataset:
    texts = [(" ".join(["good"] * count),) for count in word_counts]
    labels = np.arange(len(texts), dtype=np.int32) % 2
    split = Split("train", texts, labels, list(range(2, len(texts) + 2)), "train.csv")
    return Dataset(["bad", "good"], split, split, None, [], {})


def settled(tmp_path, word_counts: list[int], *overrides: str, largest: int = 512) -> int:
    recipe = load_recipe(write_recipe(tmp_path), overrides)
    return settle_max_length(recipe, dataset_of(word_counts), Tokenizer(VOCABULARY), largest).encoder.fixed_length


def test_auto_covers_all_but_one_of_two_hundred_rows_and_leaves_room_for_padding(tmp_path):
    # 29 words, [CLS], [SEP] and one [PAD] fill 32 positions.
    assert settled(tmp_path, [5] * 198 + [29, 29], "encoder.max_length=auto") == 32
    assert settled(tmp_path, [5] * 198 + [30, 30], "encoder.max_length=auto") == 40
    assert settled(tmp_path, [5] * 399 + [300], "encoder.max_length=auto") == 8


def test_auto_stays_within_what_the_encoder_takes(tmp_path):
    assert settled(tmp_path, [100] * 10, "encoder.max_length=auto", largest=64) == 64


def test_a_number_stays_as_it_is(tmp_path):
    assert settled(tmp_path, [100] * 10, "encoder.max_length=48") == 48
