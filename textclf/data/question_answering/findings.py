"""Findings about questions, contexts and answers."""

from __future__ import annotations

from collections.abc import Mapping

from textclf.data.findings.finding import Finding
from textclf.data.question_answering.questions import QuestionFile, QuestionSplit


def findings_of_questions(file: QuestionFile) -> list[Finding]:
    """Returns findings about the questions of one file."""
    return []


def findings_of_leaks(files: Mapping[str, QuestionFile]) -> list[Finding]:
    """Reports contexts of one file that are in another file."""
    return []


def findings_of_splits(splits: Mapping[str, QuestionSplit]) -> list[Finding]:
    """Reports what makes the results of a split unreliable."""
    return []
