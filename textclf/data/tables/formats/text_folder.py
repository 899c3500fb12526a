"""Reads a folder that has one sub-folder for each label, with the texts as .txt files, as a table.

Its columns are those that are wanted, the last of them the label, and `file`. The rows are numbered from 1, in the order of the
files' names; messages name the file of a row too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from textclf.data.tables.column_names import listed
from textclf.data.tables.formats.records import FileRow, RecordTable
from textclf.data.tables.table import BYTE_ORDER_MARKS, LONGEST_ROW, Fault, Note, Row, shown_path
from textclf.errors import DataError
from textclf.files.data_files import TEXT_ENDING, text_files

FILE_COLUMN = "file"


class TextFolder(RecordTable):
    """A folder with a sub-folder for each label. Raises DataError if there is none, or if it cannot be read."""

    what = "a folder of texts"

    def __init__(self, name: str, folder: Path, wanted: Sequence[str], encoding: str) -> None:
        if len(wanted) > 2:
            raise DataError(
                f"{name}: a folder of text files has one text in each row, but a row needs {len(wanted) - 1} texts here; name a "
                "table instead (CSV, JSON Lines, Parquet or Excel)"
            )
        text, label = (*wanted, "text", "label")[:2] if len(wanted) != 1 else (wanted[0], "label")
        super().__init__(name, list(dict.fromkeys([text, label, FILE_COLUMN])))
        self.encoding = encoding
        self._folder = folder
        try:
            self._files = list(text_files(folder))
            left_out = sum(1 for entry in folder.rglob("*") if entry.is_file()) - len(self._files)
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror or error}); check its permissions") from None
        if not self._files:
            raise DataError(
                f"{name}: this is a folder without texts; expected a sub-folder for each label with {TEXT_ENDING} files in "
                f"it, such as {name}/spam/1{TEXT_ENDING}, or the path of a table"
            )
        labels = {label for label, _ in self._files}
        if empty := sorted(
            one.name for one in folder.iterdir() if one.is_dir() and one.name not in labels and one.name[0] != "."
        ):
            message = f"{name}: no {TEXT_ENDING} file is in the sub-folder {listed(empty)}, so there is no such label"
            self.notes.append(Note("empty_folders", message))
        if left_out:
            message = f"{name}: {left_out:,} files are not read; only {TEXT_ENDING} files in the sub-folders of the labels are"
            self.notes.append(Note("other_files", message))

    def __iter__(self) -> Iterator[Row]:
        for position, (label, path) in enumerate(self._files, start=1):
            place = f"{label}/{path.name}"
            number = FileRow.of(position, f"{position} ({place})")
            text, fault = self._read(path)
            fields = [text, label, place]
            yield Row(number, number, fields, ascii(fields), fault or self._fault_of(fields))

    def _read(self, path: Path) -> tuple[str, Fault | None]:
        try:
            with path.open("rb") as file:
                content = file.read(LONGEST_ROW + 1)
        except OSError as error:
            raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from None
        if len(content) > LONGEST_ROW:
            return "", Fault("length", f"is longer than {LONGEST_ROW:,} bytes; shorten it or leave it out")
        codec = next((codec for mark, codec in BYTE_ORDER_MARKS if content.startswith(mark)), self.encoding)
        try:
            return content.decode(codec).rstrip("\r\n"), None
        except UnicodeDecodeError as error:
            message = f"holds the byte 0x{content[error.start]:02x} (offset {error.start:,}), which is not {codec}"
            return "", Fault("type", f"{message}; set dataset.encoding, or save it as UTF-8")
