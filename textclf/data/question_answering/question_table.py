"""Reads questions from a table with the columns of the recipe: context, question, answer and, perhaps, answer_start and id.

A row without an answer is a question that its context does not answer. Several rows with the same context and question
(or, with dataset.id, the same id) are one question with several answers.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from textclf.data.findings.finding import listed, visible
from textclf.data.question_answering.answers import find_answer
from textclf.data.question_answering.questions import Answer, Question, QuestionFile
from textclf.data.question_answering.squad import not_found_message
from textclf.data.reading import FileReader, options_of
from textclf.data.tables.column_names import matching_columns
from textclf.data.tables.formats.records import RecordTable
from textclf.data.tables.frames import FrameTable
from textclf.data.tables.opening import AnyTable, open_any
from textclf.data.tables.table import Row
from textclf.errors import DataError
from textclf.recipe.settings import ANSWER_START, DatasetSettings

_MOST_PROBLEMS = 20

_LISTS_OF_ANSWERS = "answers"

_NUMBER = re.compile(r"-?\d{1,9}(\.0+)?")


def read_question_table(
    file: QuestionFile, settings: DatasetSettings, readers: list[FileReader], frame: FrameTable | None = None
) -> list[str]:
    """Fills `file` with the questions of a table, under the number of their first row. Returns the problems.

    Its reader is added to `readers`, whose encodings are judged together. Raises DataError for a file that is not a table
    with these columns.
    """
    if frame is None and os.path.exists(file.file) and not os.path.isfile(file.file) and not os.path.isdir(file.file):
        raise DataError(f"{file.shown}: not a regular file, but it is read more than once; save it to a file")
    names = [name for name in (settings.context, settings.question, settings.answer) if name is not None]
    with open_any(frame or file.file, options_of(settings), names, file.shown) as (table, _):
        columns = _columns(table, settings)
        reader = FileReader(table, file.file, f"dataset.{file.name}")
        readers.append(reader)
        collected = _Collected(file)
        for row in reader:
            collected.add(row, columns)
        file.notes.extend(reader.notes([], [], []))
    problems = [*reader.errors(), *collected.finished()]
    if not file.questions and not problems and not file.odd and reader.undecodable is None:
        problems.append(f"{file.shown}: no rows below the header; add rows with a context, a question and an answer")
    return problems


@dataclass(frozen=True)
class _Columns:
    context: int
    question: int
    answer: int
    start: int | None
    id: int | None


def _columns(table: AnyTable, settings: DatasetSettings) -> _Columns:
    """Raises DataError with every column that is missing. `answer_start` is used where a table has it."""
    found: dict[str, int | None] = {"start": None, "id": None}
    problems = []
    has_start = settings.answer_start is None and matching_columns(ANSWER_START, table.columns)
    wanted: tuple[tuple[str, str | None, str], ...] = (
        ("context", settings.context, "dataset.context"),
        ("question", settings.question, "dataset.question"),
        ("answer", settings.answer, "dataset.answer"),
        ("start", ANSWER_START if has_start else settings.answer_start, "dataset.answer_start"),
        ("id", settings.id, "dataset.id"),
    )
    for key, name, wanted_by in wanted:
        if name is not None:
            try:
                found[key] = table.column(name, wanted_by)
            except DataError as error:
                problems.append(str(error))
    if problems:
        if found.get("answer") is None and isinstance(table, RecordTable) and _LISTS_OF_ANSWERS in table.columns:
            problems[-1] += (
                f". The key `{_LISTS_OF_ANSWERS}` may hold lists, as in SQuAD tables of Hugging Face: write one row for each "
                "answer, with the columns answer and answer_start"
            )
        if "data" in table.columns and isinstance(table, RecordTable):
            problems.insert(
                0, f"{table.name}: is JSON, perhaps a SQuAD file; give a SQuAD file a name that ends in .json"
            )
        raise DataError("\n".join(problems))
    return _Columns(**found)  # type: ignore[arg-type]


@dataclass
class _Gathered:
    """A question while its rows are read."""

    name: str
    question: str
    context: str
    number: int
    answers: list[Answer]
    rows: int = 0
    unanswered: int = 0


class _Collected:
    """The rows of a table, gathered by question."""

    def __init__(self, file: QuestionFile) -> None:
        self._file = file
        self._questions: dict[Any, _Gathered] = {}
        self._contexts: dict[str, str] = {}
        self._problems: list[str] = []
        self._more = 0
        self._other_texts: list[int] = []
        self._without_id: list[int] = []

    def add(self, row: Row, columns: _Columns) -> None:
        context, question, text = (row.fields[place] for place in (columns.context, columns.question, columns.answer))
        context = self._contexts.setdefault(context, context)  # one text for all questions about it
        name = "" if columns.id is None else row.fields[columns.id].strip()
        if not any(cell.strip() for cell in (context, question, text)):
            self._file.note("empty_row", row.number)
        elif not question.strip():
            self._file.note("empty_question", row.number)
        elif not context.strip():
            self._file.note("empty_context", row.number)
        elif columns.id is not None and not name:
            self._without_id.append(row.number)
        else:
            key = name or (context, question)
            gathered = self._questions.get(key)
            if gathered is None:
                gathered = _Gathered(name or str(row.number), question, context, row.number, [])
                self._questions[key] = gathered
            if (gathered.question, gathered.context) != (question, context):
                self._other_texts.append(row.number)
                return
            gathered.rows += 1
            self._add_answer(
                gathered, text, "" if columns.start is None else row.fields[columns.start].strip(), row.number
            )

    def _add_answer(self, gathered: _Gathered, text: str, start_cell: str, number: int) -> None:
        start: int | None = None
        if start_cell:
            if not _NUMBER.fullmatch(start_cell):
                self._problem(
                    f"row {number} has the answer_start {visible(start_cell)}; expected a whole number of characters from "
                    "the start of the context (0 for the first), or nothing"
                )
                return
            start = int(float(start_cell))
        if not text.strip():
            if start is not None and start >= 0:
                self._file.note("empty_answer", number)
                return
            gathered.unanswered += 1
            return
        found = find_answer(gathered.context, text, start)
        if found.answer is None and start is None:
            self._problem(f"row {number} {not_found_message(text, found.starts, 'a column `answer_start`')}")
            gathered.answers.append(Answer(text, 0))  # the file is refused, so it is never used
            return
        if found.place != "exact":
            self._file.note(f"answer_{found.place}", number)
        if found.answer is not None:
            if found.answer in gathered.answers:
                self._file.note("repeated_row", number)
            else:
                gathered.answers.append(found.answer)

    def _problem(self, message: str) -> None:
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(f"{self._file.shown}: {message}")
        else:
            self._more += 1

    def finished(self) -> list[str]:
        """Moves the questions into the file. Returns the problems."""
        for one in self._questions.values():
            if one.answers and one.unanswered:
                self._file.note("contradictory_question", one.number)
            elif not one.answers and one.unanswered < one.rows:
                self._file.note("no_answer_left", one.number)
            else:
                question = Question(one.name, one.question, one.context, tuple(one.answers), one.number)
                self._file.questions.append(question)
        shown, problems = self._file.shown, list(self._problems)
        if self._more:
            problems.append(f"{shown}: … and {self._more:,} more problems of this kind")
        if self._without_id:
            problems.append(
                f"{shown}: no id in {listed(self._without_id)}; fill in the column, or remove dataset.id: then rows with "
                "the same context and question are one question"
            )
        if self._other_texts:
            problems.append(
                f"{shown}: {listed(self._other_texts)} with the id of an earlier row, but with another question or context; "
                "give each question an id of its own"
            )
        return problems
