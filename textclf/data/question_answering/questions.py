"""The parts of a dataset of questions: answers, the questions of one file, and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from textclf.data.examples import Split
from textclf.data.findings.finding import ROWS_LISTED, enumerated
from textclf.data.tables.formats.records import FileRow
from textclf.data.tables.table import Note, shown_path
from textclf.files.kinds import is_squad


class Answer(NamedTuple):
    """A span of the context: its text, and its first character (code points, from 0)."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character after the last."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class QuestionSplit(Split):
    """The questions of one split, in the order of their file.

    `texts` has (question, context) for each. `labels` is int32 [questions, 2]: the characters [start, end) of the first
    answer in the context, (-1, -1) for a question without an answer. `rows` are the spreadsheet row numbers of a table (of
    several rows, the first), or the numbers of the questions in a SQuAD file, from 1.
    """

    ids: list[str]
    answers: list[tuple[Answer, ...]]
    """All answers of each question, the first one first. Empty: the context does not answer it."""

    files: tuple[Path, ...] = ()
    """The files if there are several; `file` is what messages call them together, and `rows` name the file (`FileRow`)."""

    @property
    def questions(self) -> list[str]:
        return [question for question, _ in self.texts]

    @property
    def contexts(self) -> list[str]:
        return [context for _, context in self.texts]


class FileQuestion(FileRow):
    """The number of a question in one of several files, if this is a SQuAD file. Rows of tables are `FileRow`s."""


def place_of(split: QuestionSplit, index: int) -> str:
    """Returns where a question is, for messages: `row 17`, or `question 5733be28 (the 12th)` of a SQuAD file."""
    number = split.rows[index]
    if _unit(number, split.file) == "row":
        return f"row {number}"
    file = str(number).removeprefix(f"{int(number)}")
    return f"question {split.ids[index]} (the {_ordinal(int(number))}{file})"


def _unit(number: int, file: Path) -> str:
    """Returns what a number counts: rows, or the questions of a SQuAD file. `file` is the only file, if there is one."""
    is_question = isinstance(number, FileQuestion) if isinstance(number, FileRow) else is_squad(file)
    return "question" if is_question else "row"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


class Question(NamedTuple):
    """One question of a file. `number` is what `QuestionSplit.rows` has."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    number: int


@dataclass(frozen=True)
class QuestionFile:
    """The questions of one file that can be used, or of several `files`; then `file` is what messages call them together.

    `odd` has the numbers of questions that were left out or changed, by what is odd about them (`ODDITIES`). `notes` say
    what of a table was not read exactly as it is written.
    """

    name: str
    file: Path
    questions: list[Question] = field(default_factory=list)
    odd: dict[str, list[int]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    files: tuple[Path, ...] = ()

    @property
    def shown(self) -> str:
        return shown_path(self.file)

    def note(self, kind: str, number: int) -> None:
        """Notes something odd about a question, once."""
        numbers = self.odd.setdefault(kind, [])
        if not numbers or numbers[-1] != number:
            numbers.append(number)

    def add(self, other: QuestionFile, file: str) -> None:
        """Appends the questions of another file, which messages call `file`."""
        number_kind = FileQuestion if is_squad(other.file) else FileRow
        for one in other.questions:
            number = number_kind.of(one.number, f"{one.number} of {file}")
            # A question without a name is called by its number, which another file has too.
            name = str(number) if one.id == str(one.number) else one.id
            self.questions.append(one._replace(id=name, number=number))
        for kind, numbers in other.odd.items():
            self.odd.setdefault(kind, []).extend(number_kind.of(number, f"{number} of {file}") for number in numbers)
        self.notes.extend(other.notes)

    def listed(self, numbers: Sequence[int], count: int | None = None) -> str:
        """`row 5`, `questions 2, 3, 5, 8, 13 and 4 more`; of tables and SQuAD files together `row 5 of a.csv and question 2 of
        b.json`. `count` is how many there are if `numbers` are only the first ones."""
        shown = [f"{number}" for number in numbers[:ROWS_LISTED]]
        units = {_unit(number, self.file) for number in numbers}
        if is_mixed := len(units) > 1:
            shown = [f"{_unit(number, self.file)} {number}" for number in numbers[:ROWS_LISTED]]
        if (more := (len(numbers) if count is None else count) - len(shown)) > 0:
            shown.append(f"{more:,} more")
        return enumerated(shown) if is_mixed else f"{units.pop()}{'s' if len(shown) > 1 else ''} {enumerated(shown)}"
