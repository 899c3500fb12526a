"""Reading delimited text: every way of writing it, and what becomes of rows that are written wrong."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import textclf.data.tables.table
from textclf.data.tables.table import Row, first_undecodable_byte, open_table
from textclf.errors import DataError


def read(content: bytes | str, **options) -> tuple[tuple[str, ...], list[Row]]:
    """The columns and rows of a table that lies in memory."""
    raw = content.encode("utf-8") if isinstance(content, str) else content
    with open_table(io.BytesIO(raw), name="data.csv", **options) as table:
        return table.columns, list(table)


def fields(content: bytes | str, **options) -> list[list[str]]:
    rows = read(content, **options)[1]
    assert [row.fault for row in rows] == [None] * len(rows)
    return [row.fields for row in rows]


def faults(content: bytes | str, **options) -> list[tuple[int, str | None]]:
    return [(row.number, row.fault.kind if row.fault else None) for row in read(content, **options)[1]]


def error(content: bytes | str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(content, **options)
    return str(caught.value)


# --- Ways of writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_all_line_ends_are_read_and_kept_inside_quotes(end):
    content = end.join(["text,label", f'"two{end}lines",ham', "one,spam", ""])
    assert fields(content) == [[f"two{end}lines", "ham"], ["one", "spam"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter):
    content = f'text{delimiter}label\n"a, b; c | d\te"{delimiter}ham\nHello{delimiter}spam\n'
    assert read(content)[0] == ("text", "label")
    assert fields(content) == [["a, b; c | d\te", "ham"], ["Hello", "spam"]]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("text;label\nHello, you;ham\nNo, thanks;spam\n", ("text", "label")),
        ("text\tlabel\nOne, two, three\tham\nFour, five, six\tspam\n", ("text", "label")),
        ("id;price;text\n1;1,50;a\n2;2,70;b\n", ("id", "price", "text")),
        ("text\nHello, world\nGoodbye\nOne, two, three\n", ("text",)),
        ("a,b;c,d\n", ("a", "b;c", "d")),
        ("text,label\n", ("text", "label")),
    ],
    ids=["semicolons around commas", "tabs", "decimal commas", "one column", "equal", "header only"],
)
def test_the_delimiter_is_the_one_that_cuts_the_rows_evenly(content, columns):
    assert read(content)[0] == columns


def test_some_ragged_rows_do_not_change_the_delimiter():
    content = "text,label\n" + "a, b, c,ham\n" * 5 + "fine,spam\n" * 5
    assert read(content)[0] == ("text", "label")


def test_wanted_columns_decide_about_the_delimiter():
    content = "a,text;label\n1,2;3\n"
    assert read(content)[0] == ("a", "text;label")
    assert read(content, wanted=("label",))[0] == ("a,text", "label")


def test_a_given_delimiter_is_not_questioned():
    assert read("a;b,c\n1;2,3\n", delimiter=":")[0] == ("a;b,c",)


def test_quotes_are_doubled_inside_quotes():
    assert fields('text,label\n"He said ""hi, you""",ham\n5" pipe,spam\n') == [
        ['He said "hi, you"', "ham"],
        ['5" pipe', "spam"],
    ]


def test_quotes_may_be_escaped_with_backslashes_as_spark_does():
    content = 'text,label\n"He said \\"hi, you\\" at C:\\data",ham\nplain,spam\n'
    assert fields(content) == [['He said "hi, you" at C:\\data', "ham"], ["plain", "spam"]]


def test_backslashes_are_themselves_where_quotes_are_doubled():
    assert fields('text,label\n"C:\\",ham\n"a ""b"" \\\\ c",spam\n') == [["C:\\", "ham"], ['a "b" \\\\ c', "spam"]]


def test_tab_separated_files_may_use_quotes_as_plain_characters():
    content = 'text\tlabel\n"Hello\tham\nthe "end"\tspam\n" again\tham\n'
    assert fields(content) == [['"Hello', "ham"], ['the "end"', "spam"], ['" again', "ham"]]


def test_a_space_after_each_delimiter_belongs_to_it():
    content = 'text, label\n"a, b", ham\nc, spam\n'
    assert read(content)[0] == ("text", "label")
    assert fields(content) == [["a, b", "ham"], ["c", "spam"]]


def test_the_line_by_which_excel_names_the_delimiter_is_no_row():
    rows = read("sep=|\ntext|label\na,b;c|ham\n")[1]
    assert [(row.number, row.line, row.fields) for row in rows] == [(2, 3, ["a,b;c", "ham"])]


def test_values_stay_the_text_of_the_file():
    content = "text,label\nNA,1\n 1.0 ,null\n007,2024-01-02\nnan,TRUE\n"
    assert fields(content) == [["NA", "1"], [" 1.0 ", "null"], ["007", "2024-01-02"], ["nan", "TRUE"]]


def test_everything_that_python_writes_is_read_back_with_the_bytes_of_each_row():
    random.seed(7)
    alphabet = ["a", "b ", '"', ",", ";", "\n", "\r\n", "\t", "é", "😀", "\\", "'", "\u2028", "|"]
    written = [["".join(random.choices(alphabet, k=random.randrange(1, 9))) for _ in range(3)] for _ in range(400)]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["text", "x", "label"], *written])
    content = buffer.getvalue().encode("utf-8")
    with open_table(io.BytesIO(content), wanted=("text", "label")) as table:
        rows = list(table)
    assert [row.fields for row in rows] == written
    assert (table.header.raw + "".join(row.raw for row in rows)).encode(table.encoding) == content


# --- Encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(encoding):
    content = "text,label\nCafé 😀,ham\n".encode(encoding)
    assert read(content, encoding="cp1252" if encoding != "utf-8" else encoding)[0] == ("text", "label")
    assert fields(content)[0] == ["Café 😀", "ham"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "shift_jis", "gb18030"])
def test_other_encodings_are_read_by_name(encoding):
    word = {"shift_jis": "日本", "gb18030": "中文"}.get(encoding, "Größe")
    assert fields(f"text,label\n{word},ham\n".encode(encoding), encoding=encoding) == [[word, "ham"]]


def test_bytes_that_are_not_in_the_encoding_are_a_fault_of_their_row_only():
    content = "text,label\nfine,ham\nGröße,spam\ngut,ham\n".encode("cp1252")
    rows = read(content)[1]
    assert [row.fault and row.fault.kind for row in rows] == [None, "encoding", None]
    assert rows[1].fault.message == (
        "holds the byte 0xf6, which is not utf-8; "
        "set the file's encoding (cp1252 fits the first rows: `Größe`), or save it as CSV with UTF-8"
    )
    assert rows[1].raw.encode("utf-8", "surrogateescape") == "Größe,spam\n".encode("cp1252")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_offset_of_the_first_undecodable_byte_is_found(encoding):
    start = "text,label\n".encode(encoding) + "ä".encode() * ((1 << 20) + 1)
    assert first_undecodable_byte(io.BytesIO(start + b"\xff,x\n"), encoding) == len(start)
    assert first_undecodable_byte(io.BytesIO(start), encoding) is None


def test_a_character_that_the_end_of_the_file_cuts_is_a_fault():
    assert faults("text,label\na,b\nc,é".encode()[:-1]) == [(2, None), (3, "encoding")]


def test_utf16_without_a_byte_order_mark_is_recognised_by_its_nul_characters():
    message = error("text,label\na,b\n".encode("utf-16-le"))
    assert message == (
        "data.csv: the header holds NUL characters, so this is not utf-8 text; "
        "set the file's encoding (perhaps utf-16-le), or save it as CSV with UTF-8"
    )


@pytest.mark.parametrize("content", [b"\xff\xfea\x00,", "a,b\n".encode("utf-16-be")], ids=["cut", "no mark"])
def test_utf16_that_cannot_be_read_stops_with_the_reason(content):
    assert "data.csv: cannot be read as utf-16 (" in error(content, encoding="utf-16")


# --- Rows that are written wrong -------------------------------------------------------------------------------------


def test_rows_are_numbered_as_in_a_spreadsheet_and_lines_as_in_an_editor():
    rows = read('text,label\n"a\nb\n",ham\n\nc,spam\n"d\n",ham\ne,spam\n')[1]
    assert [(row.number, row.line, row.fields[:1]) for row in rows] == [
        (2, 2, ["a\nb\n"]),
        (3, 5, []),
        (4, 6, ["c"]),
        (5, 7, ["d\n"]),
        (6, 9, ["e"]),
    ]


def test_blank_rows_and_rows_of_delimiters_only_are_blank():
    assert faults("text,label\n\n,\n   \na,b\n\n") == [
        (2, "blank"),
        (3, "blank"),
        (4, "blank"),
        (5, None),
        (6, "blank"),
    ]


def test_blank_lines_before_the_header_are_skipped_and_counted():
    columns, rows = read("\n,\ntext,label\na,b\n")
    assert (columns, rows[0].number, rows[0].line) == (("text", "label"), 4, 4)


def test_ragged_rows_tell_found_and_expected_fields():
    rows = read("text,label\na,b,c\nd\ne,f\n")[1]
    assert [row.fault.message if row.fault else None for row in rows] == [
        "has 3 fields, but the header has 2 columns; put fields that hold the delimiter in quotation marks",
        "has 1 field, but the header has 2 columns; add what is missing",
        None,
    ]


def test_a_quote_that_is_never_closed_costs_its_own_line_only():
    content = 'text,label\na,ham\n"b,spam\n' + "c,ham\n" * 50
    rows = read(content)[1]
    assert [(row.number, row.line, row.fault.kind) for row in rows if row.fault] == [(3, 3, "quote")]
    assert rows[1].raw == '"b,spam\n'
    assert len(rows) == 52
    assert rows[-1] == Row(53, 53, ["c", "ham"], "c,ham\n", None)


def test_a_quote_that_closes_in_the_wrong_place_costs_its_own_line_only():
    content = 'text,label\n"b,spam\nc,ham\n"d" is quoted,ham\ne,spam\n'
    assert faults(content) == [(2, "quote"), (3, None), (4, "quote"), (5, None)]
    assert faults('text,label\n"He said "hi"",ham\nc,spam\n') == [(2, "quote"), (3, None)]


def test_a_stray_quote_does_not_read_on_without_end(monkeypatch):
    monkeypatch.setattr(textclf.data.tables.table, "LONGEST_ROW", 1000)
    content = 'text,label\n"open,ham\n' + "row,spam\n" * 1000
    assert [row for row in faults(content) if row[1]] == [(2, "quote")]
    assert len(faults(content)) == 1001


def test_a_line_that_is_too_long_is_a_fault_and_the_next_row_is_read(monkeypatch):
    monkeypatch.setattr(textclf.data.tables.table, "LONGEST_ROW", 1000)
    for end in ("\n", "\r\n"):
        content = f"text,label{end}{'x' * 2999},ham{end}ok,spam{end}"
        assert faults(content) == [(2, "length"), (3, None)]


def test_a_cell_of_ten_megabytes_is_read():
    assert len(fields(f'text,label\n"{"x" * 10_000_000}",ham\n')[0][0]) == 10_000_000


def test_nul_characters_are_a_fault_of_their_row_only():
    assert faults(b"text,label\na\0b,ham\nc,spam\n") == [(2, "nul"), (3, None)]


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        path.write_text("text,label\n" + '"some words, and more",ham\n' * rows)
        tracemalloc.start()
        with open_table(path) as table:
            assert sum(row.fault is None for row in table) == rows
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    assert peak(60_000) < 1.1 * peak(20_000)


# --- Columns ---------------------------------------------------------------------------------------------------------


def column(header: str, name: str) -> int:
    with open_table(io.BytesIO(header.encode()), name="data.csv") as table:
        return table.column(name, "dataset.text")


def test_columns_are_found_by_name_with_or_without_spaces_around_it():
    assert column("id, text ,label\n", "text") == 1
    assert column("text,label, text\n", " text") == 2


def test_a_missing_column_is_reported_with_the_nearest_one():
    with pytest.raises(DataError) as caught:
        column("Texts,label\n", "text")
    assert str(caught.value) == (
        "data.csv: there is no column `text` (dataset.text); the columns are `Texts`, `label`; did you mean `Texts`?"
    )


def test_a_missing_header_is_suspected_when_no_column_is_near():
    with pytest.raises(DataError, match="if they are not names but a first row of data, add a header row to the file"):
        column("How do I pay with my card,payment\n", "text")


def test_columns_of_one_name_are_an_error_only_when_they_are_asked_for():
    assert column("v1,v2,,,\n", "v2") == 1
    with pytest.raises(DataError) as caught:
        column("text,label,text\n", "text")
    assert str(caught.value) == "data.csv: 2 columns (A and C) are called `text` (dataset.text); rename all but one"


# --- Files and streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; it needs a header row with the names of the columns, and rows"),
        (b"\xef\xbb\xbf", "the file has no rows; it needs a header row with the names of the columns"),
        (b"\n \n", "the file has no rows; it needs a header row with the names of the columns"),
        (
            b"PK\x03\x04...",
            "this is an Excel workbook or a zip archive, not delimited text; save the workbook as .xlsx",
        ),
        (
            gzip.compress(b"text,label\n", mtime=0),
            "this is compressed with gzip, not delimited text; unpack it with gunzip",
        ),
        (b"\x89text,label\n", "row 1 (the header) holds the byte 0x89, which is not utf-8"),
        (b'"text,label\na,b\n', "row 1 (the header) has a quotation mark that is not closed properly"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_what_it_is(content, message):
    assert error(content).startswith(f"data.csv: {message}")


def test_a_missing_file_is_reported_with_the_one_that_was_meant(tmp_path):
    (tmp_path / "tickets.csv").touch()
    with pytest.raises(DataError, match=r"ticket\.csv: there is no such file; did you mean .*tickets\.csv\?"):
        open_table(tmp_path / "ticket.csv")
    with pytest.raises(DataError, match=r"there is no such file; check the path \(there are tickets\.csv\)"):
        open_table(tmp_path / "x")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere either"):
        open_table(tmp_path / "nowhere" / "x.csv")


def test_a_folder_is_reported_with_the_tables_in_it(tmp_path):
    (tmp_path / "tickets.csv").touch()
    with pytest.raises(DataError, match=r"this is a folder; name a table in it \(there are tickets\.csv\)"):
        open_table(tmp_path)


def test_files_below_the_current_directory_are_shown_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DataError, match=re.escape("a.csv: the file is empty") + ".*"):
        open_table(tmp_path / "a.csv")


def test_streams_are_read_forwards_only_and_left_open():
    with gzip.open(io.BytesIO(gzip.compress(b"text,label\na,b\n"))) as stream:
        with open_table(stream, name="data.csv.gz") as table:
            assert [row.fields for row in table] == [["a", "b"]]
        assert not stream.closed


def test_a_pipe_is_read():
    code = "import sys, textclf.data.tables.table as t; print([row.fields for row in t.open_table(sys.stdin.buffer)])"
    root = Path(textclf.data.tables.table.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, input=b"text,label\na,b\n", capture_output=True, check=True
    )
    assert done.stdout.strip() == b"[['a', 'b']]"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files through /proc")
def test_files_are_closed_after_reading_and_after_an_error(tmp_path):
    (tmp_path / "good.csv").write_text("a,b\n")
    (tmp_path / "bad.csv").write_text("\n")
    before = len(os.listdir("/proc/self/fd"))
    with open_table(tmp_path / "good.csv"):
        pass
    with pytest.raises(DataError):
        open_table(tmp_path / "bad.csv")
    assert len(os.listdir("/proc/self/fd")) == before
