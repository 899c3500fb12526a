"""Cells and values of Excel, JSON, Parquet and folders whose text is not obvious: each has one defined reading, or an error."""

from __future__ import annotations

import datetime
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.classify.test_batch import read
from tests.classify.test_classifier import write_tiny_model
from tests.data.test_other_formats import error, load, patched, written
from tests.table_writers import write_workbook
from textclf.classify.tables.job import classify_file
from textclf.data.tables.opening import open_any

SHEET = "xl/worksheets/sheet1.xml"
ROWS = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(8)]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cells(path: str | Path, *columns: str) -> list[list[str]]:
    """The texts of some columns."""
    with open_any(str(path)) as (table, _):
        places = [table.column(name, "a test") for name in columns]
        return [[row.fields[place] for place in places] for row in table]


# --- Excel -----------------------------------------------------------------------------------------------------------
def test_a_formula_without_a_stored_value_is_an_error_with_its_cell(tmp_path):
    path = write_workbook(tmp_path / "a.xlsx", [*ROWS, {"text": "=A2&A3", "label": "a"}])
    assert error(path) == (
        "a.xlsx: row 10 has a formula without a stored value in `text` (cell A10); open the workbook in a spreadsheet program "
        "and save it, or write the value"
    )


def test_the_stored_value_of_a_formula_is_read_an_empty_text_too(tmp_path):
    path = write_workbook(tmp_path / "a.xlsx", [*ROWS, {"text": "=A2", "label": "a"}, {"text": "=B2", "label": "b"}])
    full = patched(
        path, "b.xlsx", SHEET, b'<c r="A10"><f>A2</f><v /></c>', b'<c r="A10" t="str"><f>A2</f><v>stored</v></c>'
    )
    both = patched(
        Path(full), "c.xlsx", SHEET, b'<c r="A11"><f>B2</f><v /></c>', b'<c r="A11" t="str"><f>B2</f><v></v></c>'
    )
    assert cells(both, "text")[-2:] == [["stored"], [""]]


def test_an_error_of_excel_is_no_text_and_no_label(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[2]["label"] = "#N/A"
    assert error(write_workbook(tmp_path / "a.xlsx", rows)) == (
        "a.xlsx: row 4 has the error #N/A in `label` (cell B4); correct the cell, or empty it"
    )


def test_a_row_with_such_a_cell_keeps_its_place_in_a_job_and_other_columns_are_reported(tmp_path, caplog):
    model = write_tiny_model(tmp_path / "model.tflite")
    rows = [{"text": "good film", "more": "=A1"}, {"text": "=B1", "more": "x"}, {"text": "bad", "more": "#REF!"}]
    with caplog.at_level(logging.WARNING):
        classify_file(model, write_workbook(tmp_path / "a.xlsx", rows), "out.csv", text_columns="text")
    found = read(tmp_path / "out.csv")
    assert [bool(row["predicted_label"]) for row in found] == [True, False, True]
    assert found[1]["error"].startswith("type: has a formula without a stored value in `text` (cell A3)")
    assert found[2]["more"] == "#REF!"
    assert (
        "a.xlsx: a formula without a stored value in cell B2 and 1 other cells like it, in a column that is not used; it is "
        "written as an empty cell"
    ) in caplog.text


def test_cells_of_a_workbook_have_these_texts(tmp_path):
    values: list[tuple[Any, str]] = [
        (1, "1"),
        (1.0, "1"),
        (1.5, "1.5"),
        (1e20, "1e+20"),
        (True, "TRUE"),
        (False, "FALSE"),
        (datetime.datetime(2024, 5, 1), "2024-05-01"),
        (datetime.datetime(2024, 5, 1, 9, 30), "2024-05-01 09:30:00"),
        (datetime.time(9, 30), "09:30:00"),
        (datetime.timedelta(hours=30), "1 day, 6:00:00"),
        ("007", "007"),
        (" spaces ", " spaces "),
    ]
    path = write_workbook(tmp_path / "a.xlsx", [{"text": value, "label": "a"} for value, _ in values])
    assert [text for (text,) in cells(path, "text")] == [text for _, text in values]


def test_merged_cells_have_their_value_in_the_first_and_hidden_rows_are_read(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label"], ["one", "a"], ["two", None], ["three", "b"]):
        book.active.append(row)
    book.active.merge_cells("B2:B3")
    book.active.row_dimensions[4].hidden = True
    book.save("a.xlsx")
    assert cells("a.xlsx", "text", "label") == [["one", "a"], ["two", ""], ["three", "b"]]
    assert "no label in row 3" in error("a.xlsx")


def test_a_hidden_sheet_is_read_only_by_its_name(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "secret"
    book.active.sheet_state = "hidden"
    for name in ("secret", "shown"):
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        for row in (["text", "label"], *([f"{name} {number}", "ab"[number % 2]] for number in range(8))):
            sheet.append(row)
    book.save("a.xlsx")
    assert load("a.xlsx").train.texts[0][0].startswith("shown")
    assert load("a.xlsx", sheet="secret").train.texts[0][0].startswith("secret")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'<row r="4">', b'<row r="2">', "row 2 is behind row 3"),
        (b'<c r="B4"', b'<c r="XFE4"', "a cell is in column 16,385, but Excel has 16,384"),
        (b'<row r="9">', b'<row r="9000000">', "has rows below row 1,048,576, the last that Excel knows"),
    ],
)
def test_a_damaged_sheet_is_named_and_no_row_is_left_out(tmp_path, old, new, message):
    path = write_workbook(tmp_path / "a.xlsx", ROWS)
    content = patched(path, "b.xlsx", SHEET, old, new)
    assert message in error(content)


# --- JSON ------------------------------------------------------------------------------------------------------------
def test_values_of_json_have_these_texts():
    lines = ["1", "1.0", "1e3", "true", "null", "NaN", "Infinity", "-Infinity", '"1.0"', '"\\ud83d\\ude00"']
    name = written("a.jsonl", "".join(f'{{"text": {value}, "label": "a"}}\n' for value in lines))
    found = ["1", "1.0", "1e3", "true", "", "", "Infinity", "-Infinity", "1.0", "😀"]
    assert [text for (text,) in cells(name, "text")] == found


def test_a_job_keeps_nan_of_json_as_it_is_written_and_as_an_empty_cell(tmp_path):
    model = write_tiny_model(tmp_path / "model.tflite")
    source = written("a.jsonl", '{"text": "good film", "x": NaN, "y": Infinity, "z": {"deep": [1.50]}}\n')
    classify_file(model, source, "out.jsonl", text_columns="text")
    assert (
        Path("out.jsonl")
        .read_text()
        .startswith('{"text": "good film", "x": NaN, "y": Infinity, "z": {"deep": [1.50]}, ')
    )
    classify_file(model, source, "out.csv", text_columns="text")
    assert [read(tmp_path / "out.csv")[0][name] for name in "xyz"] == ["", "Infinity", '{"deep": [1.5]}']


# --- Parquet ---------------------------------------------------------------------------------------------------------
def test_values_of_parquet_have_these_texts(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "whole": (arrow.array([1, None]), ["1", ""]),
        "float": (arrow.array([1.0, float("nan")]), ["1.0", ""]),
        "infinite": (arrow.array([float("inf"), None]), ["inf", ""]),
        "boolean": (arrow.array([True, None]), ["True", ""]),
        "date": (arrow.array([datetime.date(2024, 5, 1), None]), ["2024-05-01", ""]),
        "time": (arrow.array([1, None], arrow.timestamp("ns")), ["1970-01-01 00:00:00.000000001", ""]),
        "decimal": (arrow.array([Decimal("1.50"), None]), ["1.50", ""]),
        "bytes": (arrow.array([b"caf\xc3\xa9", None]), ["café", ""]),
        "large": (arrow.array(["a", None], arrow.large_string()), ["a", ""]),
        "empty": (arrow.nulls(2), ["", ""]),
        "span": (arrow.array([90, None], arrow.duration("s")), ["0:01:30", ""]),
    }
    parquet.write_table(arrow.table({name: array for name, (array, _) in columns.items()}), "a.parquet")
    found = cells("a.parquet", *columns)
    assert {name: [row[place] for row in found] for place, name in enumerate(columns)} == {
        name: texts for name, (_, texts) in columns.items()
    }


def hostile_page(path: Path) -> Path:
    """Writes a small file in which a page of the last column says that it has 2 GB when it is unpacked."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"label": ["a", "b"] * 50, "text": ["hello"] * 100})
    parquet.write_table(table, path, use_dictionary=False, compression="zstd")
    content = path.read_bytes()
    start = parquet.read_metadata(path).row_group(0).column(1).data_page_offset
    assert content[start : start + 3] == b"\x15\x00\x15"  # a data page, whose second number is the size
    end = next(place for place in range(start + 3, start + 16) if content[place] < 128) + 1
    path.write_bytes(content[: start + 3] + b"\xfe\xff\xff\xff\x0f" + content[end:])
    return path


def test_a_page_that_would_fill_the_memory_is_refused_before_it_is_unpacked(tmp_path):
    assert error(hostile_page(tmp_path / "a.parquet")) == (
        "a.parquet: row group 1 has a page of 2,147,483,647 bytes in `text`, but at most 268,435,456 are read at once; write the "
        "file again with smaller pages, or as CSV"
    )


def test_the_pages_of_columns_that_are_not_read_are_not_judged(tmp_path):
    path = hostile_page(tmp_path / "a.parquet")
    with open_any(str(path)) as (table, _):
        table.reads_others = False
        table.column("label", "a test")
        assert [row.fields[0] for row in table][:2] == ["a", "b"]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", [None, "PLAIN", "DELTA_BYTE_ARRAY"])
def test_pages_of_every_version_and_encoding_are_walked(tmp_path, version, encoding):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    options = {} if encoding is None else {"use_dictionary": False, "column_encoding": {"text": encoding}}
    texts = [f"text {number % 700} of the table" for number in range(5000)]
    parquet.write_table(
        arrow.table({"text": texts}),
        "a.parquet",
        data_page_version=version,
        data_page_size=2000,
        row_group_size=1500,
        **options,
    )
    assert [text for (text,) in cells("a.parquet", "text")] == texts


# --- Folders ---------------------------------------------------------------------------------------------------------
def test_hidden_files_are_no_texts_and_an_empty_label_is_reported(tmp_path):
    for label in ("ham", "spam"):
        Path("mails", label).mkdir(parents=True)
        for number in range(6):
            Path("mails", label, f"{number}.txt").write_text(f"{label} {number}")
    Path("mails/ham/._0.txt").write_bytes(b"\0\5\x16\7")
    Path("mails/none").mkdir()
    dataset = load("mails")
    assert {
        finding.kind: finding.message
        for finding in dataset.findings
        if "folder" in finding.kind or "other" in finding.kind
    } == {
        "empty_folders": "mails: no .txt file is in the sub-folder `none`, so there is no such label",
        "other_files": "mails: 1 files are not read; only .txt files in the sub-folders of the labels are",
    }
    assert sum(len(split.rows) for split in dataset.splits) == 12
