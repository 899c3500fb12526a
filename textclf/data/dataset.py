"""Takes the dataset section of a text classification recipe and returns checked splits, with findings about the data.

Problems that make the data unusable raise one DataError that lists all of them: files that cannot be read, missing
columns, faulty rows, empty or unknown labels, fewer than two labels. Other problems become a `Finding` and are shown.
Rows with an empty text are left out and counted: they teach nothing, and exports contain many of them, so an error
would only make people delete them by hand. An empty label is an error, because the row was meant to teach something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from textclf.data.examples import Dataset, Examples
from textclf.data.findings.finding import listed, named, visible
from textclf.data.findings.label_lists import flag_columns, flag_columns_message
from textclf.data.findings.label_spellings import (
    not_writable,
    other_spellings,
)
from textclf.data.findings.of_examples import (
    findings_of_file,
    findings_of_labels,
    findings_of_leaks,
    findings_of_splits,
    findings_of_table,
)
from textclf.data.reading import FileReader, encoding_errors, options_of, own_names
from textclf.data.splits import make_splits
from textclf.data.tables.formats.records import ListCell, RecordTable
from textclf.data.tables.frames import FrameTable
from textclf.data.tables.opening import AnyTable, open_any
from textclf.data.tokens.row_keys import Reading, as_written
from textclf.errors import DataError
from textclf.files.copies import local_copies
from textclf.files.data_files import data_files, hashes_of, one_name
from textclf.recipe.settings import DatasetSettings
from textclf.recipe.values import MULTI_LABEL

_SQUAD_KEYS = ({"data"}, {"question", "answers"})


@local_copies()
def load_dataset(
    settings: DatasetSettings, seed: int, reading: Reading = as_written, frames: Mapping[str, FrameTable] | None = None
) -> Dataset:
    """Read, check and split the data.

    Labels are `settings.labels`, or those of the training file in plain string order (so "10" comes before "9").
    Fractions are set aside from the training file, stratified by label. `reading` decides which rows are equal. Texts
    that a model reads alike always stay in the same split, so no split contains a text of another split. Duplicates,
    contradictions and rows of one file in another are detected in the same way. `load_recipe_data` passes the reading
    of a recipe's model. The split of a text depends only on the seed and the text, as far as the fractions allow:
    reordering the file changes nothing, and adding rows moves few texts.

    `frames` are tables in memory for the splits train, validation and test. They take the place of the recipe's files,
    and their rows are numbered by position, from 0. Raises DataError with every problem that makes the data unusable, one
    per line.
    """
    errors: list[str] = []
    settings, examples, digests = read_files(settings, ONE_LABEL, errors, frames or {})
    labels = _labels(settings, examples, errors)
    if errors:
        raise DataError("\n".join(errors))
    keys = {name: reading(one.texts) for name, one in examples.items()}
    findings = [finding for one in examples.values() for finding in findings_of_table(one)]
    findings += [finding for name, one in examples.items() for finding in findings_of_file(one, keys[name], settings)]
    findings += findings_of_labels(examples["train"], labels, settings)
    findings += findings_of_leaks(examples, keys)
    splits = make_splits(settings, seed, labels, examples, keys["train"])
    if not splits["validation"].rows:
        raise DataError(
            f"{examples['train'].shown}: no label has two texts that the model reads differently, so none can be set "
            "aside for validation; add rows, or set dataset.validation to a file"
        )
    findings += findings_of_splits(splits, labels)
    return Dataset(list(labels), splits["train"], splits["validation"], splits.get("test"), findings, digests())


@dataclass(frozen=True)
class LabelReader:
    """How the labels of a row are read. `columns` returns the names of their columns, each with the key that names it.

    `collect` fills the examples from a table and returns the errors; it is given the places of the columns of the texts
    and of the labels. A cell of a label that holds a list is a `ListCell`.
    """

    columns: Callable[[DatasetSettings], list[tuple[str, str]]]
    collect: Callable[[Examples, FileReader, Sequence[int], Sequence[int], DatasetSettings], list[str]]


def read_files(
    settings: DatasetSettings, labels: LabelReader, errors: list[str], frames: Mapping[str, FrameTable]
) -> tuple[DatasetSettings, dict[str, Examples], Callable[[], dict[Path, str]]]:
    """Reads the files of a recipe; problems are added to the errors.

    Returns the settings with the names of the `frames` in place of files, the rows by split, and a function that returns
    the SHA-256 of each file.
    """
    settings = settings.model_copy(update={name: Path(frame.name) for name, frame in frames.items()})
    files = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    named = {name: value for name, value in files.items() if isinstance(value, Path | tuple)}
    readers: list[FileReader] = []
    read = {
        name: _read_examples(name, Path(frames[name].name), settings, labels, errors, readers, frames[name])
        if name in frames
        else _read_split(name, value, settings, labels, errors, readers)
        for name, value in named.items()
    }
    errors += encoding_errors(readers)
    if settings.sheet is not None and readers and not any(reader.is_workbook for reader in readers):
        errors.append(f"dataset.sheet is {visible(settings.sheet)}, but no file is an Excel workbook; remove the line")

    def digests() -> dict[Path, str]:
        own = hashes_of([value for name, value in named.items() if name not in frames])
        return {**{Path(frame.name): frame.sha256 for frame in frames.values()}, **own}

    return settings, {name: one for name, one in read.items() if one is not None}, digests


@local_copies()
def load_examples(
    settings: DatasetSettings, path: Path, labels: LabelReader | None = None, frame: FrameTable | None = None
) -> Examples:
    """The labelled rows of one file, or of a table in memory, with the columns of `settings`; rows with an empty text are
    left out.

    Raises DataError with every problem, one a line.
    """
    errors: list[str] = []
    readers: list[FileReader] = []
    examples = _read_examples("test", path, settings, labels or ONE_LABEL, errors, readers, frame)
    errors += encoding_errors(readers)
    if errors or examples is None:
        raise DataError("\n".join(errors))
    return examples


def _read_split(
    name: str,
    value: Path | tuple[Path, ...],
    settings: DatasetSettings,
    labels: LabelReader,
    errors: list[str],
    readers: list[FileReader],
) -> Examples | None:
    """Returns the rows of all files of a split, one file after the other."""
    try:
        files = data_files(value)
    except DataError as error:
        errors.append(f"dataset.{name}: {error}")
        return None
    parts = [_read_examples(name, file, settings, labels, errors, readers) for file in files]
    if len(files) == 1:
        return parts[0]
    together = Examples(name, one_name(value))
    for part, shown in zip(parts, own_names(files), strict=True):
        if part is None:
            return None
        together.add(part, shown)
    return together


def _read_examples(
    name: str,
    path: Path,
    settings: DatasetSettings,
    labels: LabelReader,
    errors: list[str],
    readers: list[FileReader],
    frame: FrameTable | None = None,
) -> Examples | None:
    """Returns the rows of a file.

    If they cannot be used, returns None and records an error or rows in another encoding.
    """
    examples = Examples(name, path)
    before = len(errors)
    wanted = [*((name, "dataset.text") for name in settings.text), *labels.columns(settings)]
    names = [name for name, _ in wanted]
    try:
        if frame is None and os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise DataError(f"{examples.shown}: not a regular file, but it is read more than once; save it to a file")
        with open_any(frame or path, options_of(settings), names, examples.shown) as (table, _):
            columns = _columns(table, wanted, errors)
            if len(columns) == len(wanted):
                reader = FileReader(table, path, f"dataset.{name}")
                reader.reads_only_columns_asked_for()
                readers.append(reader)
                texts = len(settings.text)
                if isinstance(table, RecordTable):
                    table.columns_of_lists = columns[texts:]
                errors += labels.collect(examples, reader, columns[:texts], columns[texts:], settings)
            elif settings.labels_from is None and (flags := flag_columns(path, settings)):
                errors[-1] += f". In this file {flag_columns_message(flags)}"
            elif isinstance(table, RecordTable) and any(keys <= set(table.columns) for keys in _SQUAD_KEYS):
                errors[-1] += ". This may be a SQuAD file, which needs task: question-answering"
    except DataError as error:
        errors.append(str(error))
    return examples if len(errors) == before else None


def _columns(table: AnyTable, wanted: Sequence[tuple[str, str]], errors: list[str]) -> list[int]:
    columns = []
    for name, key in wanted:
        try:
            columns.append(table.column(name, key))
        except DataError as error:
            errors.append(str(error))
    return columns


def _collect(
    examples: Examples,
    reader: FileReader,
    text_columns: Sequence[int],
    label_columns: Sequence[int],
    settings: DatasetSettings,
) -> list[str]:
    """Fill the examples from a table with one label for each row. Returns the errors."""
    unlabelled: list[int] = []
    lists: list[int] = []
    not_held: dict[str, list[tuple[int, str]]] = {}
    [label_column] = label_columns
    for row in reader:
        texts = tuple(row.fields[column] for column in text_columns)
        label = row.fields[label_column]
        if not any(text.strip() for text in texts):
            examples.left_out.append(row.number)
        elif isinstance(label, ListCell):
            lists.append(row.number)
        elif not label.strip():
            unlabelled.append(row.number)
        elif (problem := not_writable(label)) is not None:
            not_held.setdefault(problem, []).append((row.number, label))
        else:
            examples.texts.append(texts)
            examples.labels.append(label)
            examples.rows.append(row.number)
    examples.notes.extend(reader.notes(examples.labels, examples.texts, examples.rows))
    errors = reader.errors()
    if lists:
        errors.append(
            f"{reader.name}: {visible(settings.label)} holds a list in {listed(lists)}, but a row has one label here; if a row "
            f"may have several labels, set task: {MULTI_LABEL}, otherwise write the label as text"
        )
    if unlabelled and settings.unlabelled == "skip":
        examples.unlabelled.extend(unlabelled)
    elif unlabelled:
        errors.append(
            f"{reader.name}: no label in {listed(unlabelled)}, and rows without a label cannot be used; fill in the labels, "
            "or set dataset.unlabelled to skip to leave these rows out"
        )
    return [*errors, *not_writable_errors(reader, not_held), *no_rows_errors(examples, reader, errors or not_held)]


ONE_LABEL = LabelReader(lambda settings: [(settings.label, "dataset.label")], _collect)
"""One label in one column."""


def not_writable_errors(reader: FileReader, found: Mapping[str, Sequence[tuple[int, str]]]) -> list[str]:
    """Returns errors about labels that a model's label file cannot hold; `found` has rows and labels by problem."""
    return [
        f"{reader.name}: the label {visible(rows[0][1])} in {listed([row for row, _ in rows])} {problem}, but a "
        "model's label file holds one label on each line; remove the character from the label"
        for problem, rows in found.items()
    ]


def no_rows_errors(examples: Examples, reader: FileReader, errors: Sized) -> list[str]:
    """Returns an error about a file without a row that can be used, if no other error is the reason."""
    if examples.rows or errors or reader.undecodable is not None:
        return []
    what = "no rows below the header"
    if examples.left_out or examples.unlabelled:
        what = "no row has a label" if examples.unlabelled else "no row has a text"
    return [f"{reader.name}: {what}; add rows with a text and a label"]


# --- Labels ----------------------------------------------------------------------------------------------------------
def _labels(settings: DatasetSettings, examples: dict[str, Examples], errors: list[str]) -> Sequence[str]:
    """Returns the labels of the model, in order; problems with the labels of the files are added to the errors."""
    train = examples.get("train")
    labels = settings.labels or (sorted(set(train.labels)) if train else ())
    errors += listed_label_errors(settings)
    if train and len(set(train.labels)) == 1:
        errors.append(
            f"{train.shown}: every row has the label {visible(train.labels[0])}, but a classifier needs two labels or more; "
            "add rows with another label, or set dataset.label to another column"
        )
    if labels:
        known = set(labels)
        errors += [
            unknown_labels_error(one, unknown, labels, settings)
            for one in examples.values()
            if (
                unknown := [(label, row) for label, row in zip(one.labels, one.rows, strict=True) if label not in known]
            )
        ]
    return labels


def listed_label_errors(settings: DatasetSettings) -> list[str]:
    """Returns errors about labels of the recipe that a model's label file cannot hold."""
    return [
        f"dataset.labels: the label {visible(label)} {problem}, but a model's label file holds one label on each line; "
        "remove the character from the label"
        for label in settings.labels or ()
        if (problem := not_writable(label)) is not None
    ]


def unknown_labels_error(
    examples: Examples,
    unknown: Sequence[tuple[str, int]],
    labels: Sequence[str],
    settings: DatasetSettings,
    source: str | None = None,
) -> str:
    """Returns an error about `unknown` labels and their rows. `source` says in words where the known ones come from."""
    names, rows = sorted({label for label, _ in unknown}), [row for row, _ in groupby(row for _, row in unknown)]
    add = f"; correct the rows, or {'add the label there' if settings.labels else 'add such rows there'}"
    if source is not None:
        add = "; correct the rows"
    source = source or ("dataset.labels" if settings.labels else "the labels in the training file")
    message = f"{examples.shown}: {named(names)} in {listed(rows)}, but {source} are {named(labels)}"
    meant = other_spellings(names, labels)
    if meant:
        pairs = [f"{visible(label)} is perhaps {visible(known)}" for label, known in list(meant.items())[:3]]
        return f"{message}; {', '.join(pairs)}: write each label alike in all files"
    return message + add
