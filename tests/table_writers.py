"""Writes the same rows in every format that textclf reads."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

Rows = Sequence[Mapping[str, Any]]

PACKED = {".gz": gzip.compress, ".zst": zstd.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def write_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json_lines(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json_array(path: Path, rows: Rows) -> Path:
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Rows, **options: Any) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist([dict(row) for row in rows]), path, **{"row_group_size": 50, **options})
    return path


def write_workbook(path: Path, rows: Rows, sheet: str = "Sheet", empty_sheets: Sequence[str] = ()) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for name in empty_sheets:
        book.create_sheet(name)
    book.active.title = sheet
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    book.save(path)
    return path


def share_texts(path: Path) -> Path:
    """Moves the texts of a workbook of one sheet into the part for all sheets, in which Excel stores them."""
    sheet, shared, types = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "[Content_Types].xml"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    texts: list[bytes] = []

    def number_of(found: re.Match[bytes]) -> bytes:
        texts.append(found[1])
        return b' t="s"><v>%d</v>' % (len(texts) - 1)

    parts[sheet] = re.sub(rb' t="inlineStr"><is>(.*?)</is>', number_of, parts[sheet], flags=re.DOTALL)
    namespace = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    items = b"".join(b"<si>%s</si>" % text for text in texts)
    parts[shared] = b'<sst xmlns="%s">%s</sst>' % (namespace, items)
    kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    override = b'<Override PartName="/%s" ContentType="%s"/></Types>' % (shared.encode(), kind)
    parts[types] = parts[types].replace(b"</Types>", override)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "table.csv": write_csv,
    "table.jsonl": write_json_lines,
    "table.json": write_json_array,
    "table.parquet": write_parquet,
    "table.xlsx": write_workbook,
}


def write_table(folder: Path, name: str, rows: Rows) -> Path:
    """Writes rows in the format of `name`, packed if it ends so."""
    path = folder / name
    packed = PACKED.get(path.suffix)
    if packed is None:
        return WRITERS[f"table{path.suffix}"](path, rows)
    plain = write_table(folder, path.stem, rows)
    path.write_bytes(packed(plain.read_bytes()))
    plain.unlink()
    return path
