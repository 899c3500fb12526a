"""`verify` runs the model: answers must be probabilities; rows of a table are classified, with labels or without."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.classify.test_classifier import write_tiny_model
from tests.command import run
from tests.tflite.test_checks import packed, unpacked
from textclf.classify.classifier import Classifier
from textclf.errors import DataError, ModelError, VerificationError
from textclf.exporting.apps import LIMIT_SECONDS, run_consumer
from textclf.exporting.classification.answers import labels_are_independent, strange_answers
from textclf.exporting.classification.verify import verify_model
from textclf.tflite.metadata import read_metadata, write_metadata
from textclf.tflite.model_file import TfliteModel


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("answers") / "model.tflite")


def changed_graph(path: Path, changed: Path, tensor: bytes, values: np.ndarray) -> Path:
    """The model with other numbers in one of its constants."""
    described = read_metadata(path)
    graph = unpacked(path.read_bytes())
    found = next(t for t in graph.subgraphs[0].tensors if t.name == tensor)
    graph.buffers[found.buffer].data = values.view(np.uint8)
    graph.metadata = None
    content = write_metadata(
        packed(graph), name="x", labels=described.labels, vocabulary=described.vocabulary, settings=described.settings
    )
    changed.write_bytes(content)
    return changed


def test_a_sound_model_is_verified_without_data(model):
    assert verify_model(model, consumers=()).problems == []


def test_weights_that_are_no_numbers_are_named(model, tmp_path):
    path = changed_graph(model, tmp_path / "nan.tflite", b"head/bias", np.array([np.nan, 0, 0], np.float32))
    report = verify_model(path, consumers=())
    assert report.problems == ["1 of 3 numbers in the tensor 'head/bias' are not numbers (NaN)"]
    assert "NOT verified" in report.as_text()
    assert run("verify", path) == 2


def test_answers_that_become_no_numbers_are_found_by_running_the_model(model, tmp_path):
    path = changed_graph(model, tmp_path / "inf.tflite", b"head/bias", np.array([3e38, 3e38, 0], np.float32))
    graph = unpacked(path.read_bytes())
    kernel = next(t for t in graph.subgraphs[0].tensors if t.name == b"head/kernel")
    path = changed_graph(
        path, tmp_path / "inf2.tflite", b"head/kernel", np.full(np.prod(kernel.shape), 3e38, np.float32)
    )
    [problem] = verify_model(path, consumers=()).problems
    assert "not" in problem
    assert "number" in problem


@pytest.mark.parametrize(
    ("rows", "adds_up", "problem"),
    [
        ([[0.2, 0.8], [np.nan, 0.5]], True, "1 of 2 texts get probabilities that are not numbers"),
        ([[0.2, 0.8], [np.inf, 0.5]], False, "1 of 2 texts get probabilities that are not numbers"),
        ([[-0.5, 1.5], [0.5, 0.5]], True, "1 of 2 texts get probabilities below 0 or above 1"),
        ([[0.9, 0.9], [0.5, 0.5]], True, "1 of 2 texts get probabilities whose sum is not 1 (worst sum 1.800)"),
    ],
)
def test_numbers_that_are_no_probabilities_are_counted(rows, adds_up, problem):
    [found] = strange_answers(np.array(rows, np.float32), adds_up=adds_up)
    assert found.startswith(problem)


def test_probabilities_pass_also_where_each_label_has_its_own(model):
    assert strange_answers(np.array([[0.2, 0.8]], np.float32), adds_up=True) == []
    assert strange_answers(np.array([[0.9, 0.9]], np.float32), adds_up=False) == []
    assert not labels_are_independent(TfliteModel(model.read_bytes()))


# --- Rows of a table -------------------------------------------------------------------------------------------------


def test_rows_with_labels_give_the_accuracy_without_a_run(model, tmp_path, capsys):
    data = tmp_path / "labelled.csv"
    texts = ["good film", "the food was awful", "thanks", "why"]
    said = [prediction.label for prediction in Classifier(model).classify(texts)]
    truth = [said[0], said[1], "nobody knows", "good" if said[3] == "bad" else "bad"]
    lines = [f"{text},{label}\n" for text, label in zip(texts, truth, strict=True)]
    data.write_text("text,label\n" + "".join(lines) + ",good\n")
    report = verify_model(model, data, consumers=())
    assert report.problems == []
    assert report.rows is not None
    assert (report.rows.rows, report.rows.without_text, report.rows.labelled, report.rows.unknown) == (5, 1, 3, 1)
    assert report.rows.accuracy == pytest.approx(2 / 3)
    assert run("verify", model, data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"]["labelled"] == 3


def test_rows_without_labels_are_classified(model, tmp_path, capsys):
    data = tmp_path / "rows.csv"
    data.write_text("id,text\n1,good film\n2,bad\n")
    assert run("verify", model, data) == 0
    assert f"{data}: 2 of 2 rows classified, no labels to compare with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [("id,words\n1,good\n", "no column `text`"), ("text,label\n,good\n", "no row has a text")],
)
def test_data_that_cannot_be_compared_are_refused(content, message, model, tmp_path):
    data = tmp_path / "rows.csv"
    data.write_text(content)
    with pytest.raises(DataError, match=message):
        verify_model(model, data, consumers=())


# --- Labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("good", "bad", "good"), "3 labels, of which `good` occurs more than once"),
        (("a", " ", "b"), "label 2 of 3 is empty"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, message, model, tmp_path):
    described = read_metadata(model)
    graph = unpacked(model.read_bytes())
    graph.metadata = None
    path = tmp_path / "m.tflite"
    path.write_bytes(
        write_metadata(
            packed(graph), name="x", labels=labels, vocabulary=described.vocabulary, settings=described.settings
        )
    )
    with pytest.raises(ModelError, match=message):
        Classifier(path)


# --- Programs in processes of their own ------------------------------------------------------------------------------

PROGRAMS = {
    "crashes": (
        "import os, signal; sys.stderr.write('F0000 broken\\n'); sys.stderr.flush(); os.abort()",
        "F0000 broken",
    ),
    "is silent": ("sys.exit(3)", "it ended with exit code 3 and printed nothing"),
    "babbles": ("print('x' * 100_000)", "expected probabilities of 2 texts"),
    "answers too little": ("print('[{\"good\": 1}]')", "expected probabilities of 2 texts"),
    "answers no numbers": ('print(\'[{"good": null}, {"good": 1}]\')', "expected probabilities of 2 texts"),
    "has other labels": ('print(\'[{"good": 1}, {"good": 1}]\')', "returns the labels good, expected bad, good"),
    "never ends": ("import time; time.sleep(60)", "did not end within 1 s"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="a script is started by its first line")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_that_misbehaves_is_one_message_with_its_last_words(kind, model, tmp_path, monkeypatch):
    code, message = PROGRAMS[kind]
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("TEXTCLF_MEDIAPIPE_PYTHON", str(script))
    limit = 1 if kind == "never ends" else LIMIT_SECONDS
    with pytest.raises(VerificationError, match=message) as caught:
        run_consumer("mediapipe", model, ["good", "bad"], ["a", "b"], limit_seconds=limit)
    assert len(str(caught.value)) < 1000


def test_a_program_that_is_not_there_is_said(model, monkeypatch):
    monkeypatch.setenv("TEXTCLF_MEDIAPIPE_PYTHON", "/nonexistent/python")
    with pytest.raises(VerificationError, match=r"cannot be started .*; set TEXTCLF_MEDIAPIPE_PYTHON to a Python"):
        run_consumer("mediapipe", model, ["good"], ["a"])
