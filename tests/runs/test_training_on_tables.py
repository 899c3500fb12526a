"""Tables in memory as training data: the same model as from their files, kept in the run, refused where they are wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import textclf
from tests.tiny import write_reviews, write_tiny_encoder
from textclf.training.step import TrainingStep

RECIPE = (
    "name: reviews\ndataset: {train: elsewhere.csv, validation: 0.2, text: review, label: mood}\n"
    "encoder: average-words\ntraining: {epochs: 2}\n"
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return pd.read_csv(write_reviews(tmp_path / "rows.csv", 80))


def of_bytes(run: textclf.Run) -> bytes:
    return run.model_path.read_bytes()


def test_a_frame_trains_the_model_that_its_file_trains_and_stays_in_the_run(tmp_path, frame):
    """With a tiny MobileBERT, all three splits, of which one comes as dicts and one as a file."""
    encoder = write_tiny_encoder(tmp_path / "encoder", num_hidden_layers=1)
    more = pd.read_csv(write_reviews(tmp_path / "more.csv", 30, seed=5))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "name: tiny\ndataset: {train: rows.csv, validation: more.csv, test: last.csv, text: review, label: mood}\n"
        f"encoder: {{source: {encoder}, max_length: 32}}\ntraining: {{epochs: 1, batch_size: 16}}\n"
    )
    write_reviews(tmp_path / "last.csv", 20, seed=6)
    of_files = textclf.train(recipe, tmp_path / "files", quiet=True)
    tables = {"train": frame, "validation": more.to_dict("records")}
    (tmp_path / "rows.csv").unlink()
    (tmp_path / "more.csv").unlink()
    run = textclf.train(recipe, tmp_path / "run", data=tables, quiet=True)
    assert of_bytes(run) == of_bytes(of_files)
    assert sorted(path.name for path in (run.dir / "data").iterdir()) == ["train.csv", "validation.csv"]
    kept = pd.read_csv(run.dir / "data" / "train.csv")
    assert kept["review"].tolist() == frame["review"].tolist()
    assert kept["mood"].tolist() == frame["mood"].tolist()
    assert kept["id"].isna().all()
    written = textclf.load_recipe(run.dir / "recipe.yaml").dataset
    assert written.train == (run.dir / "data" / "train.csv").resolve()
    assert written.validation == (run.dir / "data" / "validation.csv").resolve()
    assert written.test == (tmp_path / "last.csv").resolve()
    assert sorted(run.metrics["files"]) == ["last.csv", "train.csv", "validation.csv"]


def test_a_run_on_tables_can_be_moved_repeated_replaced_verified_and_compared(tmp_path, recipe, frame):
    run = textclf.train(recipe, tmp_path / "run", data={"train": frame}, quiet=True)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    again = textclf.train(moved / "recipe.yaml", tmp_path / "again", quiet=True)
    assert again.model_path.read_bytes() == (moved / "model.tflite").read_bytes()
    assert textclf.verify(moved / "model.tflite", run=moved).parity.rows == run.metrics["rows"]["validation"]
    assert textclf.compare([moved, tmp_path / "again"]).as_dict()["rows"] == run.metrics["rows"]["validation"]
    replaced = textclf.train(moved / "recipe.yaml", moved, data={"train": frame}, force=True, quiet=True)
    assert of_bytes(replaced) == of_bytes(again)


def test_wrong_predictions_are_reported_with_their_rows_in_the_kept_file(tmp_path, recipe, frame):
    run = textclf.train(recipe, tmp_path / "run", data={"train": frame[12:], "validation": frame[:12]}, quiet=True)
    kept = pd.read_csv(run.dir / "data" / "validation.csv")["review"]
    report = (run.dir / "report.html").read_text()
    mistakes = re.findall(r'data-name="row">(\d+)</td><td class="text" dir="auto">(.*?)</td>', report)
    assert len(mistakes) >= 2
    for row, text in mistakes:  # the header is row 1
        assert kept[int(row) - 2] == text


def interrupt_at(number: int, patch: pytest.MonkeyPatch) -> None:
    steps = TrainingStep.__call__

    def step(self: TrainingStep, *arguments: Any) -> Any:
        if arguments[-1] == number:
            os.kill(os.getpid(), signal.SIGINT)
        return steps(self, *arguments)

    patch.setattr(TrainingStep, "__call__", step)


def test_an_interrupted_run_on_tables_resumes_with_the_same_rows_only(tmp_path, recipe, frame):
    data = {"train": frame, "test": frame[:10].to_dict("records")}
    whole = textclf.train(recipe, tmp_path / "whole", data=data, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(3, patch)
        with pytest.raises(KeyboardInterrupt):
            textclf.train(recipe, tmp_path / "run", data=data, quiet=True)
    changed = frame.assign(mood=frame["mood"].to_list()[::-1])
    with pytest.raises(textclf.TextclfError, match="the recipe, the data or the encoder changed since"):
        textclf.train(recipe, tmp_path / "run", data={**data, "train": changed}, resume=True, quiet=True)
    run = textclf.train(recipe, tmp_path / "run", data=data, resume=True, quiet=True)
    assert of_bytes(run) == of_bytes(whole)
    assert pd.read_csv(run.dir / "data" / "train.csv")["mood"].tolist() == frame["mood"].tolist()


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(lambda mood: mood.astype("category"), id="categories"),
        pytest.param(lambda mood: mood.astype("string"), id="strings of pandas"),
        pytest.param(lambda mood: (mood == "good").astype(int), id="integers"),
        pytest.param(lambda mood: mood == "good", id="booleans"),
    ],
)
def test_labels_of_every_kind_are_the_strings_that_str_makes(recipe, frame, labels):
    frame["mood"] = labels(frame["mood"])
    assert textclf.check(recipe, data={"train": frame}).labels == sorted({str(label) for label in frame["mood"]})


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, np.float32("nan"), pd.NaT])
def test_missing_values_have_no_text_or_no_label(recipe, frame, missing):
    rows = frame.to_dict("records")
    rows[4]["review"] = missing
    assert [f.rows for f in textclf.check(recipe, data={"train": rows}).findings if f.kind == "empty_text"] == [(4,)]
    del rows[4]["review"]
    assert [f.rows for f in textclf.check(recipe, data={"train": rows}).findings if f.kind == "empty_text"] == [(4,)]
    rows[7]["mood"] = missing
    with pytest.raises(textclf.TextclfError, match=r"^data\[train\]: no label in row 7,"):
        textclf.check(recipe, data={"train": rows})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(review=5), r"data[train]: row 0 of column `review` is 5 (int), expected text; convert"),
        (
            lambda f: f.assign(mood=[["good"]] * 80),
            "data[train]: row 0 of column `mood` is ['good'] (list), expected one",
        ),
        (
            lambda f: f.assign(mood=[np.ones(2)] * 80),
            "row 0 of column `mood` is array([1., 1.]) (ndarray), expected one",
        ),
        (lambda f: f.assign(mood=b"good"), "row 0 of column `mood` is b'good' (bytes), expected one label"),
        (
            # pandas with pyarrow keeps such a text only as an object.
            lambda f: f.assign(mood=pd.Series(["\udc80"] * 80, dtype=object)),
            "data[train]: row 0 of column `mood` holds half of a character (U+DC80)",
        ),
        (
            lambda f: pd.concat([f, f[["review"]]], axis=1),
            "data[train]: has 2 columns `review`; rename or drop all but",
        ),
        (lambda f: f[:0], "data[train]: has no rows; pass a table with at least one row"),
        (lambda f: pd.DataFrame(), "data[train]: has no rows; pass a table with at least one row"),
        (lambda f: [], "data[train]: has no rows; pass a table with at least one row"),
        (lambda f: f.drop(columns="mood"), "data[train]: there is no column `mood`"),
        (
            lambda f: f["review"],
            "data[train]: is a Series; pass a pandas DataFrame, a pyarrow Table, a polars DataFrame or a list of dicts",
        ),
        (
            lambda f: f["review"].tolist(),
            "data[train]: is a list; pass a pandas DataFrame, a pyarrow Table, a polars DataFrame or a list of dicts",
        ),
        (
            lambda f: "rows.csv",
            "data[train]: is a str; pass a pandas DataFrame, a pyarrow Table, a polars DataFrame or a list of dicts",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path, recipe, frame, change, message):
    with pytest.raises(textclf.TextclfError) as error:
        textclf.train(recipe, tmp_path / "run", data={"train": change(frame)}, quiet=True)
    assert message in str(error.value)
    assert not list(tmp_path.glob("*run*"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"dev": []}, "data has the key `dev`; the keys are train, validation and test"),
        ([{"review": "good", "mood": "good"}], 'data is a list; pass a dict by split such as {"train": frame}'),
    ],
)
def test_the_tables_are_named_by_split(tmp_path, recipe, data, message):
    with pytest.raises(ValueError, match=f"^{message.replace('{', '[{]')}"):
        textclf.train(recipe, tmp_path / "run", data=data, quiet=True)


def test_columns_that_are_numbers_are_named_by_their_digits(recipe, frame):
    recipe.write_text(RECIPE.replace("text: review, label: mood", "text: '0', label: '1'"))
    frame = frame[["review", "mood"]].set_axis([0, 1], axis=1)
    assert textclf.check(recipe, data={"train": frame}).labels == ["bad", "good"]


def test_a_file_beside_tables_must_be_read_as_they_are(tmp_path, recipe, frame):
    """One setting applies to all files, and what the run keeps is UTF-8 with commas."""
    recipe.write_text(RECIPE.replace("0.2", "0.2, test: last.csv, delimiter: ;, encoding: cp1252"))
    message = r"^dataset\.delimiter is ';' for .*last\.csv, .*pass data\[test\] too"
    with pytest.raises(ValueError, match=message):
        textclf.train(recipe, tmp_path / "run", data={"train": frame}, quiet=True)
    with pytest.raises(ValueError, match=message):
        textclf.check(recipe, data={"train": frame})
    run = textclf.train(recipe, tmp_path / "run", data={"train": frame, "test": frame[:10]}, quiet=True)
    settings = textclf.load_recipe(run.dir / "recipe.yaml").dataset
    assert (settings.delimiter, settings.encoding) == (",", "utf-8")


class Arrow:
    """What a pyarrow Table offers."""

    def __init__(self, frame: pd.DataFrame, fault: Exception | None = None) -> None:
        self.frame, self.fault = frame, fault

    def to_pandas(self) -> pd.DataFrame:
        if self.fault:
            raise self.fault
        return self.frame


def test_a_table_that_becomes_a_frame_is_one(recipe, frame):
    assert textclf.check(recipe, data={"train": Arrow(frame)}) == textclf.check(recipe, data={"train": frame})
    broken = Arrow(frame, ModuleNotFoundError("pyarrow is required"))
    with pytest.raises(
        textclf.TextclfError, match=r"^data\[train\]: this Arrow cannot be converted .*pyarrow is required"
    ):
        textclf.check(recipe, data={"train": broken})


def test_lists_of_dicts_need_no_pandas(tmp_path, recipe, frame):
    code = (
        "import csv, sys, textclf\n"
        f"rows = list(csv.DictReader(open({str(tmp_path / 'rows.csv')!r})))\n"
        f"print(textclf.check({str(recipe)!r}, data={{'train': rows}}).labels, 'pandas' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "['bad', 'good'] False\n"
