"""The real Model Maker on a tiny encoder; skipped where `textclf model-maker setup` was not run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import run
from tests.conftest import REPOSITORY
from tests.questions import write_question_recipe
from tests.tiny import write_recipe
from textclf.encoders.sources.cache import cache_folder
from textclf.errors import RunError
from textclf.exporting.trained_run import load_trained_run
from textclf.model_maker.environment import find_environment

_CACHE = cache_folder()
"""The user's own, which the tests otherwise do not use."""

pytestmark = pytest.mark.skipif(find_environment() is None, reason="needs `textclf model-maker setup`")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTCLF_CACHE", str(_CACHE))


def test_model_maker_trains_a_recipe_and_all_commands_take_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, epochs=2)
    run_dir = tmp_path / "run"
    assert run("train", recipe, "--engine", "model-maker", "--run-dir", run_dir) == 0
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["engine"]["versions"]["tflite-model-maker"] == "0.4.3"
    assert metrics["recipe"]["training"]["engine"] == "model-maker"
    assert len(metrics["history"]) == metrics["best_epoch"] == 2
    # 160 rows, of which 0.2 are set aside: 128 make 8 batches of 16.
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if entry["event"] == "step"] == list(range(1, 17))
    assert metrics["export"]["changed_labels"] <= 1
    assert "TFLite Model Maker 0.4.3" in (run_dir / "report.html").read_text()
    assert "TFLite Model Maker 0.4.3" in (run_dir / "MODEL_CARD.md").read_text()
    capsys.readouterr()
    assert run("verify", run_dir / "model.tflite", "--run", run_dir, "--json") == 0
    parity = json.loads(capsys.readouterr().out)["parity"]
    assert parity["largest_difference"] < 0.02, "our own encoder computes with its weights what its file does"
    assert run("evaluate", run_dir / "model.tflite", tmp_path / "test.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == metrics["test"]["accuracy"]
    assert run("classify", run_dir / "model.tflite", tmp_path / "test.csv", "-o", tmp_path / "out.csv") == 0
    assert run("export", run_dir, "quantization=none") == 0
    assert not [path for path in run_dir.rglob("*") if path.name in ("model-maker", "temporary", "cache")]


def test_model_maker_trains_averaged_words(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, epochs=2)
    text = recipe.read_text()
    begin, end = text.index("encoder:"), text.index("training:")
    text = text[:begin] + "encoder: average-words\n" + text[end:]
    recipe.write_text("".join(line for line in text.splitlines(keepends=True) if "learning_rate" not in line))
    assert run("train", recipe, "--engine", "model-maker", "--run-dir", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["export"]["changed_labels"] <= 2
    words = (tmp_path / "run" / "vocab.txt").read_text().splitlines()
    assert words[:3] == ["<PAD>", "<START>", "<UNKNOWN>"]
    assert {"great", "awful"} <= set(words)
    assert run("verify", tmp_path / "run" / "model.tflite") == 0
    assert run("verify", tmp_path / "run" / "model.tflite", "--run", tmp_path / "run") == 2
    with pytest.raises(RunError, match=r"gave back its \.tflite alone"):
        load_trained_run(tmp_path / "run")


def test_model_maker_trains_a_question_answerer_and_all_commands_take_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_question_recipe(tmp_path, questions=64, epochs=1)
    run_dir = tmp_path / "run"
    assert run("train", recipe, "--engine", "model-maker", "--run-dir", run_dir) == 0
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["engine"]["versions"]["tflite-model-maker"] == "0.4.3"
    # 96 windows make 6 batches of 16.
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if entry["event"] == "step"] == list(range(1, 7))
    assert metrics["export"]["changed_answers"] <= 1
    for page in ("report.html", "MODEL_CARD.md"):
        assert "TFLite Model Maker 0.4.3" in (run_dir / page).read_text()
    capsys.readouterr()
    assert run("verify", run_dir / "model.tflite", "--run", run_dir, "--json") == 0
    parity = json.loads(capsys.readouterr().out)["parity"]
    assert parity["largest_difference"] < 0.02, "our own encoder computes with its weights what its file does"
    assert run("evaluate", run_dir, tmp_path / "test.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["server"]["f1"] == metrics["test"]["server"]["f1"]
    assert run("export", run_dir, "quantization=none") == 0
    assert not [path for path in run_dir.rglob("*") if path.name in ("model-maker", "temporary", "cache")]


def test_a_worker_killed_in_the_middle_leaves_a_run_that_can_be_given_again(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, epochs=50)
    command = [sys.executable, "-m", "textclf", "train", str(recipe), "--engine", "model-maker", "--run-dir", "run"]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("First step"):
            break
    [worker] = _children(process.pid)
    os.kill(worker, signal.SIGKILL)
    said = process.stderr.read()
    assert process.wait() == 2
    assert "killed by SIGKILL in the phase `train`" in said
    left = sorted(path.name for path in (tmp_path / ".run.unfinished").rglob("*") if path.is_file())
    assert left == ["log.jsonl", "model-maker.log"]
    assert run("train", recipe, "training.epochs=1", "--engine", "model-maker", "--run-dir", tmp_path / "run") == 0


def _children(pid: int) -> list[int]:
    time.sleep(0.1)
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
