"""From a recipe and a CSV to a model and a classified CSV, through the commands."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import textclf
from tests.command import run
from tests.tiny import write_recipe, write_reviews, write_tiny_encoder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run; the recipe and its data lie beside it."""
    folder = tmp_path_factory.mktemp("main_job")
    recipe = write_recipe(folder, encoder=write_tiny_encoder(folder / "encoder"))
    assert run("train", recipe, "--run-dir", folder / "run") == 0
    return folder / "run"


def test_a_run_leaves_a_complete_folder_and_a_model_that_learned(finished):
    names = sorted(path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file())
    assert names == [
        "MODEL_CARD.md",
        "checkpoints/best/config.json",
        "checkpoints/best/encoder.safetensors",
        "checkpoints/best/head.safetensors",
        "checkpoints/best/vocab.txt",
        "labels.txt",
        "log.jsonl",
        "metrics.json",
        "model.tflite",
        "predictions.csv",
        "recipe.yaml",
        "report.html",
        "vocab.txt",
    ]
    assert (finished / "labels.txt").read_text() == "bad\ngood\n"
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["rows"] == {"train": 128, "validation": 32, "test": 60}
    assert metrics["test"]["accuracy"] > 0.9
    assert [entry["epoch"] for entry in metrics["history"]] == list(range(11)), "0 is the fitted head"
    latency = metrics["export"]["latency"]
    assert (latency["tokens"], latency["threads"]) == (32, 1)
    assert 3 <= latency["runs"] <= 20
    assert latency["milliseconds"] > 0
    assert latency["processor"]
    assert "ms in LiteRT for an input of 32 tokens on" in (finished / "report.html").read_text()
    assert len(metrics["files"]) == 2
    assert all(len(digest) == 64 for digest in metrics["files"].values())
    steps = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    losses = [step["loss"] for step in steps if step["event"] == "step"]
    assert len(losses) == 10 * 8
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:8])


def test_the_resolved_recipe_runs_again_to_the_same_bytes(finished, tmp_path):
    again = textclf.train(textclf.load_recipe(finished / "recipe.yaml"), tmp_path / "again", quiet=True)
    assert again.model_path.read_bytes() == (finished / "model.tflite").read_bytes()


def test_classifying_a_file_keeps_columns_and_order_and_adds_labels(finished, tmp_path):
    data = write_reviews(tmp_path / "new.csv", 50, seed=3)
    output = tmp_path / "out.csv"
    assert run("classify", finished / "model.tflite", data, "-o", output, "--scores") == 0
    with data.open(newline="") as before, output.open(newline="") as after:
        rows_before, rows_after = list(csv.DictReader(before)), list(csv.DictReader(after))
    assert list(rows_after[0]) == [
        "id",
        "review",
        "mood",
        "predicted_label",
        "predicted_score",
        "score:bad",
        "score:good",
        "error",
    ]
    assert {row["error"] for row in rows_after} == {""}
    assert [{key: row[key] for key in ("id", "review", "mood")} for row in rows_after] == rows_before
    right = sum(row["predicted_label"] == row["mood"] for row in rows_after)
    assert right >= 45
    for row in rows_after:
        scores = [float(row["score:bad"]), float(row["score:good"])]
        assert sum(scores) == pytest.approx(1, abs=1e-3)
        assert float(row["predicted_score"]) == pytest.approx(max(scores), abs=1e-6)


def test_an_output_is_not_overwritten_without_force(finished, tmp_path, capsys):
    data = write_reviews(tmp_path / "new.csv", 10)
    output = tmp_path / "out.csv"
    output.write_text("precious")
    assert run("classify", finished / "model.tflite", data, "-o", output) == 2
    assert output.read_text() == "precious"
    assert run("classify", finished / "model.tflite", data, "-o", output, "--force") == 0
    assert run("classify", finished / "model.tflite", output, "-o", tmp_path / "twice.csv") == 2


def test_evaluate_measures_a_labelled_file(finished, tmp_path, capsys):
    data = write_reviews(tmp_path / "new.csv", 50, seed=3)
    assert run("evaluate", finished / "model.tflite", data, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["rows"] == 50
    assert metrics["accuracy"] > 0.9
    assert sum(rows for _, _, rows in metrics["confusion_cells"]) == 50


def test_inspect_says_what_is_in_the_model(finished, capsys):
    assert run("inspect", finished / "model.tflite", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["labels"] == ["bad", "good"]
    assert facts["max_length"] == 32
    assert [tensor["metadata_name"] for tensor in facts["inputs"]] == ["ids", "mask", "segment_ids"]
    assert [tensor["metadata_name"] for tensor in facts["outputs"]] == ["probability"]
    assert facts["weight_types"]["int8"] > 10


def test_check_reports_the_data_without_training(tmp_path, capsys):
    recipe = write_recipe(tmp_path)
    assert run("check", recipe, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(report["rows"]["train"].values()) == 128
    assert report["labels"] == ["bad", "good"]


def test_mistakes_end_with_a_message_and_exit_code_two(tmp_path, capsys):
    recipe = write_recipe(tmp_path)
    assert run("train", recipe, "training.epocs=3") == 2
    assert run("train", tmp_path / "absent.yaml") == 2
    assert run("classify", tmp_path / "absent.tflite", "--text-input", "x") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_finished_models_are_used_without_tensorflow_or_pandas(finished, tmp_path):
    data = write_reviews(tmp_path / "new.csv", 10)
    script = f"""
import sys
from textclf.cli import main
for arguments in (
    ["classify", {str(finished / "model.tflite")!r}, "--text-input", "a good film"],
    ["classify", {str(finished / "model.tflite")!r}, {str(data)!r}, "-o", {str(tmp_path / "out.csv")!r}],
    ["inspect", {str(finished / "model.tflite")!r}],
    ["check", {str(finished.parent / "recipe.yaml")!r}],
):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, arguments
    loaded = {{"tensorflow", "keras", "pandas", "torch"}} & set(sys.modules)
    assert not loaded, (arguments, loaded)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("good\t")
