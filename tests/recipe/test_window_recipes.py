"""Recipes that read long texts in windows: the numbers, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from textclf.errors import RecipeError
from textclf.recipe.automatic import settle_windows
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe

MINIMAL = "name: tickets\ndataset:\n  train: train.csv\n"
WINDOWS = MINIMAL + "encoder:\n  overflow: windows\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    def load(text: str, *overrides: str) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, overrides)

    return load


def test_windows_share_a_quarter_of_their_text_unless_the_recipe_says_otherwise(recipe):
    settled = settle_windows(recipe(WINDOWS)).encoder
    assert (settled.stride, settled.max_windows) == (94, 64)  # 126 tokens of the text fit beside [CLS] and [SEP]
    given = settle_windows(recipe(WINDOWS, "encoder.stride=126", "encoder.max_windows=1")).encoder
    assert (given.stride, given.max_windows) == (126, 1)
    assert settle_windows(recipe(MINIMAL)) == recipe(MINIMAL)


def test_a_recipe_with_windows_is_written_with_their_numbers_and_another_without(recipe):
    settled = settle_windows(recipe(WINDOWS))
    written = dump_recipe(settled)
    assert "  stride: 94\n" in written
    assert "  max_windows: 64\n" in written
    assert recipe(written) == settled
    assert "stride" not in dump_recipe(recipe(MINIMAL))
    assert "max_windows" not in dump_recipe(recipe(MINIMAL))


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (
            MINIMAL,
            ["encoder.stride=64"],
            "encoder.stride is a setting of windows, but encoder.overflow is head; remove",
        ),
        (
            MINIMAL,
            ["encoder.max_windows=4"],
            "encoder.max_windows is a setting of windows, but encoder.overflow is head",
        ),
        (WINDOWS, ["encoder.stride=127"], "encoder.stride is 127, but a window of 128 tokens has room for only 126"),
        (WINDOWS, ["encoder.stride=9", "encoder.max_length=auto"], "encoder.stride is a number of tokens, but"),
        (WINDOWS, ["encoder.stride=0"], "encoder.stride is `0`, but must be 1 or more"),
        (WINDOWS, ["encoder.max_windows=1025"], "encoder.max_windows is `1025`, but must be 1024 or less"),
        (WINDOWS, ["dataset.text=[a, b]"], "encoder.overflow is windows, but dataset.text is a pair of columns"),
        (
            WINDOWS,
            ["encoder.source=average-words"],
            "encoder.overflow is windows, but encoder.source average-words has no",
        ),
        (
            WINDOWS,
            ["training.engine=model-maker"],
            "encoder.overflow is windows, but Model Maker always keeps the head",
        ),
        (
            WINDOWS,
            ["task=question-answering"],
            "encoder.overflow belongs to the task text-classification; a long context",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, text, overrides, expected):
    with pytest.raises(RecipeError) as caught:
        recipe(text, *overrides)
    [line] = str(caught.value).splitlines()
    assert expected in line


def test_a_length_from_the_data_may_be_read_in_windows(recipe):
    assert recipe(WINDOWS, "encoder.max_length=auto", "encoder.max_windows=8").encoder.max_windows == 8
