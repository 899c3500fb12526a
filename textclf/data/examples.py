"""The parts of a dataset: labelled examples, splits, and findings about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from textclf.data.findings.finding import Finding
from textclf.data.tables.formats.records import FileRow
from textclf.data.tables.table import Note, shown_path
from textclf.data.tokens.row_keys import Texts


@dataclass(frozen=True)
class Split:
    """The rows of one split, in the order of their file.

    `texts` has one or two strings per row. `labels` are int32 [rows] indices into `Dataset.labels`. `rows` are the
    spreadsheet row numbers in `file` (the header is row 1).
    """

    name: str
    texts: list[Texts]
    labels: np.ndarray
    rows: list[int]
    file: Path


@dataclass(frozen=True)
class Dataset:
    """Checked data: all labels in the order of the model's outputs, the splits, the findings, and the SHA-256 of
    every file that was read."""

    labels: list[str]
    train: Split
    validation: Split
    test: Split | None
    findings: list[Finding]
    files: dict[Path, str]

    @property
    def splits(self) -> list[Split]:
        """The existing splits, in the order train, validation, test."""
        return [self.train, *self.held_out]

    @property
    def held_out(self) -> list[Split]:
        """The splits that are not used for training."""
        return [self.validation] if self.test is None else [self.validation, self.test]


# --- Reading ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Examples:
    """The rows of one file that have texts; labels still as text. `left_out` are the rows with an empty text,
    `unlabelled` those that are skipped because they have no label. `notes` describe what was not read exactly as it is
    written. If there are several files, `rows` also name the file (`FileRow`)."""

    name: str
    file: Path
    texts: list[Texts] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    unlabelled: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return shown_path(self.file)

    def add(self, other: Examples, file: str) -> None:
        """Appends the rows of another file, which messages call `file`."""
        self.texts.extend(other.texts)
        self.labels.extend(other.labels)
        for own, more in (
            (self.rows, other.rows),
            (self.left_out, other.left_out),
            (self.unlabelled, other.unlabelled),
        ):
            own.extend(FileRow.of(row, f"{row} of {file}") for row in more)
        self.notes.extend(other.notes)
