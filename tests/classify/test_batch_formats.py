"""Batch jobs on tables that are not delimited text: the same labels from every format, and outputs in every form."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.classify.test_batch import left_over, read, start_job, write
from tests.classify.test_classifier import LABELS, write_tiny_model
from tests.command import run
from tests.table_writers import share_texts, write_csv, write_json_lines, write_parquet, write_table, write_workbook
from textclf.classify.tables import windows as batch_windows
from textclf.classify.tables.job import classify_file, evaluate_file
from textclf.errors import DataError, MissingPackageError, RunError

WORDS = "good bad film food phone love hate the is was very so again never help".split()
ROWS = [
    {
        "id": number,
        "text": " ".join(WORDS[number * step % 15] for step in range(1, 3 + number % 7)),
        "label": LABELS[number % 3],
    }
    for number in range(120)
]
FORMATS = ["a.jsonl", "a.jsonl.zst", "a.json", "a.parquet", "a.xlsx"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("formats") / "model.tflite")


@pytest.fixture(scope="module")
def labelled(model, tmp_path_factory) -> list[dict[str, str]]:
    """The rows as a CSV gets them."""
    folder = tmp_path_factory.mktemp("expected")
    classify_file(model, write_csv(folder / "a.csv", ROWS), folder / "out.csv")
    return read(folder / "out.csv")


def classified(model: Path, source: Path, name: str = "out.csv", **options: Any) -> Path:
    output = source.parent / name
    classify_file(model, source, output, force=True, **options)
    return output


# --- Inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gets_the_labels_of_the_csv_with_the_same_rows(model, labelled, tmp_path, name):
    source = write_table(tmp_path, name, ROWS)
    assert read(classified(model, source)) == labelled
    assert read(classified(model, source, "out.tsv"))[0].keys() != labelled[0].keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_is_measured_alike_on_every_format(model, tmp_path, name):
    expected = evaluate_file(model, write_csv(tmp_path / "a.csv", ROWS))
    assert evaluate_file(model, write_table(tmp_path, name, ROWS)) == expected


def test_a_model_is_measured_on_a_folder_of_texts(model, tmp_path):
    for row in ROWS:
        folder = tmp_path / "texts" / row["label"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row['id']:03}.txt").write_text(row["text"])
    found, expected = (
        evaluate_file(model, tmp_path / "texts"),
        evaluate_file(model, write_csv(tmp_path / "a.csv", ROWS)),
    )
    assert (found.rows, found.accuracy) == (120, expected.accuracy)
    rows = read(classified(model, tmp_path / "texts"))
    assert [row["file"] for row in rows[:2]] == [
        f"{rows[0]['label']}/{name}" for name in (rows[0]["file"][-7:], rows[1]["file"][-7:])
    ]


def test_a_table_without_a_header_gets_one_and_is_measured(model, labelled, tmp_path, capsys):
    lines = write_csv(tmp_path / "a.csv", ROWS).read_bytes().split(b"\n", 1)[1]
    source = write(tmp_path / "bare.csv", lines)
    assert read(classified(model, source, columns=["id", "text", "label"])) == labelled
    assert evaluate_file(model, source, columns=["id", "text", "label"]).rows == 120
    assert run("evaluate", model, source, "--columns", "id,text,label", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 120


def test_a_sheet_is_named_on_the_command_line(model, labelled, tmp_path, capsys):
    source = write_workbook(tmp_path / "a.xlsx", ROWS, "May 2024", ["empty"])
    assert run("classify", model, source, "-o", tmp_path / "out.csv", "--sheet", "May 2024") == 0
    assert read(tmp_path / "out.csv") == labelled
    assert run("classify", model, source, "-o", tmp_path / "more.csv", "--sheet", "June") == 2
    message = "there is no sheet `June` (dataset.sheet, --sheet); the sheets are `May 2024`, `empty`"
    assert message in " ".join(capsys.readouterr().err.split())


def write_titled_workbook(path: Path, sheets: int) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Messages of May"], [], ["id", "text", "label"], [1, "good", "pos"], [2, "bad", "neg"]):
        book.active.append(row)
    for number in range(1, sheets):
        book.create_sheet(f"Prices {number}").append(["precious"])
    book.save(path)
    return path


def test_what_of_a_workbook_is_not_read_is_said_once(model, tmp_path, caplog):
    source = write_titled_workbook(tmp_path / "in.xlsx", sheets=2)
    for name in ("out.csv", "out.xlsx", "out.jsonl"):
        caplog.clear()
        classified(model, source, name)
        assert [record.getMessage() for record in caplog.records] == [
            f"{source}: the sheet `Sheet` is read, and not `Prices 1`; set sheet (--sheet) to choose another",
            f"{source}: row 1 above the header (row 3) left out: `Messages of May`",
        ]
    titled = tmp_path / "titled.csv"
    titled.write_text("Messages of May\n\nid,text,label\n1,good,pos\n2,bad,neg\n")
    for name, count in (("again.csv", 0), ("again.jsonl", 1)):
        caplog.clear()
        classified(model, titled, name)
        assert caplog.text.count("row 1 above the header") == count


@pytest.mark.parametrize(
    ("sheets", "lost"), [(3, "the sheets `Prices 1`, `Prices 2` and the rows above the header"), (1, "the rows above")]
)
def test_a_workbook_with_more_than_its_rows_is_not_replaced_by_its_output(model, tmp_path, sheets, lost):
    source = write_titled_workbook(tmp_path / "in.xlsx", sheets)
    content = source.read_bytes()
    (tmp_path / "link.xlsx").symlink_to(source)
    for output in (source, tmp_path / "link.xlsx"):
        with pytest.raises(RunError, match=rf"in\.xlsx: is an input .*: {lost}.* would be lost; name another output"):
            classify_file(model, source, output, force=True, sheet="Sheet")
    assert source.read_bytes() == content


def test_a_workbook_of_one_plain_sheet_may_be_replaced_by_its_output(model, tmp_path):
    source = write_table(tmp_path, "in.xlsx", ROWS)
    assert classify_file(model, source, source, force=True).rows == len(ROWS)


def test_a_sheet_of_what_has_no_sheets_is_refused(model, tmp_path):
    source = write_csv(tmp_path / "a.csv", ROWS)
    with pytest.raises(DataError, match=r"a\.csv: is not an Excel workbook, but a sheet is named"):
        classified(model, source, sheet="x")


def test_inputs_of_several_formats_are_one_output(model, labelled, tmp_path):
    one, two = write_csv(tmp_path / "a.csv", ROWS[:50]), write_json_lines(tmp_path / "b.jsonl", ROWS[50:])
    classify_file(model, [one, two], tmp_path / "out.csv")
    assert read(tmp_path / "out.csv") == labelled
    classify_file(model, [two, one], tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [str(line["id"]) for line in lines] == [str(row["id"]) for row in (*ROWS[50:], *ROWS[:50])]


def test_json_lines_of_a_pipe_are_answered_as_they_arrive(model, tmp_path):
    job = start_job(model, Path("-"), Path("-"))
    assert job.stdin is not None
    assert job.stdout is not None
    job.stdin.write(b'{"text": "good"}\n')
    job.stdin.flush()
    first = json.loads(job.stdout.readline())  # it comes while the pipe is open
    rest, _ = job.communicate(b'{"text": "bad", "extra": [1, 2]}\n\n')
    assert (first["text"], first["error"], list(first)) == (
        "good",
        None,
        ["text", "predicted_label", "predicted_score", "error"],
    )
    assert json.loads(rest.splitlines()[0])["extra"] == [1, 2]


# --- Outputs ---------------------------------------------------------------------------------------------------------


def test_the_bytes_of_an_object_are_kept_and_the_new_keys_are_added_at_its_end(model, tmp_path):
    lines = [
        b'{"text":"good",  "n": 1.50, "big": 123456789012345678901234567890, "deep": {"a": [1, {"b": null}]}}\n',
        '{ "text" : "bad é \\u00e9" , "z": "}" }  \r\n'.encode(),
        b"\n",
        b"{}\n",
        b"not json\n",
        b'{"text": "love"}',
    ]
    output = classified(model, write(tmp_path / "a.jsonl", b"".join(lines)), "out.jsonl")
    written = output.read_bytes().splitlines(keepends=True)
    assert written[0].startswith(lines[0][:-2] + b', "predicted_label": "')
    assert written[1].startswith('{ "text" : "bad é \\u00e9" , "z": "}", "predicted_label": "'.encode())
    assert written[1].endswith(b"}\r\n")
    assert written[2] == b"\n"
    objects = [json.loads(line) for line in written if line.strip()]
    assert [one["error"] and one["error"].partition(":")[0] for one in objects] == [None, None, "empty", "json", None]
    assert objects[3]["unreadable"] == "not json"
    assert objects[3]["predicted_label"] is None
    assert isinstance(objects[0]["predicted_score"], float)


def test_a_row_that_is_not_utf8_is_kept_without_a_loss(model, tmp_path):
    source = write(tmp_path / "a.jsonl", b'{"text": "caf\xe9"}\n{"text": "good", "more": "\\ud83d"}\n')
    first, second = classified(model, source, "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first)["unreadable"].encode("utf-8", "surrogateescape") == b'{"text": "caf\xe9"}'
    assert json.loads(first)["error"].startswith("encoding: holds the byte 0xe9, which is not utf-8")
    assert json.loads(second)["more"] == "\ud83d"
    source = write(source, source.read_bytes().splitlines()[1])
    [row] = read(classified(model, source))
    assert row["error"].startswith("type: holds half of a character (U+D83D) in `more`")


def test_a_list_of_objects_becomes_json_lines(model, tmp_path):
    source = write(tmp_path / "a.json", json.dumps(ROWS[:3], indent=2).encode())
    lines = classified(model, source, "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [0, 1, 2]
    assert lines[0].startswith('{ "id": 0, "text": ')


def test_a_key_that_exists_already_stops_the_job_with_the_remedy(model, tmp_path):
    source = write(tmp_path / "a.jsonl", b'{"text": "good", "error": 1}\n')
    with pytest.raises(DataError, match=r"has a column `error` already; put a prefix before the added columns"):
        classified(model, source, "out.jsonl")
    more = b'{"text": "good"}\n' * 20_000 + b'{"text": "good", "error": 1}\n'
    with pytest.raises(DataError, match=r"row 20001 has a key `error` already; put a prefix"):
        classified(model, write(source, more), "out.jsonl")
    assert classify_file(model, source, tmp_path / "b.jsonl", column_prefix="my_").rows == 20_001


def test_a_key_that_only_later_rows_have_is_never_lost_silently(model, tmp_path):
    content = b'{"text": "good"}\n' * 20_000 + b'{"text": "good", "late": 1}\n'
    source = write(tmp_path / "a.jsonl", content)
    last = read(classified(model, source))[-1]
    assert last["error"].startswith("type: has the key `late`, which the first rows do not have")
    assert json.loads(classified(model, source, "out.jsonl").read_text().splitlines()[-1])["late"] == 1


def test_parquet_keeps_types_order_metadata_and_nulls(model, labelled, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {
            "id": arrow.array([row["id"] for row in ROWS], arrow.int16()),
            "when": arrow.array(
                [datetime.datetime(2024, 5, 1, 1, 2, 3, 456)] * 119 + [None], arrow.timestamp("us", "UTC")
            ),
            "text": arrow.array([row["text"] for row in ROWS], arrow.large_string()),
            "vector": arrow.array([[1.5, 2.5]] * 120, arrow.list_(arrow.float32())),
            "label": arrow.array([row["label"] for row in ROWS]).dictionary_encode(),
            "price": arrow.array([Decimal("1.50")] * 120),
            "blob": arrow.array([b"\xff\0"] * 120),
        }
    ).replace_schema_metadata({"owner": "me"})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=50, compression="zstd")
    output = classified(model, tmp_path / "a.parquet", "out.parquet", scores=True)
    result = parquet.read_table(output)
    assert result.select(table.column_names).equals(table)
    assert result.schema.field("label").type == table.schema.field("label").type
    assert result.schema.metadata[b"owner"] == b"me"
    assert result.schema.field("predicted_score").type == arrow.float64()
    assert result["predicted_label"].to_pylist() == [row["predicted_label"] for row in labelled]
    assert [f"{score:.6f}" for score in result["predicted_score"].to_pylist()] == [
        row["predicted_score"] for row in labelled
    ]
    assert set(result["error"].to_pylist()) == {None}
    assert parquet.ParquetFile(output).metadata.row_group(0).column(0).compression == "ZSTD"
    rows = read(classified(model, tmp_path / "a.parquet"))
    assert (rows[0]["vector"], rows[0]["id"], rows[0]["price"]) == ("[1.5, 2.5]", "0", "1.50")
    # The same file with the same bytes if it replaces its input.
    whole = output.read_bytes()
    classify_file(model, tmp_path / "a.parquet", tmp_path / "a.parquet", force=True, scores=True)
    assert (tmp_path / "a.parquet").read_bytes() == whole


def test_times_of_parquet_are_written_as_text_as_python_writes_them(model, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    when = datetime.datetime(2024, 5, 1, 9, 30)
    half = datetime.timedelta(milliseconds=500)
    columns: dict[str, tuple[Any, list[Any], list[str]]] = {
        "ms": (arrow.timestamp("ms"), [when, when + half], ["2024-05-01 09:30:00", "2024-05-01 09:30:00.500000"]),
        "us": (arrow.timestamp("us"), [when, None], ["2024-05-01 09:30:00", ""]),
        "ns": (arrow.timestamp("ns"), [when, 1], ["2024-05-01 09:30:00", "1970-01-01 00:00:00.000000001"]),
        "utc": (arrow.timestamp("us", "UTC"), [when, when], ["2024-05-01 09:30:00+00:00"] * 2),
        "zone": (
            arrow.timestamp("ms", "+02:00"),
            [when, when + half],
            ["2024-05-01 11:30:00+02:00", "2024-05-01 11:30:00.500000+02:00"],
        ),
        "time": (
            arrow.time32("ms"),
            [datetime.time(1, 2), datetime.time(1, 2, 3, 5000)],
            ["01:02:00", "01:02:03.005000"],
        ),
        "long": (arrow.duration("us"), [datetime.timedelta(1), -half], ["1 day, 0:00:00", "-1 day, 23:59:59.500000"]),
        "nano": (arrow.duration("ns"), [3_600_000_000_001, 90_000_000_000], ["1:00:00.000000001", "0:01:30"]),
        "day": (arrow.date32(), [3_000_000, datetime.date(2024, 5, 1)], ["10183-09-21", "2024-05-01"]),
        "days": (arrow.list_(arrow.date32()), [[3_000_000], [0]], ["[ [ 10183-09-21 ] ]", '["1970-01-01"]']),
    }
    arrays = {name: arrow.array(values, kind) for name, (kind, values, _) in columns.items()}
    parquet.write_table(arrow.table({"text": ["good", "bad"], **arrays}), tmp_path / "a.parquet")
    rows = read(classified(model, tmp_path / "a.parquet"))
    assert {name: [row[name] for row in rows] for name in columns} == {
        name: cells for name, (*_, cells) in columns.items()
    }
    lines = classified(model, tmp_path / "a.parquet", "out.jsonl").read_text().splitlines()
    objects = [json.loads(line) for line in lines]
    assert [one["day"] for one in objects] == ["10183-09-21", "2024-05-01"]
    assert [one["long"] for one in objects] == columns["long"][2]
    assert [one["nano"] for one in objects] == columns["nano"][2]
    assert [one["utc"] for one in objects] == ["2024-05-01T09:30:00+00:00"] * 2
    again = read(classified(model, classified(model, tmp_path / "a.parquet", "out.xlsx"), column_prefix="my_"))
    for name in ("day", "long", "time", "us"):
        assert [row[name] for row in again] == columns[name][2]


@pytest.mark.parametrize("groups", [0, 1])
def test_parquet_without_rows_keeps_columns_types_and_metadata(model, tmp_path, groups):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"id": arrow.array([1], arrow.int16()), "text": ["good"], "day": [datetime.date(2024, 5, 1)]})
    first = table.schema.with_metadata({"owner": "me"})
    with parquet.ParquetWriter(tmp_path / "empty.parquet", first, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(table.slice(0, 0).replace_schema_metadata(first.metadata))
    parquet.write_table(table.replace_schema_metadata({"owner": "you"}), tmp_path / "one.parquet")
    for inputs in (["empty.parquet"], ["empty.parquet", "empty.parquet"], ["empty.parquet", "one.parquet"]):
        classify_file(model, [tmp_path / name for name in inputs], tmp_path / "out.parquet", force=True)
        result = parquet.read_table(tmp_path / "out.parquet")
        assert result.num_rows == inputs.count("one.parquet")
        assert result.select(table.column_names).schema.equals(first, check_metadata=True)
        added = {"predicted_label": "string", "predicted_score": "double", "error": "string"}
        assert {name: str(result.schema.field(name).type) for name in result.column_names[3:]} == added
    assert result.select(table.column_names).equals(table)


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_parquet_file_with_a_row_group_without_rows_is_read(model, labelled, tmp_path, dictionary):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_pylist(ROWS)
    parquet.write_table(table.slice(0, 0), tmp_path / "empty.parquet", use_dictionary=dictionary)
    with parquet.ParquetWriter(tmp_path / "holes.parquet", table.schema, use_dictionary=dictionary) as writer:
        for start, count in ((0, 0), (0, 50), (50, 0), (50, 70), (120, 0)):
            writer.write_table(table.slice(start, count))
    assert parquet.ParquetFile(tmp_path / "holes.parquet").metadata.num_row_groups == 5
    inputs = [tmp_path / "empty.parquet", tmp_path / "holes.parquet"]
    classify_file(model, inputs[::-1], tmp_path / "out.csv")
    assert read(tmp_path / "out.csv") == labelled
    classify_file(model, inputs, tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").select(table.column_names).equals(table)
    assert evaluate_file(model, tmp_path / "holes.parquet").rows == 120


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.xlsx"])
def test_other_tables_become_parquet_and_excel(model, labelled, tmp_path, name):
    parquet = pytest.importorskip("pyarrow.parquet")
    openpyxl = pytest.importorskip("openpyxl")
    source = write_table(tmp_path, name, ROWS)
    rows = parquet.read_table(classified(model, source, "out.parquet")).to_pylist()
    assert [(row["id"], row["text"], row["predicted_label"]) for row in rows] == [
        (row["id"], row["text"], row["predicted_label"]) for row in labelled
    ]
    sheet = openpyxl.load_workbook(classified(model, source, "out.xlsx")).active
    header, *cells = sheet.iter_rows(values_only=True)
    assert list(header) == list(labelled[0])
    assert [(str(row[0]), row[1], row[3]) for row in cells] == [
        (row["id"], row["text"], row["predicted_label"]) for row in labelled
    ]
    assert isinstance(cells[0][4], float)
    assert isinstance(cells[0][0], str if name == "a.csv" else int)


def test_a_workbook_keeps_types_and_no_text_becomes_a_formula(model, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    rows = [
        {
            "text": "good",
            "when": datetime.datetime(2024, 5, 1, 12, 30),
            "day": datetime.date(2024, 5, 1),
            "n": 7,
            "ok": True,
        },
        {"text": "'=1+1", "when": None, "day": None, "n": 1.5, "ok": False},
    ]
    source = write_workbook(tmp_path / "a.xlsx", rows)
    written = list(openpyxl.load_workbook(classified(model, source, "out.xlsx")).active.iter_rows(values_only=True))
    assert written[1][:5] == ("good", datetime.datetime(2024, 5, 1, 12, 30), datetime.datetime(2024, 5, 1), 7, True)
    assert written[2][3:5] == (1.5, False)
    lines = b'{"text": "=HYPERLINK(1)", "a": "#N/A", "b": "\\u0001x"}\n'
    book = openpyxl.load_workbook(classified(model, write(tmp_path / "a.jsonl", lines), "out.xlsx"))
    cells = [book.active.cell(2, column) for column in (1, 2, 3)]
    assert [cell.data_type for cell in cells] == ["s", "s", "s"]
    assert cells[0].value == "=HYPERLINK(1)"
    long = json.dumps({"text": "good", "a": "x" * 40_000}).encode()
    with pytest.raises(DataError, match=r"row 1 has a cell with 40,000 characters, but a cell in Excel holds 32,767"):
        classified(model, write(tmp_path / "b.jsonl", long), "out.xlsx")


def test_a_workbook_keeps_times_of_day_and_writes_days_before_1900_as_text(model, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    values = {
        "opens": datetime.time(9, 30),
        "exact": datetime.time(9, 30, 1, 500_000),
        "day": datetime.date(2024, 5, 1),
        "when": datetime.datetime(2024, 5, 1, 9, 30),
    }
    write_workbook(tmp_path / "a.xlsx", [{"text": "good", **values}])
    write_parquet(tmp_path / "a.parquet", [{"text": "good", **values}])
    for name in ("a.xlsx", "a.parquet"):
        sheet = openpyxl.load_workbook(classified(model, tmp_path / name, "out.xlsx")).active
        cells = [cell.value for cell in sheet[2][1:5]]
        assert cells == [*list(values.values())[:2], datetime.datetime(2024, 5, 1), values["when"]]
    [row] = read(classified(model, tmp_path / "out.xlsx", "out.csv", column_prefix="my_"))
    assert [row[name] for name in values] == ["09:30:00", "09:30:01.500000", "2024-05-01", "2024-05-01 09:30:00"]
    old = {"born": datetime.date(1815, 12, 10), "wed": datetime.datetime(1835, 7, 8, 11)}
    source = write_parquet(tmp_path / "old.parquet", [{"text": "good", **old}])
    sheet = openpyxl.load_workbook(classified(model, source, "out.xlsx")).active
    assert [cell.value for cell in sheet[2][1:3]] == ["1815-12-10", "1835-07-08T11:00:00"]


def test_a_workbook_keeps_numbers_and_has_an_empty_cell_for_nan(model, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    openpyxl = pytest.importorskip("openpyxl")
    numbers = [float("nan"), None, 1e17, -1e300, 0.1 + 0.2, 2.0, float("inf")]
    wholes = [1, 2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**63 - 1, None]
    table = arrow.table({"text": ["good"] * 7, "number": numbers, "whole": wholes})
    parquet.write_table(table, tmp_path / "a.parquet")
    sheet = openpyxl.load_workbook(classified(model, tmp_path / "a.parquet", "out.xlsx")).active
    written, whole = sheet.iter_cols(2, 3, min_row=2, values_only=True)
    assert list(written) == [None, None, 1e17, -1e300, 0.1 + 0.2, 2, "inf"]
    assert list(whole) == [1, 2**53, str(2**53 + 1), -(2**53), str(-(2**53) - 1), str(2**63 - 1), None]
    lines = (
        b'{"text": "good", "number": 1e17, "whole": 12345678901234567890}\n{"text": "bad", "number": NaN, "whole": 1}\n'
    )
    sheet = openpyxl.load_workbook(classified(model, write(tmp_path / "a.jsonl", lines), "out.xlsx")).active
    assert [cell.value for row in sheet["B2:C3"] for cell in row] == [1e17, "12345678901234567890", None, 1]


ODD_TEXTS = [
    "a\ufffeb\uffffc",
    "one\r\ntwo\rthree\n",
    "_x0041_ and _x000D_",
    "_x0041_x0042_",
    "_x0041\r_xFFFF\uffff",
    "_x005F_x0041_",
    "_xD83D_",
    "\x01_x01_\x1f",
    "=1+1",
    "\r" * 32_767,
]


def test_every_text_comes_back_from_a_workbook(model, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    from openpyxl.utils.escape import unescape

    rows = [{"text": "good", "odd": text} for text in ODD_TEXTS]
    output = classified(model, write_json_lines(tmp_path / "a.jsonl", rows), "out.xlsx")
    written = [row[1] for row in openpyxl.load_workbook(output).active.iter_rows(min_row=2, values_only=True)]
    assert [unescape(text) for text in written] == ODD_TEXTS
    lines = classified(model, output, "again.jsonl", column_prefix="my_").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["odd"] for line in lines] == ODD_TEXTS
    lines = classified(model, share_texts(output), "again.jsonl", column_prefix="my_").read_text(encoding="utf-8")
    assert [json.loads(line)["odd"] for line in lines.split("\n")[:-1]] == ODD_TEXTS


def test_what_cannot_be_one_output_is_refused_with_the_reason(model, tmp_path):
    write_parquet(tmp_path / "a.parquet", ROWS)
    write_parquet(tmp_path / "b.parquet", [{**row, "id": str(row["id"])} for row in ROWS])
    with pytest.raises(DataError, match=r"b\.parquet: does not have the columns and types of .*a\.parquet"):
        classify_file(model, [tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out.parquet")
    assert left_over(tmp_path) == []  # not a row was classified
    with pytest.raises(DataError, match=r"has the column `a` twice, but the keys of a JSON object must differ"):
        classified(model, write(tmp_path / "a.csv", b"text,a,a\ngood,1,2\n"), "out.jsonl")
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    twice = arrow.Table.from_arrays([arrow.array([value]) for value in ("good", "1", "2")], ["text", "a", "a"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    for name in ("a.csv", "twice.parquet"):
        with pytest.raises(DataError, match=r"has the column `a` twice, but the columns of a Parquet file must differ"):
            classified(model, tmp_path / name, "out.parquet")
    job = start_job(model, Path("-"), tmp_path / "o.csv")
    _, errors = job.communicate((tmp_path / "a.parquet").read_bytes())
    assert job.returncode == 2
    message = b"is a Parquet file, which is read from its end, but a pipe has none; save it to a file"
    assert message in b" ".join(errors.split())


def test_an_output_whose_package_is_missing_names_the_extra(model, tmp_path, monkeypatch):
    from textclf import extras

    source = write_csv(tmp_path / "a.csv", ROWS)
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    for name, extra in (("out.parquet", "parquet"), ("out.xlsx", "excel")):
        with pytest.raises(MissingPackageError, match=rf'pip install "textclf-tflite\[{extra}\]"'):
            classified(model, source, name)
    assert left_over(tmp_path) == []


# --- Killing and resuming --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"), [("a.jsonl", "out.jsonl"), ("a.parquet", "out.parquet"), ("a.csv", "out.parquet")]
)
def test_a_killed_job_is_resumed_to_the_bytes_of_an_undisturbed_one(model, tmp_path, source, name):
    pytest.importorskip("pyarrow")
    rows = [{**ROWS[number % 120], "id": number} for number in range(15_000)]
    path = write_table(tmp_path, source, rows)
    (tmp_path / "whole").mkdir()
    undisturbed = classify_file(model, path, tmp_path / "whole" / name)
    output, unfinished = tmp_path / name, tmp_path / f".{name}.unfinished"
    job = start_job(model, path, output)
    while job.poll() is None and not (unfinished.exists() and unfinished.stat().st_size > 75_000):
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert job.returncode == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(RunError, match=r"continue it with resume=True"):
        classify_file(model, path, output)
    summary = classify_file(model, path, output, resume=True)
    assert output.read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (summary.rows, summary.labels) == (undisturbed.rows, undisturbed.labels)
    assert left_over(tmp_path) == []


def test_a_parquet_file_that_changed_meanwhile_is_noticed(model, tmp_path, monkeypatch):
    source = write_parquet(tmp_path / "a.parquet", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(batch_windows, "WINDOW_ROWS", 16)
        from textclf.classify.tables import forms

        patch.setattr(forms, "_write_parquet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            classify_file(model, source, tmp_path / "out.parquet")
    write_parquet(source, [{**row, "id": 7} for row in ROWS])
    with pytest.raises(RunError, match=r"a\.parquet: was changed while it was classified"):
        classify_file(model, source, tmp_path / "out.parquet", resume=True)
    write_parquet(source, ROWS)
    assert classify_file(model, source, tmp_path / "out.parquet", resume=True).rows == 120
    assert subprocess.run(["ls", "-A", tmp_path], capture_output=True, text=True).stdout.split() == [
        "a.parquet",
        "out.parquet",
    ]
