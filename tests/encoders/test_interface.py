"""Every kind of encoder answers the same questions, so that nobody has to ask which one it is."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.test_house import modules, room_of
from tests.tiny import tiny_checkpoint, write_recipe
from textclf.data.dataset import load_dataset
from textclf.data.tokens.encoded import Tokens
from textclf.encoders.average_words import VECTORS, find_words
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.kinds import kind_of
from textclf.encoders.trainable import trainable
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import EncoderSettings, Recipe
from textclf.tflite.graph.weights import inference_weights
from textclf.tflite.model_file import TfliteModel

LENGTH = 8


def word_vectors() -> AnyEncoder:
    found = find_words(["good good bad bad", "good film film"], words=3, width=32, lowercase=True)
    random = np.random.default_rng(0)
    return found.with_weights({VECTORS: random.standard_normal((found.config.words, 32)).astype(np.float32)})


ENCODERS = {"builtin": tiny_checkpoint, "average-words": word_vectors}


@pytest.fixture(params=ENCODERS)
def source(request: pytest.FixtureRequest) -> str:
    """What a recipe calls each encoder."""
    return request.param


@pytest.fixture
def recipe(source: str, tmp_path: Path) -> Recipe:
    return load_recipe(write_recipe(tmp_path), [f"encoder={source}"])


def test_what_an_encoder_writes_its_kind_reads(source: str, recipe: Recipe, tmp_path: Path) -> None:
    encoder = ENCODERS[source]()
    encoder.write(tmp_path / "written")
    again = kind_of(recipe).read(tmp_path / "written")
    assert type(again) is type(encoder)
    assert again.fingerprint() == encoder.fingerprint()
    assert (again.width, again.layers, again.longest) == (encoder.width, encoder.layers, encoder.longest)


def test_other_weights_make_another_encoder_of_the_same_vocabulary(source: str) -> None:
    encoder = ENCODERS[source]()
    other = encoder.with_weights({name: array + 1 for name, array in encoder.weights.items()})
    assert other.fingerprint() != encoder.fingerprint()
    assert other.vocabulary == encoder.vocabulary


def test_the_tokenizer_is_the_one_that_the_models_file_names(source: str, recipe: Recipe) -> None:
    encoder, kind = ENCODERS[source](), kind_of(recipe)
    tokenizer = encoder.tokenizer(recipe.encoder)
    assert tokenizer.kind == kind.tokenizer_name(recipe.encoder)
    assert list(tokenizer.vocabulary) == encoder.vocabulary
    assert getattr(tokenizer, "delimiter_pattern", None) == kind.delimiter_pattern


def test_training_makes_vectors_of_the_width_that_the_encoder_tells(source: str) -> None:
    encoder = ENCODERS[source]()
    ids = np.ones((2, LENGTH), np.int32)
    trained = trainable(encoder)
    arrays = trained.fresh(seed=0)
    weights = trained.weights({name: np.asarray(array, np.float32) for name, array in arrays.items()})
    assert encoder.with_weights(weights).fingerprint() == encoder.fingerprint()
    pooled = trained.pooled(
        weights if source == "average-words" else arrays, Tokens(ids, ids, 0 * ids), None, tf.float32, None
    )
    assert pooled.shape == (2, encoder.width)


def test_every_encoder_has_a_graph(source: str) -> None:
    encoder = ENCODERS[source]()
    width = encoder.width
    head = {
        "head/kernel": np.ones((width, 2), np.float32),
        "head/bias": np.zeros(2, np.float32),
        "features/mean": np.zeros(width, np.float32),
        "features/scale": np.ones(width, np.float32),
    }
    graph = inference_weights(encoder, head).graph(LENGTH, "dynamic", "litert", None)
    assert TfliteModel(graph).operators[-1].name == "SOFTMAX"


def test_averaged_words_are_known_from_the_rows_alone_and_take_texts_of_any_length(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path), ["encoder=average-words"])
    dataset = load_dataset(recipe.dataset, 0)
    kind = kind_of(recipe)
    known, loaded = kind.facts(recipe.encoder, dataset), kind.load(recipe.encoder, dataset)
    assert known.longest is None
    assert known.tokenizer(EncoderSettings()).vocabulary == tuple(loaded.vocabulary)


def asked(tree: ast.Module) -> int:
    """How often a module asks which encoder it has before it."""
    kinds = {"WordVectors", "EncoderCheckpoint"}
    of_recipe = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "averages_words"]
    of_object = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and kinds & {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
    ]
    return len(of_recipe) + len(of_object)


def test_a_room_asks_at_most_once_which_encoder_it_has() -> None:
    """The recipe's own room aside, whose rules are about the two. Training knows how recipes were once written."""
    times: Counter[str | None] = Counter()
    for module, tree in modules():
        times[room_of(module)] += asked(tree)
    del times["recipe"]
    assert +times == {"encoders": 1, "exporting": 1, "model_maker": 1, "training": 1}
