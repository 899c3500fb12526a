"""What the training loop reports."""

from __future__ import annotations

from pathlib import Path

import pytest

import textclf
from tests.tiny import write_recipe


def test_the_first_line_says_what_is_trained_and_on_which_hardware(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = textclf.load_recipe(write_recipe(tmp_path, rows=20, epochs=1, encoder="average-words"))
    textclf.train(recipe, tmp_path / "run")
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Training: ")]
    [line] = lines
    assert line.startswith("Training: 16 rows, 2 labels, 1 epoch × 1 step; average of ")
    assert line.endswith((" word vectors; CPU, float32", " word vectors; CPU, bfloat16", "GPU, bfloat16"))
