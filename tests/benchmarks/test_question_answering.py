"""`benchmarks/question_answering.py`: its file of results and its tables. Trainings are stand-ins."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.answering import easy_questions, write_squad, write_tiny_answerer
from tests.conftest import REPOSITORY
from tests.tiny import write_tiny_encoder
from textclf.recipe.settings import Recipe


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("question_answering")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tiny_encoder(tmp_path / "encoder")
    for name, seed in (("train", 0), ("test", 1)):
        write_squad(tmp_path / f"{name}.json", easy_questions(20, seed))
    return tmp_path


class StandIn:
    """Stands in for `textclf.train`: keeps what it was asked for, and is interrupted where it is told to be."""

    def __init__(self) -> None:
        self.asked: list[tuple[Recipe, bool]] = []
        self.interrupted = False

    def __call__(self, recipe: Recipe, run_dir: Path, *, resume: bool, force: bool) -> Any:
        self.asked.append((recipe, resume))
        assert resume is not force
        unfinished = run_dir.with_name(f".{run_dir.name}.unfinished")
        if self.interrupted:
            (unfinished / "checkpoints").mkdir(parents=True)
            (unfinished / "checkpoints" / "last.safetensors").touch()
            raise KeyboardInterrupt
        run_dir.mkdir(parents=True)
        (run_dir / "model.tflite").write_bytes(b"a model")
        same = {"event": "step", "epoch": 1, "loss": 1.0, "learning_rate": 1e-5, "rows": 8}
        steps = [{**same, "step": number, "seconds": 4.0 / number} for number in (1, 2)]
        (run_dir / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        match = 0.5 + recipe.training.seed / 10
        metrics = {
            "test": {"server": {"exact_match": match, "f1": 0.8}, "phone": {"exact_match": 0.4, "f1": 0.6}},
            "rows": {"train": 18, "validation": 2, "test": 20},
            "best_epoch": 1,
            "export": {"quantization": "dynamic", "bytes": 7},
            "seconds": 90.0,
            "precision": "bfloat16",
        }
        return SimpleNamespace(dir=run_dir, model_path=run_dir / "model.tflite", metrics=metrics)


@pytest.fixture
def stand_in(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr("textclf.train", stand_in)
    return stand_in


def quality(command: ModuleType, place: Path, *arguments: str) -> int:
    files = [str(place / name) for name in ("train.json", "test.json")]
    fixed = ["--work", str(place / "work"), "--encoders", str(place / "encoder"), "--engines", "native"]
    returned = command.main(["quality", *files, *fixed, *arguments])
    assert isinstance(returned, int)
    return returned


def test_runs_are_measured_once_and_the_table_has_all_of_them(
    command: ModuleType, place: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality(command, place, "--seeds", "1") == 0
    assert quality(command, place, "--seeds", "1", "2") == 0
    assert [recipe.training.seed for recipe, _ in stand_in.asked] == [1, 2]
    results = [json.loads(line) for line in (place / "work" / "results.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["exact_match"], row["examples_per_second"]) for row in results] == [
        (1, 0.6, 4.0), (2, 0.7, 4.0)
    ]  # fmt: skip
    assert (place / "work" / results[0]["model"]).read_bytes() == b"a model"
    assert not list((place / "work" / "runs").iterdir())
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == (
        f"| {place / 'encoder'} | native | 65.0 ± 7.1 (2) | 80.0 ± 0.0 (2) | 40.0 ± 0.0 (2) | 60.0 ± 0.0 (2) | 4.0 | 1.5 |"
    )
    recipe, _ = stand_in.asked[0]
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.learning_rate) == (5, 32, 4e-5)
    assert (recipe.dataset.train, recipe.dataset.test) == (place / "train.json", place / "test.json")


def test_other_data_or_settings_are_other_runs(command: ModuleType, place: Path, stand_in: StandIn) -> None:
    for arguments in ([], ["--epochs", "2"], ["--questions", "10"], []):
        assert quality(command, place, "--seeds", "1", *arguments) == 0
    assert len(stand_in.asked) == 3
    short = json.loads((place / "work" / "train-10.json").read_text())
    assert sum(len(paragraph["qas"]) for article in short["data"] for paragraph in article["paragraphs"]) == 10
    assert quality(command, place, "--seeds", "1", "2", "--table") == 0
    assert len(stand_in.asked) == 3, "--table measures nothing"


def test_an_interrupted_training_continues(command: ModuleType, place: Path, stand_in: StandIn) -> None:
    stand_in.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        quality(command, place, "--seeds", "1")
    stand_in.interrupted = False
    assert quality(command, place, "--seeds", "1") == 0
    assert [resume for _, resume in stand_in.asked] == [False, True]


def test_the_engines_are_compared_over_the_seeds_that_both_have(command: ModuleType) -> None:
    table = importlib.import_module("answering.quality").table
    row = {
        "encoder": "e",
        "f1": 0.8,
        "phone_exact_match": 0.4,
        "phone_f1": 0.6,
        "examples_per_second": 9.0,
        "seconds": 60,
    }
    measured = [("native", 1, 0.5), ("native", 2, 0.9), ("model-maker", 1, 0.52)]
    lines = table([{**row, "engine": engine, "seed": seed, "exact_match": match} for engine, seed, match in measured])
    assert lines.splitlines()[-1] == "| e | difference | -2.0 | +0.0 | +0.0 | +0.0 | | |"


def test_model_maker_that_is_not_set_up_is_an_error_if_it_is_asked_for(
    command: ModuleType, place: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality(command, place, "--engines", "model-maker") == 2
    assert "--engines model-maker: is not set up; run `textclf model-maker setup`" in capsys.readouterr().err


def test_the_latency_of_files_is_compared_with_that_of_the_last_one(
    command: ModuleType, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(write_tiny_answerer(place / name)) for name in ("ours.tflite", "theirs.tflite")]
    assert command.main(["latency", *models, "--data", str(place / "test.json"), "--rounds", "3"]) == 0
    header, _, first, last = capsys.readouterr().out.splitlines()
    assert header == "| file | MB | ms for 64 tokens | fastest | share of the last file |"
    assert first.startswith(f"| {models[0]} | ")
    assert last.endswith("| 1.00 |")
