"""The same encoder in every form, fine-tuned and exported: the form must not matter."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import textclf
from tests.encoder_writers import write_hugging_face, write_tf1_checkpoint, write_tf1_hub, write_tf2_saved_model
from tests.tiny import tiny_checkpoint, write_recipe, write_tiny_encoder
from textclf.encoders.checkpoint import EncoderCheckpoint


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The exported file of a run that starts from our own form."""
    folder = tmp_path_factory.mktemp("own")
    return train_a_step(write_recipe(folder, rows=20, epochs=1), folder / "run")


def train_a_step(recipe: Path, run: Path) -> bytes:
    return textclf.train(textclf.load_recipe(recipe), run, quiet=True).model_path.read_bytes()


def one_layer() -> EncoderCheckpoint:
    """That of `write_recipe`."""
    return tiny_checkpoint(num_hidden_layers=1)


def _packed_hub_module(folder: Path) -> Path:
    write_tf1_hub(folder, one_layer())
    return Path(shutil.make_archive(str(folder), "gztar", folder))


FORMS: dict[str, Callable[[Path], Path]] = {
    "hugging_face": lambda folder: write_hugging_face(folder, one_layer(), "old.bin", "mobilebert."),
    "tf1_checkpoint": lambda folder: write_tf1_checkpoint(folder, one_layer()),
    "tf1_hub in an archive": _packed_hub_module,
    "tf2_saved_model": lambda folder: write_tf2_saved_model(folder, one_layer()),
    "a run": lambda folder: write_tiny_encoder(folder / "checkpoints" / "best", num_hidden_layers=1).parent.parent,
}


@pytest.mark.parametrize("write", FORMS.values(), ids=FORMS)
def test_fine_tuning_gives_the_same_file_from_every_form(
    write: Callable[[Path], Path], expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe(tmp_path, rows=20, epochs=1, encoder=write(tmp_path / "encoder"))
    assert train_a_step(recipe, tmp_path / "run") == expected
