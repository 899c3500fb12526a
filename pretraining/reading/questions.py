"""Makes questions from plain text, without labels: takes passages, returns questions with their contexts and answers.

A question is a sentence of the context in which some words, the answer, are replaced by a question word (cloze questions:
Lewis, Denoyer and Riedel 2019, arXiv:1906.04980). Some of its other words are left out, put in another order, or replaced by
words with nearly the same embedding, so that the answer cannot be found by equal words alone. A tenth has no answer: the
sentence is taken out of the context, or the question is about another text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

FEWEST_WORDS, MOST_WORDS = 45, 130
"""Passages of fewer or more words are left out."""

# A context of two or three passages is as long as a page, and the answer is in one of them.
_SHARE_OF_LONG = 0.25

_SHARE_WITHOUT_ANSWER = 0.1

_FEWEST_WORDS_OF_SENTENCE, _FEWEST_CONTENT_WORDS = 7, 2

_ANSWER_LENGTHS = (1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 11)

# From this many words on, an answer ends where the sentence pauses, as clauses do.
_CLAUSE = 4

_KEPT_CONTENT, _KEPT_OTHER, _REPLACED = 0.85, 0.45, 0.2

_TRIES = 8

_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z0-9\"'(])")

_WORD = re.compile(r"[^\W_](?:[\w'’.,:/-]*[^\W_]|)(?:[%€$])?")

_OTHER_WORDS = frozenset(
    "a an the of to in on at by for with and or but is are was were be been it its this that these those as from he she they we "
    "you i his her their our your my not no do does did have has had will would can could may might there which who what when "
    "where how if then than so such into about over after before also all any some more most other one two".split()
)

_NUMBER_WORDS = ("how many", "how much", "when", "how long", "what", "which", "what is", "in what", "how often")

_NAME_WORDS = ("who", "what", "which", "where", "who is", "what is", "in which")

_OTHER_QUESTION_WORDS = (
    "what",
    "which",
    "how",
    "what is",
    "what does",
    "where",
    "why",
    "what kind of",
    "how do i",
    "who",
)


@dataclass(frozen=True)
class Question:
    """`answer` is None if the context does not answer; otherwise it begins at the character `start` of the context."""

    context: str
    question: str
    answer: str | None
    start: int


class _Cloze(NamedTuple):
    question: str
    answer: str
    start: int


def questions(passages: Iterable[str], seed: int, similar: Callable[[str], list[str]]) -> Iterator[Question]:
    """A question for each passage of which one can be made. `similar` returns words with nearly the meaning of a word."""
    chance = random.Random(seed)
    before: list[str] = []
    other_question = ""
    for passage in passages:
        if not FEWEST_WORDS <= len(passage.split()) <= MOST_WORDS:
            continue
        sentences = _sentences(passage)
        if len(sentences) < 2:
            continue
        place = chance.randrange(len(sentences))
        start, end = sentences[place]
        cloze = _cloze(passage[start:end], chance, similar)
        if cloze is None:
            continue
        yield _in_context(passage, (start, end), cloze, before, other_question, chance)
        before, other_question = [*before[-1:], passage], cloze.question


def _in_context(
    passage: str,
    sentence: tuple[int, int],
    cloze: _Cloze,
    before: list[str],
    other_question: str,
    chance: random.Random,
) -> Question:
    parts, own = [passage], 0
    if len(before) == 2 and chance.random() < _SHARE_OF_LONG:
        parts = [*before[: chance.choice((1, 1, 2))], passage]
        chance.shuffle(parts)
        own = parts.index(passage)
    offset = sum(len(part) + 1 for part in parts[:own])
    if chance.random() >= _SHARE_WITHOUT_ANSWER or not other_question:
        return Question(" ".join(parts), cloze.question, cloze.answer, offset + sentence[0] + cloze.start)
    if chance.random() < 0.5:
        return Question(" ".join(parts), other_question, None, 0)
    parts[own] = f"{passage[: sentence[0]]}{passage[sentence[1] :]}".strip()
    return Question(" ".join(parts), cloze.question, None, 0)


def _sentences(passage: str) -> list[tuple[int, int]]:
    """The first and the last character of each sentence."""
    starts = [0, *(gap.end() for gap in _SENTENCE.finditer(passage))]
    ends = [*(gap.start() for gap in _SENTENCE.finditer(passage)), len(passage)]
    return list(zip(starts, ends, strict=True))


def _cloze(sentence: str, chance: random.Random, similar: Callable[[str], list[str]]) -> _Cloze | None:
    words = [(found.start(), found.end()) for found in _WORD.finditer(sentence)]
    if len(words) < _FEWEST_WORDS_OF_SENTENCE:
        return None
    for _ in range(_TRIES):
        first, behind = _answer(sentence, words, chance)
        texts = [sentence[start:end] for start, end in words]
        if behind - first > len(words) // 2 or _is_other(texts[first]) or _is_other(texts[behind - 1]):
            continue
        reach = chance.randint(4, 12)
        left = _shortened(texts[max(first - reach, 0) : first], chance, similar)
        right = _shortened(texts[behind : behind + reach], chance, similar)
        if sum(not _is_other(word) for word in (*left, *right)) < _FEWEST_CONTENT_WORDS:
            continue
        start, end = words[first][0], words[behind - 1][1]
        text = _asked(sentence[start:end], left, right, chance)
        return _Cloze(text, sentence[start:end], start)
    return None


def _answer(sentence: str, words: list[tuple[int, int]], chance: random.Random) -> tuple[int, int]:
    """The first word of an answer and the word behind it: a number, a name, some words or a clause."""
    first, length, kind = chance.randrange(len(words)), chance.choice(_ANSWER_LENGTHS), chance.random()
    numbers = [place for place, (start, _) in enumerate(words) if sentence[start].isdigit()]
    names = [place for place, (start, _) in enumerate(words) if place and sentence[start].isupper()]
    if kind < 0.25 and numbers:
        first, length = chance.choice(numbers), chance.choice((1, 2, 2, 3))
    elif kind < 0.45 and names:
        first, length = chance.choice(names), 1
        while first + length < len(words) and sentence[words[first + length][0]].isupper() and length < 5:
            length += 1
    behind = min(first + length, len(words))
    if length >= _CLAUSE:
        while behind < len(words) and sentence[words[behind - 1][1]] in " -" and behind - first < 2 * length:
            behind += 1
    return first, behind


def _shortened(words: list[str], chance: random.Random, similar: Callable[[str], list[str]]) -> list[str]:
    """Leaves out some words and replaces some others."""
    kept = []
    for word in words:
        is_other = _is_other(word)
        if chance.random() >= (_KEPT_OTHER if is_other else _KEPT_CONTENT):
            continue
        others = similar(word.lower()) if not is_other and chance.random() < _REPLACED else []
        kept.append(chance.choice(others) if others else word)
    return kept


def _asked(answer: str, left: list[str], right: list[str], chance: random.Random) -> str:
    kinds = _NUMBER_WORDS if answer[0].isdigit() else _NAME_WORDS if answer[0].isupper() else _OTHER_QUESTION_WORDS
    asking, order = chance.choice(kinds), chance.random()
    if order < 0.3:
        words = [*left, asking, *right]
    elif order < 0.65:
        words = [asking, *left, *right]
    elif order < 0.85:
        words = [asking, *right, *left]
    else:
        rest = [*left, *right]
        chance.shuffle(rest)
        words = [asking, *rest]
    return " ".join(words).lower() + ("?" if chance.random() < 0.7 else "")


def _is_other(word: str) -> bool:
    return word.lower() in _OTHER_WORDS
