"""Batch answering: every row comes out once, in order, as it was, with its answer, whatever happens on the way."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.answering import CONTEXT, write_tiny_answerer
from tests.classify.test_classifier import write_tiny_model
from textclf import QuestionAnswerer, answer_file, classify_file
from textclf.classify.question_answering import job as answer_job
from textclf.classify.question_answering.question_answerer import PendingAnswers
from textclf.classify.tables import journal as batch_journal
from textclf.classify.tables.table_job import JobInterruptedError
from textclf.classify.tables.windows import WindowSize
from textclf.errors import ArgumentError, DataError, RunError

ROWS = [
    {"id": "1", "question": "is the app free?", "context": CONTEXT},
    {"id": "2", "question": " ", "context": CONTEXT},
    {"id": "3", "question": "who?", "context": ""},
    {"id": "4", "question": "what, then?", "context": 'a "fine"\nphone; ' * 40},
    {"id": "5", "question": "free " * 20, "context": "money"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_answerer(tmp_path_factory.mktemp("answers") / "model.tflite")


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def many_rows(path: Path, count: int = 60) -> Path:
    rows = [{**ROWS[number % len(ROWS)], "id": f"{number}"} for number in range(count)]
    return write(path, [{**row, "context": f"{row['context']} {row['id']}"} for row in rows])


def test_every_row_keeps_its_place_and_gets_its_answer_or_a_reason(model, tmp_path):
    summary = answer_file(model, write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv")
    rows, answerer = read(tmp_path / "out.csv"), QuestionAnswerer(model)
    assert [{key: row[key] for key in ROWS[0]} for row in rows] == ROWS
    for row in (rows[0], rows[3], rows[4]):
        answer = answerer.answer(row["question"], row["context"])
        cells = {
            "answer": answer.text,
            "score": f"{answer.score:.6f}",
            "start": f"{answer.start}",
            "end": f"{answer.end}",
        }
        assert {key: row[key] for key in (*cells, "error")} == {**cells, "error": ""}
    assert [row["error"] for row in rows[1:3]] == ["empty: has no question", "empty: has no context"]
    assert [rows[1][key] for key in ("answer", "score", "start", "end")] == [""] * 4
    assert (summary.rows, summary.answered, summary.unanswered, summary.truncated) == (5, 3, 0, 1)
    assert summary.errors == {"empty": 2}
    assert "3 of 5 rows answered" in summary.as_text()
    assert "1 row with a longer question than the model reads" in summary.as_text()


def test_a_context_without_an_answer_is_a_result_with_empty_cells(tmp_path):
    model = write_tiny_answerer(tmp_path / "model.tflite", null_bound=-1e6)
    summary = answer_file(model, write(tmp_path / "in.csv", ROWS[:1]), tmp_path / "out.csv")
    [row] = read(tmp_path / "out.csv")
    assert [row[key] for key in ("answer", "start", "end", "error")] == [""] * 4
    assert float(row["score"]) == pytest.approx(1)
    assert (summary.answered, summary.unanswered, summary.errors) == (0, 1, {})


@contextmanager
def interrupted_at(call: int) -> Iterator[None]:
    """Inside, a person presses Ctrl-C at this call for the results of a window."""
    result, calls = PendingAnswers.result, []

    def interrupted(pending):
        calls.append(pending)
        if len(calls) == call:
            raise KeyboardInterrupt
        return result(pending)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PendingAnswers, "result", interrupted)
        yield


def test_an_interrupted_job_resumed_writes_the_same_bytes(model, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_journal, "SECONDS_BETWEEN_COMMITS", 0.0)
    monkeypatch.setattr(answer_job.AnsweredRows, "window_size", WindowSize(2, 8, 1 << 18))
    source = many_rows(tmp_path / "in.csv")
    answer_file(model, source, tmp_path / "whole.csv")
    with (
        interrupted_at(4),
        pytest.raises(JobInterruptedError, match=r"interrupted after 6 rows; run the same command with --resume"),
    ):
        answer_file(model, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(RunError, match=r"other settings \(column_prefix\)"):
        answer_file(model, source, tmp_path / "out.csv", column_prefix="p_", resume=True)
    summary = answer_file(model, source, tmp_path / "out.csv", resume=True)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (summary.rows, summary.answered, summary.errors) == (60, 48, {"empty": 12})


def test_compressed_tables_other_columns_and_a_prefix(model, tmp_path):
    rows = [{"q": row["question"], "answer": "old", "page": row["context"]} for row in ROWS]
    with gzip.open(tmp_path / "in.csv.gz", "wt", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows([["q", "answer", "page"], *(row.values() for row in rows)])
    options = {"question_column": "q", "context_column": "page"}
    with pytest.raises(DataError, match=r"has a column `answer` already; put a prefix"):
        answer_file(model, tmp_path / "in.csv.gz", tmp_path / "out.csv.gz", **options)
    answer_file(model, tmp_path / "in.csv.gz", tmp_path / "out.csv.gz", **options, column_prefix="new_")
    with gzip.open(tmp_path / "out.csv.gz", "rt", newline="", encoding="utf-8") as file:
        [header, first, *_] = csv.reader(file, delimiter=";")
    assert header == ["q", "answer", "page", "new_answer", "new_score", "new_start", "new_end", "new_error"]
    assert first[3] == QuestionAnswerer(model).answer(rows[0]["q"], rows[0]["page"]).text


def test_strict_stops_at_the_first_row_without_a_question(model, tmp_path):
    with pytest.raises(DataError, match=r"in\.csv: row 3 has no question; correct it, or leave out strict"):
        answer_file(model, write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv", strict=True)
    answer_file(model, write(tmp_path / "good.csv", ROWS[:1]), tmp_path / "out.csv", strict=True)
    assert list(read(tmp_path / "out.csv")[0])[-4:] == ["answer", "score", "start", "end"]


def test_missing_columns_and_wrong_calls_say_what_to_do(model, tmp_path):
    table = write(tmp_path / "in.csv", [{"question": "a", "text": "b"}])
    with pytest.raises(DataError, match=r"in\.csv: .*`context`.*context_column \(--context-column\)"):
        answer_file(model, table, tmp_path / "out.csv")
    with pytest.raises(ArgumentError, match=r"the question and the context are both the column `text`"):
        answer_file(model, table, tmp_path / "out.csv", question_column="text", context_column="text")
    with pytest.raises(ArgumentError, match=r"table in memory, expected files; use QuestionAnswerer"):
        answer_file(model, [{"question": "a", "context": "b"}], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_job_of_labels_is_not_continued_with_answers(model, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_journal, "SECONDS_BETWEEN_COMMITS", 0.0)
    classifier = write_tiny_model(tmp_path / "classifier.tflite", text=("context",))
    source = tmp_path / "in.csv"
    many_rows(source, 200)
    with source.open("ab") as file:
        file.write(b"\xff\xfe,broken,broken\n")
    monkeypatch.setattr("textclf.classify.tables.windows.FIRST_WINDOW_ROWS", 8)
    with pytest.raises(DataError, match="resume"):
        classify_file(classifier, source, tmp_path / "out.csv", strict=True)
    with pytest.raises(RunError, match=r"the interrupted job was started with other settings"):
        answer_file(model, source, tmp_path / "out.csv", resume=True)


def test_json_lines_keep_numbers_and_have_null_where_there_is_no_answer(model, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({**row, "id": int(row["id"])}) + "\n" for row in ROWS), encoding="utf-8")
    answer_file(model, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]
    first, second = rows[:2]
    assert first["context"][first["start"] : first["end"]] == first["answer"]
    assert (second["score"], second["start"], second["error"]) == (None, None, "empty: has no question")


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.xlsx"])
def test_places_of_answers_are_whole_numbers_whatever_the_first_rows_have(model, tmp_path, monkeypatch, name):
    monkeypatch.setattr(batch_journal, "SECONDS_BETWEEN_COMMITS", 0.0)
    monkeypatch.setattr(answer_job.AnsweredRows, "window_size", WindowSize(2, 2, 1 << 18))
    source = write(tmp_path / "in.csv", [*ROWS[1:3], ROWS[0], *ROWS[1:3], ROWS[3], ROWS[1]])
    with interrupted_at(3), pytest.raises(JobInterruptedError, match=r"interrupted after 2 rows"):
        answer_file(model, source, tmp_path / name)
    answer_file(model, source, tmp_path / name, resume=True)
    if name == "out.jsonl":
        rows = [json.loads(line) for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]
    elif name == "out.parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / name)
        assert [str(table.schema.field(column).type) for column in ("score", "start", "end")] == [
            "double",
            "int64",
            "int64",
        ]
        rows = table.to_pylist()
    else:
        sheet = pytest.importorskip("openpyxl").load_workbook(tmp_path / name).active
        header, *cells = sheet.iter_rows(values_only=True)
        rows = [dict(zip(header, row, strict=True)) for row in cells]
    assert [type(row[column]) for row in rows for column in ("start", "end")] == [
        int if row["answer"] else type(None) for row in rows for _ in range(2)
    ]
    assert [bool(row["answer"]) for row in rows] == [False, False, True, False, False, True, False]
    assert rows[2]["context"][rows[2]["start"] : rows[2]["end"]] == rows[2]["answer"]
