"""Questions that a cluster answers: the rows are those of one machine, and the options keep their meaning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.answering import write_tiny_answerer
from tests.classify.test_answer_jobs import many_rows
from tests.cluster.test_partitions import joined_csv, manifest_of, parts_of
from tests.command import run
from textclf import answer_file
from textclf.dask import AnswerFolderSummary, answer_files
from textclf.errors import ArgumentError, DataError, ModelError, RunError


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_answerer(tmp_path_factory.mktemp("answers") / "model.tflite")


def test_answers_are_those_of_one_machine(answerer, scheduler, tmp_path):
    inputs = [many_rows(tmp_path / "a.csv", 55), many_rows(tmp_path / "b.csv", 12)]
    options = {"column_prefix": "p_"}
    summary = answer_files(answerer, inputs, tmp_path / "out", scheduler=scheduler, partition_rows=20, **options)
    one = answer_file(answerer, inputs, tmp_path / "one.csv", **options)
    assert joined_csv(tmp_path / "out") == (tmp_path / "one.csv").read_bytes()
    assert isinstance(summary, AnswerFolderSummary)
    assert (summary.rows, summary.answered, summary.unanswered, summary.errors, summary.truncated) == (
        one.rows,
        one.answered,
        one.unanswered,
        one.errors,
        one.truncated,
    )
    assert summary.partitions == len(parts_of(tmp_path / "out")) == 4
    assert summary.as_text().endswith("4 partitions, see manifest.json")
    totals = manifest_of(tmp_path / "out")["totals"]
    assert totals["errors"] == {"empty": sum(one.errors.values())}


def test_the_command_answers_with_dask_and_refuses_what_does_not_belong_to_it(answerer, scheduler, tmp_path, capsys):
    table = many_rows(tmp_path / "in.csv", 10)
    command = ("answer", answerer, table, "-o", tmp_path / "out")
    assert run(*command, "--dask", scheduler, "--partition-rows", "4", "--output-format", "jsonl", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["partitions"], found["errors"]) == (10, 3, {"empty": 2})
    first = json.loads((tmp_path / "out" / "part-000000.jsonl").read_text().splitlines()[0])
    assert list(first) == ["id", "question", "context", "answer", "score", "start", "end", "error"]
    assert run(*command, "--partition-rows", "4") == 2
    assert "--partition-rows has no effect without --dask" in capsys.readouterr().err
    assert run("answer", answerer, "--question", "who?", "--context", table, "--dask", "local") == 2
    assert "--dask has no effect with --question" in capsys.readouterr().err
    assert run("answer", answerer, table, "-o", "-", "--dask", "local") == 2
    assert "-o - is standard output, but the output with --dask is a folder" in capsys.readouterr().err


def test_what_is_no_table_or_has_no_such_column_is_refused_before_a_cluster_starts(answerer, tmp_path):
    squad = tmp_path / "train.json"
    squad.write_text('{"version": "v2.0", "data": []}')
    with pytest.raises(DataError, match="is a SQuAD file, but answers are written into tables"):
        answer_files(answerer, squad, tmp_path / "out")
    table = many_rows(tmp_path / "in.csv", 4)
    with pytest.raises(DataError, match="there is no column `asked`"):
        answer_files(answerer, table, tmp_path / "out", question_column="asked")
    with pytest.raises(ArgumentError, match="the question and the context are both the column `context`"):
        answer_files(answerer, table, tmp_path / "out", question_column="context")
    with pytest.raises(ModelError, match="reads 64 tokens, but the runtime of phones reads 384"):
        answer_files(answerer, table, tmp_path / "out", phone=True)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_job_is_not_continued_with_other_settings(answerer, scheduler, tmp_path, monkeypatch):
    table = many_rows(tmp_path / "in.csv", 12)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("textclf.cluster.folder.JobFolder.finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        answer_files(answerer, table, tmp_path / "out", scheduler=scheduler, partition_rows=4)
    monkeypatch.undo()
    with pytest.raises(RunError, match=r'column_prefix was "" and is now "p_"'):
        answer_files(
            answerer, table, tmp_path / "out", scheduler=scheduler, partition_rows=4, column_prefix="p_", resume=True
        )
    answer_files(answerer, table, tmp_path / "out", scheduler=scheduler, partition_rows=4, resume=True)
    answer_file(answerer, table, tmp_path / "one.csv")
    assert joined_csv(tmp_path / "out") == (tmp_path / "one.csv").read_bytes()
