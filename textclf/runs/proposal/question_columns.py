"""Takes the sampled rows of a table and returns the columns of questions, contexts and answers, if it has them.

What a column contains decides: an answer is a part of its context, which hardly any label is. Names decide only between
columns that contain the same kind of content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from textclf.data.column_kinds import describe_column
from textclf.data.table_sample import TableSample

_QUESTIONS = "question questions query frage pregunta domanda вопрос 问题 質問 질문".split()

_CONTEXTS = (
    "context contexts passage paragraph document text article page kontext contexte contexto контекст 文章".split()
)

_ANSWERS = "answer answers answer_text span antwort réponse reponse respuesta risposta ответ 答案 回答 답변".split()

_STARTS = "answer_start start answer_begin begin offset".split()

# Nearly all answers must be in their contexts, and this many rows have one, or it may be chance.
_NEARLY_ALL, _LEAST_ANSWERS = 0.9, 4

# Columns whose names do not say so hold questions if most cells have a question mark.
_MOST = 0.6

_MARKS = re.compile("[?？؟]")

# Without a usual name, the context is the longest text, and this many times as long as the question.
_CLEARLY_LONGER = 2.0


@dataclass(frozen=True)
class QuestionColumns:
    """The columns of a table of questions, by their names. `start` has the first character of the answer, or is None.

    Of `answered` rows that have an answer, `found` have it in the context; `rows` are all.
    """

    question: str
    context: str
    answer: str
    start: str | None
    rows: int
    answered: int
    found: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.question, self.context, self.answer, self.start)))


def question_columns(sample: TableSample) -> QuestionColumns | None:
    """Returns the columns of a table of questions; None for any other table."""
    cells = {index: sample.cells(index) for index, name in enumerate(sample.columns) if name.strip()}
    lengths = {index: sum(map(len, own)) / max(len(own), 1) for index, own in cells.items()}
    question = _question(sample, cells)
    if question is None:
        return None
    context = _context(sample, lengths, question)
    if context is None:
        return None
    best: tuple[bool, int, int, int] | None = None
    for index, own in cells.items():
        if index in (question, context) or lengths[index] >= lengths[context]:
            continue
        name, is_named = sample.columns[index], _plain(sample.columns[index]) in _ANSWERS
        if not is_named and describe_column(name, index, own).kind in ("label", "constant", "number", "id"):
            continue  # a few short values are in many contexts by chance
        pairs = [(answer.strip(), text) for answer, text in zip(own, cells[context], strict=True) if answer.strip()]
        found = sum(answer in text for answer, text in pairs)
        if len(pairs) >= _LEAST_ANSWERS and found >= _NEARLY_ALL * len(pairs):
            best = max(best or (False, 0, 0, 0), (is_named, len(pairs), found, -index))
    if best is None:
        return None
    _, answered, found, negative = best
    start = _start(sample, cells, context, -negative)
    return QuestionColumns(
        question=sample.columns[question],
        context=sample.columns[context],
        answer=sample.columns[-negative],
        start=None if start is None else sample.columns[start],
        rows=len(sample.rows),
        answered=answered,
        found=found,
    )


def _question(sample: TableSample, cells: dict[int, list[str]]) -> int | None:
    shares = {index: sum(bool(_MARKS.search(cell)) for cell in own) / max(len(own), 1) for index, own in cells.items()}
    named = _named(sample, _QUESTIONS)
    if len(named) == 1:
        return named[0]
    asking = [index for index, share in shares.items() if share >= _MOST]
    return asking[0] if len(asking) == 1 else None


def _context(sample: TableSample, lengths: dict[int, float], question: int) -> int | None:
    named = [index for index in _named(sample, _CONTEXTS) if index != question]
    if len(named) == 1:
        return named[0]
    others = sorted((index for index in lengths if index != question), key=lambda index: -lengths[index])
    if not others or lengths[others[0]] < _CLEARLY_LONGER * lengths[question]:
        return None
    return others[0]


def _start(sample: TableSample, cells: dict[int, list[str]], context: int, answer: int) -> int | None:
    """Returns the column whose numbers are the places of nearly all answers."""
    for index in _named(sample, _STARTS):
        rows = list(zip(cells[index], cells[answer], cells[context], strict=True))
        filled = [row for row in rows if row[1].strip()]
        right = sum(start.strip().isdecimal() and text.startswith(given, int(start)) for start, given, text in filled)
        if right >= _NEARLY_ALL * len(filled):
            return index
    return None


def _named(sample: TableSample, names: Sequence[str]) -> list[int]:
    return [index for index, name in enumerate(sample.columns) if _plain(name) in names]


def _plain(name: str) -> str:
    return re.sub(r"[\s.-]+", "_", name.strip()).casefold()
