"""The questions that a report shows: with the correct answer and the given one, both marked in the context."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from textclf.classify.question_answering.evaluation import MeasuredAnswers, golds_of, question_scores
from textclf.data.question_answering.questions import QuestionSplit, place_of
from textclf.runs.pages.formats import percent
from textclf.runs.pages.rows import Column, PredictedRows, shown_text

MISTAKES, RIGHT_ANSWERS = 30, 5

# Characters of the context that are shown on each side of an answer.
_AROUND = 220

# In a script without blanks, text is cut anywhere.
_LONGEST_WORD = 30


class MarkedText(NamedTuple):
    """A part of a context: whether it belongs to a correct answer, and whether to the given one."""

    text: str
    is_gold: bool
    is_given: bool


@dataclass(frozen=True)
class QuestionExample:
    """A question of a split with its correct answers (none: the context has no answer) and the model's.

    `given` is "" for no answer, `score` its probability, `f1` how good it is. `phone` is the answer of a phone, None for a
    model that phones cannot use. `parts` are the context around the answers.
    """

    place: str
    question: str
    golds: list[str]
    given: str
    score: float
    f1: float
    phone: str | None
    parts: list[MarkedText]


@dataclass(frozen=True)
class Examples:
    """The wrong answers with the highest probability, some right answers, and how many of both there are."""

    mistakes: list[QuestionExample]
    wrong: int
    right_answers: list[QuestionExample]


def examples_of(split: QuestionSplit, measured: MeasuredAnswers) -> Examples:
    """Returns the examples of a split. Wrong answers are those that are no exact match; the worst F1 comes first, then
    the highest probability."""
    scores, is_right, order = _by_interest(split, measured)
    wrong = int((~is_right).sum())
    return Examples(
        [_example(split, measured, row, float(scores[row, 1])) for row in order[: min(wrong, MISTAKES)]],
        wrong,
        # The least certain ones of the right answers show more than others.
        [_example(split, measured, row, float(scores[row, 1])) for row in order[wrong : wrong + RIGHT_ANSWERS]],
    )


def answered_rows(split: QuestionSplit, measured: MeasuredAnswers) -> PredictedRows:
    """Returns the questions of a split with their answers, in the order of `examples_of`."""
    from markupsafe import Markup

    scores, is_right, order = _by_interest(split, measured)
    no_answer = Markup("<em>no answer</em>")

    def cells(row: int) -> tuple[str, ...]:
        answer, f1 = measured.server[row], float(scores[row, 1])
        given, right = shown_text(answer.text) or no_answer, shown_text(_golds(split, row)) or no_answer
        question = shown_text(split.texts[row][0])
        return str(split.rows[row]), question, given, right, percent(answer.score), percent(f1)

    def fields(row: int) -> tuple[object, ...]:
        answer = measured.server[row]
        return (
            split.rows[row],
            split.ids[row],
            split.texts[row][0],
            _golds(split, row),
            answer.text,
            f"{answer.score:.6f}",
        )

    return PredictedRows(
        columns=(
            Column("Number", "number", "number"),
            Column("Question", "text"),
            Column("Given", "given", "given"),
            Column("In the data", "label", "in the data"),
            Column("Probability", "number", "probability"),
            Column("F1", "number", "F1"),
        ),
        labels=(),
        true=[()] * len(split.rows),
        predicted=[()] * len(split.rows),
        is_right=is_right,
        order=order,
        cells=cells,
        header=("row", "id", "question", "true_answers", "predicted_answer", "predicted_score"),
        fields=fields,
    )


def _golds(split: QuestionSplit, row: int) -> str:
    """Returns the different correct answers of a question, each on a line."""
    return "\n".join(dict.fromkeys(gold.text for gold in split.answers[row]))


def _by_interest(split: QuestionSplit, measured: MeasuredAnswers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the exact match and the F1 of each question, float [questions, 2], which are exact matches, and their order.

    Wrong answers come first, of these the lowest F1 and the highest probability; then the others, the least certain first.
    """
    scores = question_scores([answer.text for answer in measured.server], golds_of(split))
    is_right = scores[:, 0] > 0
    probabilities = np.array([answer.score for answer in measured.server])
    certainty = np.where(is_right, probabilities, -probabilities)
    return scores, is_right, np.lexsort((certainty, scores[:, 1], is_right))


def _example(split: QuestionSplit, measured: MeasuredAnswers, row: int, f1: float) -> QuestionExample:
    answer, phone = measured.server[row], measured.phone
    golds = split.answers[row]
    spans = [(gold.start, gold.end) for gold in golds]
    given = (answer.start, answer.end) if answer.is_answer else None
    return QuestionExample(
        place=place_of(split, row),
        question=split.texts[row][0],
        golds=list(dict.fromkeys(gold.text for gold in golds)),
        given=answer.text,
        score=answer.score,
        f1=f1,
        phone=None if phone is None else phone[row].text,
        parts=marked(split.texts[row][1], spans, given),
    )


def _word_edge(context: str, place: int, nearest: int) -> int:
    """Returns the next place towards `nearest` at which a word begins or ends; one far from all words stays as it is."""
    if place <= 0 or place >= len(context):
        return max(0, min(len(context), place))
    step = 1 if nearest > place else -1
    for moved in range(place, place + step * _LONGEST_WORD, step):
        if moved == nearest or context[moved - 1].isspace() or context[moved].isspace():
            return moved
    return place


def marked(context: str, golds: Sequence[tuple[int, int]], given: tuple[int, int] | None) -> list[MarkedText]:
    """Returns a context in parts, the correct spans and the given one marked; far from all of them it is left out with an
    ellipsis. Spans are characters [start, end)."""
    spans = [*golds, *([given] if given is not None else [])]
    edges = {0, len(context), *(edge for span in spans for edge in span)}
    shown = [
        (_word_edge(context, start - _AROUND, start), _word_edge(context, end + _AROUND, end)) for start, end in spans
    ]
    shown = shown or [(0, _word_edge(context, 2 * _AROUND, _AROUND))]
    edges |= {edge for span in shown for edge in span}
    parts: list[MarkedText] = []
    for start, end in itertools.pairwise(sorted(edges)):
        if not any(begin <= start and end <= stop for begin, stop in shown):
            if not (parts and parts[-1].text == " … "):
                parts.append(MarkedText(" … ", False, False))
            continue
        is_gold = any(begin <= start and end <= stop for begin, stop in golds)
        is_given = given is not None and given[0] <= start and end <= given[1]
        if parts and parts[-1][1:] == (is_gold, is_given) and parts[-1].text != " … ":
            # Correct answers that overlap are one mark.
            parts[-1] = MarkedText(parts[-1].text + context[start:end], is_gold, is_given)
        else:
            parts.append(MarkedText(context[start:end], is_gold, is_given))
    return parts
