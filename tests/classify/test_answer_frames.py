"""Answers for frames: pandas, Arrow, polars and lists of dicts get the same columns, and keep their own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.answering import CONTEXT, write_tiny_answerer
from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.errors import ArgumentError, DataError

ROWS = [
    {"id": 3, "question": "who pays", "context": CONTEXT},
    {"id": 1, "question": " ", "context": CONTEXT},
    {"id": 2, "question": "when is the call", "context": None},
    {"id": 5, "question": "is the app free", "context": "the app is free"},
]


@pytest.fixture(scope="module")
def answerer(tmp_path_factory) -> QuestionAnswerer:
    path: Path = tmp_path_factory.mktemp("answers") / "model.tflite"
    return QuestionAnswerer(write_tiny_answerer(path), num_threads=1)


def test_a_list_of_dicts_gets_the_answers_with_their_places_and_the_reasons_why_there_is_none(answerer):
    rows = answerer.answer_frame(ROWS)
    [first, _, _, last] = answerer.answers([(row["question"], row["context"] or "") for row in ROWS])
    assert [row["id"] for row in rows] == [3, 1, 2, 5]
    assert rows[0] == {
        **ROWS[0], "answer": first.text, "score": first.score, "start": first.start, "end": first.end, "error": None
    }  # fmt: skip
    assert CONTEXT[rows[0]["start"] : rows[0]["end"]] == rows[0]["answer"]
    assert rows[1] == {**ROWS[1], "answer": None, "score": None, "start": None, "end": None, "error": "has no question"}
    assert rows[2]["error"] == "has no context"
    assert rows[3]["answer"] == last.text
    assert answerer.answer_frame([]) == []


def test_every_kind_of_frame_gets_the_same_columns(answerer):
    expected = answerer.answer_frame(ROWS, column_prefix="given_")
    frame = pd.DataFrame(ROWS, index=[7, 7, 8, 9])
    answered = answerer.answer_frame(frame, column_prefix="given_")
    assert list(answered.columns) == [
        *frame.columns,
        *(f"given_{name}" for name in ("answer", "score", "start", "end", "error")),
    ]
    assert list(answered.index) == [7, 7, 8, 9]
    assert str(answered.given_start.dtype) == "Int64"
    table = answerer.answer_frame(pa.Table.from_pylist(ROWS), column_prefix="given_")
    assert table.schema.field("given_start").type == pa.int64()
    assert table.schema.field("given_error").type == pa.string()
    polars = answerer.answer_frame(pl.DataFrame(ROWS), column_prefix="given_")
    assert polars.schema["given_end"] == pl.Int64
    for rows in (table.to_pylist(), polars.to_dicts()):
        assert rows == [pytest.approx(row) for row in expected]
    answers = [None if pd.isna(text) else text for text in answered.given_answer]
    assert answers == [row["given_answer"] for row in expected]


def test_a_model_that_does_not_answer_leaves_the_places_empty(tmp_path):
    with QuestionAnswerer(write_tiny_answerer(tmp_path / "model.tflite", null_bound=-1e6)) as answerer:
        [row] = answerer.answer_frame(ROWS[:1])
    assert (row["answer"], row["start"], row["end"], row["error"]) == (None, None, None, None)
    assert 0 <= row["score"] <= 1


def test_frames_that_cannot_be_answered_are_refused(answerer):
    with pytest.raises(DataError, match=r"the frame has 0 columns `ask`, expected one"):
        answerer.answer_frame(ROWS, "ask")
    with pytest.raises(DataError, match="the frame has a column `error` already"):
        answerer.answer_frame([{**ROWS[0], "error": ""}])
    with pytest.raises(DataError, match="row 0 of column `question` is 5"):
        answerer.answer_frame([{**ROWS[0], "question": 5}])
    with pytest.raises(ArgumentError, match="are both the column `context`"):
        answerer.answer_frame(ROWS, "context", "context")
    with pytest.raises(DataError, match="use answer_frame for a frame"):
        answerer.answers(pd.DataFrame(ROWS))
