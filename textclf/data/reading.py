"""Reads a file of labelled rows for training: yields the valid rows and collects messages about the others.

Compressed files are read as `classify` reads them. Problems with encodings are reported after all files are read,
because one setting applies to all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from textclf.data.findings.finding import listed
from textclf.data.tables.advice import FaultyRows, lone_labels
from textclf.data.tables.encoding import Evidence, Verdict
from textclf.data.tables.files import open_input
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.formats.workbook import SheetTable
from textclf.data.tables.opening import AnyTable, ReadOptions
from textclf.data.tables.table import Note, Row, first_undecodable_byte, shown_path
from textclf.files.locations import Location
from textclf.recipe.settings import DatasetSettings

_PLAIN_PATH = re.compile(r"[\w./ +=@:,-]+")

_PACKED = (".gz", ".zst", ".bz2", ".xz")

_WORDS_OF_A_TITLE = 3


def options_of(settings: DatasetSettings) -> ReadOptions:
    """Returns how the files of a recipe are read."""
    return ReadOptions(settings.delimiter, settings.encoding, settings.sheet, settings.columns or ())


class FileReader:
    """The rows of an open table whose columns have been looked up.

    Iterate over it once, then read the other members.
    """

    def __init__(self, table: AnyTable, path: Path, key: str) -> None:
        self.name = table.name
        self.path = path
        self.key = key
        self.evidence = Evidence(table.encoding)
        self._table = table
        self._faulty: dict[tuple[str, bool], FaultyRows] = {}
        self._short: list[int] = []
        self._long: list[int] = []
        self._headers: list[int] = []
        self._end_marks: list[int] = []
        self._rows = 0
        self._last_row = 0

    @property
    def is_workbook(self) -> bool:
        return isinstance(self._table, SheetTable)

    def reads_only_columns_asked_for(self) -> None:
        """The other columns need not be read; in `Row.fields` they may be empty."""
        if isinstance(self._table, RecordTable):
            self._table.reads_others = False

    def __iter__(self) -> Iterator[Row]:
        """Yields the rows without a fault, each with at least as many fields as columns, including rows of only
        delimiters."""
        width = len(self._table.columns)
        for row in self._table:
            self._last_row = row.number
            if not row.raw.isascii():
                self.evidence.add(row.raw)
            if row.fault is None:
                self._rows += 1
                if len(row.fields) == width:
                    yield row
                elif len(row.fields) < width:
                    self._short.append(row.number)
                    yield _padded(row, width)
                else:
                    self._long.append(row.number)
                    yield row
            elif row.fault.kind != "blank":
                self._keep_faulty(row)
            elif len(row.fields) > 1:  # only delimiters: spreadsheets write empty rows like this
                yield _padded(row, width)

    @property
    def left_out(self) -> int:
        """The number of rows with a fault."""
        return sum(len(rows.numbers) for rows in self._faulty.values())

    def errors(self) -> list[str]:
        """Returns the faults of rows except their encoding: one message for each kind of fault."""
        return [self._message(rows) for (kind, _), rows in self._faulty.items() if kind != "encoding"]

    @property
    def undecodable(self) -> FaultyRows | None:
        """The rows that are not in the table's encoding."""
        return self._faulty.get(("encoding", False))

    def notes(self, labels: Sequence[str], texts: Sequence[tuple[str, ...]], rows: Sequence[int]) -> list[Note]:
        """Returns notes about what was not read exactly as written, or may not be data.

        The arguments are the rows that are used.
        """
        notes = list(self._table.notes)
        columns = len(self._table.columns)
        for kind, numbers, one, many, rest in (
            (
                "short_rows",
                self._short,
                "ends",
                "end",
                f"before the last of {columns} columns; missing cells are empty",
            ),
            ("trailing_delimiters", self._long, "has", "have", "empty cells after the last column, which are ignored"),
            ("repeated_header", self._headers, "repeats", "repeat", "the header, left out"),
            ("end_mark", self._end_marks, "holds", "hold", "an end-of-file mark of DOS (Ctrl-Z), left out"),
        ):
            if numbers:
                counted = f"1 row {one}" if len(numbers) == 1 else f"{len(numbers):,} rows {many}"
                notes.append(self._note(kind, f"{counted} {rest}", numbers))
        return [*notes, *self._notes_on_encoding(), *self._notes_on_lone_rows(labels, texts, rows)]

    def _notes_on_encoding(self) -> list[Note]:
        doubt = self.evidence.doubt()
        if doubt is None or doubt.encoding == "utf-8":
            return []
        message = (
            f"the text looks like {doubt.encoding} rather than {self.evidence.encoding} (`{doubt.example}`); "
            "check dataset.encoding"
        )
        return [Note("encoding_doubt", f"{self.name}: {message}")]

    def _notes_on_lone_rows(
        self, labels: Sequence[str], texts: Sequence[tuple[str, ...]], rows: Sequence[int]
    ) -> list[Note]:
        notes, lone = [], lone_labels(labels)
        for index, what in ((0, "a second header or a line of units"), (-1, "a summary of the table")):
            if lone and labels[index] in lone and all(len(t.split()) <= _WORDS_OF_A_TITLE for t in texts[index]):
                message = (
                    f"row {rows[index]} has a label that no other row has, `{labels[index][:40]}`, and may be {what}; "
                    "delete it if it is not data"
                )
                notes.append(self._note("first_row" if index == 0 else "last_row", message, [rows[index]]))
        return notes

    def _note(self, kind: str, message: str, rows: Sequence[int]) -> Note:
        return Note(kind, f"{self.name}: {message}", tuple(rows))

    def _keep_faulty(self, row: Row) -> None:
        assert row.fault is not None
        if row.fault.kind == "header":
            self._headers.append(row.number)
        elif row.fault.kind == "end_mark":
            self._end_marks.append(row.number)
        else:
            self._rows += 1
            is_long = row.fault.kind == "fields" and len(row.fields) > len(self._table.columns)
            self._faulty.setdefault((row.fault.kind, is_long), FaultyRows(row)).add(row)

    def _message(self, rows: FaultyRows) -> str:
        """Returns one message for all rows with the same kind of fault: the first in full, the others by number."""
        fault = rows.first.fault
        assert fault is not None
        what, _, remedy = fault.message.partition("; ")
        remedy = rows.remedy(self._table, self._rows, self._last_row) or remedy
        message = f"{self.name}: {_place(rows.first)} {what}"
        if len(rows.numbers) > 1:
            message += f" (the same kind of fault in {listed(rows.numbers[1:])})"
        return f"{message}; {remedy}"


def own_names(files: Sequence[Path]) -> list[str]:
    """Returns what messages call each of several files: its name, or its path if another file has this name too."""
    names = [file.name for file in files]
    return [file.name if names.count(file.name) == 1 else shown_path(file) for file in files]


def encoding_errors(readers: Sequence[FileReader]) -> list[str]:
    """Returns one message for each file with text that is not in its encoding, with advice that suits all files."""
    errors = []
    for reader in readers:
        if reader.undecodable is not None:
            others = [other.evidence for other in readers if other.path != reader.path]
            errors.append(_encoding_error(reader, reader.undecodable, others))
        elif (doubt := reader.evidence.doubt()) and doubt.encoding == "utf-8":
            errors.append(
                f"{reader.name}: is UTF-8, not {reader.evidence.encoding} (`{doubt.example}`); set dataset.encoding to "
                "utf-8, and convert files that are not UTF-8"
            )
    return errors


def _encoding_error(reader: FileReader, rows: FaultyRows, others: Sequence[Evidence]) -> str:
    evidence = reader.evidence
    encoding = evidence.encoding.removesuffix("-sig")
    byte = ord(next(re.finditer("[\udc80-\udcff]", rows.first.raw))[0]) - 0xDC00
    with open_input(reader.path, reader.name) as file:
        offset = first_undecodable_byte(file.stream, evidence.encoding)
    message = (
        f"{reader.name}: {_place(rows.first)} holds the byte 0x{byte:02x} (offset {offset:,}), which is not {encoding}"
    )
    if len(rows.numbers) > 1:
        message += f" (the same kind of fault in {listed(rows.numbers[1:])})"
    verdict = evidence.verdict()
    if evidence.is_mixed or (verdict and evidence.encoding == "utf-8-sig"):
        return f"{message}; {_advice_on_mixed(reader, rows, encoding)}"
    if verdict is None:
        return (
            f"{message}; which encoding it is cannot be told from the text: find out how the file was written, then set "
            "dataset.encoding, or save the file as CSV with UTF-8"
        )
    found = f"all rows beyond ASCII are {verdict.encoding} (`{verdict.example}`)"
    if all(_is_readable(other, verdict) for other in others):
        return f"{message}; {found}: set `dataset.encoding: {verdict.encoding}`, or save the file as CSV with UTF-8"
    return f"{message}; {found}, but other files are not, and dataset.encoding holds for all: {_conversion(reader, verdict)}"


def _advice_on_mixed(reader: FileReader, rows: FaultyRows, encoding: str) -> str:
    alone = reader.evidence.verdict_on_undecodable()
    read_as = f" (they would be {alone.encoding}: `{alone.example}`)" if alone else ""
    correct = "correct this row" if len(rows.numbers) == 1 else "correct these rows"
    others = f"{reader.evidence.decodable:,} other rows" if reader.evidence.decodable > 1 else "another row"
    if not reader.evidence.decodable:
        others = "the byte order mark"
    return f"{others} of the file show that it is {encoding}, so another setting would garble them: {correct}{read_as}"


def _is_readable(other: Evidence, verdict: Verdict) -> bool:
    """Returns whether another file can be read with this encoding: it is ASCII, or is in the same encoding."""
    if not other.decodable and not other.undecodable:
        return True
    own = other.verdict()
    return own is not None and own.encoding == verdict.encoding


def _conversion(reader: FileReader, verdict: Verdict) -> str:
    path = Path(shown_path(reader.path))
    target = path.with_name(f"{path.stem}-utf8{path.suffix}").as_posix()
    if (
        isinstance(reader.path, Location)
        or path.suffix.lower() in _PACKED
        or not _PLAIN_PATH.fullmatch(path.as_posix())
    ):
        return f"convert this file from {verdict.encoding} to UTF-8, and name the new one in {reader.key}"
    return (
        f'convert this file and name {target} in {reader.key}: python -c "from pathlib import Path; '
        f"Path('{target}').write_bytes(Path('{path.as_posix()}').read_bytes().decode('{verdict.encoding}').encode())\""
    )


def _padded(row: Row, width: int) -> Row:
    return row._replace(fields=[*row.fields, *[""] * (width - len(row.fields))])


def _place(row: Row) -> str:
    return f"row {row.number}" if row.number == row.line else f"row {row.number} (line {row.line})"
