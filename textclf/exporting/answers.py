"""What a finished model answers: are its numbers probabilities, and how right is it on the rows of a table?

A classifier in; problems as lines of text, or what was found on the rows, out.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.rows import is_blank, problem_of
from textclf.classify.windows import TableOptions, Window, read_windows
from textclf.data.tables.frames import FrameTable
from textclf.errors import DataError, ModelError
from textclf.exporting.hard_texts import hard_texts
from textclf.tflite.model_file import TfliteModel

_HARD_TEXTS = 26
_VOCABULARY_TEXTS = 8
_WORDS_A_TEXT = 12
_LARGEST_ROUNDING = 0.01
# Results of 8 bits lie a step of 1/256 apart.
_EIGHT_BIT_STEP = 1 / 256
# More texts tell little about a runtime and take it minutes.
_COMPARED_TEXTS = 1000


@dataclass(frozen=True)
class RowsResult:
    """A table's rows as the model classifies them: `labelled` have a true label that it knows, `unknown` another one,
    `without_text` (among `rows`) could not be classified; `accuracy` (0 to 1) is of the labelled, None without any."""

    data: str
    rows: int
    without_text: int
    labelled: int
    unknown: int
    accuracy: float | None

    def as_text(self) -> str:
        """One line for a terminal."""
        parts = [f"{self.data}: {self.rows - self.without_text:,} of {self.rows:,} rows classified"]
        if self.without_text:
            parts.append(f"{self.without_text:,} without a text that can be read")
        if self.accuracy is not None:
            parts.append(f"accuracy {self.accuracy:.1%} on {self.labelled:,} labelled rows")
        else:
            parts.append("no labels to compare with")
        if self.unknown:
            parts.append(f"{self.unknown:,} with a label that the model does not know")
        return ", ".join(parts)


def answer_problems(classifier: Classifier, model: TfliteModel) -> list[str]:
    """Runs a model on some texts, one line for each way in which its numbers are no probabilities.

    The texts are hard for tokenizers, or words of the vocabulary, so that many of its rows are read.
    """
    pair = len(classifier.text_columns) == 2
    rows = [(text, text) if pair else (text,) for text in (*hard_texts()[:: 520 // _HARD_TEXTS], *_texts(classifier))]
    try:
        results = [classifier.probabilities_at_full_length(rows), classifier.probabilities(rows)]
    except ModelError as error:
        return [str(error)]
    return strange_answers(np.concatenate(results), adds_up=not labels_are_independent(model))


def labels_are_independent(model: TfliteModel) -> bool:
    """Whether each label has a probability of its own, so that they do not add up to 1."""
    made_by = {index: operator.name for operator in model.operators for index in operator.outputs}
    return any(made_by.get(index) == "LOGISTIC" for index in model.output_indices)


def strange_answers(probabilities: np.ndarray, *, adds_up: bool) -> list[str]:
    """What makes rows of numbers no probabilities, which of one text `adds_up` to 1."""
    texts, labels = probabilities.shape
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        return [
            f"{texts - int(finite.sum())} of {texts} texts get probabilities that are not numbers (NaN or infinity)"
        ]
    tolerance = _LARGEST_ROUNDING + _EIGHT_BIT_STEP * labels
    outside = int(((probabilities < -tolerance) | (probabilities > 1 + tolerance)).any(axis=1).sum())
    if outside:
        return [f"{outside} of {texts} texts get numbers below 0 or above 1, which are no probabilities"]
    sums = probabilities.sum(axis=1)
    wrong = int((np.abs(sums - 1) > tolerance).sum())
    if wrong and adds_up:
        worst = float(sums[np.abs(sums - 1).argmax()])
        return [f"{wrong} of {texts} texts get numbers that are no probabilities: their sum is {worst:.3f}, expected 1"]
    return []


def classify_table(
    classifier: Classifier, model: TfliteModel, data: Path | FrameTable
) -> tuple[RowsResult, list[str], list[tuple[str, ...]]]:
    """What was found on a table's rows, problems, and the first texts.

    The columns are those of the training. Raises DataError for a table that cannot be read, lacks the text's column or
    has no row with a text.
    """
    name = data.name if isinstance(data, FrameTable) else str(data)
    if not classifier.text_columns:
        raise DataError(
            f"{name}: the model does not say which column of a table holds its text; measure it with `textclf evaluate "
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
    """The table's rows, with true labels where it has a column of them."""
    wanted_by = "the column that the model was trained on"
    source = data if isinstance(data, FrameTable) else os.fspath(data)
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
    """Texts of words of the vocabulary, the same for every call."""
    chance = random.Random(0)
    vocabulary = classifier.metadata.vocabulary
    return [" ".join(chance.choices(vocabulary, k=_WORDS_A_TEXT)) for _ in range(_VOCABULARY_TEXTS)]
