"""Tables of Arrow in memory: pyarrow's Table and RecordBatch, polars' DataFrame, and their columns of every type."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.classify.test_batch_formats import ROWS
from tests.classify.test_classifier import write_tiny_model
from textclf import check
from textclf.classify.classifier import Classifier
from textclf.errors import DataError
from textclf.recipe.settings import Recipe
from textclf.runs.evaluate import evaluate
from textclf.runs.verify import verify

arrow = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("arrow") / "model.tflite")


@pytest.fixture(scope="module")
def classifier(model):
    with Classifier(model) as classifier:
        yield classifier


@pytest.fixture(scope="module")
def expected(classifier) -> list[dict[str, Any]]:
    return classifier.classify_frame(ROWS[:20], scores=True)


def test_a_pyarrow_table_comes_back_as_one_with_types_order_and_metadata(classifier, expected):
    table = arrow.table(
        {
            "when": arrow.array([datetime.datetime(2024, 5, 1, 12)] * 20, arrow.timestamp("ns", "UTC")),
            "text": arrow.chunked_array(
                [[row["text"] for row in ROWS[:7]], [row["text"] for row in ROWS[7:20]]], arrow.large_string()
            ),
            "label": arrow.array([row["label"] for row in ROWS[:20]]).dictionary_encode(),
            "nested": arrow.array([[{"a": 1}]] * 20),
        }
    ).replace_schema_metadata({"source": "a test"})
    result = classifier.classify_frame(table, scores=True)
    assert isinstance(result, arrow.Table)
    assert result.select(table.column_names).equals(table)
    assert result.schema.metadata == {b"source": b"a test"}
    added = result.column_names[4:]
    assert added == ["predicted_label", "predicted_score", *(f"score:{label}" for label in classifier.labels)]
    assert [str(result.schema.field(name).type) for name in added[:2]] == ["string", "float"]
    assert result.select(added).to_pylist() == [{name: row[name] for name in added} for row in expected]


def test_a_record_batch_comes_back_as_a_record_batch(classifier, expected):
    result = classifier.classify_frame(arrow.RecordBatch.from_pylist(ROWS[:20]), scores=True)
    assert isinstance(result, arrow.RecordBatch)
    assert result.to_pylist() == expected


def test_a_polars_frame_comes_back_as_one(classifier, expected):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(ROWS[:20]).with_columns(polars.col("label").cast(polars.Categorical))
    result = classifier.classify_frame(frame, scores=True)
    assert isinstance(result, polars.DataFrame)
    assert result.select(frame.columns).equals(frame)
    assert result.to_dicts() == expected


def test_a_stream_of_batches_is_read_and_comes_back_as_a_table(classifier, expected):
    batches = arrow.Table.from_pylist(ROWS[:20]).to_batches(max_chunksize=6)
    result = classifier.classify_frame(arrow.RecordBatchReader.from_batches(batches[0].schema, batches), scores=True)
    assert isinstance(result, arrow.Table)
    assert result.to_pylist() == expected


@pytest.mark.parametrize("kind", ["table", "batch", "polars"])
def test_a_null_text_has_no_label(classifier, kind):
    rows = [{"text": "good film"}, {"text": None}, {"text": " "}]
    frame = arrow.Table.from_pylist(rows) if kind != "batch" else arrow.RecordBatch.from_pylist(rows)
    if kind == "polars":
        frame = pytest.importorskip("polars").from_arrow(frame)
    result = classifier.classify_frame(frame)
    found = result.to_dicts() if kind == "polars" else result.to_pylist()
    assert found[0]["predicted_label"]
    assert [(row["predicted_label"], row["predicted_score"]) for row in found[1:]] == [(None, None)] * 2


def test_a_table_without_rows_gets_the_columns(classifier):
    result = classifier.classify_frame(arrow.table({"text": arrow.array([], arrow.string())}))
    assert result.column_names == ["text", "predicted_label", "predicted_score"]
    assert result.num_rows == 0


@pytest.mark.parametrize("column", [arrow.array(["a"]), arrow.chunked_array([["a"]])])
def test_a_column_is_no_table(classifier, column):
    with pytest.raises(DataError, match=r"expected a pandas DataFrame|is no table"):
        classifier.classify_frame(column)


BAD = {
    "a list": (arrow.array([["good"]]), r"row 0 of column `text` is a list, expected text"),
    "a number": (arrow.array([3]), r"row 0 of column `text` is 3 \(int\), expected text.*cast\(pyarrow.string\(\)\)"),
    "bytes": (arrow.array([b"good"]), "row 0 of column `text` is a bytes, expected text"),
    "not UTF-8": (
        arrow.Array.from_buffers(
            arrow.string(), 1, [None, arrow.py_buffer(b"\0\0\0\0\1\0\0\0"), arrow.py_buffer(b"\xff")]
        ),
        r"the values of column `text` \(string\) cannot be read .*write them as text",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_text_is_refused_with_its_row(classifier, name):
    array, message = BAD[name]
    with pytest.raises(DataError, match=message):
        classifier.classify_frame(arrow.table({"text": array}))


def test_a_text_column_that_occurs_twice_is_refused_and_another_is_not(classifier):
    table = arrow.Table.from_arrays([arrow.array(["good film"])] * 2, names=["text", "text"])
    with pytest.raises(DataError, match="the frame has 2 columns `text`, expected one"):
        classifier.classify_frame(table)
    table = arrow.Table.from_arrays([arrow.array(["good film"])] * 3, names=["text", "other", "other"])
    assert classifier.classify_frame(table).column_names == [
        "text",
        "other",
        "other",
        "predicted_label",
        "predicted_score",
    ]


LABELS_AS_TEXT = {
    "integers": (arrow.array([1, 2, None] * 10), {"1": 10, "2": 10}),
    "booleans": (arrow.array([True, False] * 15), {"True": 15, "False": 15}),
    "dates": (
        arrow.array([datetime.date(2024, 5, 1), datetime.date(2024, 5, 2)] * 15),
        {"2024-05-01": 15, "2024-05-02": 15},
    ),
    "decimals": (arrow.array([Decimal("1.50"), Decimal("2.00")] * 15), {"1.50": 15, "2.00": 15}),
    "times": (
        arrow.array([datetime.datetime(2024, 5, 1, hour) for hour in (9, 12)] * 15, arrow.timestamp("us")),
        {"2024-05-01 09:00:00": 15, "2024-05-01 12:00:00": 15},
    ),
    "durations": (
        arrow.array([datetime.timedelta(1), datetime.timedelta(0, 90)] * 15),
        {"1 day, 0:00:00": 15, "0:01:30": 15},
    ),
    "nanoseconds": (arrow.array([1, 2] * 15, arrow.timestamp("ns")), None),
    "dictionary": (arrow.array(["a", "b"] * 15).dictionary_encode(), {"a": 15, "b": 15}),
}


@pytest.mark.parametrize("name", LABELS_AS_TEXT)
def test_check_counts_labels_of_every_type_as_a_parquet_file_has_them(tmp_path, name):
    array, counts = LABELS_AS_TEXT[name]
    table = arrow.table({"text": [f"text number {number}" for number in range(30)], "label": array})
    recipe = {
        "name": "r",
        "dataset": {"train": tmp_path / "a.parquet", "unlabelled": "skip"},
        "encoder": "average-words",
    }
    from pyarrow import parquet

    parquet.write_table(table, tmp_path / "a.parquet")
    from_file = check(Recipe.model_validate(recipe))
    in_memory = check(Recipe.model_validate(recipe), data={"train": table})
    assert in_memory.rows == from_file.rows
    if counts is not None:
        found = {label: sum(split.get(label, 0) for split in in_memory.rows.values()) for label in counts}
        assert found == counts


def test_a_list_as_a_label_is_refused_with_its_row(tmp_path):
    table = arrow.table({"text": ["a", "b"], "label": [["x"], ["y"]]})
    recipe = Recipe.model_validate({"name": "r", "dataset": {"train": tmp_path / "a.csv"}, "encoder": "average-words"})
    with pytest.raises(
        DataError, match=r"data\[train\]: row 0 of column `label` is \['x'\] \(list\), expected one label"
    ):
        check(recipe, data={"train": table})


def test_a_model_is_measured_and_verified_on_tables_of_arrow_as_on_dicts(model):
    rows = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    measured = evaluate(model, rows)
    for table in (arrow.Table.from_pylist(rows), pytest.importorskip("polars").DataFrame(rows)):
        assert evaluate(model, table) == measured
    report = verify(model, arrow.Table.from_pylist(rows), consumers=[])
    assert report.as_dict()["rows"]["rows"] == 120
