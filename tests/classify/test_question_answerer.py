"""Answers of a finished model: spans of the context, the same everywhere, and errors that say what to do."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.answering import CONTEXT, tiny_answerer, write_tiny_answerer
from tests.classify.test_classifier import write_tiny_model
from textclf import Classifier, QuestionAnswerer
from textclf.classify import interpreters
from textclf.data.tokens.encoded import pad
from textclf.data.tokens.spans import make_windows
from textclf.errors import ArgumentError, DataError, ModelError
from textclf.exporting.apps import installed_consumers, run_question_answerer
from textclf.exporting.question_answering.hard_questions import hard_questions

QUESTIONS = [
    ("is the app free?", CONTEXT),
    ("who calls the bank?", CONTEXT * 4),
    ("what is fast?", "money"),
    ("why?", "we love the  food,\nand the phone is never broken. " * 9),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_answerer(tmp_path_factory.mktemp("answers") / "model.tflite")


@pytest.fixture(scope="module")
def phone_model(tmp_path_factory) -> Path:
    return write_tiny_answerer(tmp_path_factory.mktemp("phone") / "model.tflite", length=384, spread=2.0)


def test_an_answer_is_a_span_of_its_context_with_a_probability(model):
    for (_, context), answer in zip(QUESTIONS, QuestionAnswerer(model).answers(QUESTIONS), strict=True):
        assert answer.is_answer
        assert answer.text == context[answer.start : answer.end]
        assert answer.text == answer.text.strip()
        assert 0 < answer.score <= 1


def test_the_answer_depends_on_nothing_but_the_question_and_its_context(model):
    together = QuestionAnswerer(model, num_threads=2).answers(QUESTIONS * 200)
    alone = [QuestionAnswerer(model, num_threads=1).answer(*pair) for pair in QUESTIONS]
    assert together == alone * 200
    assert pickle.loads(pickle.dumps(QuestionAnswerer(model))).answers(QUESTIONS) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_answers_alike_also_what_was_begun_before(model):
    answerer = QuestionAnswerer(model)
    expected, pending = answerer.answers(QUESTIONS), answerer.submit(QUESTIONS)
    if (child := os.fork()) == 0:
        try:
            same = answerer.answers(QUESTIONS) == expected and pending.result() == expected
        except BaseException:
            same = False
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pending.result() == expected


def test_the_logits_of_a_window_are_those_of_the_file_at_its_full_length(model):
    answerer = QuestionAnswerer(model)
    questions, contexts = zip(*QUESTIONS, strict=True)
    windows = make_windows(answerer.tokenizer, questions, contexts, max_length=64, stride=16, question_length=16)
    assert len(windows) > len(QUESTIONS)
    interpreter = Interpreter(model_content=model.read_bytes())
    interpreter.allocate_tensors()
    expected = np.full((len(windows), 64, 2), -1e9, np.float32)
    for row, length in enumerate(windows.encoded.lengths):
        tokens = dict(zip(("ids", "mask", "segment_ids"), pad(windows.encoded, [row], 64), strict=True))
        for tensor in interpreter.get_input_details():
            interpreter.set_tensor(tensor["index"], tokens[tensor["name"]])
        interpreter.invoke()
        end, start = (interpreter.get_tensor(tensor["index"]) for tensor in interpreter.get_output_details())
        expected[row, :length] = np.stack([start, end], axis=-1)[0, :length]
    np.testing.assert_allclose(answerer.submit(QUESTIONS).logits(), expected, rtol=1e-4, atol=1e-4)


def test_no_answer_is_given_where_it_is_better_by_the_bound_of_the_file(tmp_path):
    question = QUESTIONS[0]
    [selected] = QuestionAnswerer(write_tiny_answerer(tmp_path / "plain.tflite")).submit([question]).selected()
    margin = selected.null_margin
    never = QuestionAnswerer(write_tiny_answerer(tmp_path / "never.tflite", null_bound=margin + 0.1)).answer(*question)
    none = QuestionAnswerer(write_tiny_answerer(tmp_path / "none.tflite", null_bound=margin - 0.1)).answer(*question)
    assert never.text == selected.best.text
    assert (none.text, none.start, none.end, none.is_answer) == ("", -1, -1, False)
    assert 0 < none.score < 1


def test_the_temperature_changes_the_probabilities_and_not_the_answers(tmp_path):
    cool = QuestionAnswerer(write_tiny_answerer(tmp_path / "cool.tflite", null_bound=1e6)).answers(QUESTIONS)
    hot_file = write_tiny_answerer(tmp_path / "hot.tflite", null_bound=1e6, temperature=9.0)
    hot = QuestionAnswerer(hot_file).answers(QUESTIONS)
    assert [answer.text for answer in cool] == [answer.text for answer in hot]
    # Of a context with one word there is one candidate, whose probability is 1.
    assert [a.score > b.score for a, b in zip(cool, hot, strict=True)] == [True, True, False, True]


def test_empty_questions_and_contexts_get_no_answer_and_the_reason(model):
    answers = QuestionAnswerer(model).answers([("", CONTEXT), ("what?", " \n"), QUESTIONS[0]])
    assert [answer.error for answer in answers] == ["empty: has no question", "empty: has no context", ""]
    assert [answer.is_answer for answer in answers] == [False, False, True]
    with pytest.raises(DataError, match=r"^question is empty; pass a text$"):
        QuestionAnswerer(model).answer(" ", CONTEXT)
    with pytest.raises(DataError, match=r"^context is empty; pass a text$"):
        QuestionAnswerer(model).answer("what?", "")


def test_a_question_that_is_too_long_is_truncated_and_noted(model):
    answerer = QuestionAnswerer(model)
    long, short = answerer.answers([("free " * 17, CONTEXT), ("free " * 16, CONTEXT)])
    assert (long.question_truncated, short.question_truncated) == (True, False)
    assert (long.text, long.start, long.score) == (short.text, short.start, short.score)


def test_a_context_of_a_hundred_thousand_words_is_read_to_its_end(tmp_path):
    answerer = QuestionAnswerer(write_tiny_answerer(tmp_path / "long.tflite", length=384, stride=300))
    context = "we refund money to the bank. " * 17_000
    pending = answerer.submit([("who?", context)])
    [answer] = pending.result()
    assert context[answer.start : answer.end] == answer.text
    assert len(pending.logits()) == pytest.approx(17_000 * 8 / 300, abs=2)  # `to` is two tokens


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ("what?", r"^questions is a str, expected a list of pairs"),
        ([("what?",)], r"^questions\[0\] is 1 values, expected a pair"),
        ([("a", "b"), "what?"], r"^questions\[1\] is a str, expected a pair"),
        ([("what?", 3)], r"^questions\[0\]: the context is 3 \(int\), expected a string$"),
        ([("what\ud800", "b")], r"^questions\[0\]: the question holds half of a character"),
    ],
)
def test_what_is_no_question_with_a_context_is_an_error_with_its_position(model, questions, message):
    with pytest.raises(DataError, match=message):
        QuestionAnswerer(model).answers(questions)


def test_a_model_of_the_other_task_is_refused_with_the_command_for_it(model, tmp_path):
    classifier = write_tiny_model(tmp_path / "classifier.tflite")
    with pytest.raises(ModelError, match=r"task is question-answering, but .* text-classification; .*`textclf answer`"):
        Classifier(model)
    with pytest.raises(
        ModelError, match=r"task is text-classification, but .*question-answering; .*`textclf classify`"
    ):
        QuestionAnswerer(classifier)


def test_a_file_of_model_maker_without_settings_of_textclf_answers(tmp_path):
    """Its metadata name no task: the names of its outputs do."""
    content = tiny_answerer(length=384, without_settings=True)
    (tmp_path / "theirs.tflite").write_bytes(content)
    answerer = QuestionAnswerer(tmp_path / "theirs.tflite")
    assert (answerer.question_column, answerer.stride, answerer.question_length) == ("question", 128, 64)
    assert answerer.answer(*QUESTIONS[0]).is_answer


def test_outputs_that_are_not_numbers_are_an_error(model, monkeypatch):
    run = interpreters.Runner.run
    monkeypatch.setattr(interpreters.Runner, "run", lambda runner, tokens: run(runner, tokens) * np.float32("nan"))
    with pytest.raises(ModelError, match=r"output for questions\[0\] is not a number"):
        QuestionAnswerer(model).answers(QUESTIONS)


def test_a_closed_model_says_how_to_open_it_again(model):
    with QuestionAnswerer(model) as answerer:
        pass
    with pytest.raises(RuntimeError, match=r"this QuestionAnswerer is closed"):
        answerer.answers(QUESTIONS)
    with pytest.raises(ArgumentError, match=r"num_threads is 0"):
        QuestionAnswerer(model, num_threads=0)


# --- As a phone ------------------------------------------------------------------------------------------------------
def test_a_phone_reads_one_window_and_returns_whole_words(phone_model):
    answerer = QuestionAnswerer(phone_model)
    answers = answerer.answers([("is it free?", "the app is free, really. " * count) for count in (3, 200)], phone=True)
    assert [answer.context_truncated for answer in answers] == [False, True]
    for answer in answers:
        assert set(answer.text.split(" ")) <= {"the", "app", "is", "free,", "really."}
        assert math.isfinite(answer.logit)


def test_a_phone_cannot_use_another_length_or_tokenizer(model, tmp_path):
    with pytest.raises(ModelError, match=r"reads 64 tokens, but the runtime of phones reads 384"):
        QuestionAnswerer(model).answers(QUESTIONS, phone=True)
    other = write_tiny_answerer(tmp_path / "bert.tflite", length=384, tokenizer="bert")
    with pytest.raises(ModelError, match=r"BERT's tokenizer, which phones do not have"):
        QuestionAnswerer(other).answers(QUESTIONS, phone=True)


@pytest.mark.skipif("task-library" not in installed_consumers(), reason="the Task Library is not installed")
def test_the_consumer_on_phones_gives_the_same_answers_to_320_questions(phone_model):
    questions = hard_questions()
    ours = QuestionAnswerer(phone_model).answers(questions, phone=True)
    theirs = run_question_answerer(phone_model, questions)
    assert [answer.text for answer in ours] == [found[0].text if found else "" for found in theirs]
    assert sum(answer.is_answer for answer in ours) > 200
    for answer, found in zip(ours, theirs, strict=True):
        if found:
            assert answer.logit == pytest.approx(found[0].logit, abs=1e-3)
