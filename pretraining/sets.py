"""The labelled sets on which encoders are measured: takes a folder with one folder a set, returns files and columns.

A set has train.csv, dev.csv and test.csv with the header `text,label`, or `text_a,text_b,label` for sentence pairs.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from textclf.errors import ArgumentError, DataError

SETS = ("sst2", "banking77", "clinc150_small", "sms_spam", "mrpc")
"""The sets of the mean."""

MORE_SETS = ("tweet_hate", "germeval2018", "umsab_french")
"""Not in the mean: tweets whose labels are disputed, and German and French, for which an English encoder was not made."""

SPLITS = ("train", "dev", "test")

_PAIR = ("text_a", "text_b")

# One row in this many of each label chooses the epoch where the dev rows are those that are measured.
_PART = 10


@dataclass(frozen=True)
class LabelledSet:
    """The files of a set: `validation` chooses the best epoch, `test` is measured. `text` has one column or two."""

    name: str
    train: Path
    validation: Path
    test: Path
    text: tuple[str, ...]
    label: str = "label"


def find_sets(data: Path, wanted: Sequence[str] | None = None) -> tuple[list[LabelledSet], list[str]]:
    """Returns the sets of a folder in the order of SETS, MORE_SETS and the alphabet, and a line for each folder left out.

    `wanted` are names of sets; None means every set. Raises ArgumentError if there is no such folder or set, and DataError
    if a wanted set cannot be used.
    """
    if not data.is_dir():
        raise ArgumentError(f"--data: {data} is not a folder; name the folder with one folder for each set")
    known = {name: place for place, name in enumerate(SETS + MORE_SETS)}
    folders = sorted(entry.name for entry in data.iterdir() if entry.is_dir())
    folders.sort(key=lambda name: known.get(name, len(known)))
    for name in wanted or ():
        if name not in folders:
            near = difflib.get_close_matches(name, folders, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(folders) or 'none'}"
            raise ArgumentError(f"--sets: {data} has no set {name}; {remedy}")
    found, left_out = [], []
    for name in folders:
        if wanted is not None and name not in wanted:
            continue
        try:
            found.append(_set(data / name))
        except DataError as error:
            if wanted is not None:
                raise
            left_out.append(f"left out: {error}")
    if not found:
        raise ArgumentError(
            f"--data: {data} has no set that can be measured" + "".join(f"\n{line}" for line in left_out)
        )
    return found, left_out


def _set(folder: Path) -> LabelledSet:
    train, dev, test = ((folder / f"{split}.csv").resolve() for split in SPLITS)
    for file in (train, dev, test):
        if not file.is_file():
            raise DataError(f"{folder}: {file.name} is missing; a set has train.csv, dev.csv and test.csv")
    with train.open(encoding="utf-8", newline="") as lines:
        columns = next(csv.reader(lines), [])
    if "labels" in columns:
        raise DataError(
            f"{folder}: its rows have several labels (the column `labels`), and only one label is measured here"
        )
    text = _PAIR if set(_PAIR) <= set(columns) else ("text",)
    if not {*text, "label"} <= set(columns):
        raise DataError(
            f"{train}: the columns are {', '.join(columns)}, but `text` (or text_a and text_b) and `label` are needed"
        )
    return LabelledSet(folder.name, train, dev, test, text)


def for_development(of: LabelledSet, folder: Path) -> LabelledSet:
    """Returns the set with its dev rows as those that are measured; its test rows are not read.

    A tenth of the training rows of each label, the same in every call, chooses the best epoch instead of the dev rows.
    Both parts of the training rows are written into `folder`.
    """
    rows = read_rows(of.train)
    labels = np.array([row[of.label] for row in rows])
    chosen = np.zeros(len(rows), bool)
    random = np.random.default_rng(0)
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        chosen[places[: max(1, len(places) // _PART)]] = True
    folder.mkdir(parents=True, exist_ok=True)
    train, validation = (folder / f"{of.name}-{part}.csv" for part in ("train", "validation"))
    write_rows(train, [row for row, is_chosen in zip(rows, chosen, strict=True) if not is_chosen])
    write_rows(validation, [row for row, is_chosen in zip(rows, chosen, strict=True) if is_chosen])
    return replace(of, train=train.resolve(), validation=validation.resolve(), test=of.validation)


def read_rows(file: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file with a header."""
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write_rows(file: Path, rows: Sequence[dict[str, str]]) -> None:
    """Writes rows, which all have the columns of the first, with a header."""
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
