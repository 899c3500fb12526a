"""What a model reads decides which rows are equal: splits, duplicates, contradictions and leaks."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.tiny import VOCABULARY, write_tiny_encoder
from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.splits import set_aside
from textclf.data.tokens.row_keys import as_tokens, as_words, as_written
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.encoders.prepare import load_recipe_data
from textclf.errors import DataError, EncoderError
from textclf.recipe.reading import load_recipe

SENTENCES = [
    f"{sign} {thing} {verb}"
    for sign in ("good", "bad", "great", "awful", "love", "hate")
    for thing in ("film", "app", "phone", "food", "bank", "card")
    for verb in ("works", "broken", "late", "fast", "slow")
]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def load(tmp_path: Path, rows: list[tuple[str, str]], encoder: str = "tiny", *overrides: str) -> Dataset:
    write_rows(tmp_path / "train.csv", rows)
    source = write_tiny_encoder(tmp_path / "tiny") if encoder == "tiny" else encoder
    (tmp_path / "recipe.yaml").write_text(f"name: r\ndataset:\n  train: train.csv\nencoder:\n  source: {source}\n")
    length = [] if any("max_length" in override for override in overrides) else ["encoder.max_length=16"]
    return load_recipe_data(load_recipe(tmp_path / "recipe.yaml", [*length, *overrides]))[1]


def kinds(dataset: Dataset) -> dict[str, object]:
    return {finding.kind: finding for finding in dataset.findings}


def test_tokens_are_the_key_of_a_text():
    read = as_tokens(Tokenizer(VOCABULARY), 6)
    keys = read([("good film",), ("  GOOD\tfilm ",), ("film good",), ("good film\0hidden",), ("good zebra",)])
    assert keys.keys[0] == keys.keys[1] == keys.keys[3]
    assert len(set(keys.keys)) == 3
    assert keys.unknown == [False, False, False, False, False]
    assert read([("good 電",), ("good 話",)]).unknown == [True, True]
    assert len(set(read([("good 電",), ("good 話",)]).keys)) == 1


def test_what_is_behind_the_last_token_makes_no_difference():
    rows = [("good good good good bad",), ("good good good good hate",)]
    assert len(set(as_tokens(Tokenizer(VOCABULARY), 6)(rows).keys)) == 1
    assert len(set(as_tokens(Tokenizer(VOCABULARY), 6, "tail")(rows).keys)) == 2
    assert len(set(as_tokens(Tokenizer(VOCABULARY), 7)(rows).keys)) == 2


def test_a_pair_is_not_the_same_pair_divided_elsewhere():
    rows = [("good", "bad film"), ("good bad", "film"), ("good bad film", "")]
    assert len(set(as_tokens(Tokenizer(VOCABULARY), 16)(rows).keys)) == 3
    assert len(set(as_written(rows).keys)) == 3


def test_averaged_words_know_no_order_no_punctuation_and_no_capitals():
    rows = [("Dog bites man!",), ("man, bites dog",), ("dog bites dog",)]
    assert [len(set(as_words(16, lowercase)(rows).keys)) for lowercase in (True, False)] == [2, 3]
    assert len(set(as_words(3, True)([("one two three",), ("two one four",)]).keys)) == 1


@pytest.mark.parametrize("encoder", ["tiny", "average-words"])
def test_spellings_of_one_text_are_never_on_two_sides(tmp_path, encoder):
    spellings = [lambda text: text, str.upper, lambda text: f"  {text}\n", str.title]
    rows = [(spell(text), "ab"[place % 2]) for spell in spellings for place, text in enumerate(SENTENCES)]
    dataset = load(tmp_path, rows, encoder, "dataset.validation=0.2", "dataset.test=0.2")
    sides = [{" ".join(text.lower().split()) for (text,) in split.texts} for split in dataset.splits]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert [len(split.rows) for split in dataset.splits] == [432, 144, 144]
    finding = kinds(dataset)["duplicate"]
    assert finding.count == 3 * len(SENTENCES)
    assert finding.message.startswith(
        "{}: 540 rows repeat the text and label of an earlier row as the model reads them (540 rows are written "
        "differently); all are kept (rows 182, 183".format(tmp_path / "train.csv")
    )


def test_texts_that_differ_in_unknown_words_only_are_told_so(tmp_path):
    rows = [(text, "ab"[place % 2]) for place, text in enumerate(SENTENCES)]
    dataset = load(tmp_path, [*rows, ("good 電", "a"), ("good 話", "a"), ("GOOD 話", "b")])
    assert "3 rows" not in kinds(dataset)["duplicate"].message
    assert "(1 row is written differently; 1 of these with words that the encoder does not know ([UNK])" in (
        kinds(dataset)["duplicate"].message
    )
    assert kinds(dataset)["contradiction"].rows == (182, 183, 184)


def test_leaks_between_files_are_counted_as_the_model_reads_them(tmp_path):
    rows = [(text, "ab"[place % 2]) for place, text in enumerate(SENTENCES)]
    write_rows(tmp_path / "test.csv", [(SENTENCES[0].upper(), "a"), (SENTENCES[1], "b"), ("never again", "a")])
    dataset = load(tmp_path, rows, "tiny", "dataset.test=" + str(tmp_path / "test.csv"))
    finding = kinds(dataset)["leak"]
    assert finding.rows == (2, 3)
    assert "the texts of 2 of 3 rows (66.7%) are in" in finding.message
    assert (
        "too as the model reads them (1 row is written differently), so results on them are too good" in finding.message
    )


def test_a_length_that_is_chosen_from_the_data_decides_too(tmp_path):
    long = "good " * 40
    rows = [(text, "ab"[place % 2]) for place, text in enumerate(SENTENCES * 10)]
    rows = [(f"{text} {place}", label) for place, (text, label) in enumerate(rows)]
    dataset = load(tmp_path, [*rows, (long + "bad", "a"), (long + "hate", "b")], "tiny", "encoder.max_length=auto")
    assert kinds(dataset)["contradiction"].rows == (1802, 1803)


def test_the_split_of_a_file_without_twins_is_that_of_its_texts(tmp_path):
    rows = [(text, "ab"[place % 2]) for place, text in enumerate(SENTENCES)]
    dataset = load(tmp_path, rows)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert dataset.validation.rows == load_dataset(recipe.dataset, recipe.training.seed).validation.rows


def test_a_group_has_its_place_by_the_first_of_its_texts_in_any_order_of_the_file():
    texts = [(spell(f"text {number}"),) for number in range(60) for spell in (str.upper, str.lower)]
    keys = [text.lower() for (text,) in texts]
    forwards = set_aside(texts, [0] * 120, {"validation": 0.2}, 3, keys)
    backwards = set_aside(texts[::-1], [0] * 120, {"validation": 0.2}, 3, keys[::-1])
    assert forwards == backwards[::-1]
    assert forwards[::2] == forwards[1::2]


def test_data_that_cannot_be_used_are_told_before_the_encoder_is_looked_for(tmp_path):
    with pytest.raises(DataError, match="every row has the label `a`"):
        load(tmp_path, [("x", "a"), ("y", "a")], str(tmp_path / "nothing"))
    with pytest.raises(EncoderError, match="nothing"):
        load(tmp_path, [("x", "a"), ("y", "b")], str(tmp_path / "nothing"))


def test_texts_that_are_all_one_to_the_model_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match="no label has two texts that the model reads differently"):
        load(tmp_path, [("電", "a"), ("話", "b"), ("本", "a"), ("語", "b")])
