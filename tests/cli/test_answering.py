"""The command `answer`, and what the other commands do with a model that answers questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.answering import CONTEXT, write_squad, write_tiny_answerer
from tests.classify.test_classifier import write_tiny_model
from tests.command import run
from textclf import QuestionAnswerer


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_answerer(tmp_path_factory.mktemp("answers") / "model.tflite")


@pytest.fixture
def context(tmp_path) -> Path:
    (tmp_path / "page.txt").write_text(CONTEXT, encoding="utf-8")
    return tmp_path / "page.txt"


def test_a_question_about_a_file_gets_its_answer_and_probability(model, context, capsys):
    assert run("answer", model, "--context", context, "--question", "is it free?", "--question", "who calls?") == 0
    expected = QuestionAnswerer(model).answers([("is it free?", CONTEXT), ("who calls?", CONTEXT)])
    assert capsys.readouterr().out == "".join(f"{answer.text}\t{answer.score:.4f}\n" for answer in expected)
    assert run("answer", model, "--context", context, "--question", "is it free?", "--json") == 0
    [shown] = json.loads(capsys.readouterr().out)["answers"]
    assert CONTEXT[shown["start"] : shown["end"]] == shown["answer"] == expected[0].text


def test_no_answer_and_a_truncated_question_are_said(context, tmp_path, capsys):
    model = write_tiny_answerer(tmp_path / "none.tflite", null_bound=-1e6)
    assert run("answer", model, "--context", context, "--question", "free " * 20) == 0
    shown = capsys.readouterr()
    assert shown.out == "(no answer)\t1.0000\n"
    assert "The question has more than 16 tokens; only the first 16 were used." in shown.err


def test_a_table_is_answered_and_rows_without_a_result_end_with_code_3(model, tmp_path, capsys):
    (tmp_path / "in.csv").write_text(f'question,context\nis it free?,"{CONTEXT}"\n,x\n')
    assert run("answer", model, tmp_path / "in.csv", "-o", tmp_path / "out.csv") == 3
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "question,context,answer,score,start,end,error"
    assert "1 of 2 rows answered" in capsys.readouterr().out
    assert run("answer", model, tmp_path / "in.csv", "-o", "-", "--json") == 3
    shown = capsys.readouterr()
    assert shown.out == (tmp_path / "out.csv").read_text()
    assert json.loads(shown.err[shown.err.index("{") :])["answered"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "pass either INPUT with -o OUTPUT, or --question with --context"),
        (["--question", "a?"], "--context FILE is missing"),
        (["--question", " ", "--context", "page.txt"], "--question is empty"),
        (["--question", "a?", "--context", "page.txt", "--prefix", "x"], "--prefix has no effect with --question"),
        (["in.csv"], "-o OUTPUT is missing"),
        (["in.csv", "--context", "page.txt", "-o", "out.csv"], "--context has no effect with INPUT"),
        (["--question", "a?", "--context", "missing.txt"], "missing.txt: "),
        (["--question", "a?", "--context", "empty.txt"], "empty.txt: is empty; name a file with the text"),
        (["--question", "a?", "--context", "latin.txt"], "latin.txt: is not utf-8 at byte 3"),
        (["--question", "a?", "--context", "page.pdf"], "page.pdf: is a PDF, not plain text"),
        (["--question", "a?", "--context", "nul.txt"], "nul.txt: contains NUL characters"),
        (
            ["--question", "a?", "--context", "page.txt", "--phone"],
            "reads 64 tokens, but the runtime of phones reads 384",
        ),
    ],
)
def test_what_cannot_be_answered_is_one_line_and_exit_code_2(arguments, message, model, context, monkeypatch, capsys):
    folder = context.parent
    monkeypatch.chdir(folder)
    (folder / "empty.txt").write_text(" \n")
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (folder / "page.pdf").write_bytes(b"%PDF-1.7 x")
    (folder / "nul.txt").write_bytes(b"a\0b")
    (folder / "in.csv").write_text("question,context\na,b\n")
    assert run("answer", model, *arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_another_encoding_and_a_byte_order_mark(model, tmp_path, capsys):
    (tmp_path / "latin.txt").write_bytes("le caf\xe9 is free".encode("latin-1"))
    assert (
        run("answer", model, "--context", tmp_path / "latin.txt", "--encoding", "latin-1", "--question", "what?") == 0
    )
    (tmp_path / "wide.txt").write_bytes("le caf\xe9 is free".encode("utf-16"))
    assert run("answer", model, "--context", tmp_path / "wide.txt", "--question", "what?") == 0
    [first, second] = capsys.readouterr().out.splitlines()
    assert first == second


def test_each_command_names_the_one_for_the_other_task(model, context, tmp_path, capsys):
    classifier = write_tiny_model(tmp_path / "classifier.tflite")
    assert run("answer", classifier, "--context", context, "--question", "what?") == 2
    assert "`textclf classify`" in capsys.readouterr().err
    assert run("classify", model, "--text-input", "what?") == 2
    assert "`textclf answer`" in capsys.readouterr().err


def test_evaluate_reports_exact_match_and_f1_of_a_squad_file_and_of_a_table(model, tmp_path, capsys):
    questions = [("is it free?", CONTEXT, "free"), ("who calls?", CONTEXT, "you"), ("why?", CONTEXT, None)]
    squad = write_squad(tmp_path / "test.json", questions)
    assert run("evaluate", model, squad) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("3 questions\n")
    assert "as textclf on a server" in shown
    assert "without an answer" in shown
    table = tmp_path / "test.csv"
    table.write_text("q,page,gold\n" + "".join(f'{q},"{context}",{a or ""}\n' for q, context, a in questions))
    columns = ["--text", "q", "--text", "page", "--label", "gold"]
    assert run("evaluate", model, table, *columns, "--json") == 0
    from_table = json.loads(capsys.readouterr().out)
    assert run("evaluate", model, squad, "--json") == 0
    assert json.loads(capsys.readouterr().out) == from_table
    assert from_table["phone"] is None  # the model does not read 384 tokens
    assert run("evaluate", model, table) == 2
    assert "there is no column `answer` (answer_column (--label))" in capsys.readouterr().err
    assert run("evaluate", model, table, "--text", "q") == 2
    assert "name two columns, first the question, then the context" in capsys.readouterr().err


def test_inspect_shows_the_task_and_verify_what_was_checked(model, capsys):
    assert run("inspect", model) == 0
    assert "task          question-answering\n" in capsys.readouterr().out
    assert run("verify", model) == 0
    shown = capsys.readouterr().out
    assert f"{model}: structure only: its predictions were not compared with anything\n" in shown
    assert "checked: outputs end_logits and start_logits: float32 [1, 64]\n" in shown
    assert (
        "task-library       not checked  it needs inputs of 384 tokens in BERT's order, and these are of 64\n" in shown
    )
    assert f"trained model: textclf verify {model} --run runs/NAME\n" in shown
    assert "no: it has no task that answers questions\n" in shown
