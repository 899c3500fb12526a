"""The file of a trained question answerer, and the gate between the model and its file."""

from __future__ import annotations

import numpy as np
import pytest

from tests.questions import prepared, write_question_recipe
from tests.tflite.test_question_answering import expected_logits, head_of, run
from tests.tiny import VOCABULARY
from textclf.classify.question_answering.selection import Candidate, Selected, select_answers
from textclf.data.tokens.encoded import pad
from textclf.errors import ModelError, VerificationError
from textclf.exporting.question_answering.model_file import Answers, compare_answers, export_question_answerer
from textclf.recipe.reading import load_recipe
from textclf.tflite.metadata import read_metadata


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    recipe = write_question_recipe(tmp_path_factory.mktemp("questions"))
    return prepared(load_recipe(recipe))


def test_the_file_says_how_questions_are_read_and_answered(questions):
    recipe, _, checkpoint = questions
    content = export_question_answerer(recipe, checkpoint, head_of(32), null_bound=1.5, temperature=2.0)
    metadata = read_metadata(content)
    assert metadata.task == "question-answering"
    settings = dict(metadata.settings)
    assert len(settings.pop("vocabulary_sha256")) == 64
    assert settings == {
        "version": 1, "task": "question-answering", "tokenizer": "device", "question": "question", "context": "context",
        "answer": "answer", "stride": 12, "question_length": 8, "null_bound": 1.5, "temperature": 2.0, "quantization": "dynamic",
        "compatibility": "litert",
    }  # fmt: skip
    assert metadata.vocabulary == tuple(VOCABULARY)
    assert metadata.name == "prizes"
    assert "null_bound" not in read_metadata(export_question_answerer(recipe, checkpoint, head_of(32))).settings
    assert content == export_question_answerer(recipe, checkpoint, head_of(32), null_bound=1.5, temperature=2.0)


def test_a_file_for_the_task_library_of_another_length_is_refused(questions):
    recipe, _, checkpoint = questions
    export = recipe.export.model_copy(update={"compatibility": "task-library"})
    with pytest.raises(VerificationError, match=r"the Task Library writes \[1, 384\]"):
        export_question_answerer(recipe.model_copy(update={"export": export}), checkpoint, head_of(32))
    four_bits = export.model_copy(update={"quantization": "int4"})
    with pytest.raises(ModelError, match="does not support 4-bit weights"):
        export_question_answerer(recipe.model_copy(update={"export": four_bits}), checkpoint, head_of(32))


@pytest.mark.parametrize("form", ["none", "float16", "dynamic", "int4"])
def test_every_form_of_a_real_file_is_compared_with_the_model_on_the_validation_questions(questions, form):
    recipe, data, checkpoint = questions
    head = head_of(32)
    # A head that decides clearly, as a trained one does.
    head["head/kernel"] = head["head/kernel"] * 20
    windows, split = data.windows["validation"], data.split("validation")
    tokens = pad(windows.encoded, np.arange(len(windows)), 40)
    below = np.where(tokens.mask[:, :, None] == 1, 0, -1e9)
    trained = expected_logits(checkpoint, head, tokens) + below
    export = recipe.export.model_copy(update={"quantization": form})
    content = export_question_answerer(
        recipe.model_copy(update={"export": export}), checkpoint, head, rows=data.encoded["train"]
    )
    answers = [
        Answers(logits, select_answers(windows, logits, split.contexts))
        for logits in (trained, run(content, tokens) + below)
    ]
    golds = [[answer.text for answer in own] for own in split.answers]
    # Random weights lie closer together than trained ones.
    found = compare_answers(*answers, golds, form, max_changed_answers=0.5, max_lost_f1=1.0)
    assert found.questions == 60
    assert 0 < found.largest_difference < {"none": 0.01, "float16": 0.1, "dynamic": 3, "int4": 15}[form]
    if form in ("none", "float16"):
        assert found.changed_decided_answers == 0


# --- The gate --------------------------------------------------------------------------------------------------------
def answers(texts: list[str], second: str = "red", margin: float = 6.0, shift: float = 0.0) -> Answers:
    """The best answers, each better than a `second` one by `margin`; the logits are moved by `shift`."""
    selected = [
        Selected(
            Candidate(text, 0, 4, 10.0),
            0.0,
            [Candidate(text, 0, 4, 10.0), Candidate(second if text != second else "blue", 0, 4, 10.0 - margin)],
        )
        for text in texts
    ]
    return Answers(np.full((len(texts), 4, 2), 2.0 + shift, np.float32), selected)


def test_equal_answers_pass_and_are_counted():
    found = compare_answers(
        answers(["blue"] * 4),
        answers(["Blue", "the blue", "blue", "blue"], shift=0.25),
        [["blue"]] * 3 + [["red"]],
        "dynamic",
    )
    assert (found.questions, found.changed_answers, found.largest_difference) == (4, 0, pytest.approx(0.25))
    assert (found.f1_trained, found.f1_exported, found.doubt) == (0.75, 0.75, None)


def test_clearly_changed_answers_fail_beyond_one_and_two_percent():
    trained, golds = answers(["blue"] * 200), [["green"]] * 200
    compare_answers(trained, answers(["red"] * 4 + ["blue"] * 196), golds, "dynamic")
    with pytest.raises(
        VerificationError,
        match=r"gives clearly another answer than the trained model to 5 of 200 questions \(at most 2\.0% may change\); "
        r"export in a more exact form: set export\.quantization to float16 or none",
    ):
        compare_answers(trained, answers(["red"] * 5 + ["blue"] * 195), golds, "dynamic")
    compare_answers(trained, answers(["red"] * 12 + ["blue"] * 188), golds, "int4")
    with pytest.raises(VerificationError, match=r"at most 1\.0% may change"):
        compare_answers(trained, answers(["red"] * 5 + ["blue"] * 195), golds, "int4", max_changed_answers=0.01)


def test_undecided_questions_may_change_unless_the_f1_falls_by_more_than_chance():
    trained = answers(["blue"] * 400, margin=0.05)
    exported = answers(["red"] * 40 + ["blue"] * 360)
    as_often = [["red"]] * 20 + [["blue"]] * 20 + [["green"]] * 360
    found = compare_answers(trained, exported, as_often, "dynamic")
    assert (found.changed_answers, found.changed_decided_answers) == (40, 0)
    with pytest.raises(
        VerificationError, match=r"the F1 is 90\.0% after the export and 100\.0% before, on 400 questions"
    ):
        compare_answers(trained, exported, [["blue"]] * 400, "dynamic")
    few = compare_answers(
        answers(["blue"] * 10, margin=0.05), answers(["red"] + ["blue"] * 9), [["blue"]] * 10, "dynamic"
    )
    assert "10 questions are too few to distinguish this from chance" in few.doubt


def test_an_answer_that_became_none_is_a_changed_one():
    trained = answers(["blue"] * 100)
    refused = Answers(
        trained.logits,
        [Selected(one.best, 30.0, one.candidates) for one in trained.selected[:5]] + list(trained.selected[5:]),
    )
    with pytest.raises(VerificationError, match="to 5 of 100 questions"):
        compare_answers(trained, refused, [[]] * 100, "dynamic", null_bound=0.0)
    assert compare_answers(trained, refused, [[]] * 100, "dynamic").changed_answers == 0


def test_without_quantisation_only_rounding_is_allowed():
    trained = answers(["blue"] * 2)
    compare_answers(trained, answers(["blue"] * 2, shift=1e-3), [["blue"]] * 2, "none")
    with pytest.raises(
        VerificationError, match=r"logits differ from the trained model's by up to 0\.0100; expected at most 0\.0020"
    ):
        compare_answers(trained, answers(["blue"] * 2, shift=1e-2), [["blue"]] * 2, "none")


def test_logits_that_are_not_numbers_fail():
    for bad in (np.nan, np.inf):
        wrong = answers(["blue"] * 2)
        wrong.logits[1, 2, 0] = bad
        with pytest.raises(
            VerificationError, match="exported model returns logits that are not numbers for 1 of 2 windows"
        ):
            compare_answers(answers(["blue"] * 2), wrong, [["blue"]] * 2, "float16")
