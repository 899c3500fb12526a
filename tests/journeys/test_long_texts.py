"""Texts of any length through the front door: check, train, classify, evaluate, verify, export, compare."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest

import textclf
from tests.command import run
from tests.long_texts import write_long_recipe, write_long_reviews
from textclf.classify.classifier import Classifier
from textclf.classify.tables.job import evaluate_file
from textclf.tflite.metadata import read_metadata


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    """What the training says on standard error."""
    return io.StringIO()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, said: io.StringIO) -> textclf.Run:
    folder = tmp_path_factory.mktemp("long")
    recipe = textclf.load_recipe(write_long_recipe(folder, rows=160, epochs=0), ["encoder.max_windows=5"])
    with redirect_stderr(said):
        return textclf.train(recipe, folder / "run")


def texts_of(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["review"],) for row in csv.DictReader(file)]


def test_the_file_says_how_it_reads_and_its_results_are_by_text(trained):
    settings = read_metadata(trained.model_path).settings
    assert (settings["overflow"], settings["stride"], settings["max_windows"]) == ("windows", 10, 5)
    metrics, test = trained.metrics, trained.dir.parent / "test.csv"
    assert metrics["rows"] == {"train": 128, "validation": 32, "test": 60}
    assert (metrics["test"]["rows"], metrics["export"]["rows"], metrics["history"][0]["cross_validated_rows"]) == (
        60,
        92,
        128,
    )
    assert metrics["export"]["changed_decided_labels"] <= 1
    assert evaluate_file(trained.model_path, test).accuracy == pytest.approx(metrics["test"]["accuracy"])
    assert metrics["test"]["accuracy"] > 0.55


def test_the_record_tells_what_an_app_sees(trained):
    found = trained.metrics["long_texts"]["splits"]["test"]
    classifier = Classifier(trained.model_path)
    texts = texts_of(trained.dir.parent / "test.csv")
    needed = np.array([-(-max(0, len(text.split()) - 14) // 10) + 1 for (text,) in texts])
    assert (found["texts"], found["long_texts"], found["truncated_texts"]) == (
        60,
        (needed > 1).sum(),
        (needed > 5).sum(),
    )
    assert (found["windows"], found["most_windows"]) == (np.minimum(needed, 5).sum(), 5)
    assert found["median_windows"] == np.median(np.minimum(needed, 5))
    truth = np.array([1, 0] * 30)  # bad is the first label
    first = classifier.probabilities([(" ".join(text.split()[:14]),) for (text,) in texts])
    assert found["first_window_accuracy"] == pytest.approx((first.argmax(axis=1) == truth).mean())
    assert found["accuracy"] == trained.metrics["test"]["accuracy"]


def test_report_and_card_show_both_places(trained):
    found = trained.metrics["long_texts"]["splits"]["test"]
    app = f"{found['first_window_accuracy']:.1%}"
    report = " ".join((trained.dir / "report.html").read_text(encoding="utf-8").split())
    assert re.search(rf"Accuracy in an app \(test\)</dt><dd><span class=\"value\">{app}</span>", report)
    assert f"{found['long_texts']} of 60 texts" in report
    card = (trained.dir / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| First window only (an app) | {app} |" in card
    assert "a text of any length" in card
    assert "**Apps truncate long texts** after 16 tokens" in card
    assert "up to 5 windows of a text, each 10 tokens after the one before" in card
    difference = found["accuracy"] - found["first_window_accuracy"]
    assert f"All windows change the accuracy by {100 * difference:+.1f} points" in card


def test_another_export_is_compared_by_text_and_verified(trained, capsys):
    assert run("export", trained.dir, "quantization=float16", "--force") == 0
    assert "changed" in capsys.readouterr().out
    other = trained.dir / "model-float16.tflite"
    assert run("verify", other, "--run", trained.dir, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["problems"], report["parity"]["rows"]) == ([], 92)
    test = trained.dir.parent / "test.csv"
    assert run("verify", other, test) == 0
    assert f"accuracy {evaluate_file(other, test).accuracy:.1%}" in capsys.readouterr().out


def test_a_run_with_windows_is_compared_by_text(trained):
    copy = trained.dir.parent / "copy"
    shutil.copytree(trained.dir, copy)
    comparison = textclf.compare([trained.dir, copy], quiet=True)
    assert comparison.rows == 60
    assert [model.metrics.accuracy for model in comparison.models] == [trained.metrics["test"]["accuracy"]] * 2


def test_check_counts_the_windows_and_proposes_them_where_many_texts_are_long(tmp_path, capsys):
    recipe = write_long_recipe(tmp_path, rows=160, epochs=0)
    found = {one.kind: one for one in textclf.check(recipe).findings}
    assert "truncated" not in found
    message = found["several_windows"].message
    assert re.search(
        r"than 16 tokens \(encoder.max_length\) and will be read in several windows: \d windows in the median, 7 at most",
        message,
    )
    assert found["several_windows"].severity == "note"
    limited = {one.kind: one for one in textclf.check(recipe, ["encoder.max_windows=6"]).findings}
    assert re.search(
        r"more than 6 windows \(encoder.max_windows\), so the end is not read", limited["truncated"].message
    )
    kept = {one.kind: one for one in textclf.check(recipe, ["encoder.overflow=tail"]).findings}
    assert "several_windows" not in kept
    assert re.search(
        r"will be truncated; .*encoder.overflow=windows would read them in \d windows in the median, 7 at most",
        kept["truncated"].message,
    )
    write_long_reviews(tmp_path / "train.csv", 160, most_words=12)
    assert "windows" not in " ".join(map(str, textclf.check(recipe, ["encoder.overflow=head"]).findings))


def test_the_training_says_rows_and_windows(trained, said):
    text = said.getvalue()
    assert re.search(r"Training: 128 rows in [34]\d\d windows, 2 labels, only the last layer", text)
    assert re.search(
        r"\d\d of 60 texts of the test split \(\d\d.\d%\) need several windows. An app that reads only", text
    )
