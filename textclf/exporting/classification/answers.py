"""Checks the outputs of a finished model: are they probabilities, and how accurate are they on the rows of a table?

Takes a classifier. Returns problems as lines of text, and results on the rows.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.tables.rows import is_blank, problem_of
from textclf.classify.tables.windows import TableOptions, Window, read_windows
from textclf.data.findings.finding import counted
from textclf.data.tables.frames import FrameTable
from textclf.errors import DataError, ModelError
from textclf.exporting.hard_texts import hard_texts
from textclf.files.locations import Location
from textclf.tflite.model_file import TfliteModel

_HARD_TEXTS = 26
_VOCABULARY_TEXTS = 8
_WORDS_A_TEXT = 12
_LARGEST_ROUNDING = 0.01
# The values of 8-bit results have steps of 1/256.
_EIGHT_BIT_STEP = 1 / 256
# More texts show little more about a runtime, and take it minutes.
_COMPARED_TEXTS = 1000


@dataclass(frozen=True)
class RowsResult:
    """The results on a table's rows. `labelled` rows have a true label that the model knows, `unknown` rows another label.
    `without_text` of the `rows` could not be classified. `accuracy` (0 to 1) is that of the labelled rows, None if there
    are none."""

    data: str
    rows: int
    without_text: int
    labelled: int
    unknown: int
    accuracy: float | None

    @property
    def scores(self) -> list[tuple[str, float, str]]:
        """The accuracy, if there is one, and the rows that it was measured on."""
        return [] if self.accuracy is None else [("Accuracy", self.accuracy, counted(self.labelled, "labelled row"))]

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        parts = [f"{self.data}: {self.rows - self.without_text:,} of {counted(self.rows, 'row')} classified"]
        if self.without_text:
            parts.append(f"{self.without_text:,} without a readable text")
        if self.accuracy is not None:
            parts.append(f"accuracy {self.accuracy:.1%} on {counted(self.labelled, 'labelled row')}")
        else:
            parts.append("no labels to compare with")
        if self.unknown:
            parts.append(f"{self.unknown:,} with a label that the model does not know")
        return ", ".join(parts)


def answer_problems(classifier: Classifier, model: TfliteModel) -> list[str]:
    """Runs a model on some texts and returns one line for each way in which its outputs are not probabilities.

    The texts are difficult for tokenizers, or consist of words of the vocabulary, so that many of its rows are used.
    """
    pair = len(classifier.text_columns) == 2
    rows = [(text, text) if pair else (text,) for text in (*hard_texts()[:: 520 // _HARD_TEXTS], *_texts(classifier))]
    try:
        results = [classifier.probabilities_at_full_length(rows), classifier.probabilities(rows)]
    except ModelError as error:
        return [str(error)]
    return strange_answers(np.concatenate(results), adds_up=not labels_are_independent(model))


def labels_are_independent(model: TfliteModel) -> bool:
    """Returns whether the probability of each label is independent of the others, so that their sum is not 1."""
    made_by = {index: operator.name for operator in model.operators for index in operator.outputs}
    return any(made_by.get(index) == "LOGISTIC" for index in model.output_indices)


def strange_answers(probabilities: np.ndarray, *, adds_up: bool) -> list[str]:
    """Returns why rows of numbers are not probabilities. With `adds_up`, their sum for each text must be 1."""
    texts, labels = probabilities.shape
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        return [
            f"{texts - int(finite.sum())} of {counted(texts, 'text')} get probabilities that are not numbers (NaN or infinity)"
        ]
    tolerance = _LARGEST_ROUNDING + _EIGHT_BIT_STEP * labels
    outside = int(((probabilities < -tolerance) | (probabilities > 1 + tolerance)).any(axis=1).sum())
    if outside:
        return [f"{outside} of {counted(texts, 'text')} get probabilities below 0 or above 1"]
    sums = probabilities.sum(axis=1)
    wrong = int((np.abs(sums - 1) > tolerance).sum())
    if wrong and adds_up:
        worst = float(sums[np.abs(sums - 1).argmax()])
        return [f"{wrong} of {counted(texts, 'text')} get probabilities whose sum is not 1 (worst sum {worst:.3f})"]
    return []


def classify_table(
    classifier: Classifier, model: TfliteModel, data: Path | FrameTable
) -> tuple[RowsResult, list[str], list[tuple[str, ...]]]:
    """Returns the results on a table's rows, problems, and the first texts.

    The columns are those of the training. Raises DataError for a table that cannot be read, has no column for the text,
    or has no row with a text.
    """
    name = data.name if isinstance(data, FrameTable) else str(data)
    if not classifier.text_columns:
        raise DataError(
            f"{name}: the model does not say which column contains the text; measure it with `textclf evaluate "
            "MODEL DATA --text COLUMN --label COLUMN`"
        )
    texts: list[tuple[str, ...]] = []
    problems: list[str] = []
    rows = without_text = labelled = unknown = right = 0
    adds_up = not labels_are_independent(model)
    index = {label: number for number, label in enumerate(classifier.labels)}
    for window in _windows(classifier, data):
        filled = [row for row in window.rows if not is_blank(row)]
        usable = [row for row in filled if problem_of(row, window.layout) is None]
        rows += len(filled)
        without_text += len(filled) - len(usable)
        if not usable:
            continue
        given = [tuple(row.fields[column] for column in window.layout.text_columns) for row in usable]
        probabilities = classifier.submit(given).result()
        problems = problems or strange_answers(probabilities, adds_up=adds_up)
        texts += given[: _COMPARED_TEXTS - len(texts)]
        place = window.layout.label_column
        if place is None:
            continue
        known = [number for number, row in enumerate(usable) if row.fields[place] in index]
        unknown += sum(bool(row.fields[place]) for row in usable) - sum(bool(usable[n].fields[place]) for n in known)
        labelled += len(known)
        best = probabilities.argmax(axis=1)
        right += sum(int(best[number]) == index[usable[number].fields[place]] for number in known)
    if rows == without_text:
        raise DataError(f"{name}: no row has a text; pass a table with texts below the header")
    accuracy = right / labelled if labelled else None
    return RowsResult(name, rows, without_text, labelled, unknown, accuracy), problems, texts


def _windows(classifier: Classifier, data: Path | FrameTable) -> Iterator[Window]:
    """Returns the table's rows, with true labels if the table has a column for them."""
    wanted_by = "the column that the model was trained on"
    source = data if isinstance(data, FrameTable | Location) else os.fspath(data)
    delimiter = "," if isinstance(data, FrameTable) else None
    for label in dict.fromkeys((classifier.label_column, None)):
        windows = read_windows([source], TableOptions(classifier.text_columns, wanted_by, label, delimiter))
        try:
            next(windows)
        except DataError:
            if label is None:
                raise
        else:
            return windows
    raise AssertionError("the last attempt raises or returns")


def _texts(classifier: Classifier) -> list[str]:
    """Returns texts of words of the vocabulary, the same for every call."""
    chance = random.Random(0)
    vocabulary = classifier.metadata.vocabulary
    return [" ".join(chance.choices(vocabulary, k=_WORDS_A_TEXT)) for _ in range(_VOCABULARY_TEXTS)]
