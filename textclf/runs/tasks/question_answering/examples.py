"""The questions that a report shows: with the correct answer and the given one, both marked in the context."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from textclf.classify.question_answering.evaluation import MeasuredAnswers, golds_of, question_scores
from textclf.data.question_answering.questions import QuestionSplit, place_of

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
    scores = question_scores([answer.text for answer in measured.server], golds_of(split))
    is_right = scores[:, 0] > 0
    order = sorted(
        range(len(split.rows)), key=lambda row: (bool(is_right[row]), scores[row, 1], -measured.server[row].score)
    )
    wrong = int((~is_right).sum())
    return Examples(
        [_example(split, measured, row, float(scores[row, 1])) for row in order[: min(wrong, MISTAKES)]],
        wrong,
        # The least certain ones of the right answers show more than others.
        [_example(split, measured, row, float(scores[row, 1])) for row in order[wrong:][-RIGHT_ANSWERS:]],
    )


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
