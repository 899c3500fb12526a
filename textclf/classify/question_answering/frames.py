"""Adds answers to frames: takes a DataFrame, an Arrow table or a list of dicts, and returns a copy with further columns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from textclf.classify.question_answering.texts import problem_of_texts
from textclf.classify.texts import check_frame, check_is_frame, text_cells
from textclf.data.tables.arrow_frames import is_arrow, with_columns
from textclf.data.tables.frames import as_frame, frame_columns
from textclf.errors import ArgumentError

if TYPE_CHECKING:
    from textclf.classify.question_answering.question_answerer import Answer, QuestionAnswerer

COLUMNS = ("answer", "score", "start", "end", "error")


def answered_frame(
    answerer: QuestionAnswerer, given: Any, question: str, context: str, *, phone: bool, column_prefix: str
) -> Any:
    """Does what `QuestionAnswerer.answer_frame` does."""
    if question == context:
        raise ArgumentError(
            f"the question and the context are both the column `{question}`; name two columns in question_column and "
            "context_column"
        )
    frame = as_frame(given, "frame")
    check_is_frame(frame)
    added = [column_prefix + name for name in COLUMNS]
    if not isinstance(frame, Sequence) or frame:  # an empty list has no columns that could be missing
        check_frame(frame_columns(frame), [question, context], added)
    pairs = list(zip(text_cells(frame, question), text_cells(frame, context), strict=True))
    answers = [_cells(answer, *pair) for answer, pair in zip(answerer.answers(pairs, phone=phone), pairs, strict=True)]
    columns = [list(column) for column in zip(*answers, strict=True)] or [[] for _ in added]
    values: dict[str, Any] = dict(zip(added, columns, strict=True))
    if isinstance(frame, Sequence):
        return [{**row, **{name: values[name][place] for name in added}} for place, row in enumerate(frame)]
    score, start, end = added[1:4]
    values[score] = np.array([np.nan if value is None else value for value in values[score]])
    if is_arrow(frame):
        return with_columns(given, frame, values, integers=(start, end))
    pandas = sys.modules["pandas"]  # the frame is one of its own
    places = {name: pandas.array(values[name], dtype="Int64") for name in (start, end)}
    return frame.assign(**{**values, **places})


def _cells(answer: Answer, question: str, context: str) -> tuple[Any, ...]:
    """Returns the cells of an answer. None is a missing value."""
    if answer.error:
        return None, None, None, None, problem_of_texts(question, context)
    if not answer.is_answer:
        return None, answer.score, None, None, None
    return answer.text, answer.score, answer.start, answer.end, None
