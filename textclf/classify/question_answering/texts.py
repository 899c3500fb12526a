"""Checks the texts for a `QuestionAnswerer`: returns questions with their contexts, or raises an error with the position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from textclf.classify.texts import check_whole, described_value
from textclf.errors import DataError

NO_QUESTION, NO_CONTEXT = "has no question", "has no context"
"""The reasons why a question gets no answer if a text is empty or white space."""

_EXAMPLE = '[("Who pays the return?", "Returns are free. …")]'


def problem_of_texts(question: str, context: str) -> str | None:
    """Returns why a question about a context gets no answer; None if it gets one."""
    if not question.strip():
        return NO_QUESTION
    return None if context.strip() else NO_CONTEXT


def checked_questions(questions: Iterable[object]) -> list[tuple[str, str]]:
    """Returns pairs of strings. Raises DataError with the position of anything else."""
    if isinstance(questions, str | bytes | bytearray | Mapping | Set) or not hasattr(questions, "__iter__"):
        raise DataError(
            f"questions is {described_value(questions)}, expected a list of pairs of a question and its context: {_EXAMPLE}"
        )
    if hasattr(questions, "columns"):
        raise DataError(
            f"questions is a {type(questions).__name__}, expected a list of pairs; use answer_frame for a frame"
        )
    return [_checked(given, f"questions[{position}]") for position, given in enumerate(questions)]


def _checked(given: object, where: str) -> tuple[str, str]:
    if isinstance(given, str) or not isinstance(given, tuple | list) or len(given) != 2:
        found = f"{len(given)} values" if isinstance(given, tuple | list) else described_value(given)
        raise DataError(f"{where} is {found}, expected a pair of a question and its context: {_EXAMPLE}")
    for name, text in zip(("question", "context"), given, strict=True):
        if not isinstance(text, str):
            raise DataError(f"{where}: the {name} is {described_value(text)}, expected a string")
        check_whole(text, f"{where}: the {name}")
    return given[0], given[1]
