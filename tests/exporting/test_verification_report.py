"""`verify` says what it checked and what it did not, with the command that adds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.classify.test_classifier import write_tiny_model
from tests.command import run
from textclf import verify
from textclf.errors import ArgumentError
from textclf.exporting import checks
from textclf.exporting.apps import how_to_add
from textclf.exporting.classification import verify as classification


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("report") / "model.tflite", compatibility="litert")


@pytest.fixture
def alone(monkeypatch) -> None:
    monkeypatch.setattr(checks, "installed_consumers", lambda: [])


def results(report) -> dict[str, str]:
    return {check.name: check.result for check in report.checks}


def test_a_file_that_nothing_was_compared_with_is_checked_in_its_structure_only(model, alone, capsys):
    assert run("verify", model, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "structure only"
    assert {check["name"]: check["result"] for check in report["checks"]} == {
        "structure": "passed",
        "answers in LiteRT": "passed",
        "trained model": "not checked",
        "your rows": "not checked",
        "mediapipe": "not checked",
        "task-library": "not checked",
        "browser": "not checked",
    }
    remedies = {check["name"]: check["remedy"] for check in report["checks"]}
    assert remedies["trained model"] == f"textclf verify {model} --run runs/NAME"
    assert remedies["your rows"] == f"textclf verify {model} LABELLED.csv"
    assert remedies["mediapipe"].startswith('pip install "textclf-tflite[verify]"')
    assert {one["runtime"] for one in report["runtimes"]} >= {
        "LiteRT",
        "Task Library",
        "MediaPipe Tasks",
        "ONNX Runtime",
    }


def test_rows_or_another_program_make_a_file_verified(model, monkeypatch):
    report = verify(model, [{"text": "the cat"}], consumers=())
    assert report.verdict == "verified"
    assert results(report)["your rows"] == "passed"
    ours = classification.Classifier(model)
    monkeypatch.setattr(
        classification,
        "run_consumer",
        lambda name, path, labels, texts: ours.probabilities_at_full_length([(text,) for text in texts]),
    )
    report = verify(model, consumers=["browser"])
    assert report.verdict == "verified"
    assert results(report)["browser"] == "passed"
    assert "clearly different" in next(check.details for check in report.checks if check.name == "browser")


def test_a_broken_file_is_not_checked_any_further(model, tmp_path, capsys):
    path = tmp_path / "half.tflite"
    path.write_bytes(model.read_bytes()[:-200])
    assert run("verify", path) == 2
    shown = capsys.readouterr().out
    assert f"{path}: NOT verified" in shown
    report = verify(path)
    assert report.verdict == "failed"
    assert results(report).pop("structure") == "failed"
    assert set(results(report).values()) == {"failed", "not checked"}


def test_a_program_that_does_not_load_the_file_is_not_asked_but_named_with_the_setting(model, monkeypatch):
    monkeypatch.setattr(checks, "installed_consumers", lambda: ["task-library"])
    found = {check.name: check for check in verify(model).checks}["task-library"]
    assert found.result == "not checked"
    assert found.details == "it does not load the file: FULLY_CONNECTED has version 12 (known: up to 10)"
    assert found.remedy == "textclf export RUN compatibility=task-library"


def test_an_unknown_program_is_an_error(model):
    with pytest.raises(ArgumentError, match="the programs are mediapipe, task-library, browser"):
        verify(model, consumers=["flutter"])


def test_every_program_can_be_added_by_a_command():
    assert all("install" in how_to_add(name) for name in checks.CONSUMERS)
