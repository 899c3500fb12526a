"""A run of question answering: its record, its pages, its exports, and comparisons with other runs."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.answering import easy_questions, write_question_recipe, write_squad
from tests.browser import needs_browser
from tests.command import run as command
from textclf import QuestionAnswerer, compare, evaluate_answers, export, list_runs, train, verify
from textclf.classify.question_answering.evaluation import read_questions
from textclf.errors import ArgumentError, DataError, RunError, TextclfError, VerificationError
from textclf.runs.tasks.question_answering.examples import MarkedText, marked
from textclf.runs.tasks.question_answering.record import AnsweringMetrics
from textclf.runs.tasks.question_answering.trained import compare_answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A recipe with its finished run."""
    folder = tmp_path_factory.mktemp("questions")
    train(write_question_recipe(folder, epochs=3, learning_rate=1e-3), folder / "run", quiet=True)
    return folder


@pytest.fixture
def run(folder, tmp_path) -> Path:
    """A copy of the finished run, beside its data."""
    for name in ("train.json", "test.json"):
        shutil.copy(folder / name, tmp_path)
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


def test_the_record_has_both_ways_to_answer_the_calibration_and_the_check_of_the_export(folder):
    values = json.loads((folder / "run" / "metrics.json").read_text())
    assert list(values)[:4] == ["format", "version", "task", "name"]
    assert values["task"] == "question-answering"
    assert values["rows"] == {"train": 96, "validation": 24, "test": 40}
    [listed] = list_runs(folder / "run").runs
    assert listed.score is not None
    assert (listed.score.name, listed.score.value, listed.score.rows) == ("F1", values["test"]["server"]["f1"], 40)
    assert listed.score.as_text().endswith("40 test questions")
    assert set(values["history"][0]) >= {"validation_exact_match", "validation_f1", "validation_loss"}
    assert values["test"]["server"]["count"] == 40
    assert values["test"]["phone"] is None  # the tiny model reads 64 tokens, and phones need 384
    assert set(values["calibration"]) == {"null_bound", "temperature", "reason", "expected_calibration_error"}
    assert values["export"]["questions"] == 64
    assert json.loads(json.dumps(AnsweringMetrics.read(folder / "run").as_dict())) == values


def test_the_recorded_results_are_those_of_the_file(folder):
    recorded = AnsweringMetrics.read(folder / "run").test
    assert recorded is not None
    assert evaluate_answers(folder / "run", folder / "test.json") == recorded


def test_a_damaged_record_is_an_error_that_names_the_key(run):
    values = json.loads((run / "metrics.json").read_text())
    values["test"] = {"server": 1}
    (run / "metrics.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"metrics\.json: the metrics are damaged: `test`"):
        AnsweringMetrics.read(run)


def test_the_report_marks_both_answers_and_escapes_the_data(folder):
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "F1 on a server (test)" in page
    assert "Phones cannot use this file" in page
    assert '<mark class="gold given">' in page
    card = (folder / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "pipeline_tag: question-answering" in card
    assert "textclf answer model.tflite questions.csv -o answers.csv" in card


@needs_browser
def test_the_questions_of_the_report_are_all_questions_and_can_be_filtered(browser, folder):
    with (folder / "run" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "id", "question", "true_answers", "predicted_answer", "predicted_score"]
    test = AnsweringMetrics.read(folder / "run").test
    assert test is not None
    right = round(test.server.exact_match * test.server.count)
    assert len(rows) == test.server.count == 40
    browser.open((folder / "run" / "report.html").as_uri())
    browser.wait("document.readyState === 'complete' && document.querySelector('.found').textContent")
    assert browser.run("document.querySelector('.found').textContent") == "40 of 40 shown"
    browser.run("document.querySelector('#rows [name=wrong]').click()")
    assert browser.run("document.querySelector('.found').textContent") == f"{40 - right} of 40 shown"
    browser.run("document.querySelector('#rows button').click()")
    browser.wait("document.querySelector('.found').textContent === '40 of 40 shown'")
    browser.run("document.querySelector('#rows [name=wanted]').focus()")
    browser.insert(rows[0]["question"].upper())
    visible = "[...document.querySelectorAll('#rows tbody tr')].filter(row => row.getClientRects().length)"
    expected = [row["row"] for row in rows if rows[0]["question"].lower() in row["question"].lower()]
    assert sorted(browser.run(f"{visible}.map(row => row.cells[0].textContent)")) == sorted(expected)
    assert browser.logged == []


def test_a_context_is_marked_where_both_answers_are():
    context = "x" * 1000 + "the red box" + "y" * 1000
    parts = marked(context, [(1004, 1011)], (1000, 1007))
    assert [part for part in parts if part.is_gold or part.is_given] == [
        MarkedText("the ", False, True),
        MarkedText("red", True, True),
        MarkedText(" box", True, False),
    ]
    assert parts[0].text == parts[-1].text == " … "
    assert max(len(part.text) for part in parts) <= 220
    assert "".join(part.text for part in marked("no answer here", [], None)) == "no answer here"


def test_overlapping_correct_answers_are_one_mark():
    assert marked("see batches 2 to 9 today", [(4, 18), (12, 18)], None) == [
        MarkedText("see ", False, False),
        MarkedText("batches 2 to 9", True, False),
        MarkedText(" today", False, False),
    ]


def test_the_shown_part_of_a_context_begins_and_ends_with_whole_words():
    context = " ".join(f"word{number:03}" for number in range(200))
    place = context.index("word100")
    before, answer, after = marked(context, [(place, place + 7)], None)[1:-1]
    assert answer.text == "word100"
    assert [before.text.split()[0][:4], len(before.text.split()[0])] == ["word", 7]
    assert len(after.text.split()[-1]) == 7
    assert len("".join(part.text for part in marked(context, [], None)).removesuffix(" … ").split()[-1]) == 7


def test_a_run_is_exported_again_and_compared_with_the_trained_model(run):
    path, report = export(run, ["quantization=none"])
    assert path.name == "model-none.tflite"
    assert report.problems == []
    assert report.parity is not None
    assert "0 of 64 answers changed" in report.as_text()
    assert report.as_dict()["parity"]["largest_difference"] < 0.01
    again = verify(path, run=run)
    assert again.problems == []
    assert any("process units" in line for line in again.checked)


def test_verify_with_other_weights_and_with_questions(run, tmp_path):
    questions = write_squad(tmp_path / "more.json", easy_questions(30, seed=5))
    measured = verify(run / "model.tflite", questions)
    assert measured.rows is not None
    assert measured.rows.scores[1][0::2] == ("F1", "30 questions")
    head = run / "checkpoints" / "best" / "head.safetensors"
    from textclf.training.saved.run_folder import load_state, save_state

    arrays, facts = load_state(head)
    save_state(head, {**arrays, "head/kernel": -arrays["head/kernel"]}, facts)
    [problem] = verify(run / "model.tflite", run=run).problems
    assert "clearly another answer than the trained model" in problem
    save_state(head, arrays, {**facts, "temperature": 0})
    with pytest.raises(RunError, match=r"its temperature 0"):
        verify(run / "model.tflite", run=run)


def test_outputs_of_other_names_are_a_problem_that_says_what_a_phone_would_do(run, tmp_path):
    content = (run / "model.tflite").read_bytes()
    # The metadata lie before the graph, whose tensors have the same names.
    (tmp_path / "named.tflite").write_bytes(content.replace(b"start_logits", b"stort_logits", 1))
    [problem, *_] = verify(tmp_path / "named.tflite").problems
    assert "without ones named end_logits and start_logits the Task Library ends with a segmentation fault" in problem


def test_without_a_passing_form_the_weights_are_kept_and_exported_later(tmp_path, monkeypatch):
    def refuses(*arguments, **options):
        raise VerificationError("too different")

    recipe = write_question_recipe(tmp_path, questions=60, epochs=1, freeze=2)
    monkeypatch.setattr("textclf.runs.tasks.question_answering.trained.compare_answers", refuses)
    with pytest.raises(VerificationError, match=r"model\.tflite was not written: too different"):
        train(recipe, tmp_path / "run", quiet=True)
    metrics = AnsweringMetrics.read(tmp_path / "run")
    assert (metrics.export.withheld, metrics.export.quantization) == ("too different", None)
    assert "The export was withheld" in (tmp_path / "run" / "report.html").read_text()
    monkeypatch.setattr("textclf.runs.tasks.question_answering.trained.compare_answers", compare_answers)
    path, _ = export(tmp_path / "run", ["quantization=none"])
    assert path == tmp_path / "run" / "model.tflite"
    metrics = AnsweringMetrics.read(tmp_path / "run")
    assert (metrics.export.withheld, metrics.export.quantization) == (None, "none")
    assert not any("was not written" in warning for warning in metrics.warnings)


def test_runs_are_compared_on_the_same_questions(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    same = compare([run, other], quiet=True)
    assert same.measured_on == "40 questions of test.json, the test split of run"
    assert same.pairs[0].difference.f1 == 0
    assert same.disagreements == []
    compared = compare([run, other], tmp_path / "compared", data=tmp_path / "train.json", quiet=True)
    assert ["engine", "native", "native"] in compared.table()
    assert any("training contexts of every run" in warning for warning in compared.warnings)
    assert "F1 on a server" in (tmp_path / "compared" / "comparison.md").read_text()
    assert json.loads((tmp_path / "compared" / "comparison.json").read_text())["task"] == "question-answering"
    with (tmp_path / "compared" / "disagreements.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["place", "question", "correct answers", "run", "other"]


def test_runs_of_two_tasks_are_not_compared(run):
    first = Path(__file__).parent.parent / "fixtures" / "first_version" / "runs" / "reviews"
    with pytest.raises(RunError, match=r"its task differs from that of .*compare models of one task"):
        compare([run, first], quiet=True)


def test_arguments_that_cannot_be_used_are_told_by_name(run, tmp_path):
    table = write_question_table(tmp_path / "q.csv")
    for given, message in (
        ({"columns": ["q", "c", "c"]}, r"columns \(--columns\) names the column `c` twice"),
        ({"question_column": 5}, r"question_column \(--text\) is .*5.*, but must be plain text"),
        ({"context_column": ["c"]}, r"context_column \(--text\) is a list of columns, but must be one column"),
        ({"sheet": 5}, r"sheet \(--sheet\) is .*5.*, but must be plain text"),
    ):
        with pytest.raises(ArgumentError, match=message):
            evaluate_answers(run, table, **given)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_table_whose_name_is_not_utf_8_is_told_and_no_bug(run, tmp_path, capsys):
    table = write_question_table(tmp_path / os.fsdecode(b"\xff.csv"))
    assert command("evaluate", run, table) == 2
    assert "which is not UTF-8; rename the file or its folder" in " ".join(capsys.readouterr().err.split())


def write_question_table(path: Path) -> Path:
    path.write_text("question,context,answer\nwhat?,the red box,red box\n")
    return path


def test_questions_that_cannot_be_measured_are_left_out_with_a_warning(run, tmp_path, caplog):
    table = tmp_path / "questions.csv"
    table.write_text(
        "question,context,answer\nwhat?,the red box,blue box\nwhat?,the red box,red box\n,the red box,red\n"
    )
    metrics = evaluate_answers(run, [{"question": "what?", "context": "the red box", "answer": "red box"}])
    assert metrics.server.count == 1
    with pytest.raises(TextclfError, match=r"questions\.csv: row 2"):
        evaluate_answers(run, table)
    table.write_text(table.read_text().replace("what?,the red box,blue box\n", ""))
    assert evaluate_answers(run, table).server.count == 1
    assert "without the text of a question left out" in caplog.text
    with pytest.raises(ArgumentError, match="name three columns"):
        read_questions(QuestionAnswerer(run), table, answer_column="context")


def test_questions_that_cannot_be_measured_are_told_before_a_recipe_is_trained(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained before the data were checked")

    monkeypatch.setattr("textclf.runs.train.train", never)
    recipe = write_question_recipe(tmp_path)
    (tmp_path / "bad.csv").write_text("question,text\nwho?,nobody\n")
    with pytest.raises(DataError, match="there is no column `context`"):
        compare([recipe, recipe], tmp_path / "c", data=tmp_path / "bad.csv", quiet=True)
    assert not (tmp_path / "c").exists()
