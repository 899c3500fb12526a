"""Proposes a recipe of question answering: takes a SQuAD file, or a table of questions, and returns its sections."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textclf.data.findings.finding import counted, visible
from textclf.data.question_answering.dataset import load_question_file
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.table_sample import TableSample
from textclf.data.tables.files import open_input
from textclf.data.tables.table import shown_path
from textclf.errors import DataError, TextclfError
from textclf.files.kinds import is_squad, is_squad_start
from textclf.recipe.settings import DatasetSettings, Recipe
from textclf.recipe.values import QUESTION_ANSWERING
from textclf.runs.proposal.question_columns import QuestionColumns
from textclf.runs.proposal.question_settings import (
    MeasuredQuestions,
    question_dataset_settings,
    question_encoder_settings,
    question_language_warning,
    question_training_settings,
)
from textclf.runs.proposal.settings import Setting, builtin_tokenizer
from textclf.runs.proposal.siblings import files_beside

_START = 1 << 12


@dataclass(frozen=True)
class QuestionProposal:
    """The sections of a recipe, a sentence about it, the number of questions, and the files beside the training file by
    split. `texts` are the columns of the question and of the context, `answer` that of the answer."""

    sections: Mapping[str, Sequence[Setting]]
    about: str
    questions: int
    texts: tuple[str, str]
    answer: str
    files: dict[str, Path]
    notes: list[str]
    is_other_language: bool


def holds_squad(path: Path) -> bool:
    """Returns whether a file, plain or compressed, begins as SQuAD files do."""
    if not is_squad(path) or not path.is_file():
        return False
    try:
        with open_input(str(path)) as opened:
            return is_squad_start(opened.stream.read(_START))
    except (DataError, OSError):
        return False


def propose_questions(path: Path, sample: TableSample | None, columns: QuestionColumns | None) -> QuestionProposal:
    """Proposes a recipe for a SQuAD file or, with `sample` and `columns`, for a table of questions.

    Raises DataError for a file whose questions cannot be used.
    """
    settings = _reading(path, sample, columns)
    try:
        questions, _ = load_question_file(settings, path)
    except DataError as error:
        raise DataError(f"{error}\nNo recipe was written; correct the file, then run the command again") from None
    tokenizer = builtin_tokenizer()
    measured = MeasuredQuestions.of(questions, tokenizer)
    others, notes = _others(path, settings)
    language = question_language_warning(measured, tokenizer)
    encoding = "utf-8" if sample is None else sample.encoding
    dataset = question_dataset_settings(measured, columns, others, encoding)
    if sample is not None and sample.sheet is not None:
        dataset.append(Setting("sheet", sample.sheet, "The sheet of the workbook that is read."))
    if sample is not None and sample.named_columns:
        dataset.append(Setting("columns", list(sample.named_columns), "The file has no header; these are its columns."))
    count = len(questions.rows)
    return QuestionProposal(
        sections={
            "dataset": dataset,
            "encoder": question_encoder_settings(measured, language),
            "training": question_training_settings(measured),
        },
        about=f"Finds the answer to a question in a text, the context. {_reason(columns)} `textclf new` wrote this recipe for "
        f"{counted(count, 'question')} of {visible(path.name)}. The comments give the reasons; change what you like.",
        questions=count,
        texts=("question", "context") if columns is None else (columns.question, columns.context),
        answer="answers" if columns is None else columns.answer,
        files={split: file for split, (file, _) in others.items()},
        notes=notes,
        is_other_language=language is not None,
    )


def _reason(columns: QuestionColumns | None) -> str:
    if columns is None:
        return "The file is a SQuAD file."
    return (
        f"The table has questions, contexts, and answers that are parts of their contexts ({columns.found:,} of "
        f"{columns.answered:,})."
    )


def _reading(path: Path, sample: TableSample | None, columns: QuestionColumns | None) -> DatasetSettings:
    values: dict[str, object] = {"train": path}
    if sample is not None and columns is not None:
        values |= {"question": columns.question, "context": columns.context, "answer": columns.answer}
        values |= {"answer_start": columns.start, "encoding": sample.encoding, "sheet": sample.sheet}
        values |= {"columns": list(sample.named_columns) or None}
    return Recipe.model_validate({"name": "new", "task": QUESTION_ANSWERING, "dataset": values}).dataset


def _others(path: Path, settings: DatasetSettings) -> tuple[dict[str, tuple[Path, int]], list[str]]:
    """Returns the files beside the training file by split, with their questions, and why others are not used."""
    found: dict[str, tuple[Path, int]] = {}
    notes = []
    for split, files in files_beside(path).items():
        for file in files:
            if split in found or is_squad(file) != is_squad(path):
                continue
            try:
                questions: QuestionSplit = load_question_file(settings, file)[0]
            except TextclfError as error:
                notes.append(f"{shown_path(file)} is not used for {split}: {_first_line(str(error))}")
            else:
                found[split] = file, len(questions.rows)
    return found, notes


def _first_line(text: str) -> str:
    return re.split(r"\n", text, maxsplit=1)[0]
