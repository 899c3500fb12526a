"""The engine model-maker with a stand-in for its worker: what is shown, recorded and left behind, and how it fails."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.conftest import REPOSITORY
from tests.tiny import tiny_checkpoint, write_recipe
from textclf.data.dataset import load_dataset
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.encoders.prepare import prepare_data
from textclf.errors import DataError, EngineError, RecipeError, TextclfError
from textclf.model_maker import running
from textclf.model_maker.classification.encoders import MobileBertAtModelMaker
from textclf.model_maker.classification.engine import ModelMakerTraining, train_with_model_maker, with_temperature
from textclf.model_maker.environment import Environment
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.runs.check import check
from textclf.runs.train import train
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import ClassifierWeights, build_inference_graph
from textclf.training.saved.run_folder import open_run_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Model Maker runs on Linux only")

FAKE = REPOSITORY / "tests" / "fake_model_maker.py"


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A function that says how the stand-in behaves; without a call it does its work."""
    environment = Environment(tmp_path, Path(sys.executable), "", {}, 0.0, 0)
    for module in ("model_maker.classification.engine", "model_maker.running", "runs.train"):
        monkeypatch.setattr(f"textclf.{module}.require_environment", lambda: environment)
    monkeypatch.setattr("textclf.model_maker.process.SECONDS_TO_END", 0.3)
    entries = {"encoder": "mobilebert", "learning_rate": 1.0}
    monkeypatch.setattr(MobileBertAtModelMaker, "write", lambda *_: entries)
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))

    def say(behaviour: str) -> None:
        monkeypatch.setattr(
            running, "worker_command", lambda python, folder: [str(python), str(FAKE), folder, behaviour]
        )

    say("")
    return say


def _recipe(folder: Path, **training: object) -> Recipe:
    folder.mkdir(exist_ok=True)
    settings = {"engine": "model-maker", "epochs": 2, "batch_size": 16, **training}
    return load_recipe(write_recipe(folder, rows=100, **settings))


def _train(recipe: Recipe, run_dir: Path) -> ModelMakerTraining:
    """The engine alone, in an unfinished run folder."""
    checkpoint = tiny_checkpoint()
    data = prepare_data(recipe, load_dataset(recipe.dataset, recipe.training.seed), Tokenizer(checkpoint.vocabulary))
    with open_run_folder(run_dir, force=False, resume=False) as folder:
        return train_with_model_maker(recipe, data, checkpoint, folder, Progress(quiet=True))


def _left(run_dir: Path) -> list[str]:
    unfinished = run_dir.parent / f".{run_dir.name}.unfinished"
    return sorted(path.relative_to(unfinished).as_posix() for path in unfinished.rglob("*") if path.is_file())


def test_a_training_is_recorded_as_one_of_our_own_is(tmp_path: Path, behave: object) -> None:
    training = _train(_recipe(tmp_path), tmp_path / "run")
    # 80 training rows make 5 steps of 16.
    log = [json.loads(line) for line in (tmp_path / ".run.unfinished" / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in log if entry["event"] == "step"]
    assert [step["step"] for step in steps] == list(range(1, 11))
    assert [step["epoch"] for step in steps] == [1] * 5 + [2] * 5
    assert steps[1] == {
        "event": "step", "step": 2, "epoch": 1, "loss": 0.5, "learning_rate": 0.001, "rows": 16, "seconds": 0.5,
    }  # fmt: skip
    epochs = training.winner.history
    assert [entry["epoch"] for entry in epochs] == [1, 2]
    assert epochs[0]["validation_accuracy"] == 1.0
    assert epochs[0]["validation_loss"] == pytest.approx(-np.log(0.9), abs=1e-6)
    assert training.winner.best_epoch == 2, "Model Maker exports the last epoch"
    assert training.winner.scores["test"]["accuracy"] == 1.0
    assert training.facts["seconds"] == {"export": 2.5, "first_step": 1.25}
    assert training.facts["peak_mib"] == 12.5
    assert training.model == b"a model"


def test_logits_give_the_probabilities_back(tmp_path: Path, behave: object) -> None:
    training = _train(_recipe(tmp_path), tmp_path / "run")
    logits = training.logits("validation")
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(logits), training.probabilities["validation"], rtol=1e-5)


def test_the_rows_reach_it_shuffled_by_the_seed_with_labels_in_our_order(
    tmp_path: Path, behave: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEPT", str(tmp_path / "kept"))
    behave("keep")
    recipe = _recipe(tmp_path, seed=3)
    recipe = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"labels": ("good", "bad")})})
    with pytest.raises(EngineError, match="without a model"):
        _train(recipe, tmp_path / "run")
    kept = {name: (tmp_path / "kept" / f"{name}.csv").read_text() for name in ("train", "validation")}
    job = json.loads((tmp_path / "kept" / "job.json").read_text())
    dataset = load_dataset(recipe.dataset, 3)
    rows = [line.rsplit(",", 1) for line in kept["train"].splitlines()[1:]]
    expected = {text: label for (text,), label in zip(dataset.train.texts, dataset.train.labels, strict=True)}
    assert {text: int(label) for text, label in rows} == expected
    assert [text for text, _ in rows] != [text for (text,) in dataset.train.texts]
    assert kept["validation"].splitlines()[1] == f"{dataset.validation.texts[0][0]},{dataset.validation.labels[0]:06d}"
    assert job["batch_size"] == 16
    assert job["max_length"] == 32
    assert job["parent"] == os.getpid()


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("raise", ["exit code 1", "`train`", "ValueError: the sky is falling"]),
        ("killed", ["killed by SIGKILL", "`train`", "gasp", "memory", "8 MiB", "training.batch_size"]),
        ("silent", ["exit code 0", "without a model"]),
    ],
)
def test_a_worker_that_fails_tells_its_last_words_and_leaves_only_its_log(
    behaviour: str, words: list[str], tmp_path: Path, behave
) -> None:
    behave(behaviour)
    recipe = _recipe(tmp_path)
    with pytest.raises(EngineError) as caught:
        _train(recipe, tmp_path / "run")
    for word in words:
        assert word in str(caught.value)
    assert str(tmp_path / ".run.unfinished" / "model-maker.log") in str(caught.value)
    assert _left(tmp_path / "run") == ["log.jsonl", "model-maker.log"]
    behave("")
    assert _train(recipe, tmp_path / "run").winner.best_epoch == 2, "given again, it runs"


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path, behave) -> None:
    behave("diverge")
    with pytest.raises(TextclfError, match=r"step 2: the loss is nan.*lower training\.learning_rate"):
        _train(_recipe(tmp_path), tmp_path / "run")


def test_ctrl_c_leaves_no_process_and_the_run_can_be_given_again(tmp_path: Path, behave) -> None:
    behave("endless")
    recipe = _recipe(tmp_path)
    pids = tmp_path / "pids"

    def interrupt() -> None:
        while not (pids.exists() and " " in pids.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), 2)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, tmp_path / "run")
    time.sleep(0.2)
    for pid in pids.read_text().split():
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    behave("")
    assert _train(recipe, tmp_path / "run").model == b"a model"


def test_every_seed_trains_and_the_best_is_the_winner(tmp_path: Path, behave: object) -> None:
    training = _train(_recipe(tmp_path, seeds="[4, 9]"), tmp_path / "run")
    assert [result.seed for result in training.results] == [4, 9]
    assert training.winner.seed == 4
    assert {"log-seed-4.jsonl", "log-seed-9.jsonl"} <= set(_left(tmp_path / "run"))


def test_rows_that_no_batch_holds_are_told(tmp_path: Path, behave: object) -> None:
    training = _train(_recipe(tmp_path, batch_size=32), tmp_path / "run")
    assert "16 of 80 training rows are never used" in training.winner.warnings[0]


def test_less_data_than_a_batch_is_an_error_that_says_so(tmp_path: Path, behave: object) -> None:
    with pytest.raises(RecipeError, match=r"training\.batch_size is 128, but the training has 80 rows"):
        _train(_recipe(tmp_path, batch_size=128), tmp_path / "run")


def test_check_tells_of_model_maker_what_training_would(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, rows=100, engine="model-maker", batch_size=32)
    [finding] = [finding for finding in check(recipe).findings if finding.kind == "model_maker"]
    assert "16 of 80 training rows are never used" in finding.message
    assert not [
        finding for finding in check(recipe, ["training.engine=native"]).findings if "never used" in finding.message
    ]
    with pytest.raises(RecipeError, match=r"training\.batch_size is 128"):
        check(recipe, ["training.batch_size=128"])


def test_a_label_without_training_rows_is_an_error_that_names_it(tmp_path: Path, behave: object) -> None:
    recipe = _recipe(tmp_path)
    labels = {"labels": ("bad", "good", "meh")}
    recipe = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update=labels)})
    with pytest.raises(DataError, match="no training row has the label `meh`"):
        _train(recipe, tmp_path / "run")


def test_without_its_environment_the_engine_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EngineError, match=r"textclf model-maker setup"):
        train(_recipe(tmp_path), tmp_path / "run", quiet=True)
    assert not (tmp_path / ".run.unfinished").exists()


def test_a_temperature_divides_the_logits_of_a_file() -> None:
    checkpoint = tiny_checkpoint()
    kernel = np.random.default_rng(0).standard_normal((32, 3)).astype(np.float32)
    weights = ClassifierWeights(checkpoint.config, checkpoint.weights, "additive", kernel, np.zeros(3, np.float32))
    graph = build_inference_graph(weights, 16, "none", "litert")

    def run(content: bytes) -> np.ndarray:
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        for tensor in interpreter.get_input_details():
            interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], np.int32))
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]

    plain, cooler = np.log(run(graph)), np.log(run(with_temperature(graph, 2.0)))
    np.testing.assert_allclose(cooler - cooler.mean(), (plain - plain.mean()) / 2, atol=1e-5)
