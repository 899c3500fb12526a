"""Takes the dataset section of a recipe with several labels per row and returns checked splits, with findings.

Problems that make the data unusable raise one DataError that lists all of them: those of rows with one label, and cells of
`dataset.labels_from` that are not 0 or 1. A row without labels is a row to which no label applies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from textclf.data.dataset import listed_label_errors, load_examples, read_files, unknown_labels_error
from textclf.data.examples import Dataset, Examples, Split
from textclf.data.findings.finding import visible
from textclf.data.findings.of_examples import (
    findings_of_file,
    findings_of_leaks,
    findings_of_splits,
    findings_of_table,
)
from textclf.data.multi_label.findings import findings_of_label_sets
from textclf.data.multi_label.label_sets import as_arrays, labels_of, strata_of
from textclf.data.multi_label.reading import LABEL_SETS
from textclf.data.splits import make_splits
from textclf.data.tables.frames import FrameTable
from textclf.data.tokens.row_keys import Reading, as_written
from textclf.errors import DataError
from textclf.files.copies import local_copies
from textclf.recipe.settings import DatasetSettings


@local_copies()
def load_label_sets(
    settings: DatasetSettings, seed: int, reading: Reading = as_written, frames: Mapping[str, FrameTable] | None = None
) -> Dataset:
    """Does what `load_dataset` does for rows with any number of labels: `Split.labels` are bool [rows, labels].

    The labels are `settings.labels`, the columns `settings.labels_from`, or those of the training file in plain string
    order. Fractions are set aside by `strata_of`, so that each label keeps about its share.
    """
    errors: list[str] = []
    settings, examples, digests = read_files(settings, LABEL_SETS, errors, frames or {})
    labels = _labels(settings, examples, errors)
    if errors:
        raise DataError("\n".join(errors))
    keys = {name: reading(one.texts) for name, one in examples.items()}
    train = examples["train"]
    findings = [finding for one in examples.values() for finding in findings_of_table(one)]
    for name, one in examples.items():
        findings += findings_of_file(one, keys[name], settings, "different labels in different rows")
    findings += findings_of_label_sets(train, as_arrays(train.labels, labels), labels, settings)
    findings += findings_of_leaks(examples, keys)
    # Rows with equal labels are rows of one label here; the splits get the arrays afterwards.
    texts = sorted({text for one in examples.values() for text in one.labels})
    arrays = as_arrays(texts, labels)
    splits = {
        name: replace(split, labels=arrays[split.labels])
        for name, split in make_splits(settings, seed, texts, examples, keys["train"], strata_of(train.labels)).items()
    }
    if not splits["validation"].rows:
        raise DataError(
            f"{train.shown}: no label has two texts that the model reads differently, so none can be set aside for validation; "
            "add rows, or set dataset.validation to a file"
        )
    occurring = {name: replace(one, labels=np.flatnonzero(one.labels.any(axis=0))) for name, one in splits.items()}
    findings += findings_of_splits(occurring, labels)
    return Dataset(list(labels), splits["train"], splits["validation"], splits.get("test"), findings, digests())


@local_copies()
def load_label_set_file(
    settings: DatasetSettings, path: Path, labels: Sequence[str], frame: FrameTable | None = None
) -> Split:
    """Returns the rows of one file, or of a table in memory, as a split named `test`, with the columns of `settings`.

    Raises DataError with every problem, one per line; labels that are not among `labels` are one.
    """
    examples = load_examples(settings, path, LABEL_SETS, frame)
    if unknown := _unknown(examples, labels):
        raise DataError(unknown_labels_error(examples, unknown, labels, settings, "the labels of the model"))
    return Split("test", examples.texts, as_arrays(examples.labels, labels), examples.rows, path)


def _labels(settings: DatasetSettings, examples: Mapping[str, Examples], errors: list[str]) -> Sequence[str]:
    """Returns the labels of the model, in order; problems with the labels of the files are added to the errors."""
    train = examples.get("train")
    errors += listed_label_errors(settings)
    if train is None:
        return settings.labels or settings.labels_from or ()
    found = sorted({label for text in train.labels for label in labels_of(text)})
    labels = settings.labels or settings.labels_from or found
    column = visible(settings.label) if settings.labels_from is None else "dataset.labels_from"
    if not found:
        errors.append(f"{train.shown}: no row has a label in {column}; add rows with labels, or name another column")
    elif len(labels) < 2:
        errors.append(
            f"{train.shown}: the only label is {visible(found[0])}, but two or more are needed; add rows with other labels, set "
            "dataset.labels to all labels, or train on one label per row with a column of yes and no"
        )
    elif len(set(train.labels)) == 1:
        errors.append(
            f"{train.shown}: every row has the same labels, {', '.join(map(visible, found[:5]))}, so nothing can be learned; add "
            "rows with other labels"
        )
    for one in examples.values():
        if unknown := _unknown(one, labels):
            errors.append(unknown_labels_error(one, unknown, labels, settings))
    return labels


def _unknown(examples: Examples, labels: Sequence[str]) -> list[tuple[str, int]]:
    known = set(labels)
    return [
        (label, row)
        for text, row in zip(examples.labels, examples.rows, strict=True)
        for label in labels_of(text)
        if label not in known
    ]
