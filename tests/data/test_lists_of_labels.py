"""Labels that are written as lists, in JSON and Parquet: read, refused with their rows, and proposed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textclf
from tests.label_sets import topic_rows
from tests.table_writers import write_csv, write_parquet, write_table
from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.multi_label.dataset import load_label_sets
from textclf.errors import DataError
from textclf.recipe.settings import DatasetSettings

FORMATS = ["rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.parquet"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_with(lists: list[Any], copies: int = 12) -> list[dict[str, Any]]:
    """Every value of `topics` in some rows with different texts."""
    return [{"text": f"text {n} of {place}", "topics": one} for n in range(copies) for place, one in enumerate(lists)]


def load(name: str, rows: list[dict[str, Any]], **settings: Any) -> Dataset:
    write_table(Path(), name, rows)
    return load_label_sets(DatasetSettings(train=Path(name), label="topics", **settings), seed=1)


def sets_of(dataset: Dataset) -> dict[str, set[str]]:
    """The labels of each text."""
    return {
        text: {dataset.labels[index] for index in np.flatnonzero(row)}
        for split in dataset.splits
        for (text,), row in zip(split.texts, split.labels, strict=True)
    }


def errors_of(name: str, rows: list[dict[str, Any]], **settings: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(name, rows, **settings)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", FORMATS)
def test_a_list_in_each_row_is_its_labels_and_an_empty_one_or_null_is_no_label(name):
    dataset = load(name, rows_with([["a", "b"], ["b", " a "], [], None, ["c"]]))
    assert dataset.labels == ["a", "b", "c"]
    found = sets_of(dataset)
    assert [found[f"text 0 of {place}"] for place in range(5)] == [{"a", "b"}, {"a", "b"}, set(), set(), {"c"}]
    assert len(found) == 60


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_list_is_read_beside_texts_with_a_separator(name):
    write_csv(Path("more.csv"), rows_with(["a;c", "b"], copies=1))
    dataset = load(name, rows_with([["a", "b"], ["c"]]), label_separator=";", validation=Path("more.csv"))
    assert dataset.labels == ["a", "b", "c"]
    assert dataset.validation.labels.tolist() == [[True, False, True], [False, True, False]]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ([["a"], "b"], "another list"),
        (["a", 2.0], "a number that is not whole"),
        (["a", None], "null"),
        ([True], "true"),
    ],
)
def test_what_is_no_text_in_a_list_is_an_error_with_its_rows(bad, what):
    rows = rows_with([["a", "b"], ["c"]], copies=2)
    rows[1]["topics"] = rows[3]["topics"] = bad
    [error] = errors_of("rows.jsonl", rows)
    assert error.startswith(f"rows.jsonl: the list of `topics` holds {what}")
    assert "in rows 2 and 4, but labels are texts; write the name of each label" in error


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ([["a"]], "another list"),
        ([1.5, 2], "a number that is not whole"),
        (["a", None], "null"),
        ([{"x": 1}], "an object"),
    ],
)
def test_parquet_lists_of_other_things_are_errors_with_their_rows(bad, what):
    rows = [{**row, "topics": bad} for row in rows_with([0, 0], copies=2)]
    [error] = errors_of("rows.parquet", rows)
    assert f"the list of `topics` holds {what} in rows 1, 2, 3 and 4" in error


@pytest.mark.parametrize("name", FORMATS)
def test_whole_numbers_in_a_list_are_labels_as_they_are_in_other_columns(name):
    dataset = load(name, rows_with([[3, 17], [17], [], [3]]))
    assert dataset.labels == ["17", "3"]
    assert sets_of(dataset)["text 0 of 0"] == {"3", "17"}


def test_texts_numbers_and_objects_in_place_of_lists_are_errors_with_their_rows():
    rows = rows_with([["a", "b"], ["c"]], copies=2)
    rows[0]["topics"], rows[2]["topics"] = "late|refund", 5
    [error] = errors_of("rows.jsonl", rows)
    assert (
        "`topics` holds `late|refund` in rows 1 and 3, which is no list of labels; set dataset.label_separator" in error
    )
    rows[0]["topics"] = rows[2]["topics"] = {"late": 1}
    [error] = errors_of("rows.jsonl", rows)
    assert "row 1 holds an object in `topics` (the same kind of fault in row 3)" in error
    [error] = errors_of("rows.jsonl", [{"text": "a", "topics": ["x\0y"]}, {"text": "b", "topics": ["z"]}])
    assert "row 1 holds a NUL character" in error
    [error] = errors_of("rows.jsonl", [{"text": "a", "topics": ["x\ny"]}, {"text": "b", "topics": ["z"]}])
    assert "in row 1 contains a line break" in error


def test_a_list_in_a_csv_stays_text():
    [error] = errors_of("rows.csv", rows_with(['["a", "b"]'], copies=3))
    assert 'rows.csv: `topics` holds `["a", "b"]` in rows 2, 3 and 4, which is no list of labels' in error
    dataset = load("rows.csv", rows_with(['["a"]', "b"]), label_separator="|")
    assert dataset.labels == ['["a"]', "b"]
    # The same text in JSON is no list either.
    assert "is no list of labels" in errors_of("rows.jsonl", rows_with(['["a", "b"]'], copies=3))[0]


def test_a_label_that_contains_what_joins_labels_in_results_needs_another_separator():
    rows = rows_with([["a|b", "c"], ["c"]])
    [error] = errors_of("rows.jsonl", rows)
    assert "the label `a|b` in rows 1, 3, 5" in error
    assert "contains `|`, which joins the labels of a row in results; set dataset.label_separator to other" in error
    assert load("rows.jsonl", rows, label_separator=";").labels == ["a|b", "c"]


def test_odd_lists_are_reported_with_their_rows():
    dataset = load("rows.jsonl", [*rows_with([["a", "b"], ["a;b"]]), *rows_with([["a", "a"], ["a", ""]], copies=1)])
    found = {one.kind: one for one in dataset.findings}
    assert found["repeated_label"].rows == (25,)
    assert found["empty_label"].rows == (26,)
    assert "1 row has an empty label in the list, which is ignored" in found["empty_label"].message
    assert "but they are elements of a list; write each of them as an element" in found["list_of_labels"].message
    single = load("other.jsonl", rows_with([["a"], ["b"]]))
    [unused] = [one for one in single.findings if one.kind == "separator_unused"]
    assert "no list of `topics` has two labels" in unused.message


def test_a_list_where_one_label_is_expected_says_which_task_it_needs():
    write_table(Path(), "rows.jsonl", rows_with([["a"], "b"], copies=2))
    with pytest.raises(DataError) as caught:
        load_dataset(DatasetSettings(train=Path("rows.jsonl"), label="topics"), 1)
    assert "`topics` holds a list in rows 1 and 3, but a row has one label here; if a row may have several" in str(
        caught.value
    )
    assert "set task: multi-label-classification" in str(caught.value)


# --- From the table to the labels ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that `new` proposed and `train` trained, on lists in JSON Lines."""
    folder = tmp_path_factory.mktemp("lists")
    for name, count, seed in (("train.jsonl", 160, 0), ("test.jsonl", 40, 1)):
        write_table(folder, name, topics(count, seed))
    made = textclf.new_recipe(folder / "train.jsonl", folder / "recipe.yaml")
    assert (made.label, made.lists, made.separator, made.files["test"].name) == ("topics", True, None, "test.jsonl")
    assert "label  `topics`, several in a list" in made.as_text()
    text = made.path.read_text(encoding="utf-8")
    assert "task: multi-label-classification" in text
    assert "label_separator" not in text
    assert "A row may have several of 4 labels: " in text.replace("\n  # ", " ")
    overrides = ["encoder.source=average-words", "training.epochs=2"]
    textclf.train(textclf.load_recipe(made.path, overrides), folder / "run", quiet=True)
    return folder


def topics(count: int, seed: int) -> list[dict[str, Any]]:
    return [{"id": n, "text": text, "topics": own} for n, (text, own) in enumerate(topic_rows(count, seed))]


def test_check_train_and_evaluate_read_lists(model):
    assert textclf.check(model / "recipe.yaml").labels == ["broken", "late", "praise", "refund"]
    again = textclf.load_recipe(model / "run" / "recipe.yaml")
    assert (again.task, again.dataset.label_separator) == ("multi-label-classification", None)
    recorded = json.loads((model / "run" / "metrics.json").read_text())["test"]["micro_f1"]
    rows = topics(40, 1)
    for name in FORMATS:
        write_table(Path(), name, rows)
        assert textclf.evaluate_label_sets(model / "run", name).micro_f1 == recorded
    write_csv(Path("joined.csv"), [{**row, "topics": "|".join(row["topics"])} for row in rows])
    assert textclf.evaluate_label_sets(model / "run", "joined.csv").micro_f1 == recorded


def as_arrow(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("pyarrow").Table.from_pylist(rows)


def as_pandas(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(
        [{**row, "topics": np.array(row["topics"], dtype=object)} for row in rows]
    )


def as_sets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "topics": set(row["topics"])} for row in rows]


@pytest.mark.parametrize("convert", [list, as_sets, as_arrow, as_pandas])
def test_lists_in_tables_in_memory_are_trained_on_and_measured_as_in_files(model, tmp_path, convert):
    rows = {"train": topics(160, 0), "test": topics(40, 1)}
    data = {name: convert(own) for name, own in rows.items()}
    recipe = textclf.load_recipe(model / "recipe.yaml", ["encoder.source=average-words", "training.epochs=2"])
    assert textclf.check(recipe, data=data).labels == ["broken", "late", "praise", "refund"]
    run = textclf.train(recipe, tmp_path / "run", data=data, quiet=True)
    of_files = json.loads((model / "run" / "metrics.json").read_text())
    assert run.metrics["test"]["micro_f1"] == of_files["test"]["micro_f1"]
    assert textclf.evaluate_label_sets(run.dir, data["test"]).micro_f1 == of_files["test"]["micro_f1"]
    assert textclf.verify(run.model_path, data["test"], run=run.dir).verdict == "verified"
    # The run can be repeated from what it keeps.
    kept = [json.loads(line) for line in (run.dir / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["text"], sorted(row["topics"])) for row in kept] == [
        (row["text"], sorted(row["topics"])) for row in rows["test"]
    ]
    again = textclf.train(textclf.load_recipe(run.dir / "recipe.yaml"), tmp_path / "again", quiet=True)
    assert again.metrics["test"] == run.metrics["test"]
    assert (
        textclf.train(recipe, tmp_path / "run", data=data, force=True, quiet=True).metrics["test"]
        == run.metrics["test"]
    )


def test_lists_in_tables_in_memory_have_the_errors_of_files_with_their_positions():
    recipe = textclf.Recipe.model_validate(
        {
            "name": "r",
            "task": "multi-label-classification",
            "dataset": {"train": Path("rows.csv"), "label": "topics"},
            "encoder": "average-words",
        }
    )
    for bad, what in (([None], "null"), ([1.5], "a number that is not whole"), ([["a"]], "another list")):
        rows = [*rows_with([["a", "b"], ["c"]], copies=2), {"text": "more", "topics": bad}]
        with pytest.raises(DataError, match=rf"data\[train\]: the list of `topics` holds {what} in row 4"):
            textclf.check(recipe, data={"train": rows})
    rows = [{"text": "a", "topics": [b"late"]}]
    with pytest.raises(
        DataError, match=r"data\[train\]: row 0 of column `topics` is b'late' \(bytes\), expected one label"
    ):
        textclf.check(recipe, data={"train": rows})


def test_classify_keeps_the_columns_with_lists(model):
    rows = topics(30, 2)
    write_table(Path(), "in.jsonl", rows)
    write_table(Path(), "in.parquet", rows)
    for name in ("out.jsonl", "out.csv"):
        textclf.classify_file(model / "run", "in.jsonl", name)
    textclf.classify_file(model / "run", "in.parquet", "out.parquet")
    written = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [{key: row[key] for key in rows[0]} for row in written] == rows
    labels = [row["predicted_labels"] for row in written]
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [json.loads(row["topics"]) for row in read] == [row["topics"] for row in rows]
    assert [row["predicted_labels"] or None for row in read] == labels
    parquet = pytest.importorskip("pyarrow.parquet")
    table, before = parquet.read_table("out.parquet"), parquet.read_table("in.parquet")
    assert table.schema.field("topics").type == before.schema.field("topics").type
    assert table.column("topics").to_pylist() == [row["topics"] for row in rows]
    assert table.column("predicted_labels").to_pylist() == labels


def test_new_proposes_lists_in_parquet_and_not_the_words_of_a_text():
    rows = [{**row, "words": row["text"].split() * 3} for row in topics(60, 0)]
    write_parquet(Path("table.parquet"), rows)
    made = textclf.new_recipe("table.parquet")
    assert (made.label, made.lists, made.text) == ("topics", True, ("text",))
    assert "words" in made.left_out
    textclf.check(made.path)


def test_files_with_lists_and_without_are_not_used_together():
    write_table(Path(), "train.jsonl", topics(60, 0))
    write_csv(Path("test.csv"), [{**row, "topics": "|".join(row["topics"])} for row in topics(20, 1)])
    made = textclf.new_recipe("train.jsonl", "recipe.yaml")
    assert made.files == {}
    assert "test.csv is not used for test: only one of the files has lists in `topics`" in made.notes
