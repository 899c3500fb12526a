"""Exact match and F1 of answers, as SQuAD's official evaluation defines them, with confidence intervals.

The definition is that of the evaluation scripts of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, section 6.1, and 2018):
answers are compared in lower case, without punctuation, without the articles a, an and the, and with single spaces.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)

_ARTICLES = re.compile(r"\b(a|an|the)\b")

_RESAMPLES = 2000

_RESAMPLED = 1 << 22

Interval = tuple[float, float]


def normalized(answer: str) -> str:
    """Returns an answer as it is compared: `The  Cat's.` becomes `cats`."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, golds: Sequence[str]) -> bool:
    """Returns whether an answer is equal to one of the correct ones when both are normalized.

    "" stands for no answer; without `golds`, it is the correct one.
    """
    given = normalized(answer)
    return any(given == gold for gold in _usable(golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """Returns the largest F1 (0 to 1) of an answer's words and those of a correct one, both normalized.

    If one of the two has no words, F1 is 1 if the other has none either, and 0 otherwise.
    """
    given = normalized(answer).split()
    return max(_f1(given, gold.split()) for gold in _usable(golds))


def _usable(golds: Sequence[str]) -> list[str]:
    """Returns the normalized golds; those without words do not count, and without any, no answer is correct."""
    return [gold for gold in map(normalized, golds) if gold] or [""]


def _f1(given: list[str], gold: list[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    same = sum((Counter(given) & Counter(gold)).values())
    return 2 * same / (len(given) + len(gold))


@dataclass(frozen=True)
class AnswerScores:
    """Exact match and mean F1 of some questions, 0 to 1."""

    count: int
    exact_match: float
    f1: float


@dataclass(frozen=True)
class QuestionMetrics:
    """How good answers are, in 0..1. The intervals are 95 % confidence intervals.

    `has_answer` are the questions with an answer, `no_answer` those without: there, no answer is right. None: there are
    no such questions.
    """

    count: int
    exact_match: float
    f1: float
    exact_match_interval: Interval
    f1_interval: Interval
    has_answer: AnswerScores | None
    no_answer: AnswerScores | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QuestionMetrics:
        """Returns the inverse of `as_dict`, also of what JSON made of it."""
        fields = dict(values)
        for name in ("exact_match_interval", "f1_interval"):
            low, high = values[name]
            fields[name] = (low, high)
        for name in ("has_answer", "no_answer"):
            fields[name] = None if values[name] is None else AnswerScores(**values[name])
        return cls(**fields)


def evaluate(answers: Sequence[str], golds: Sequence[Sequence[str]], *, seed: int = 0) -> QuestionMetrics:
    """Takes the answer to each question ("" for none) and its correct answers (none: not answerable), and returns metrics.

    The intervals are percentiles of 2,000 bootstrap samples of the questions, the same ones for the same `seed`. They take
    the questions to be independent, which questions about one context are only in part. Raises ValueError without
    questions, and for another number of golds.
    """
    if not answers or len(answers) != len(golds):
        raise ValueError(f"{len(answers)} answers and {len(golds)} golds, expected as many of both, and one or more")
    pairs = list(zip(answers, golds, strict=True))
    scores = np.array([(exact_match(answer, own), token_f1(answer, own)) for answer, own in pairs], np.float64)
    answerable = np.array([bool(own) for own in golds])
    overall = _scores(scores)
    assert overall is not None
    (low_match, low_f1), (high_match, high_f1) = bootstrap_interval(scores, seed)
    return QuestionMetrics(
        overall.count,
        overall.exact_match,
        overall.f1,
        (low_match, high_match),
        (low_f1, high_f1),
        _scores(scores[answerable]),
        _scores(scores[~answerable]),
    )


def _scores(scores: np.ndarray) -> AnswerScores | None:
    if not len(scores):
        return None
    match, f1 = scores.mean(axis=0).tolist()
    return AnswerScores(len(scores), match, f1)


def bootstrap_interval(values: np.ndarray, seed: int) -> tuple[list[float], list[float]]:
    """Returns the lower and the upper ends of the 95 % confidence intervals of the means of `values`, float [rows, columns].

    Percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
    """
    random = np.random.default_rng(seed)
    at_once = max(1, _RESAMPLED // len(values))
    means = []
    for begin in range(0, _RESAMPLES, at_once):
        chosen = random.integers(len(values), size=(min(at_once, _RESAMPLES - begin), len(values)))
        means.append(values[chosen].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0).tolist()
    return low, high
