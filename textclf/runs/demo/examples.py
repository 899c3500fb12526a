"""The rows that a page offers as examples: takes an open model and labelled rows, and returns right and wrong predictions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.multi_label.evaluation import read_label_sets
from textclf.classify.question_answering.evaluation import golds_of, question_scores, read_questions
from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.classify.table_settings import settings_of_arguments
from textclf.data.dataset import load_examples
from textclf.data.examples import Split
from textclf.data.question_answering.questions import QuestionSplit
from textclf.encoders.prepare import load_recipe_data
from textclf.errors import DataError
from textclf.files.copies import local_copies
from textclf.recipe.reading import load_recipe
from textclf.runs.comparison.runs import require_unchanged
from textclf.runs.record.metrics_file import RunMetrics
from textclf.runs.tasks.table import task_of_run

# Rows that are computed to find right and wrong ones. An answer takes a hundred times as long as a label.
_MOST_ROWS, _MOST_QUESTIONS = 1000, 60


@dataclass(frozen=True)
class Example:
    """A row: its texts, its true labels or the correct answers, and whether the model predicts it right."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    right: bool


class LabelledRows(NamedTuple):
    """Rows with their true labels or correct answers, and what they are in words: `test rows of the run`."""

    texts: list[tuple[str, ...]]
    labels: list[tuple[str, ...]]
    name: str


@local_copies()
def rows_of_run(folder: Path, opened: Classifier | QuestionAnswerer) -> LabelledRows:
    """Returns the test rows of a run, or its validation rows if it has no test rows. Raises DataError if a data file is
    missing or has changed."""
    recipe = load_recipe(folder / "recipe.yaml")
    require_unchanged(folder.name, recipe, RunMetrics.read(folder))
    _, dataset = load_recipe_data(recipe, opened.tokenizer, read=task_of_run(folder).read_dataset)
    split = dataset.held_out[-1]
    return LabelledRows(split.texts, _labels_of(split, dataset.labels), f"{split.name} rows")


def rows_of_table(
    table: Path, opened: Classifier | QuestionAnswerer, text_columns: Sequence[str], label_column: str | None
) -> LabelledRows:
    """Returns the rows of a table or a SQuAD file; the columns are by default those of the training. Raises DataError."""
    if isinstance(opened, QuestionAnswerer):
        question, context = (*text_columns, None, None)[:2]
        split: Split = read_questions(
            opened, table, question_column=question, context_column=context, answer_column=label_column
        )
        return LabelledRows(split.texts, _labels_of(split, []), f"rows of {table.name}")
    if opened.thresholds is not None:
        split = read_label_sets(opened, table, text_columns=text_columns, label_column=label_column)
        return LabelledRows(split.texts, _labels_of(split, opened.labels), f"rows of {table.name}")
    columns, label = tuple(text_columns) or opened.text_columns, label_column or opened.label_column
    if not columns or label is None:
        raise DataError(f"{opened.name}: the model does not name its columns; name them with --text and --label")
    settings = settings_of_arguments(
        {"train": table.absolute(), "text": columns, "label": label}, {"train": "examples_from (--examples-from)"}
    )
    try:
        examples = load_examples(settings, table)
    except DataError as error:
        # There is no recipe here whose settings could be changed.
        raise DataError(re.sub(r"\bdataset\.(text|label)\b(?!_)", r"--\1", str(error))) from error
    return LabelledRows(examples.texts, [(label,) for label in examples.labels], f"rows of {table.name}")


def _labels_of(split: Split, labels: Sequence[str]) -> list[tuple[str, ...]]:
    if isinstance(split, QuestionSplit):
        return [tuple(dict.fromkeys(golds)) for golds in golds_of(split)]
    if split.labels.ndim == 2:
        return [tuple(labels[place] for place in np.flatnonzero(row).tolist()) for row in split.labels]
    return [(labels[place],) for place in split.labels.tolist()]


def choose_examples(opened: Classifier | QuestionAnswerer, rows: LabelledRows, count: int) -> list[Example]:
    """Returns `count` rows in their order, half of them wrong if there are as many, of as many labels as possible."""
    most = _MOST_QUESTIONS if isinstance(opened, QuestionAnswerer) else _MOST_ROWS
    places = np.unique(np.linspace(0, len(rows.texts) - 1, most, dtype=int)).tolist() if rows.texts else []
    texts, labels = [rows.texts[place] for place in places], [rows.labels[place] for place in places]
    right = _are_right(opened, texts, labels)
    wrong = _spread([place for place, is_right in enumerate(right) if not is_right], labels)
    good = _spread([place for place, is_right in enumerate(right) if is_right], labels)
    wrong_count = max(min(len(wrong), count // 2), count - len(good))
    chosen = sorted([*wrong[:wrong_count], *good[: count - wrong_count]])
    return [Example(texts[place], labels[place], right[place]) for place in chosen]


def _are_right(
    opened: Classifier | QuestionAnswerer, texts: list[tuple[str, ...]], labels: list[tuple[str, ...]]
) -> list[bool]:
    if isinstance(opened, QuestionAnswerer):
        answers = opened.answers(texts, phone=opened.fits_phones)
        scores = question_scores([answer.text for answer in answers], labels).reshape(-1, 2)
        return [bool(score > 0) for score in scores[:, 0]]
    predictions = opened.classify([row if len(row) > 1 else row[0] for row in texts])
    return [set(prediction.labels) == set(own) for prediction, own in zip(predictions, labels, strict=True)]


def _spread(places: list[int], labels: list[tuple[str, ...]]) -> list[int]:
    """Orders rows so that each label comes once before one comes twice."""
    seen: dict[tuple[str, ...], int] = defaultdict(int)
    rounds = []
    for place in places:
        rounds.append((seen[labels[place]], place))
        seen[labels[place]] += 1
    return [place for _, place in sorted(rounds)]
