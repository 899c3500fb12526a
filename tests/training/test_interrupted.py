"""A training that ends early, however it does, keeps what it has and is resumed to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textclf
from tests.fitting import fit_into, interrupted_at
from tests.tiny import write_recipe, write_tiny_encoder
from textclf.encoders.prepare import load_recipe_data, prepare_data
from textclf.encoders.sources.builtin import EARLIER
from textclf.encoders.sources.locate import DEFAULT_BUILTIN, builtin_names, load_checkpoint
from textclf.errors import RunError, TrainingError
from textclf.training.loop import Fitted
from textclf.training.machine.memory import memory_errors
from textclf.training.saved.fingerprint import check_same_training, training_fingerprint
from textclf.training.saved.first_states import first_fingerprint
from textclf.training.saved.run_folder import RunFolder, load_state, save_state
from textclf.training.step import TrainingStep

EPOCHS, STEPS_AN_EPOCH = 2, 4
FIRST_SMALL = next(iter(EARLIER))


@dataclass
class Whole:
    """A training that was not interrupted, and its recipe."""

    recipe: Path
    fitted: Fitted
    losses: list[float]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    encoder = write_tiny_encoder(folder / "encoder", num_hidden_layers=1)
    recipe = write_recipe(folder, rows=80, epochs=EPOCHS, encoder=encoder)
    fitted = fit_into(folder / "run", textclf.load_recipe(recipe))
    return Whole(recipe, fitted, step_losses(folder / "run"))


def step_losses(run_dir: Path) -> list[float]:
    """The losses in the log of an unfinished run."""
    lines = (run_dir.parent / f".{run_dir.name}.unfinished" / "log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if entry["event"] == "step"]


def assert_resumed_to_the_same_bits(run_dir: Path, whole: Whole, why: str = "") -> None:
    resumed = fit_into(run_dir, textclf.load_recipe(whole.recipe), resume=True)
    assert resumed.results == whole.fitted.results, why
    assert step_losses(run_dir) == whole.losses, why
    expected = whole.fitted.task.model.state()
    assert resumed.task.model.state().keys() == expected.keys()
    for name, array in resumed.task.model.state().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=f"{name} {why}")


def test_a_run_killed_at_a_random_step_is_resumed_to_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    step = int(np.random.default_rng().integers(2, EPOCHS * STEPS_AN_EPOCH - 1))
    log = tmp_path / ".killed.unfinished" / "log.jsonl"
    command = [sys.executable, "-m", "tests.fitting", str(tmp_path / "killed"), str(whole.recipe)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]) as process:
        while process.poll() is None:
            if log.exists() and log.read_text().count('"event": "step"') >= step:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
    assert process.returncode == -signal.SIGKILL, f"the run ended before step {step}"
    assert_resumed_to_the_same_bits(tmp_path / "killed", whole, f"killed at step {step}")


def test_the_state_is_saved_at_the_end_of_each_epoch_and_as_often_as_asked(whole: Whole, tmp_path: Path) -> None:
    saved: list[int] = []

    class Watched(TrainingStep):
        def __call__(self, parts: Any, learning_rate: float, seed: int, number: int) -> tuple[float, float]:
            state = RunFolder(tmp_path / folder).last_state
            saved.append(state.stat().st_mtime_ns if state.exists() else 0)
            return super().__call__(parts, learning_rate, seed, number)

    folder = "rarely"
    fit_into(tmp_path / folder, textclf.load_recipe(whole.recipe), step_kind=Watched)
    assert len(set(saved)) == EPOCHS
    saved.clear()
    folder = "always"
    fit_into(tmp_path / folder, textclf.load_recipe(whole.recipe), step_kind=Watched, seconds_between_saves=0.0)
    assert len(set(saved)) == EPOCHS * STEPS_AN_EPOCH


def test_ctrl_c_saves_the_step_and_the_run_is_resumed_to_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    at_step_3 = interrupted_at(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit_into(tmp_path / "run", textclf.load_recipe(whole.recipe), step_kind=at_step_3)
    assert len(step_losses(tmp_path / "run")) == 3
    assert_resumed_to_the_same_bits(tmp_path / "run", whole)


def test_a_run_is_not_resumed_with_changed_data(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, rows=80, epochs=1, encoder="average-words")
    at_step_3 = interrupted_at(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit_into(tmp_path / "run", textclf.load_recipe(recipe), step_kind=at_step_3)
    with (tmp_path / "train.csv").open("a") as file:
        file.write("81,a great film,good\n")
    with pytest.raises(RunError, match=r"the data or the encoder changed.*cannot continue.*--force"):
        textclf.train(textclf.load_recipe(recipe), tmp_path / "run", resume=True, quiet=True)


def test_a_run_is_not_resumed_with_another_built_in_encoder(whole: Whole, tmp_path: Path) -> None:
    at_step_3 = interrupted_at(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit_into(tmp_path / "run", textclf.load_recipe(whole.recipe), step_kind=at_step_3)
    state = RunFolder(tmp_path / "run").last_state
    arrays, facts = load_state(state)
    assert facts["encoder"]["source"].endswith("encoder")
    # As if the run had begun with the built-in encoder of the first version.
    save_state(state, arrays, {**facts, "encoder": {"source": "builtin", "sha256": FIRST_SMALL}})
    recipe = textclf.load_recipe(whole.recipe, ["encoder.source=builtin"])
    began = r"the built-in encoder changed: it was mobilebert-small of textclf 0\.1 .*and `builtin` is now mobilebert-"
    with pytest.raises(
        RunError, match=f"{began}.*continue it with the textclf that started it, or start it again.*--f"
    ):
        textclf.train(recipe, tmp_path / "run", resume=True, quiet=True)
    write_tiny_encoder(tmp_path / "other", num_hidden_layers=1, hidden_size=16)
    other = textclf.load_recipe(whole.recipe, [f"encoder.source={tmp_path / 'other'}"])
    with pytest.raises(RunError, match="the recipe, the data or the encoder changed"):
        textclf.train(other, tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize("version", ["0.1", "first"])
def test_states_that_do_not_hold_their_encoder_are_those_of_an_earlier_built_in_encoder(
    whole: Whole, version: str
) -> None:
    recipe, dataset = load_recipe_data(textclf.load_recipe(whole.recipe, ["encoder.source=builtin"]))
    checkpoint = load_checkpoint("builtin")
    data = prepare_data(recipe, dataset, checkpoint.tokenizer(recipe.encoder))
    if version == "0.1":
        facts = {"training": training_fingerprint(recipe, data, FIRST_SMALL)}
        current = {"training": training_fingerprint(recipe, data, checkpoint.fingerprint())}
    else:
        facts = {"fingerprint": first_fingerprint(recipe, data, FIRST_SMALL)}
        current = {"fingerprint": first_fingerprint(recipe, data, checkpoint.fingerprint())}
    check_same_training(current, recipe, data, checkpoint, Path("run"))
    with pytest.raises(RunError, match=r"^run: the built-in encoder changed: it was mobilebert-small of textclf 0\.1"):
        check_same_training(facts, recipe, data, checkpoint, Path("run"))


def test_a_run_that_began_with_an_encoder_of_the_package_is_resumed_by_naming_it(whole: Whole) -> None:
    other = next(name for name in builtin_names() if name != DEFAULT_BUILTIN)
    recipe, dataset = load_recipe_data(textclf.load_recipe(whole.recipe, ["encoder.source=builtin"]))
    checkpoint = load_checkpoint("builtin")
    data = prepare_data(recipe, dataset, checkpoint.tokenizer(recipe.encoder))
    began = load_checkpoint(f"builtin:{other}").fingerprint()
    facts = {
        "training": training_fingerprint(recipe, data, began),
        "encoder": {"source": "builtin", "sha256": began},
    }
    with pytest.raises(RunError, match=f"it was {other} .*; set encoder.source to builtin:{other}, or start it again"):
        check_same_training(facts, recipe, data, checkpoint, Path("run"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
def test_a_state_that_the_disk_does_not_take_is_reported_and_the_run_is_resumed(whole: Whole, tmp_path: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The log still fits, the state does not.
    in_epoch_2 = interrupted_at(
        STEPS_AN_EPOCH + 1, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    )
    try:
        with pytest.raises(RunError, match=r"File too large.*free some space on the disk, then continue.*--resume"):
            fit_into(tmp_path / "run", textclf.load_recipe(whole.recipe), step_kind=in_epoch_2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    files = {path.name for path in (tmp_path / ".run.unfinished" / "checkpoints").iterdir()}
    assert files == {"last.safetensors", f"best-{whole.fitted.winner.seed}.safetensors"}
    assert_resumed_to_the_same_bits(tmp_path / "run", whole)


def test_a_training_that_runs_out_of_memory_is_resumed_from_its_last_saved_step(whole: Whole, tmp_path: Path) -> None:
    def no_memory() -> None:
        raise MemoryError

    recipe = textclf.load_recipe(whole.recipe)
    with (
        pytest.raises(TrainingError, match=r"while the model was trained.*continue with --resume.*batch_size"),
        memory_errors(recipe, RunFolder(tmp_path / "run"), "the model was trained"),
    ):
        fit_into(tmp_path / "run", recipe, step_kind=interrupted_at(STEPS_AN_EPOCH + 1, no_memory))
    assert_resumed_to_the_same_bits(tmp_path / "run", whole)
