"""The settings of a run: the files that the project ships, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretraining.settings import DEFAULT, read_settings
from tests.pretraining.tiny_teachers import changed, write_settings
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import RecipeError


def test_the_settings_that_ship_are_those_of_the_built_in_encoders() -> None:
    settings = read_settings(DEFAULT)
    small, medium = settings.students["small"], settings.students["medium"]
    assert (settings.budget.tokens, settings.mixture.tokens, settings.mixture.longest) == (176_600_000, 49_152, 128)
    assert (small.minilm_layers, small.mpnet_layers) == ((0, 2, 4, 5), {2: 6, 3: 9, 4: 12})
    assert (medium.minilm_layers, medium.mpnet_layers) == ((0, 1, 2, 3, 4, 5), {3: 6, 5: 10, 6: 12})
    assert medium.losses.mpnet_sentence == (0.5, 1.5)
    for name, student in settings.students.items():
        assert load_checkpoint(f"builtin:mobilebert-{name}").config == student.config


def test_the_settings_for_long_texts_can_continue_from_the_built_in_encoders() -> None:
    settings, usual = read_settings(DEFAULT.with_name("long.yaml")), read_settings(DEFAULT)
    assert settings.mixture.lengths[-2:] == (384, 512)
    assert {name: student.config for name, student in settings.students.items()} == {
        name: student.config for name, student in usual.students.items()
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture__token": 1}, "`mixture.token`: Extra inputs"),
        ({"mixture__tokens": 1000}, "`mixture`: `tokens` is 1000, which is not a multiple of the lengths"),
        ({"mixture__lengths": [16, 20]}, "expected increasing multiples of 8"),
        ({"mixture__lengths": [16, 96]}, "the student both has only 64 positions"),
        ({"budget__seconds": 5}, "expected exactly one of `tokens` and `seconds`"),
        (
            {"students__both__learning_rate": -1},
            "`students.both.learning_rate`: Input should be greater than 0 (found -1)",
        ),
        ({"students__both__minilm_layers": [0]}, "`minilm_layers` has 1 numbers for 2 layers"),
        ({"students__both__mpnet_layers": {3: 1}}, "names the states [3], but the student has 2 layers"),
        ({"students__both__config__layers": 3}, "unknown key 'layers'"),
        ({"students__both__config__num_feedforward_networks": 4}, "set num_feedforward_networks: 1"),
        ({"fit__tokens": 16}, "`fit.tokens` is 16, less than one row of the lengths [32, 48]"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_the_key(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as error:
        read_settings(write_settings(tmp_path / "own.yaml", changed(**changes)))
    assert f"{tmp_path / 'own.yaml'}: " in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "is not YAML"), ("- 1", "is not a section"), (None, "cannot be read")]
)
def test_a_file_without_settings_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(RecipeError, match=message):
        read_settings(tmp_path / "own.yaml")


def test_another_budget_replaces_that_of_the_file(tmp_path: Path) -> None:
    settings = read_settings(write_settings(tmp_path / "own.yaml"), {"seconds": 2.5})
    assert (settings.budget.tokens, settings.budget.seconds) == (None, 2.5)
