"""When a model gives no answer, and how its probabilities are made true, chosen on questions whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from textclf.classify.question_answering.probability import answer_probabilities
from textclf.classify.question_answering.selection import Candidate, Selected
from textclf.training.question_answering.calibration import choose_null_bound, choose_temperature, outcomes_right


def selected(margin: float, *others: float, text: str = "blue") -> Selected:
    """The best answer has the score 10; "no answer" is better by `margin`. The `others` are scores of worse candidates."""
    best = Candidate(text, 0, len(text), 10.0)
    rest = [Candidate(f"{text} {number}", 0, 9, score) for number, score in enumerate(others)]
    return Selected(best, 10.0 + margin, [best, *rest])


NOTHING = Selected(None, 3.0, [])


def test_the_bound_lies_between_questions_with_and_without_answers():
    questions = [selected(-4), selected(-1), selected(2), selected(3), NOTHING]
    bound = choose_null_bound(questions, [["blue"], ["Blue."], [], [], []])
    assert bound == pytest.approx(0.5)
    assert [one.answer(bound) is not None for one in questions] == [True, True, False, False, False]


def test_of_equally_good_bounds_the_one_closest_to_zero_is_chosen():
    # Whether the wrong answers at -7, -5 and 6 are given changes nothing; only the one without an answer counts.
    questions = [selected(-9), selected(6, text="red"), selected(7, text="red"), selected(8)]
    assert choose_null_bound(questions, [["blue"], ["blue"], ["blue"], []]) == pytest.approx(-1.5)


@pytest.mark.parametrize(
    ("questions", "golds"),
    [
        ([selected(-1), selected(5)], [["blue"], ["blue"]]),
        ([selected(-5), selected(5)], [[], ["blue"]]),
        ([NOTHING, NOTHING], [[], []]),
    ],
    ids=["every question has an answer", "answering all is best", "no candidates"],
)
def test_without_a_use_for_a_bound_there_is_none(questions, golds):
    if questions[0].best and not golds[0]:
        questions, golds = [*questions, selected(5)], [*golds, ["blue"]]
    assert choose_null_bound(questions, golds) is None


def test_a_bound_can_refuse_every_answer():
    bound = choose_null_bound([selected(-3), selected(4)], [[], []])
    assert bound < -3


def test_questions_with_equal_margins_are_answered_together():
    questions = [selected(1), selected(1), selected(1, text="red"), selected(9)]
    bound = choose_null_bound(questions, [["blue"], ["blue"], [], []])
    assert bound == pytest.approx(5)


def test_the_probability_of_no_answer_is_highest_exactly_where_there_is_none():
    questions = [selected(1.0, 8.0), selected(3.0, 8.0)]
    with_bound = answer_probabilities(questions, temperature=1.0, null_bound=2.0)
    # Scores 10, 8 and no answer 11 - 2 = 9; then 13 - 2 = 11, which is the outcome.
    assert with_bound[0] == pytest.approx(1 / (1 + math.exp(-2) + math.exp(-1)))
    assert with_bound[1] == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-3)))
    without = answer_probabilities(questions, temperature=2.0)
    assert without[0] == pytest.approx(1 / (1 + math.exp(-1) + math.exp(0.5)))
    assert answer_probabilities([NOTHING]) == [1.0]


def overconfident(count: int = 400) -> tuple[list[Selected], list[list[str]]]:
    """Answers with a probability of 98 % of which three quarters are right."""
    questions = [selected(-9.0 - number % 2, 6.0) for number in range(count)]
    golds = [["blue"] if number % 4 else ["red"] for number in range(count)]
    return questions, golds


def test_a_temperature_makes_the_probability_the_share_of_right_answers():
    questions, golds = overconfident()
    assert answer_probabilities(questions).mean() > 0.97
    found = choose_temperature(questions, golds, None)
    assert found.reason is None
    calibrated = answer_probabilities(questions, temperature=found.value)
    assert calibrated.mean() == pytest.approx(0.75, abs=0.02)
    assert outcomes_right(questions, golds, None).mean() == 0.75


def test_right_refusals_count_as_right():
    questions = [selected(5), selected(-5)] * 40
    golds = [[], ["red"]] * 40
    assert outcomes_right(questions, golds, 0.0).tolist() == [True, False] * 40
    assert choose_temperature(questions, golds, 0.0).reason is None


def test_few_questions_or_ones_without_mistakes_leave_the_temperature_at_one():
    questions, golds = overconfident(48)
    few = choose_temperature(questions, golds, None)
    assert (few.value, few.reason) == (1.0, "48 validation questions are too few to fit a temperature; 50 are needed")
    perfect = choose_temperature(questions * 2, [["blue"]] * 96, None)
    assert (perfect.value, perfect.reason) == (1.0, "all of the 96 validation questions are answered exactly")


def test_a_temperature_that_hangs_on_a_few_questions_is_not_used():
    # Nearly all probabilities are right at temperature 1; one confident mistake in 60 decides the fitted one.
    random = np.random.default_rng(0)
    questions = [selected(-30.0, 10.0 - gap) for gap in random.uniform(4, 9, 59)] + [selected(-30.0, -20.0)]
    golds = [["blue"]] * 59 + [["red"]]
    found = choose_temperature(questions, golds, None)
    assert found.value == 1.0 or answer_probabilities(questions, temperature=found.value).mean() > 0.9
