"""The end of memory is named with what makes a training smaller."""

from __future__ import annotations

from pathlib import Path

import pytest

import textclf
from tests.tiny import tiny_checkpoint, write_recipe
from textclf.encoders.trainable import trainable
from textclf.errors import TrainingError
from textclf.training.machine.memory import available_bytes, memory_errors, shortage, training_bytes
from textclf.training.saved.run_folder import RunFolder


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


@pytest.fixture
def recipe(tmp_path: Path) -> textclf.Recipe:
    return textclf.load_recipe(write_recipe(tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_the_end_of_memory_names_the_settings_and_their_values(recipe, tmp_path, error):
    folder = RunFolder(tmp_path / "run")
    with (
        pytest.raises(TrainingError, match=r"out of memory while it was tried\. Free some memory") as raised,
        memory_errors(recipe, folder, "it was tried"),
    ):
        raise error
    for setting in ("batch_size (now 16)", "max_length (now 32)", "accumulate (now 1,"):
        assert setting in str(raised.value)
    folder.last_state.parent.mkdir(parents=True)
    folder.last_state.touch()
    with pytest.raises(TrainingError, match="continue with --resume"), memory_errors(recipe, folder, "it was tried"):
        raise error


def test_other_errors_pass_unchanged(recipe, tmp_path):
    with (
        pytest.raises(RuntimeError, match="no such operation"),
        memory_errors(recipe, RunFolder(tmp_path / "run"), "x"),
    ):
        raise RuntimeError("no such operation")


def test_a_training_that_needs_more_than_there_is_is_a_warning_beforehand(recipe):
    encoder = trainable(tiny_checkpoint())
    needed = training_bytes(1_000_000, encoder.activation_bytes(1536, 64 * 32, 32))
    assert 0.9e9 < needed < 1.1e9
    # Long texts, measured 64 at once, take more than a step of few tokens.
    assert training_bytes(1_000_000, encoder.activation_bytes(1536, 64 * 512, 512)) > needed + 0.5e9
    # The attention scores of a step grow with the length, though the number of tokens is the same.
    long = encoder.activation_bytes(1536, 0, 384) - encoder.activation_bytes(1536, 0, 128)
    assert long == 2 * 4 * 4 * (384 - 128) * 2 * 1536
    assert "needs about 0.9 GB of memory, but this process can have only 0.5 GB" in shortage(needed, recipe, 5e8)
    assert shortage(needed, recipe, 2e9) is None
    assert shortage(needed, recipe, None) is None


def test_the_memory_of_this_machine_is_read_where_it_tells_it():
    found = available_bytes()
    assert found is None or 1e8 < found < 1e14


def test_a_limit_of_addresses_is_the_memory_that_is_left(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**9, 10**9))
    found = available_bytes()
    assert found is not None
    assert found < 1.1e9
