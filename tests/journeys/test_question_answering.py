"""From questions to answers on a phone: the commands of question answering, one after the other."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.answering import easy_questions, write_question_recipe
from tests.command import run
from textclf import QuestionAnswerer, evaluate_answers, verify
from textclf.exporting.apps import installed_consumers


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a recipe whose model phones can use, trained with the command."""
    folder = tmp_path_factory.mktemp("journey")
    recipe = write_question_recipe(folder, length=384, epochs=2, learning_rate=1e-3)
    assert run("check", recipe) == 0
    assert run("train", recipe, "--run-dir", folder / "run", "export.quantization=float16") == 0
    return folder


def test_the_recipe_leads_to_both_numbers_in_the_record_the_report_and_the_card(trained):
    metrics = json.loads((trained / "run" / "metrics.json").read_text())["test"]
    assert metrics["server"]["count"] == metrics["phone"]["count"] == 40
    difference = metrics["server"]["f1"] - metrics["phone"]["f1"]
    assert metrics["difference"]["f1"] == pytest.approx(difference)
    low, high = metrics["difference"]["f1_interval"]
    assert low <= difference <= high
    report = (trained / "run" / "report.html").read_text()
    assert "F1 on a phone" in report
    assert "server minus phone" in report
    card = (trained / "run" / "MODEL_CARD.md").read_text()
    assert "answers on a server are better than on a phone by" in card
    assert "text.BertQuestionAnswerer.create_from_file" in card


def test_a_table_of_questions_killed_and_resumed_has_the_bytes_of_an_undisturbed_job(trained, tmp_path):
    source = tmp_path / "questions.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question", "context"])
        writer.writerows(
            [number, question, f"{context} " * 9]
            for number, (question, context, _) in enumerate(easy_questions(1500, seed=3))
        )
    command = [sys.executable, "-m", "textclf", "answer", str(trained / "run"), str(source), "-o"]
    output, journal = tmp_path / "killed.csv", tmp_path / ".killed.csv.journal"
    job = subprocess.Popen([*command, str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 120
    while not journal.exists() and job.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    assert not output.exists()
    subprocess.run([*command, str(output), "--resume"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*command, str(tmp_path / "whole.csv")], check=True, stdout=subprocess.DEVNULL)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"{number}" for number in range(1500)]
    expected = QuestionAnswerer(trained / "run").answer(rows[7]["question"], rows[7]["context"])
    assert (rows[7]["answer"], rows[7]["score"]) == (expected.text, f"{expected.score:.6f}")


def test_the_commands_measure_inspect_export_and_compare(trained, tmp_path, capsys):
    assert run("evaluate", trained / "run", trained / "test.json") == 0
    shown = capsys.readouterr().out
    assert "as textclf on a server" in shown
    assert "as a phone" in shown
    assert "Server minus phone: " in shown
    assert run("export", trained / "run", "quantization=none", "-o", tmp_path / "model.tflite") == 0
    assert run("compare", trained / "run", trained / "run") == 2
    assert "given twice" in capsys.readouterr().err
    assert evaluate_answers(trained / "run", trained / "test.json").phone is not None


@pytest.mark.skipif("task-library" not in installed_consumers(), reason="the Task Library is not installed")
def test_verify_asks_the_real_consumer_of_phones_hundreds_of_questions(trained):
    report = verify(trained / "run", trained / "test.json")
    assert report.problems == []
    [result] = report.consumers
    assert "compared with task-library (BertQuestionAnswerer): 0 of 360 answers different" in result.as_text()
    assert any("Task Library 0.4.4" in line for line in report.checked)
