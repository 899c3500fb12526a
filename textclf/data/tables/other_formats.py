"""Detects files that are no table that textclf reads, from their content, and says how to make one of them.

Parquet, Excel (.xlsx), JSON and compressed files are read and come here only where they cannot be: within another compression,
or where a text is expected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from textclf.files.locations import is_address

_SAVE_SHEET = "open it in a spreadsheet program and save it as .xlsx, or the sheet as CSV (UTF-8)"

_EXPORT = "export the table as CSV"

_PANDAS = "write it as CSV: "

# Bytes that no text contains, but nearly every binary file within its first kilobytes.
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")

# The first bytes of files, their format, and the remedy. `{name}` is the file.
_BINARY = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "save the workbook as .xlsx, or unpack the archive"),
    (b"PK\x05\x06", "an empty zip archive", "name the table itself"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save it as .xlsx, or the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with unzstd"),
    (b"BZh", "compressed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it with unxz"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it with unlz4"),
    (b"\x1f\x9d", "compressed with compress", "unpack it with uncompress"),
    (b"LZIP", "compressed with lzip", "unpack it with lzip -d"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (b"PAR1", "a Parquet file", _EXPORT),
    (b"ARROW1", "an Arrow (Feather) file", _PANDAS + "pandas.read_feather(…).to_csv(…, index=False)"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "write it as CSV"),
    (b"ORC", "an ORC file", _PANDAS + "pandas.read_orc(…).to_csv(…, index=False)"),
    (b"Obj\x01", "an Avro file", "write it as CSV"),
    (b"\x89HDF", "an HDF5 file", "write the table as CSV"),
    (b"\x93NUMPY", "a NumPy array", "write it as CSV"),
    (b"\x80\x02", "a Python pickle", "write it as CSV with the program that made it"),
    (b"\x80\x03", "a Python pickle", "write it as CSV with the program that made it"),
    (b"\x80\x04", "a Python pickle", "write it as CSV with the program that made it"),
    (b"\x80\x05", "a Python pickle", "write it as CSV with the program that made it"),
    (b"RDX", "an R data file", "write it in R with write.csv(…, row.names = FALSE)"),
    (b"$FL2", "an SPSS file", _EXPORT),
    (b"<stata_dta>", "a Stata file", _EXPORT),
    (b"\x00\x01\x00\x00Standard ", "an Access database", _EXPORT),
    (b"%PDF", "a PDF", _EXPORT),
    (b"%!PS", "a PostScript file", _EXPORT),
    (b"{\\rtf", "a rich text document", "save it as plain text, as CSV"),
    (b"SQLite format 3", "a SQLite database", _EXPORT),
    (b"\x89PNG", "an image", "name the table itself"),
    (b"\xff\xd8\xff", "an image", "name the table itself"),
    (b"GIF8", "an image", "name the table itself"),
    (b"\x7fELF", "a program", "name the table itself"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file with git lfs pull"),
)

_ZIPPED = (
    (b"[Content_Types].xml", "an Excel workbook or another Office document", _SAVE_SHEET),
    (b"_rels/.rels", "an Excel workbook or another Office document", _SAVE_SHEET),
    (b"xl/", "an Excel workbook", _SAVE_SHEET),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet", _SAVE_SHEET),
    (b"Index/Document.iwa", "a Numbers spreadsheet", "export it as CSV"),
)


def binary_format(start: bytes) -> tuple[str, str] | None:
    """Returns the format of a file that begins with these bytes, and the remedy, or None if it may be text."""
    if start.startswith(b"PK\x03\x04"):
        for sign, what, remedy in _ZIPPED:
            if sign in start:
                return what, remedy
    if start[257:262] == b"ustar":
        return "a tar archive", "unpack it"
    return next(((what, remedy) for magic, what, remedy in _BINARY if _begins_with(magic, start)), None)


def _begins_with(magic: bytes, start: bytes) -> bool:
    """Returns whether the bytes begin with those of a format. Those of letters, as `ORC`, may begin a text such as `ORCID`."""
    return start.startswith(magic) and (not magic.isalnum() or _NO_TEXT.search(start) is not None)


def text_format(lines: Sequence[str], name: str, *, has_columns: bool) -> tuple[str, str] | None:
    """Returns the format of a text that is not CSV, from its first lines, and the remedy, or None if it may be CSV.

    `has_columns`: read as CSV, it has the required columns. Then only formats that look like CSV are considered.
    """
    name = name.rpartition("/")[2] if is_address(name) else name  # the remedies are for a file of this machine
    text = "".join(line[:2000] for line in lines[:20]).lstrip("\ufeff \t\r\n")
    for pattern, what, remedy in _DRAWN_TABLES if has_columns else (*_DRAWN_TABLES, *_TEXTS):
        if pattern.match(text):
            return what, remedy.replace("{name}", name).replace("{stem}", _stem(name))
    return None


def _stem(name: str) -> str:
    path = PurePath(name)
    return path.with_suffix("").as_posix() if path.suffix else name


_READ_FASTTEXT = (
    'convert it: python -c "import csv; '
    "rows = [line.rstrip().removeprefix('__label__').split(' ', 1) for line in open('{name}', encoding='utf-8')]; "
    "csv.writer(open('{stem}-table.csv', 'w', encoding='utf-8', newline='')).writerows([['label', 'text'], *rows])\""
)

_DRAWN_TABLES = tuple(
    (re.compile(pattern), what, remedy)
    for pattern, what, remedy in (
        (
            r"\|[^\n]*\|[ \t]*\r?\n[ \t]*\|?[ \t]*:?-{2,}",
            "a Markdown table",
            "delete its second line and the first and last | of each line, then set the delimiter to |",
        ),
        (
            r"[^\n]*\|[^\n]*\n-+\+-[-+]*\r?\n|\+-[-+]*\+\r?\n",
            "a table as a database shows it on a screen",
            "export it as CSV, for example with \\copy … TO … CSV HEADER in psql",
        ),
    )
)

_TEXTS = tuple(
    (re.compile(pattern, re.IGNORECASE), what, remedy)
    for pattern, what, remedy in (
        (r"\[\s*\[|\[\s*\"[^\"\n]*\"\s*,\s*\n", "JSON (a list)", "write it as CSV, with a header row"),
        (r"<\?xml[^>]*>\s*(<\?mso|<!--.*?-->|<Workbook)", "an Excel workbook in XML", _SAVE_SHEET),
        (r"<!DOCTYPE", "a web page, perhaps in place of a download", "download the table itself"),
        (
            r"<(html|head|body|meta|table|style)\b",
            "HTML, perhaps a table under the name of a spreadsheet (.xls)",
            _SAVE_SHEET,
        ),
        (r"<\?xml\b|<[A-Za-z][\w:.-]*(\s[^<>\n]*)?>\s*<[A-Za-z]", "XML", "write its rows as CSV, with a header row"),
        (r"__label__\S", "in the format of fastText", _READ_FASTTEXT),
        (r"(%[^\n]*\n\s*)*@relation\b", "an ARFF file of Weka", "save it as CSV in Weka"),
        (r"(--[^\n]*\n\s*)*(INSERT INTO|CREATE TABLE|DROP TABLE)\b", "an SQL dump", _EXPORT),
        (r"---\s*\n|-[ \t]+\w+:[ \t]", "YAML", "write its rows as CSV, with a header row"),
        (r"#(!|[ \t]*-\*-)[^\n]*\n|import \w+\s*\n|from \w+ import ", "a program", "name the table itself"),
    )
)
