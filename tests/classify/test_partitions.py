"""The partitions of a table have its rows: each once, with the number, the line and the fault that it has in the whole."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.table_writers import write_parquet
from textclf.classify.tables.windows import Partition, TableOptions, parts_of, read_partition, read_windows
from textclf.data.tables.table import Row
from textclf.errors import DataError

LINES = [f"{number},text {number}" for number in range(40)]
QUOTED = [
    '1,"two\nlines"',
    '2,"""quoted"" and\r\nmore"',
    '3,"never closed',
    '4,5" wide',
    "",
    "6,x,too,many",
    "7",
    *LINES,
]
TABLES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": ("\n".join(["id,text", *LINES, ""]).encode(), {}),
    "without a last line end": ("\n".join(["id,text", *LINES]).encode(), {}),
    "line breaks and quotation marks": ("\r\n".join(["id,text", *QUOTED * 4]).encode(), {}),
    "a byte order mark": ("\n".join(["id,text", *QUOTED, "8,\ufeffinside"]).encode("utf-8-sig"), {}),
    "byte order marks at the start of rows": ("\n".join(["id,text", *["\ufeff1,ü"] * 12]).encode("utf-8-sig"), {}),
    "a line that names the delimiter": ("\n".join(["sep=;", "id;text", *["1;ä,b"] * 12]).encode(), {}),
    "titles above the header": ("\n".join(["Report,", "", "id,text", *LINES]).encode(), {}),
    "a single-byte encoding": ("\n".join(["id,text", *['1,"größe\n"'] * 12]).encode("cp1252"), {"encoding": "cp1252"}),
    "bytes that are not in the encoding": (b"id,text\n" + b"1,gr\xf6\xdfer\n2,fine \xc3\xa9\n" * 9, {}),
    "no header": ("\n".join(LINES).encode(), {"columns": ("id", "text")}),
    "lines of old Macs": ("\r".join(["id,text", *LINES]).encode(), {}),
    "a backslash before quotation marks": ("\n".join(["id,text", *[r'1,"a \"b\", c"'] * 12]).encode(), {}),
    "tabs": ("\n".join(["id\ttext", *['1\t"a'] * 12]).encode(), {}),
    "JSON Lines": ("\n".join([*[json.dumps({"text": "ä", "n": [1]})] * 9, "", "{", '{"other": 1}']).encode(), {}),
    "JSON Lines with a mark": ("\r\n".join(['{"text": "ö"}'] * 12).encode("utf-8-sig"), {}),
}


def rows_of_partitions(path: Path, options: TableOptions, rows_a_part: int) -> tuple[list[Row], int]:
    parts = parts_of(str(path), options, rows_a_part)
    rows = [
        row
        for number, part in enumerate(parts)
        for window in read_partition(Partition(number, str(path), part), str(path), (), options, target="out.csv")
        for row in window.rows
    ]
    assert parts[-1].end == path.stat().st_size
    assert all(one.end == other.start for one, other in pairwise(parts))
    return rows, len(parts)


def plain(rows: list[Row]) -> list[tuple[object, ...]]:
    return [(row.number, row.line, row.fields, row.raw, row.fault) for row in rows]


@pytest.mark.parametrize("name", TABLES)
def test_the_partitions_of_text_have_the_rows_of_the_file(name: str, tmp_path: Path) -> None:
    content, settings = TABLES[name]
    path = tmp_path / "table"
    path.write_bytes(content)
    options = TableOptions(("text",), "the test", **settings)
    expected = [row for window in read_windows([str(path)], options, target="out.csv") for row in window.rows]
    for rows_a_part in (1, 5):
        rows, count = rows_of_partitions(path, options, rows_a_part)
        assert plain(rows) == plain(expected)
        assert count == -(-len(expected) // rows_a_part)


@pytest.mark.parametrize("name", ["packed", "utf-16", "array", "only a header"])
def test_a_file_that_cannot_be_divided_is_one_partition(name: str, tmp_path: Path) -> None:
    text = "\n".join(["id,text", *LINES])
    contents = {
        "packed": gzip.compress(text.encode()),
        "utf-16": text.encode("utf-16"),
        "array": json.dumps([{"text": "a"}] * 9).encode(),
        "only a header": b"id,text\n",
    }
    path = tmp_path / "table"
    path.write_bytes(contents[name])
    options = TableOptions(("text",), "the test")
    expected = [row for window in read_windows([str(path)], options, target="out.csv") for row in window.rows]
    rows, count = rows_of_partitions(path, options, 3)
    assert count == 1
    assert plain(rows) == plain(expected)


def test_a_row_group_is_never_divided(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", [{"text": f"{number}"} for number in range(25)], row_group_size=10)
    parts = parts_of(str(path), TableOptions(("text",), "the test"), 4)
    assert [(part.groups, part.rows) for part in parts] == [((0, 1), 10), ((1, 2), 10), ((2, 3), 5)]


def test_a_changed_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(TABLES["plain"][0])
    options = TableOptions(("text",), "the test")
    parts = parts_of(str(path), options, 10)
    path.write_bytes(path.read_bytes().replace(b"text 15", b"text 51"))
    for number, part in enumerate(parts):
        windows = read_partition(Partition(number, str(path), part), str(path), (), options, target="out.csv")
        if number == 1:
            with pytest.raises(DataError, match=r"table\.csv: bytes .* were changed since the file was divided"):
                list(windows)
        else:
            assert sum(len(window.rows) for window in windows) == 10
