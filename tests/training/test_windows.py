"""A training on windows of texts: every text counts once, results are by text, and an interruption changes nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import textclf
from tests.fitting import fit_into, interrupted_at
from tests.label_sets import write_long_topic_recipe
from tests.long_texts import write_long_recipe
from tests.tiny import tiny_checkpoint, write_tiny_encoder
from textclf.classify.combining import combine_windows
from textclf.data.multi_label.dataset import load_label_sets
from textclf.data.tokens.batching import Batch
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import PreparedData, load_recipe_data, prepare_data
from textclf.errors import RunError
from textclf.terminal.progress import Progress
from textclf.training.classification.task import Classification
from textclf.training.multi_label.task import MultiLabel

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    write_long_recipe(folder, epochs=1, encoder=write_tiny_encoder(folder / "encoder", num_hidden_layers=1))
    return folder


def prepared(folder: Path, *overrides: str) -> tuple[textclf.Recipe, PreparedData]:
    recipe, dataset = load_recipe_data(textclf.load_recipe(folder / "recipe.yaml", overrides))
    checkpoint = kind_of(recipe).load(recipe.encoder, dataset)
    return recipe, prepare_data(recipe, dataset, checkpoint.tokenizer(recipe.encoder))


def test_the_windows_of_a_text_count_as_much_as_the_text_and_class_weights_hold(folder):
    recipe, data = prepared(folder, "training.class_weights={good: 3}")
    task = Classification(data, tiny_checkpoint(num_hidden_layers=1), recipe.training, seed=1)
    texts, labels = data.texts["train"], data.dataset.train.labels
    assert len(task.row_weights) == len(texts) > 2 * len(labels)
    np.testing.assert_array_equal(task.targets, labels[texts])
    of_text = np.bincount(texts, weights=task.row_weights)
    good = labels == data.dataset.labels.index("good")
    np.testing.assert_allclose(of_text[good], of_text[good][0], rtol=1e-5)
    np.testing.assert_allclose(of_text[~good], of_text[good][0] / 3, rtol=1e-5)
    assert task.row_weights.mean() == pytest.approx(1, rel=1e-5)


def test_the_fitted_head_learns_from_texts_and_the_logits_of_a_text_are_the_mean_of_its_windows(folder):
    recipe, data = prepared(folder, "training.epochs=0")
    task = Classification(data, tiny_checkpoint(num_hidden_layers=1), recipe.training, seed=1)
    task.standardize(QUIET)
    assert task.fit_first_head(QUIET)
    logits, encoded = task.logits("validation"), data.encoded["validation"]
    assert logits.shape == (len(data.dataset.validation.rows), 2)
    alone = task.model.predict_logits(data.batch("validation", Batch(np.arange(len(encoded)), 16)))
    np.testing.assert_allclose(logits, combine_windows(alone, data.texts["validation"]), atol=1e-3)
    train = data.dataset.train
    right = (task.logits("train").argmax(axis=1) == train.labels).mean()
    assert right > 0.7
    entry = task.epoch_entry(0, None, task.logits("validation"))
    assert entry["cross_validated_rows"] == len(train.rows)


def test_texts_with_several_labels_count_once_and_their_logits_are_the_mean_of_their_windows(folder, tmp_path):
    recipe = textclf.load_recipe(
        write_long_topic_recipe(tmp_path, encoder=str(folder / "encoder"), epochs=0, class_weights="balanced")
    )
    recipe, dataset = load_recipe_data(recipe, read=load_label_sets)
    data = prepare_data(recipe, dataset, kind_of(recipe).load(recipe.encoder, dataset).tokenizer(recipe.encoder))
    task = MultiLabel(data, tiny_checkpoint(num_hidden_layers=1), recipe.training, seed=1)
    texts, labels = data.texts["train"], dataset.train.labels
    assert len(task.row_weights) == len(texts) > 2 * len(labels)
    np.testing.assert_array_equal(task.targets, labels[texts])
    np.testing.assert_allclose(np.bincount(texts, weights=task.row_weights), len(texts) / len(labels), rtol=1e-5)
    task.standardize(QUIET)
    assert task.fit_first_head(QUIET)
    assert task.cross_validated.truth.shape == labels.shape
    encoded = data.encoded["validation"]
    alone = task.model.predict_logits(data.batch("validation", Batch(np.arange(len(encoded)), 16)))
    logits = task.logits("validation")
    assert logits.shape == dataset.validation.labels.shape
    np.testing.assert_allclose(logits, combine_windows(alone, data.texts["validation"]), atol=1e-3)


def test_an_interrupted_training_on_windows_is_resumed_to_the_same_bits(folder, tmp_path, capsys):
    recipe = textclf.load_recipe(folder / "recipe.yaml")
    whole = fit_into(tmp_path / "whole", recipe)
    at_step_4 = interrupted_at(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit_into(tmp_path / "run", recipe, step_kind=at_step_4)
    changed = textclf.load_recipe(folder / "recipe.yaml", ["encoder.stride=9"])
    with pytest.raises(RunError, match="the recipe, the data or the encoder changed"):
        fit_into(tmp_path / "run", changed, resume=True)
    resumed = fit_into(tmp_path / "run", recipe, resume=True)
    assert resumed.results == whole.results
    for name, array in resumed.task.model.state().items():
        np.testing.assert_array_equal(array, whole.task.model.state()[name], err_msg=name)
    log = (tmp_path / ".run.unfinished" / "log.jsonl").read_text().splitlines()
    assert sum(entry.get("rows", 0) for entry in map(json.loads, log) if entry["event"] == "step") == len(
        prepared(folder)[1].texts["train"]
    )
