"""DataFrames and lists of dicts in place of files: the same results and findings, rows numbered by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import textclf
from tests.tiny import write_reviews

RECIPE = (
    "name: reviews\ndataset: {train: train.csv, validation: 0.2, text: review, label: mood}\n"
    "encoder: average-words\ntraining: {epochs: 1}\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    write_reviews(folder / "train.csv", 80)
    write_reviews(folder / "more.csv", 30, seed=5)
    (folder / "reviews.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return textclf.train(folder / "reviews.yaml", folder / "run", quiet=True).model_path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pd.read_csv(path).to_dict("records")


def test_a_frame_and_a_list_of_dicts_are_measured_as_their_file_is(folder, model):
    file = textclf.evaluate_file(model, folder / "more.csv")
    assert textclf.evaluate_file(model, pd.read_csv(folder / "more.csv")) == file
    assert textclf.evaluate_file(model, rows_of(folder / "more.csv")) == file


def test_missing_texts_of_a_frame_are_left_out_as_empty_cells_are(folder, model):
    frame = pd.read_csv(folder / "more.csv")
    frame.loc[[3, 7], "review"] = None
    assert textclf.evaluate_file(model, frame).rows_without_text == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"review": 5, "mood": "good"}], "data: row 0 of column `review` is 5 (int), expected text"),
        ([{"text": "fine", "mood": "good"}], "data: there is no column `review`"),
        ([{"review": "fine", "mood": "odd"}], "data: no row has a label that the model knows"),
        ([{"review": "half \ud83d", "mood": "good"}], "half of a character (U+D83D)"),
        ([], "data: has no rows; pass a table with at least one row"),
    ],
)
def test_a_table_in_memory_that_cannot_be_measured_is_an_error_with_its_place(model, rows, message):
    with pytest.raises(textclf.TextclfError) as error:
        textclf.evaluate_file(model, rows)
    assert message in str(error.value)


def test_a_check_of_frames_finds_what_a_check_of_files_finds(folder):
    frame = pd.read_csv(folder / "train.csv")
    frame.loc[3, "review"] = ""
    frame.loc[6, "review"] = frame.loc[4, "review"]
    frame.to_csv(folder / "odd.csv", index=False)
    recipe = folder / "reviews.yaml"
    file = textclf.check(recipe, [f"dataset.train={folder / 'odd.csv'}"])
    memory = textclf.check(recipe, data={"train": frame})
    assert memory.rows == file.rows
    assert [finding.kind for finding in memory.findings] == [finding.kind for finding in file.findings]
    [empty] = [finding for finding in memory.findings if finding.kind == "empty_text"]
    assert empty.message.startswith("data[train]: 1 row without text left out")
    assert list(empty.rows) == [3]
    [of_file] = [finding for finding in file.findings if finding.kind == "empty_text"]
    assert list(of_file.rows) == [5]


def test_frames_take_the_place_of_fractions_and_files(folder):
    train, test = pd.read_csv(folder / "train.csv"), rows_of(folder / "more.csv")
    counts = textclf.check(
        folder / "reviews.yaml", data={"train": train, "validation": test[:10], "test": test[10:]}
    ).rows
    assert {name: sum(labels.values()) for name, labels in counts.items()} == {
        "train": 80,
        "validation": 10,
        "test": 20,
    }


def test_a_check_of_frames_names_the_rows_by_position(folder):
    frame = pd.read_csv(folder / "train.csv")
    frame.loc[2, "mood"] = None
    with pytest.raises(textclf.TextclfError, match=r"data\[train\]: no label in row 2, and rows without a label"):
        textclf.check(folder / "reviews.yaml", data={"train": frame})


def test_a_name_that_is_no_split_is_refused(folder):
    with pytest.raises(textclf.TextclfError, match="data has the key `dev`; the keys are train, validation and test"):
        textclf.check(folder / "reviews.yaml", data={"dev": []})


@pytest.mark.parametrize("with_run", [False, True])
def test_a_model_is_verified_on_a_table_as_on_its_file(folder, model, with_run):
    run = folder / "run" if with_run else None
    file = textclf.verify(model, folder / "more.csv", run=run, consumers=[])
    for rows in (pd.read_csv(folder / "more.csv"), rows_of(folder / "more.csv")):
        memory = textclf.verify(model, rows, run=run, consumers=[])
        assert memory.problems == []
        assert memory.parity == file.parity
        assert (memory.rows is None) == with_run
        if memory.rows is not None:
            assert memory.rows.as_text() == file.rows.as_text().replace(str(folder / "more.csv"), "data")


@pytest.mark.parametrize("with_run", [False, True])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "data: has no rows"),
        (
            [{"review": "good", "mood": "good"}, {"review": 5, "mood": "bad"}],
            "data: row 1 of column `review` is 5 (int)",
        ),
        ([{"words": "good", "mood": "good"}], "data: there is no column `review`"),
    ],
)
def test_a_table_on_which_nothing_can_be_verified_is_an_error(folder, model, with_run, rows, message):
    with pytest.raises(textclf.TextclfError) as error:
        textclf.verify(model, rows, run=folder / "run" if with_run else None)
    assert str(error.value).startswith(message)


def test_a_table_without_labels_is_verified_without_an_accuracy(folder, model):
    rows = textclf.verify(model, [{"review": "good"}, {"review": None}], consumers=[]).rows
    assert (rows.rows, rows.without_text, rows.accuracy) == (2, 1, None)


def test_files_are_classified_as_files_and_frames_as_frames(folder, model):
    frame = pd.read_csv(folder / "more.csv")
    with pytest.raises(textclf.TextclfError, match=r"use Classifier\(model\)\.classify_frame\(frame\)"):
        textclf.classify_file(model, frame, folder / "out.csv")
    assert not (folder / "out.csv").exists()
