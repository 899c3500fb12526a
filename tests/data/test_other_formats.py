"""Tables that are not delimited text: read like a CSV of the same rows, or refused with the place and the remedy."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.table_writers import write_csv, write_json_lines, write_parquet, write_table, write_workbook
from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.tables.opening import open_any
from textclf.errors import DataError, MissingPackageError
from textclf.recipe.settings import DatasetSettings

ROWS = [
    {"id": number, "text": f"wo ist Paket {number}, «bitte»?\nDanke", "label": "late" if number % 2 else "lost"}
    for number in range(24)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(train: object, **options: object) -> Dataset:
    return load_dataset(DatasetSettings(train=train, **options), 1)  # type: ignore[arg-type]


def error(train: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(train, **options)
    return str(caught.value)


def written(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def all_rows(dataset: Dataset) -> list[tuple[int, tuple[str, ...], str]]:
    return sorted(
        (row, text, dataset.labels[label])
        for split in dataset.splits
        for row, text, label in zip(split.rows, split.texts, split.labels, strict=True)
    )


# --- Every format ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("a.jsonl", 1),
        ("a.jsonl.gz", 1),
        ("a.jsonl.zst", 1),
        ("a.jsonl.bz2", 1),
        ("a.jsonl.xz", 1),
        ("a.json", 1),
        ("a.json.gz", 1),
        ("a.parquet", 1),
        ("a.xlsx", 2),
    ],
)
def test_every_format_gives_the_rows_of_the_csv_with_its_own_row_numbers(tmp_path, name, first):
    expected = load(write_csv(tmp_path / "a.csv", ROWS))
    dataset = load(write_table(tmp_path, name, ROWS))
    shift = first - 2
    assert all_rows(dataset) == [(row + shift, text, label) for row, text, label in all_rows(expected)]
    assert dataset.train.texts == expected.train.texts  # the same rows in the same splits
    assert len(all_rows(dataset)) == len(ROWS)


def test_the_content_decides_and_not_the_name(tmp_path):
    written("lines.csv", LINES)
    written("list.txt", json.dumps(ROWS))
    assert len(all_rows(load("lines.csv"))) == len(all_rows(load("list.txt"))) == len(ROWS)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "cp1252"])
def test_json_lines_are_read_in_the_encoding_of_the_recipe_or_of_the_mark(codec):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    written("a.jsonl", text.encode(codec))
    dataset = load("a.jsonl", encoding=codec if codec == "cp1252" else "utf-8")
    assert all_rows(dataset)[0][1] == (ROWS[0]["text"],)


@pytest.mark.parametrize("column", ["ORCID", "BZh9", "GIF8", "RDX", "LZIP", "ARROW1"])
def test_a_column_called_like_the_first_bytes_of_a_format_is_a_column(column):
    table = written("a.csv", f"{column},text,label\n" + "".join(f"{n},text {n},{'ab'[n % 2]}\n" for n in range(20)))
    assert len(all_rows(load(table))) == 20


def test_values_that_are_no_text_are_read_as_they_are_written():
    rows = '{"text": "a", "label": 1}\n{"text": 7, "label": true}\n{"text": "c", "label": 1.50}\n{"text": "d", "label": 1e3}\n'
    with open_any(written("a.jsonl", rows + '{"label": {"a": 1.50}}'), wanted=["text"]) as (table, _):
        assert [row.fields for row in table] == [
            ["a", "1"],
            ["7", "true"],
            ["c", "1.50"],
            ["d", "1e3"],
            ["", '{"a": 1.5}'],
        ]


def test_cells_of_parquet_and_excel_have_the_text_of_a_csv(tmp_path):
    import datetime

    rows = [
        {"text": f"t{number}", "label": (1, 2.5, True, datetime.date(2024, 5, 1))[number % 4]} for number in range(8)
    ]
    path = write_workbook(tmp_path / "a.xlsx", rows)
    assert load(path).labels == ["1", "2.5", "2024-05-01", "TRUE"]
    numbers = write_parquet(tmp_path / "a.parquet", [{"text": "ab"[n % 2] * n, "label": n % 2} for n in range(1, 9)])
    assert load(numbers).labels == ["0", "1"]


def test_a_categorical_column_of_parquet_is_read_as_text(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_pylist(ROWS)
    table = table.set_column(2, "label", table["label"].dictionary_encode())
    parquet.write_table(table, "a.parquet")
    assert load("a.parquet").labels == ["late", "lost"]


def test_a_sheet_can_be_named_and_titles_above_the_header_are_left_out(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["nothing here"])
    sheet = book.create_sheet("Daten 2024")
    for row in ["Export of May"], [], ["text", "label"], *([r["text"], r["label"]] for r in ROWS):
        sheet.append(row)
    book.save("a.xlsx")
    dataset = load("a.xlsx", sheet="daten 2024")
    assert all_rows(dataset)[0][0] == 4
    assert [f.message for f in dataset.findings if f.kind == "title_lines"] == [
        "a.xlsx: row 1 above the header (row 3) left out: `Export of May` (row 1)"
    ]


def test_a_folder_with_a_subfolder_for_each_label_is_a_table():
    for row in ROWS:
        Path("texts", row["label"]).mkdir(parents=True, exist_ok=True)
        Path("texts", row["label"], f"{row['id']:02}.txt").write_text(row["text"] + "\n", encoding="utf-8")
    Path("texts", "notes.md").write_text("no data")
    dataset = load("texts")
    assert {(text, label) for _, (text,), label in all_rows(dataset)} == {(row["text"], row["label"]) for row in ROWS}
    assert [f.message for f in dataset.findings if f.kind == "other_files"] == [
        "texts: 1 files are not read; only .txt files in the sub-folders of the labels are"
    ]
    Path("texts", "late", "x.txt").write_bytes(b"caf\xe9")
    assert "texts: row 13 (late/x.txt) holds the byte 0xe9 (offset 3), which is not utf-8" in error("texts")


# --- Several files, no header, no label ------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [["one.csv", "two.jsonl"], "*[eo].*"])
def test_several_files_are_one_table_whose_rows_keep_their_file(tmp_path, train):
    write_csv(tmp_path / "one.csv", ROWS[:12])
    write_json_lines(tmp_path / "two.jsonl", ROWS[12:])
    dataset = load([str(tmp_path / name) for name in train] if isinstance(train, list) else train)
    assert len(all_rows(dataset)) == len(ROWS)
    assert {str(row) for row in dataset.train.rows} <= {
        *(f"{n} of one.csv" for n in range(2, 14)),
        *(f"{n} of two.jsonl" for n in range(1, 13)),
    }
    assert {path.name for path in dataset.files} == {"one.csv", "two.jsonl"}
    with (tmp_path / "two.jsonl").open("a") as file:
        file.write('{"text": "x"}\n{"text": "wo ist Paket 12, «bitte»?\\nDanke", "label": "late"}\n')
    assert "two.jsonl: no label in row 13" in error(train)
    findings = [f.message for f in load(train, unlabelled="skip").findings]
    assert any("have more than one label" in f or "has more than one label" in f for f in findings)
    assert any("(rows 1 of two.jsonl and 14 of two.jsonl)" in f for f in findings)


def test_a_pattern_without_a_match_and_a_file_that_is_named_twice_are_errors(tmp_path):
    assert "dataset.train: " in error("none-*.csv")
    assert "none-*.csv: the pattern matches no file; check the path" in error("none-*.csv")
    path = str(write_csv(tmp_path / "a.csv", ROWS))
    assert "a.csv: is named twice" in error([path, str(tmp_path / "*.csv")])


def test_a_file_without_a_header_has_the_columns_of_the_recipe(tmp_path):
    lines = write_csv(tmp_path / "a.csv", ROWS).read_text(encoding="utf-8").split("\n", 1)[1]
    written("bare.csv", lines)
    dataset = load("bare.csv", columns=["id", "text", "label"])
    assert [row for row, _, _ in all_rows(dataset)] == list(range(1, 25))
    message = "bare.csv: row 1 has 3 fields, but 2 columns are named (dataset.columns, --columns)"
    assert message in error("bare.csv", columns=["text", "label"])


def test_rows_without_a_label_stop_or_are_skipped_and_counted():
    written("a.jsonl", LINES + '{"text": "who?"}\n{"text": "why", "label": null}\n')
    assert "a.jsonl: no label in rows 25 and 26" in error("a.jsonl")
    dataset = load("a.jsonl", unlabelled="skip")
    assert len(all_rows(dataset)) == len(ROWS)
    assert [f.message for f in dataset.findings if f.kind == "unlabelled"] == [
        "a.jsonl: 2 rows without a label left out (rows 25 and 26)"
    ]


# --- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('{"text": "x", "label": ', "row 25 is not valid JSON (Expecting value, character 25); correct this line"),
        ('["x", "y"]', 'row 25 holds a list, not an object such as {"text": "…", "label": "…"}'),
        ('{"text": "a", "text": "b", "label": "late"}', "row 25 has the key `text` twice; remove one of them"),
        ('{"text": "a", "label": ["late"]}', "`label` holds a list in row 25, but a row has one label here"),
        ('{"text": "\\ud83d", "label": "late"}', "row 25 holds half of a character (U+D83D) in `text`"),
        ('{"text": "a\\u0000", "label": "late"}', "row 25 holds a NUL character; remove it"),
        ('{"text": "a", "label": ' + "[" * 100_000, "row 25 is nested too deeply; write a flat object"),
        ('{"text": "a", "label": ' + "9" * 6000 + "}", "row 25 holds a number with thousands of digits"),
        ('{"text": "' + "a" * (1 << 24) + '", "label": "late"}', "row 25 is longer than 16,777,216 characters"),
    ],
)
def test_a_line_that_is_no_row_is_named(more, message):
    assert message in error(written("a.jsonl", f"{LINES}{more}\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(ROWS)[:-40], "a.json: the file ends inside the list, after object 24 (line 1); it is cut off"),
        (json.dumps(ROWS).replace("}, {", "} {"), "a comma or ] is missing behind object 1 (line 1)"),
        (json.dumps(ROWS) + "\n{}", "a.json: line 2: something follows the list; remove it"),
        (json.dumps(ROWS).replace("]", ",]"), "a comma stands before the end of the list behind object 24"),
        ("[]", "a.json: there is no object with keys in it"),
        ("[1, 2]", "a.json: row 1 holds a number, not an object"),
        (json.dumps({"data": ROWS}, indent=1), "a.json: this is JSON, but neither JSON Lines"),
        (
            '[{"text": "' + "a" * (1 << 25) + '", "label": "x"},' + json.dumps(ROWS)[1:],
            "a.json: row 1 is longer than 16,777,216 characters",
        ),
    ],
)
def test_a_list_that_cannot_be_read_is_named(content, message):
    assert message in error(written("a.json", content))


def test_damaged_and_unsuitable_parquet_files_are_named(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_parquet(tmp_path / "a.parquet", ROWS, compression="zstd")
    content = path.read_bytes()
    assert "the Parquet file cannot be read (Parquet magic bytes" in error(
        written("cut.parquet", content[: len(content) // 2])
    )
    assert "in row group 1" in error(written("bad.parquet", content[:30] + b"\xff" * 300 + content[330:]))
    assert "a Parquet file in a compressed file; unpack it first" in error(
        str(write_table(tmp_path, "b.parquet.gz", ROWS))
    )
    parquet.write_table(arrow.table({"text": [["a"]] * 4, "label": ["x", "y"] * 2}), "list.parquet")
    assert "row 1 holds list<" in error("list.parquet")
    bad = arrow.Array.from_buffers(arrow.string(), 4, arrow.array([b"caf\xe9"] * 4, arrow.binary()).buffers())
    parquet.write_table(arrow.table({"text": bad, "label": ["x", "y"] * 2}), "bytes.parquet")
    assert "row 1 holds bytes that are not UTF-8 in `text`" in error("bytes.parquet")


def test_a_small_parquet_file_that_repeats_a_long_text_does_not_fill_the_memory(monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from textclf.data.tables.formats import parquet_table

    monkeypatch.setattr(parquet_table, "_UNSUSPICIOUS", 1 << 24)
    text = arrow.DictionaryArray.from_arrays(arrow.array([0] * 4000, arrow.int32()), arrow.array(["x" * 100_000]))
    parquet.write_table(arrow.table({"text": text, "label": ["x", "y"] * 2000}), "bomb.parquet")
    assert "over 100 times the size of the file, so it is not read further" in error("bomb.parquet")


def patched(source: Path, name: str, part: str, old: bytes, new: bytes) -> str:
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as made:
        for info in given.infolist():
            content = given.read(info)
            made.writestr(info.filename, content.replace(old, new, 1) if info.filename == part else content)
    return name


def test_damaged_and_hostile_workbooks_are_named(tmp_path):
    path = write_workbook(tmp_path / "a.xlsx", ROWS, "data", ["notes"])
    sheet = "xl/worksheets/sheet1.xml"
    assert "there is no sheet `dat`" in error(path, sheet="dat")
    assert "the sheets are `data`, `notes`" in error(path, sheet="dat")
    assert "dataset.sheet is `x`, but no file is an Excel workbook" in error(written("a.jsonl", LINES), sheet="x")
    bomb = b"<sheetData>" + b"<row></row>" * 8_000_000
    assert "unpacks to 88," in error(patched(path, "bomb.xlsx", sheet, b"<sheetData>", bomb))
    entity = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet'
    assert "does not begin as spreadsheet programs write it" in error(
        patched(path, "entity.xlsx", sheet, b"<worksheet", entity)
    )
    assert "cannot be read below row" in error(patched(path, "cut.xlsx", sheet, b'<c r="B9"', b'<c r="B9'))
    assert "cannot be read (File is not a zip file)" in error(written("cut.xlsx", path.read_bytes()[:3000]))
    assert "an Excel workbook in a compressed file; unpack it" in error(str(write_table(tmp_path, "b.xlsx.gz", ROWS)))


def test_a_cell_beside_the_table_is_named(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[3]["note"] = "see above"
    path = write_workbook(tmp_path / "a.xlsx", rows)
    assert "a.xlsx: row 5 has a cell outside of the table (column D)" in error(path)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    from textclf import extras

    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    for name, start, extra in (("a.parquet", b"PAR1", "parquet"), ("a.xlsx", b"PK\x03\x04", "excel")):
        if name == "a.xlsx":
            with zipfile.ZipFile(name, "w") as archive:
                archive.writestr("xl/workbook.xml", "<workbook/>")
        else:
            written(name, start + b"\0" * 100)
        with pytest.raises(MissingPackageError, match=rf'run: pip install "textclf-tflite\[{extra}\]"'):
            load(name)


def test_memory_does_not_grow_with_a_json_array_in_one_line(tmp_path):
    import tracemalloc

    line = json.dumps({"text": "word " * 40, "label": "x"})
    written("a.json", "[" + ", ".join([line] * 40_000) + "]")
    tracemalloc.start()
    with open_any("a.json", wanted=["text", "label"]) as (table, _):
        assert sum(1 for row in table if row.fault is None) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Path("a.json").stat().st_size > 8_000_000 > 2 * peak
