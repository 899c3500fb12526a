"""One preparation for training, the check and the comparison: what one accepts, all accept."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.encoder_writers import write_hugging_face, write_tf1_checkpoint, write_tf1_hub, write_tf2_saved_model
from tests.tiny import VOCABULARY, tiny_checkpoint, write_recipe, write_tiny_encoder
from textclf.data.dataset import load_dataset
from textclf.encoders.formats import read_facts
from textclf.encoders.prepare import prepare
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import EncoderError
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.runs.check import check
from textclf.runs.comparison.engines import _with_split
from textclf.runs.train import train

LONG = " ".join(["good"] * 300)


def recipe_with(folder: Path, *overrides: str, long: bool = False, **changes: object) -> tuple[Path, tuple[str, ...]]:
    path = write_recipe(folder, rows=40, encoder=write_tiny_encoder(folder / "encoder", **changes))
    if long:
        rows = list(csv.reader((folder / "train.csv").open(encoding="utf-8")))
        with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([rows[0], *([row[0], f"{row[0]} {LONG} {row[1]}", row[2]] for row in rows[1:])])
    return path, overrides


def everywhere(path: Path, overrides: tuple[str, ...]) -> list[Callable[[], object]]:
    """The check, the comparison's settling of the recipe, and training, each up to the point where it refuses."""
    recipe = load_recipe(path, overrides)

    def compared() -> Recipe:
        return _with_split(recipe, load_dataset(recipe.dataset, 0), path.parent / "split")

    return [lambda: check(path, overrides), compared, lambda: train(recipe, path.parent / "run", quiet=True)]


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        (("encoder.max_length=128",), {}, r"encoder\.max_length is 128, but .*encoder takes at most 64 tokens; lower"),
        (
            ("dataset.text=[review, id]",),
            {"type_vocab_size": 1},
            "has only one segment, but dataset.text is a pair",
        ),
        (
            ("encoder.max_length=auto",),
            {"max_position_embeddings": 2},
            "takes at most 2 tokens, but a row needs at least 3",
        ),
        (("training.freeze=3",), {}, r"training\.freeze is 3, but .*encoder has 2 layers; lower it"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused_everywhere_in_the_same_words(
    overrides: tuple[str, ...], changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    path, overrides = recipe_with(tmp_path, *overrides, **changes)
    words = []
    for refuse in everywhere(path, overrides):
        with pytest.raises(EncoderError, match=message) as caught:
            refuse()
        words.append(str(caught.value))
    assert len(set(words)) == 1


def test_a_length_of_auto_ends_where_the_encoder_ends_everywhere(tmp_path: Path) -> None:
    path, overrides = recipe_with(tmp_path, "encoder.max_length=auto", long=True)
    recipe = load_recipe(path, overrides)
    dataset = load_dataset(recipe.dataset, recipe.training.seed)
    alone = prepare(recipe, dataset)
    loaded = prepare(recipe, dataset, load_checkpoint(recipe.encoder.source))
    assert alone.recipe == loaded.recipe
    assert alone.recipe.encoder.fixed_length == 64
    assert _with_split(recipe, dataset, tmp_path / "split").encoder.fixed_length == 64
    assert any("64" in str(finding) for finding in check(path, overrides).findings)


def test_an_encoder_of_more_positions_than_a_recipe_may_ask_for_is_not_filled(tmp_path: Path) -> None:
    path, overrides = recipe_with(tmp_path, "encoder.max_length=auto", long=True, max_position_embeddings=2048)
    recipe = load_recipe(path, overrides)
    length = prepare(recipe, load_dataset(recipe.dataset, 0)).recipe.encoder.fixed_length
    assert 300 < length <= 512


@pytest.mark.parametrize("vocabulary", [VOCABULARY[:-1], ["<pad>", *VOCABULARY[1:]], [*VOCABULARY[:-1], "good"]])
def test_the_check_refuses_a_vocabulary_that_training_refuses(vocabulary: list[str], tmp_path: Path) -> None:
    path, overrides = recipe_with(tmp_path)
    (tmp_path / "encoder" / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary))
    with pytest.raises(EncoderError) as checked:
        check(path, overrides)
    with pytest.raises(EncoderError) as trained:
        train(load_recipe(path, overrides), tmp_path / "run", quiet=True)
    assert str(checked.value) == str(trained.value)


WRITERS = {
    "hugging_face": write_hugging_face,
    "tf1_checkpoint": write_tf1_checkpoint,
    "tf1_hub": write_tf1_hub,
    "tf2_saved_model": write_tf2_saved_model,
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_tells_its_positions_and_segments_without_its_weights(form: str, tmp_path: Path) -> None:
    WRITERS[form](tmp_path / "encoder", tiny_checkpoint(max_position_embeddings=48, type_vocab_size=3))
    facts = read_facts(tmp_path / "encoder")
    assert (facts.longest, facts.segments, facts.vocabulary.pieces) == (48, 3, VOCABULARY)


def test_the_check_needs_no_tensorflow_whatever_the_form(tmp_path: Path) -> None:
    write_tf2_saved_model(tmp_path / "saved", tiny_checkpoint())
    path = write_recipe(tmp_path, rows=40, encoder=tmp_path / "saved")
    code = (
        "import sys; from textclf.runs.check import check; check(sys.argv[1]); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_check_reads_the_vocabulary_of_an_encoder_once(tmp_path: Path) -> None:
    path, _ = recipe_with(tmp_path)
    code = (
        "import sys; from textclf.runs.check import check; opened = []; "
        "sys.addaudithook(lambda event, given: event == 'open' and opened.append(str(given[0]))); "
        "check(sys.argv[1], ['encoder.max_length=auto']); print(sum(name.endswith('vocab.txt') for name in opened))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
