"""Texts of any length with several labels through the front door: check, train, evaluate, export, verify, compare."""

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
from tests.label_sets import TOPICS, write_long_topic_recipe
from textclf.classify.classifier import Classifier
from textclf.classify.multi_label.metrics import measure_label_sets
from textclf.training.multi_label.calibration import label_calibration_error
from textclf.training.multi_label.thresholds import choose_thresholds


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    """What the training says on standard error."""
    return io.StringIO()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, said: io.StringIO) -> textclf.Run:
    folder = tmp_path_factory.mktemp("long-topics")
    recipe = textclf.load_recipe(
        write_long_topic_recipe(folder, rows=160, epochs=1, head="fresh", learning_rate=3e-3),
        ["encoder.max_windows=5", "export.quantization=float16"],
    )
    with redirect_stderr(said):
        return textclf.train(recipe, folder / "run")


def rows_of(path: Path) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """The texts of a table, and which labels each has, bool [rows, labels]."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    truth = [[topic in row["topics"].split("|") for topic in sorted(TOPICS)] for row in rows]
    return [(row["text"],) for row in rows], np.array(truth)


def test_the_file_says_how_it_reads_and_its_results_are_by_text(trained):
    test = trained.dir.parent / "test.csv"
    with Classifier(trained.model_path) as classifier:
        assert classifier.long_texts == (10, 5)
        texts, truth = rows_of(test)
        measured = measure_label_sets(classifier.probabilities(texts), truth, classifier.thresholds, classifier.labels)
    metrics = trained.metrics
    assert metrics["rows"] == {"train": 112, "validation": 48, "test": 60}
    assert (metrics["test"]["rows"], metrics["export"]["rows"]) == (60, 108)
    assert metrics["test"]["micro_f1"] == measured.micro_f1
    assert textclf.evaluate_label_sets(trained.dir, test).micro_f1 == measured.micro_f1


def test_thresholds_and_calibration_are_chosen_by_text(trained):
    """Computed again from the trained weights: each window alone would give other thresholds."""
    from textclf.data.multi_label.dataset import load_label_sets
    from textclf.exporting.multi_label.trained_run import load_trained_label_sets

    loaded = load_trained_label_sets(trained.dir)
    validation = loaded.run.dataset(load_label_sets).validation
    probabilities = loaded.probabilities(validation.texts)
    assert len(probabilities) == 48
    chosen = choose_thresholds(probabilities, validation.labels, None)
    recorded = trained.metrics["thresholds"]
    np.testing.assert_allclose(recorded["values"], chosen.values, atol=1e-4)
    errors = trained.metrics["calibration"]["expected_calibration_error"]["validation"]
    assert errors["after"] == pytest.approx(label_calibration_error(probabilities, validation.labels), abs=1e-4)


def test_the_record_the_pages_and_the_training_tell_what_an_app_sees(trained, said):
    found = trained.metrics["long_texts"]["splits"]["test"]
    texts, truth = rows_of(trained.dir.parent / "test.csv")
    needed = np.array([-(-max(0, len(text.split()) - 14) // 10) + 1 for (text,) in texts])
    assert (found["texts"], found["long_texts"]) == (60, (needed > 1).sum())
    assert (found["windows"], found["most_windows"]) == (np.minimum(needed, 5).sum(), 5)
    with Classifier(trained.model_path) as classifier:
        first = classifier.probabilities([(" ".join(text.split()[:14]),) for (text,) in texts])
        measured = measure_label_sets(first, truth, classifier.thresholds, classifier.labels)
    assert found["first_window_micro_f1"] == pytest.approx(measured.micro_f1)
    assert found["micro_f1"] == trained.metrics["test"]["micro_f1"] != measured.micro_f1
    app = f"{measured.micro_f1:.1%}"
    report = " ".join((trained.dir / "report.html").read_text(encoding="utf-8").split())
    assert re.search(rf"Micro-F1 in an app \(test\)</dt><dd><span class=\"value\">{app}</span>", report)
    assert "<dt>Long texts</dt><dd>windows that begin 10 tokens apart, at most 5 for a text." in report
    card = (trained.dir / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| First window only (an app) | {app} |" in card
    assert "it reads a text of any length and predicts any number of 4 labels" in card
    assert f"All windows change the micro-F1 by {100 * (found['micro_f1'] - measured.micro_f1):+.1f} points" in card
    text = said.getvalue()
    assert re.search(r"Training: 112 rows in [34]\d\d windows, 4 labels", text)
    assert re.search(rf"of 60 texts of the test split \(\d\d.\d%\) need several windows. An app .* {app}, all", text)


def test_another_export_is_verified_and_runs_are_compared_by_text(trained, tmp_path, capsys):
    assert run("export", trained.dir, "quantization=none", "--force") == 0
    other = trained.dir / "model-none.tflite"
    capsys.readouterr()
    assert run("verify", other, "--run", trained.dir, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["problems"], report["parity"]["rows"], report["parity"]["changed_sets"]) == ([], 108, 0)
    copy = trained.dir.parent / "copy"
    shutil.copytree(trained.dir, copy)
    comparison = textclf.compare([trained.dir, copy], tmp_path / "compared", quiet=True)
    assert comparison.as_dict()["disagreeing_rows"] == 0
    assert [model.metrics.rows for model in comparison.models] == [60, 60]


def test_check_counts_the_windows_or_proposes_them(trained):
    recipe = trained.dir.parent / "recipe.yaml"
    found = {one.kind: one for one in textclf.check(recipe).findings}
    assert "will be read in several windows" in found["several_windows"].message
    kept = {one.kind: one for one in textclf.check(recipe, ["encoder.overflow=head"]).findings}
    assert "encoder.overflow=windows would read them" in kept["truncated"].message
