"""A finished run is exported in other forms and verified, through the commands and on the programs that apps use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.journeys.test_main_job import run
from tests.tiny import write_recipe, write_reviews
from textclf.classify.classifier import Classifier
from textclf.errors import RecipeError, RunError
from textclf.exporting.apps import CONSUMERS, installed_consumers, run_consumer
from textclf.exporting.classification.verify import verify_model
from textclf.exporting.hard_texts import hard_texts
from textclf.runs.export import export_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    assert run("train", write_recipe(folder, epochs=6), "encoder.max_length=auto", "--run-dir", folder / "run") == 0
    return folder / "run"


def test_a_run_is_exported_again_to_the_same_bytes_and_in_other_forms(finished, tmp_path):
    assert run("export", finished, "-o", tmp_path / "same.tflite") == 0
    assert (tmp_path / "same.tflite").read_bytes() == (finished / "model.tflite").read_bytes()
    assert run("export", finished, "quantization=float16", "export.compatibility=task-library") == 0
    other = finished / "model-float16-task-library.tflite"
    assert run("export", finished, "quantization=float16", "compatibility=task-library") == 2
    assert run("export", finished, "quantization=float16", "compatibility=task-library", "--force") == 0
    assert run("verify", other, "--run", finished) == 0
    other.unlink()


def test_only_settings_of_the_export_can_change(finished, tmp_path):
    assert run("export", finished, "training.epochs=2", "-o", tmp_path / "x.tflite") == 2
    with pytest.raises(RecipeError, match="only the settings in the section export can change"):
        export_run(finished, ["training.epochs=2"], tmp_path / "x.tflite")
    with pytest.raises(RunError, match="the folder of a finished run"):
        export_run(tmp_path, [], tmp_path / "x.tflite")


def test_verify_compares_with_the_trained_model_on_given_rows(finished, tmp_path, capsys):
    data = write_reviews(tmp_path / "new.csv", 50, seed=3)
    assert run("verify", finished / "model.tflite", data, "--run", finished, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert report["parity"]["rows"] == 50
    assert report["parity"]["largest_difference"] < 0.05


def test_a_model_that_is_not_the_trained_one_is_found(finished):
    head = finished / "checkpoints" / "best" / "head.safetensors"
    original = head.read_bytes()
    arrays = load_file(head)
    arrays["head/kernel"] = -arrays["head/kernel"]
    save_file(arrays, head, metadata={"facts": "{}"})
    report = verify_model(finished / "model.tflite", run=finished, consumers=())
    head.write_bytes(original)
    assert len(report.problems) == 1
    assert "clearly another label" in report.problems[0]

    (finished / "labels.txt").write_text("good\nbad\n")
    report = verify_model(finished / "model.tflite", run=finished, consumers=())
    (finished / "labels.txt").write_text("bad\ngood\n")
    assert len(report.problems) == 1
    assert "are ['good', 'bad']" in report.problems[0]


def test_an_export_without_quantisation_differs_by_rounding_only(finished, tmp_path):
    path, report = export_run(finished, ["quantization=none"], tmp_path / "none.tflite")
    assert path.is_file()
    assert report.parity is not None
    assert report.parity.largest_difference < 1e-4


def test_a_damaged_model_fails_with_exit_code_two(finished, tmp_path, capsys):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes((finished / "model.tflite").read_bytes()[:-100])
    assert run("verify", broken) == 2
    assert "NOT verified" in capsys.readouterr().out


def test_the_hard_texts_are_many_and_hard():
    texts = hard_texts()
    assert texts == hard_texts()
    assert len(texts) >= 500
    assert any(not text.strip() for text in texts)
    assert any(len(word.encode()) > 100 for text in texts for word in text.split())
    assert any(len(text) > 4000 for text in texts)
    for character in ("😀", "é", "\u0301", "\x07", "昨", "你", "ß", "ñ"):
        assert any(character in text for text in texts), character


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_real_consumer_answers_as_our_predictor_does(name, finished, tmp_path):
    if name not in installed_consumers():
        pytest.skip(f"{name} is not installed")
    overrides = ["quantization=none", "compatibility=task-library"]
    path, _ = export_run(finished, overrides, tmp_path / "model.tflite")
    classifier = Classifier(path)
    texts = hard_texts()
    theirs = run_consumer(name, path, classifier.labels, texts)
    ours = classifier.probabilities_at_full_length([(text,) for text in texts])
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize(("far", "problems"), [(5, 0), (6, 1)])
def test_of_8_bit_weights_few_texts_may_be_rounded_further_apart(far, problems, finished, monkeypatch, tmp_path):
    model = finished / "model.tflite"
    classifier = Classifier(model)
    answers = classifier.probabilities_at_full_length([(text,) for text in hard_texts()])
    for row in answers[:far]:
        best, second = np.argsort(row)[::-1][:2]
        moved = 0.06 if row[best] < 0.9 else -0.06
        row[best] += moved
        row[second] -= moved
    named = [dict(zip(classifier.labels, map(float, row), strict=True)) for row in answers]
    (tmp_path / "answers.json").write_text(json.dumps(named))
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\ncat {tmp_path / 'answers.json'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("TEXTCLF_TASK_LIBRARY_PYTHON", str(program))
    report = verify_model(model, consumers=["task-library"])
    assert report.consumers[0].far_texts == far
    assert report.consumers[0].largest_difference == pytest.approx(0.06, abs=1e-3)
    assert len(report.problems) == problems
    assert problems == 0 or re.search(
        rf"and {far} a probability that differs by more than 0.05 \(at most 5", report.problems[0]
    )


def test_a_consumer_that_refuses_the_model_is_a_finding(finished, monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("TEXTCLF_MEDIAPIPE_PYTHON", str(program))
    report = verify_model(finished / "model.tflite", consumers=["mediapipe"])
    assert report.problems == ["mediapipe rejects the model: it ended with exit code 3: broken"]
