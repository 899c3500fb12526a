"""Exact match and F1 as SQuAD's official evaluation computes them, and their confidence intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from textclf.classify.question_answering.metrics import (
    AnswerScores,
    QuestionMetrics,
    bootstrap_interval,
    evaluate,
    exact_match,
    normalized,
    token_f1,
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Cat's,\n an\tApple!", "cats apple"),
        ("theatre and another", "theatre and another"),
        ("A", ""),
        ("5.3 % (2,700)", "53 2700"),
        ("l'été à Québec", "lété à québec"),
        ("»the«", "» «"),
        ("the-end", "theend"),
        ("", ""),
    ],
)
def test_answers_are_compared_without_case_punctuation_articles_and_blanks(answer, expected):
    assert normalized(answer) == expected


@pytest.mark.parametrize(
    ("answer", "golds", "match", "f1"),
    [
        ("the shop", ["Shop."], True, 1.0),
        ("shop in Paris", ["the shop"], False, 0.5),  # precision 1/3, recall 1
        ("shop in Paris", ["a shop", "in Paris"], False, 0.8),  # the better of 1/2 and 4/5
        ("very very good", ["very good good"], False, 2 / 3),  # each word as often as in both
        ("six", ["nine"], False, 0.0),
        ("", [], True, 1.0),
        ("six", [], False, 0.0),
        ("", ["six"], False, 0.0),
        ("the", [], True, 1.0),
        ("", ["the"], True, 1.0),  # a correct answer without words does not count
        ("six", ["the", "six"], True, 1.0),
    ],
)
def test_an_answer_is_compared_with_the_correct_one_that_fits_best(answer, golds, match, f1):
    assert exact_match(answer, golds) is match
    assert token_f1(answer, golds) == pytest.approx(f1)


def test_questions_with_and_without_an_answer_are_measured_together_and_apart():
    metrics = evaluate(["the shop", "shop in Paris", "", "six", ""], [["shop"], ["shop"], [], [], ["nine"]])
    assert metrics.count == 5
    assert metrics.exact_match == pytest.approx(2 / 5)
    assert metrics.f1 == pytest.approx(2.5 / 5)
    assert metrics.has_answer == AnswerScores(3, pytest.approx(1 / 3), pytest.approx(0.5))
    assert metrics.no_answer == AnswerScores(2, 0.5, 0.5)
    assert evaluate(["a b"], [["b"]]).no_answer is None
    assert evaluate([""], [[]]).has_answer is None


def test_metrics_survive_json():
    metrics = evaluate(["six", "nine", ""], [["six"], ["at nine"], []])
    assert QuestionMetrics.from_dict(json.loads(json.dumps(metrics.as_dict()))) == metrics


def test_intervals_are_those_of_the_mean_and_the_same_for_the_same_seed():
    random = np.random.default_rng(3)
    right = random.random(400) < 0.7
    answers, golds = ["six" if one else "seven" for one in right], [["six"]] * 400
    metrics = evaluate(answers, golds, seed=5)
    assert evaluate(answers, golds, seed=5) == metrics
    assert evaluate(answers, golds, seed=6).exact_match_interval != metrics.exact_match_interval
    spread = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    low, high = metrics.exact_match_interval
    assert low == pytest.approx(right.mean() - spread, abs=0.006)
    assert high == pytest.approx(right.mean() + spread, abs=0.006)
    assert metrics.f1_interval == metrics.exact_match_interval


def test_intervals_of_many_rows_need_little_memory_at_a_time():
    values = np.random.default_rng(4).random((30_000, 2))
    low, high = bootstrap_interval(values, 0)
    for column in (0, 1):
        assert low[column] < values[:, column].mean() < high[column]
        assert high[column] - low[column] == pytest.approx(
            2 * 1.96 * values[:, column].std() / np.sqrt(30_000), rel=0.1
        )


@pytest.mark.parametrize(("answers", "golds"), [([], []), (["six"], [])])
def test_answers_and_golds_that_do_not_belong_together_are_refused(answers, golds):
    with pytest.raises(ValueError, match="expected as many of both, and one or more"):
        evaluate(answers, golds)
