"""Tables as programs write them beyond plain CSV: read as they are meant and noted, or named with the remedy."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path

import pytest

from textclf.classify.tables.rows import TableLayout, extended, problem_of
from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.tables.table import Row, Table, open_table
from textclf.errors import DataError
from textclf.recipe.settings import DatasetSettings
from textclf.recipe.values import checked_delimiter, checked_encoding

WANTED = ("text", "label")
MESSAGES = [(f"where is order {number}, please", "late" if number % 2 else "lost") for number in range(24)]


def opened(content: bytes | str, wanted=WANTED, **options) -> Table:
    raw = content.encode("utf-8") if isinstance(content, str) else content
    return open_table(io.BytesIO(raw), wanted=wanted, name="data.csv", **options)


def pairs(content: bytes | str, **options) -> list[tuple[str, str]]:
    """Text and label of every row, none of which has a fault."""
    with opened(content, **options) as table:
        text, label = table.column("text", "a test"), table.column("label", "a test")
        rows = list(table)
    assert [row.fault for row in rows] == [None] * len(rows)
    return [(row.fields[text], row.fields[label]) for row in rows]


def notes(content: bytes | str, **options) -> dict[str, str]:
    with opened(content, **options) as table:
        return {note.kind: note.message for note in table.notes}


def error(content: bytes | str, **options) -> str:
    with pytest.raises(DataError) as caught:
        pairs(content, **options)
    return str(caught.value)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write_and_load(content: bytes | str, name: str = "train.csv") -> Dataset:
        (tmp_path / name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return load_dataset(DatasetSettings(train=name), 1)

    return write_and_load


def finding(dataset: Dataset, kind: str) -> str:
    return next(one.message for one in dataset.findings if one.kind == kind)


def load_error(load, content: bytes | str, name: str = "train.csv") -> str:
    with pytest.raises(DataError) as caught:
        load(content, name)
    return str(caught.value)


def csv_of(rows=MESSAGES, header: str = "text,label", quote: str = '"') -> str:
    return "\n".join([header, *(f"{quote}{text}{quote},{quote}{label}{quote}" for text, label in rows), ""])


# --- Delimiters and quotation marks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", ["^", "~", "\x01", "\x1f", "||", "\t\t", ";;", "::", "|~|", "¦", "@@"])
def test_an_unusual_delimiter_is_read_off_the_header(delimiter):
    content = "".join(f"{text}{delimiter}{label}\n" for text, label in [WANTED, *MESSAGES])
    assert pairs(content) == MESSAGES
    shown = delimiter if delimiter.isprintable() else "".join(f"\\x{ord(one):02x}" for one in delimiter)
    assert notes(content) == {"unusual_delimiter": f"data.csv: the columns are separated by `{shown}`"}


def test_a_delimiter_of_two_characters_may_stand_inside_quotation_marks():
    assert pairs('text||label\n"a||b"||c\nd|e||f\n', delimiter="||") == [("a||b", "c"), ("d|e", "f")]


def test_a_name_followed_by_other_characters_is_not_cut_by_them():
    with opened("text (English)\nno, thanks\nyes (really)\n", wanted=("text",)) as table:
        assert table.columns == ("text (English)",)


def test_single_quotation_marks_around_fields_are_read_as_such():
    content = "text,label\n'it\\'s late, \"very\"','lost'\n'no, thanks','late'\n'ok','late'\n"
    assert pairs(content) == [('it\'s late, "very"', "lost"), ("no, thanks", "late"), ("ok", "late")]
    assert "single quotation marks (') around fields" in notes(content)["single_quotes"]
    assert pairs("text,label\n'it''s','lost'\n'ok','late'\n") == [("it's", "lost"), ("ok", "late")]


def test_apostrophes_are_no_quotation_marks():
    content = "text,label\n'twas late,lost\n\"it's, well, 'late'\",late\nrock 'n' roll,lost\n"
    assert pairs(content)[:2] == [("'twas late", "lost"), ("it's, well, 'late'", "late")]
    assert notes(content) == {}


def test_rows_of_unusual_tables_are_written_again_in_their_own_way():
    for content in ("text||label\na||b\n", "text,label\n'a, b','c'\n'd','e'\n"):
        with opened(content) as table:
            layout = TableLayout(table.dialect, table.dialect, 2, (0,), None, "\n", 2)
            row = next(iter(table))
            written = extended(row._replace(fields=[*row.fields, ""]), ["x", "y'|z"], layout)
        again = content.splitlines()[0] + table.dialect.delimiter + table.dialect.delimiter.join(["p", "q"]) + "\n"
        with opened(again + written, delimiter=table.dialect.delimiter) as read:
            assert read.columns == ("text", "label", "p", "q")


def test_a_batch_job_keeps_the_columns_in_line_and_says_which_rows_are_no_data():
    content = "text,label,note\nshort,a\nlong,b,c,,\ntext,label,note\n\x1a"
    with opened(content, wanted=("text",)) as table:
        layout = TableLayout(table.dialect, table.dialect, 3, (table.column("text", "a test"),), None, "\n", 3)
        rows = list(table)
    assert [problem_of(row, layout) for row in rows] == [
        None,
        None,
        ("header", "repeats the header; delete this row"),
        ("end_mark", "is the end-of-file mark of DOS (Ctrl-Z); delete it"),
    ]
    assert [extended(row, ["x"], layout) for row in rows] == [
        "short,a,,x\n",
        "long,b,c,x\n",
        "text,label,note,x\n",
        "\x1a,,,x\n",
    ]


# --- Above and below the data ----------------------------------------------------------------------------------------


def test_title_lines_above_the_header_are_left_out_and_noted():
    above = "Ticket export\nmade on 4 May,,\n\n"
    content = above + csv_of()
    assert pairs(content) == MESSAGES
    assert notes(content)["title_lines"] == "data.csv: rows 1 to 2 above the header (row 4) left out: `Ticket export`"
    with opened(content) as table:
        assert (table.header.number, table.above_header) == (4, above)


def test_comment_lines_above_the_header_are_title_lines():
    assert pairs("# columns: text, label\n# source: desk\n" + csv_of()) == MESSAGES


def test_a_header_below_rows_that_could_be_data_is_pointed_at():
    message = error("a,b\nc,d\ntext,label\ne,f\n")
    assert message.endswith(
        "row 3 holds these names, but the rows above it could be data: move row 3 to the top, or delete the rows above it"
    )


def test_repeated_headers_are_left_out_and_counted(load):
    body = csv_of().split("\n", 1)[1]
    for again in ("text,label\n", "\ufefftext,label\n", '\ufeff"text","label"\n', "Text, Label\n"):
        dataset = load("text,label\n" + body + again + body)
        assert dataset.labels == ["late", "lost"]
        assert finding(dataset, "repeated_header") == "train.csv: 1 row repeats the header, left out (row 26)"


def test_the_end_of_file_mark_of_dos_is_left_out_and_counted(load):
    assert finding(load(csv_of() + "\x1a"), "end_mark").startswith("train.csv: 1 row holds an end-of-file mark")


def test_a_second_header_and_a_summary_are_pointed_at(load):
    header, body = csv_of().split("\n", 1)
    dataset = load(f"{header}\nstring,category\n{body}Total,24\n")
    assert finding(dataset, "first_row").startswith(
        "train.csv: row 2 has a label that no other row has, `category`, and may be a second header or a line of units"
    )
    assert "row 27 has a label that no other row has, `24`, and may be a summary" in finding(dataset, "last_row")
    assert {"first_row", "last_row"}.isdisjoint(one.kind for one in load(csv_of()).findings)


def test_a_footer_is_named_as_what_it_may_be(load):
    message = load_error(load, csv_of() + "\n(24 rows affected)\n")
    assert message == (
        "train.csv: row 27 has 1 field, but the header has 2 columns; if this is a summary at the end of the table and "
        "no data, delete it; otherwise add what is missing"
    )


# --- Rows of another width -------------------------------------------------------------------------------------------


def test_cells_that_are_missing_at_the_end_of_a_row_are_empty_unless_they_are_needed(load):
    content = "text,label,note,who\n" + "".join(f"{text.replace(',', '')},{label}\n" for text, label in MESSAGES)
    dataset = load(content)
    assert len(dataset.train.rows) + len(dataset.validation.rows) == 24
    assert finding(dataset, "short_rows") == (
        "train.csv: 24 rows end before the last of 4 columns; missing cells are empty (rows 2, 3, 4, 5, 6 and 19 more)"
    )
    assert "row 26 has 1 field" in load_error(load, content + "no label\n")


def test_a_delimiter_at_the_end_of_each_row_is_ignored_and_counted(load):
    dataset = load(csv_of().replace('"\n', '",\n'))
    assert dataset.labels == ["late", "lost"]
    assert finding(dataset, "trailing_delimiters").startswith(
        "train.csv: 24 rows have empty cells after the last column"
    )


def test_row_names_of_r_are_recognised_by_their_numbers():
    content = '"text","label"\n' + "".join(f'"{n}","{t}","{lab}"\n' for n, (t, lab) in enumerate(MESSAGES, 1))
    assert pairs(content) == MESSAGES
    assert "as R writes row names" in notes(content)["row_names"]
    assert pairs(content.replace('","', '" "').replace("text,", "text ")) == MESSAGES


def test_texts_with_a_delimiter_are_not_taken_for_row_names(load):
    content = "text,label\n" + "".join(f"{text},{label}\n" for text, label in MESSAGES)
    message = load_error(load, content)
    assert "every row of the file has one field more than the header: if the first field" in message
    assert "(`row,text,label`); if it is text that holds the delimiter, put the text in quotation marks" in message


@pytest.mark.parametrize(
    ("rows", "remedy"),
    [
        ("a, b, c,late\n" * 3, "3 of 27 rows are so: put fields that hold the delimiter in quotation marks"),
        ("“a, b”,late\n" * 3, "most of these rows have quotation marks of another kind (“) around fields"),
        ("id,text,label\n", "row 26 looks like the header of another table: tables with different columns were joined"),
        (
            "line one\n\nline two\nline three\n" + "x,late\n" * 9,
            "most of these lines hold no delimiter: if they are parts",
        ),
    ],
)
def test_the_advice_for_rows_of_another_width_suits_all_of_them(load, rows, remedy):
    assert remedy in load_error(load, csv_of() + rows)


# --- Names of columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marks", [1, 2, 3])
def test_byte_order_marks_in_front_of_the_header_are_not_part_of_a_name(marks):
    content = b"\xef\xbb\xbf" * marks + csv_of(header='"text","label"').encode()
    assert pairs(content) == MESSAGES
    assert ("byte_order_marks" in notes(content)) == (marks > 1)


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (
            "text\u200b,label",
            "did you mean `text\\u200b`? (it contains the invisible character U+200B (ZERO WIDTH SPACE)",
        ),
        ("Text,label", "did you mean `Text`? (only the capitals differ)"),
        ("te xt,label", "did you mean `te xt`? (only the spaces differ)"),
        ("ｔｅｘｔ,label", "the names look alike, but their characters differ; copy the name from the file)"),
    ],
)
def test_a_name_that_looks_alike_is_shown_with_the_difference(header, shown):
    assert shown in error(header + "\na,b\n")


def test_white_space_and_line_breaks_inside_a_name_do_not_matter():
    with opened(' Text  of\u00a0it ,"label\n(queue)"\na,b\n', wanted=()) as table:
        assert (table.column("Text of it", "a test"), table.column("label (queue)", "a test")) == (0, 1)


# --- Other formats ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('[["text", "label"], ["a", "b"]]', "JSON (a list)"),
        ("<html><table><tr><td>text</td><td>label</td></tr></table>", "HTML, perhaps a table under the name"),
        ('<?xml version="1.0"?>\n<rows><row><text>a</text></row></rows>', "XML"),
        ('<?xml version="1.0"?>\n<?mso-application progid="Excel.Sheet"?>', "an Excel workbook in XML"),
        ("__label__late where is it\n__label__lost gone\n", "in the format of fastText"),
        ("| text | label |\n|------|-------|\n| a | b |\n", "a Markdown table"),
        (" text | label \n------+-------\n a    | b\n", "a table as a database shows it"),
        ("@relation desk\n@attribute text string\n", "an ARFF file of Weka"),
        ("INSERT INTO desk VALUES ('a', 'b');\n", "an SQL dump"),
        ("- text: a\n  label: b\n", "YAML"),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", "an Excel workbook or another Office document"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"BZh91AY&SY\0\0", "compressed with bzip2"),
        (b"\xfd7zXZ\x00\x00", "compressed with xz"),
        (b"\x80\x04\x95\x10", "a Python pickle"),
    ],
)
def test_another_format_is_recognised_by_its_content(content, what):
    message = error(content)
    assert message.startswith(f"data.csv: this is {what}")
    assert ", not delimited text; " in message


def test_a_csv_that_begins_like_another_format_is_read():
    assert pairs('text,label\n"<p>a</p>","{""x"": 1}"\n[a],b\n')[1] == ("[a]", "b")
    with opened("<DATE>,text,label\n1,a,b\n") as table:
        assert table.columns == ("<DATE>", "text", "label")


def test_the_command_that_converts_fasttext_works(tmp_path, load):
    import subprocess
    import sys

    content = "".join(f"__label__{label} {text}\n" for text, label in MESSAGES)
    code = load_error(load, content, "b.txt").split('python -c "')[1].rsplit('"', 1)[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert pairs((tmp_path / "b-table.csv").read_bytes()) == MESSAGES


# --- Options ---------------------------------------------------------------------------------------------------------


def test_delimiters_of_several_characters_and_words_are_accepted():
    assert [checked_delimiter(value) for value in ("||", "Tab", "ctrl-a", r"\x01", "|~|")] == [
        "||", "\t", "\x01", "\x01", "|~|",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["a", "ab", "||||||", '"', "'", ",\n", "\0", 5, True])
def test_what_cannot_separate_columns_is_refused(value):
    with pytest.raises(ValueError, match="not a delimiter; write one character in quotes"):
        checked_delimiter(value)


@pytest.mark.parametrize("value", ["rot13", "base64", "punycode", "unicode_escape", "undefined", "nothing"])
def test_codecs_that_are_no_encodings_of_files_are_refused(value):
    with pytest.raises(ValueError, match="not a text encoding that Python knows"):
        checked_encoding(value)


# --- Hostile tables --------------------------------------------------------------------------------------------------


def test_random_bytes_give_rows_or_an_error_and_nothing_else():
    random.seed(11)
    pieces = [
        b'"',
        b"'",
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xfe",
        b"\\",
        b"text",
    ]
    pieces += [
        b"label",
        b"||",
        b"a",
        b"\x1a",
        b"sep=",
        b"\xd0\xbf",
        b"\x93\x94",
        b" ",
        b"text,label\n",
        b"{",
        b"<",
        b"[",
        b"1",
    ]
    read = refused = 0
    for number in range(300):
        content = b"".join(random.choices(pieces, k=random.randrange(1, 60)))
        content = b"text,label\n" + content if number % 3 else content
        encoding = random.choice(["utf-8", "utf-8", "cp1252", "utf-16", "shift_jis", "gb18030", "utf-32", "utf-7"])
        try:
            with opened(content, encoding=encoding, wanted=WANTED if number % 2 else ()) as table:
                raws = [row.raw for row in table if isinstance(row, Row)]
            read += 1
        except DataError:
            refused += 1
            continue
        if encoding == "utf-8" and table.encoding in ("utf-8", "utf-8-sig"):
            everything = table.separator_line + table.above_header + table.header.raw + "".join(raws)
            assert everything.encode(table.encoding, "surrogateescape") == content
    assert (read + refused, min(read, refused) > 20) == (300, True)


def test_quotes_that_stay_open_cost_time_in_proportion_to_the_file(monkeypatch):
    monkeypatch.setattr("textclf.data.tables.table.LONGEST_ROW", 1 << 16)

    def seconds(lines: int) -> float:
        started = time.process_time()
        with opened("text,label\n" + 'x","\n' * lines, delimiter=",") as table:
            assert sum(row.fault is not None for row in table) == lines
        return time.process_time() - started

    seconds(100)
    assert seconds(8_000) < 6 * seconds(2_000) + 0.5


@pytest.mark.parametrize(("left", "right"), [("`", "`"), ("“", "”"), ("«", "»"), ("„", "“")])
def test_quotation_marks_of_another_kind_around_all_fields_are_named(left, right):
    content = "".join(f"{left}{text}{right},{left}{label}{right}\n" for text, label in [WANTED, *MESSAGES])
    with pytest.raises(DataError) as caught:
        opened(content).column("text", "dataset.text")
    assert f"the quotation marks {left} and {right} are read as part of each field" in str(caught.value)


def test_a_letter_of_another_script_in_a_columns_name_is_shown():
    with pytest.raises(DataError, match=r"it holds the letter U\+0435 \(CYRILLIC SMALL LETTER IE\) of another script"):
        opened("t\u0435xt,label\nwhere,a\n").column("text", "dataset.text")


def test_lines_in_quotation_marks_as_a_whole_are_named():
    with pytest.raises(DataError, match="each line is in quotation marks as a whole"):
        opened('"text,label"\n"where is it,a"\n"my refund,b"\n').column("text", "dataset.text")


def test_a_binary_file_is_not_taken_for_text_of_two_or_four_bytes_a_character():
    assert "it is perhaps no text at all" in error(b"<" + b"\0" * 60 + b"\n")
    assert "perhaps utf-16-le" in error("text,label\nwhere,a\n".encode("utf-16-le"))
