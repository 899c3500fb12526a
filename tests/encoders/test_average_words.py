"""`encoder: average-words` through the front door: trained, exported, read back, classified with, and run by others."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import textclf
from tests.command import run
from tests.fitting import fit_into, interrupted_at
from tests.model_files import stored_types
from tests.tiny import ids_of, write_recipe
from textclf.classify.metrics import softmax
from textclf.data.tokens.words import DELIMITER_PATTERN, SPECIAL_WORDS, WordTokenizer
from textclf.encoders.average_words import VECTORS, find_words, read_word_vectors, write_word_vectors
from textclf.errors import EncoderError, ModelError, RecipeError
from textclf.exporting.apps import CONSUMERS, installed_consumers, run_consumer
from textclf.exporting.classification.verify import verify_model
from textclf.exporting.hard_texts import hard_texts
from textclf.recipe.reading import load_recipe
from textclf.recipe.writing import dump_recipe
from textclf.runs.export import export_run
from textclf.tflite.checks import structure_problems
from textclf.tflite.graph.average_words import AverageWordsWeights, build_average_words_graph
from textclf.tflite.graph.builder import GraphBuilder
from textclf.tflite.inspection import inspect_model
from textclf.tflite.metadata import read_metadata, write_metadata


def recipe_path(folder: Path, **settings: object) -> Path:
    return write_recipe(folder, **{"encoder": "average-words", "learning_rate": 1e-2, "epochs": 3, **settings})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    assert run("train", recipe_path(folder, epochs=10), "--run-dir", folder / "run") == 0
    return folder / "run"


# --- Words -----------------------------------------------------------------------------------------------------------


def test_the_commonest_words_are_chosen_and_rare_ones_left_out():
    found = find_words(["a a a b b c", "b a"], words=1, width=4, lowercase=False)
    assert found.vocabulary == [*SPECIAL_WORDS, "a"]
    found = find_words(["a a a b b c", "b a"], words=10, width=4, lowercase=False)
    assert found.vocabulary == [*SPECIAL_WORDS, "a", "b"]
    assert found.config.words == 5


def test_spellings_of_a_lower_cased_word_share_a_vector():
    found = find_words(["Free iPhone", "free IPHONE straße"] * 2, words=10, width=4, lowercase=True)
    rows = dict(zip(found.vocabulary, found.rows.tolist(), strict=True))
    assert rows["free"] == rows["Free"] == rows["FREE"] != rows["iphone"]
    assert rows["iphone"] == rows["Iphone"] == rows["IPHONE"] == rows["iPhone"]
    # STRASSE is no spelling that lower-casing would lead back to straße.
    assert [word for word in rows if word.lower().startswith("stra")] == ["straße", "Straße"]
    assert sorted(set(rows.values())) == list(range(found.config.words))


def test_vectors_come_back_from_disk_and_damage_is_found(tmp_path):
    found = find_words(["a a b b"], words=10, width=4, lowercase=True)
    trained = replace(found, weights={VECTORS: np.random.default_rng(0).random((5, 4), np.float32)})
    write_word_vectors(tmp_path, trained)
    again = read_word_vectors(tmp_path)
    assert again.fingerprint() == trained.fingerprint() != found.fingerprint()
    (tmp_path / "vocab.txt").write_text("a\n")
    with pytest.raises(EncoderError, match="do not fit together"):
        read_word_vectors(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(EncoderError, match="train again"):
        read_word_vectors(tmp_path)


# --- Recipes ---------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"name: words\ndataset:\n  train: train.csv\n{text}")
    return path


def test_the_short_form_has_defaults_of_its_own(tmp_path):
    recipe = load_recipe(written(tmp_path, "encoder: average-words\ntraining:\n  epochs: 7\n"))
    assert (recipe.encoder.max_length, recipe.encoder.words, recipe.encoder.lowercase) == (256, 10_000, True)
    assert (recipe.training.epochs, recipe.training.learning_rate, recipe.training.dropout) == (7, 5e-3, 0.5)
    assert recipe.export.compatibility == "task-library"
    assert load_recipe(written(tmp_path, "")).training.learning_rate != 5e-3


def test_what_is_written_wins_and_comes_back(tmp_path):
    path = written(
        tmp_path, "encoder: {source: average-words, words: 50, width: 8, lowercase: false, max_length: 64}\n"
    )
    recipe = load_recipe(path, ["export.compatibility=litert", "encoder.width="])
    assert (recipe.encoder.words, recipe.encoder.lowercase, recipe.encoder.max_length) == (50, False, 64)
    assert recipe.encoder.width == load_recipe(path, ["encoder=average-words"]).encoder.width
    assert recipe.export.compatibility == "litert"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe


def test_an_override_chooses_it(tmp_path):
    recipe = load_recipe(written(tmp_path, "encoder: builtin\n"), ["encoder=average-words"])
    assert recipe.averages_words
    assert recipe.encoder.max_length == 256


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.tokenizer=bert", "encoder.tokenizer is bert, but encoder.source average-words has the words of"),
        ("dataset.text=[question, answer]", "dataset.text is two columns, but .* has single texts only"),
        ("training.freeze=2", "training.freeze is 2, but .* has no layers"),
        ("training.precision=bfloat16", "training.precision is bfloat16, but .* has float32 only"),
        ("export.quantization=int4", "export.quantization is int4, but .* has weights of 8 bits or more"),
        ("encoder.words=0", "encoder.words is `0`, but must be 1 or more"),
        ("encoder.lowercase=perhaps", "encoder.lowercase is `perhaps`"),
    ],
)
def test_settings_that_mean_nothing_to_it_are_refused(tmp_path, override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(written(tmp_path, "encoder: average-words\n"), [override, "export.compatibility=litert"])


def test_its_settings_are_refused_for_other_encoders(tmp_path):
    with pytest.raises(RecipeError, match=r"encoder.width belongs to encoder.source average-words alone"):
        load_recipe(written(tmp_path, "encoder:\n  width: 8\n"))


# --- Training --------------------------------------------------------------------------------------------------------


def test_it_learns_and_the_run_folder_is_whole(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.95
    assert metrics["encoder"]["source"] == "average-words"
    assert metrics["precision"] == "float32"
    assert "averages learned vectors of" in (finished / "MODEL_CARD.md").read_text()
    assert "average-words" in (finished / "report.html").read_text()
    metadata = read_metadata(finished / "model.tflite")
    assert metadata.tokenizer == "regex"
    assert metadata.delimiter_pattern == DELIMITER_PATTERN
    assert metadata.vocabulary[:3] == SPECIAL_WORDS
    assert metadata.output_names == ("probability",)
    assert (finished / "vocab.txt").read_text().splitlines() == list(metadata.vocabulary)


def test_capitals_do_not_count(finished):
    classifier = textclf.Classifier(finished / "model.tflite")
    lower, title, upper, strange = classifier.probabilities([("love",), ("Love",), ("LOVE",), ("lOvE",)])
    assert lower.tolist() == title.tolist() == upper.tolist() != strange.tolist()
    assert classifier.classify(["I hate it, THE WORST"])[0].label == "bad"


def test_every_length_gives_the_same_answer(finished):
    classifier = textclf.Classifier(finished / "model.tflite")
    texts = [(" ".join(["good film", "and"] * count),) for count in range(9)]
    np.testing.assert_allclose(
        classifier.probabilities(texts), classifier.probabilities_at_full_length(texts), atol=1e-6
    )


def test_the_same_seed_gives_the_same_file_also_after_an_interruption(tmp_path):
    recipe = load_recipe(recipe_path(tmp_path))
    whole = textclf.train(recipe, tmp_path / "whole", quiet=True)
    at_step_12 = interrupted_at(11, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit_into(tmp_path / "run", recipe, step_kind=at_step_12)
    resumed = textclf.train(recipe, tmp_path / "run", resume=True, quiet=True)
    assert resumed.model_path.read_bytes() == whole.model_path.read_bytes()
    assert resumed.metrics["history"] == whole.metrics["history"]


def test_weights_seeds_and_rejection_work_as_elsewhere(tmp_path):
    overrides = [
        "training.class_weights=balanced",
        "training.seeds=[1, 2]",
        "training.reject_for_precision=0.9",
        "training.accumulate=2",
        "encoder.max_length=auto",
    ]
    metrics = textclf.train(load_recipe(recipe_path(tmp_path), overrides), tmp_path / "run", quiet=True).metrics
    first, second = metrics["seeds"]["trainings"]
    assert first["history"] != second["history"]
    assert metrics["rejection"]["validation"]["precision"] >= 0.9
    assert metrics["recipe"]["encoder"]["max_length"] == 16


def test_check_says_how_many_words_are_too_rare(tmp_path, capsys):
    code = (
        "import sys; from textclf.runs.check import check; "
        f"print(check({str(recipe_path(tmp_path))!r}).as_text()); print('tensorflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "have no vector of their own: they occur once" in said
    assert said.endswith("False\n")


# --- The exported file -----------------------------------------------------------------------------------------------


def small_weights() -> AverageWordsWeights:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((6, 4)).astype(np.float32)
    rows = np.array([0, 1, 2, 3, 3, 4, 5], np.int32)
    return AverageWordsWeights(vectors, rows, random.standard_normal((4, 3)).astype(np.float32), np.float32([0, 1, 2]))


@pytest.mark.parametrize(("form", "tolerance"), [("none", 1e-6), ("float16", 1e-3), ("dynamic", 1e-2)])
def test_the_graph_is_the_softmax_of_the_mean_over_everything_but_padding(form, tolerance):
    weights = small_weights()
    interpreter = Interpreter(model_content=build_average_words_graph(weights, 5, form))
    for ids in ([1, 4, 6, 2, 0], [1, 3, 5, 0, 0, 0, 0]):
        interpreter.resize_tensor_input(0, [1, len(ids)])
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, np.int32([ids]))
        interpreter.invoke()
        mean = weights.vectors[weights.rows[[number for number in ids if number]]].mean(axis=0)
        expected = softmax(mean @ weights.head_kernel + weights.head_bias)
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        np.testing.assert_allclose(found, expected, atol=tolerance)


def test_vectors_beyond_float16_are_refused():
    weights = replace(small_weights(), vectors=np.full((6, 4), 1e6, np.float32))
    with pytest.raises(ModelError, match="beyond the range of float16"):
        build_average_words_graph(weights, 5, "float16")


@pytest.mark.parametrize(("form", "stored"), [("none", "float32"), ("float16", "float16"), ("dynamic", "int8")])
def test_a_run_is_exported_in_other_forms(finished, tmp_path, form, stored):
    path, report = export_run(finished, [f"quantization={form}"], tmp_path / "model.tflite")
    assert stored_types(path.read_bytes())[stored] >= 1
    assert report.parity is not None
    assert report.parity.changed_decided_labels == 0
    assert verify_model(path, run=finished, consumers=()).problems == []
    assert inspect_model(path).tokenizer == "regex"
    assert run("inspect", path) == run("verify", path, "--run", finished) == 0


def test_a_file_that_is_not_stored_as_it_says_is_found(finished):
    model, metadata = (finished / "model.tflite").read_bytes(), read_metadata(finished / "model.tflite")
    content = write_metadata(
        build_average_words_graph(small_weights(), 5, "none"),
        name="words",
        labels=["a", "b", "c"],
        vocabulary=metadata.vocabulary[:8],
        delimiter_pattern=DELIMITER_PATTERN,
        settings={"quantization": "dynamic", "tokenizer": "regex"},
    )
    problems = structure_problems(content)
    assert any("says quantization dynamic, but" in problem for problem in problems)
    assert any("has 8 entries, but the largest table 7 rows" in problem for problem in problems)
    assert structure_problems(model) == []


def test_tables_are_classified_with_it(finished, tmp_path):
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["review"], *([f"the {word} film"] for word in ("good", "awful", "Good")), ["x"]])
    assert run("classify", finished / "model.tflite", tmp_path / "in.csv", "-o", tmp_path / "out.csv") == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted_label"] for row in rows][:3] == ["good", "bad", "good"]


# --- Files of others -------------------------------------------------------------------------------------------------


def as_model_maker(length: int = 8) -> tuple[bytes, list[str], np.ndarray]:
    """A file like Model Maker's average_word_vec: the mean goes over padding too, then softmax; and its vectors."""
    vectors = np.random.default_rng(3).standard_normal((5, 2)).astype(np.float32)
    graph = GraphBuilder()
    ids = graph.input("serving_default_input_1:0", [1, length])
    gathered = graph.gather("embedding", graph.constant("table", vectors), ids)
    mean = graph.op("mean", "MEAN", [gathered, graph.small_constant([1])], [1, 2], options={"keepDims": False})
    probability = graph.op("StatefulPartitionedCall:0", "SOFTMAX", [mean], [1, 2], options={"beta": 1.0})
    vocabulary = [*SPECIAL_WORDS, "good", "bad"]
    content = write_metadata(
        graph.finish({probability: "dense"}, "MLIR Converted."),
        name="NLClassifier",
        labels=["neg", "pos"],
        vocabulary=vocabulary,
        delimiter_pattern=r"[^\w\']+",
    )
    return content, vocabulary, vectors


def test_model_makers_files_are_understood(tmp_path):
    content, vocabulary, vectors = as_model_maker()
    path = tmp_path / "average_word_vec.tflite"
    path.write_bytes(content)
    assert structure_problems(content) == []
    ids = [1, vocabulary.index("good"), 2, 2, 0, 0, 0, 0]
    prediction = textclf.Classifier(path).classify(["good, Bad café"])[0]
    # `café` is one word, caf, for its delimiters; `Bad` is not `bad`.
    np.testing.assert_allclose(list(prediction.scores.values()), softmax(vectors[ids].mean(axis=0)), atol=1e-6)
    assert run("verify", path) == run("inspect", path) == 0


def test_a_pattern_that_cannot_be_followed_is_said(tmp_path):
    content, _, _ = as_model_maker()
    path = tmp_path / "model.tflite"
    path.write_bytes(content.replace(rb"[^\w\']+", rb"[^\qL\']"))
    with pytest.raises(ModelError, match=r"is not a regular expression of RE2 \(invalid escape sequence: \\q\)"):
        textclf.Classifier(path)
    assert any("is not a regular expression of RE2" in problem for problem in structure_problems(path.read_bytes()))


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_real_consumer_answers_as_our_predictor_does(name, finished):
    if name not in installed_consumers():
        pytest.skip(f"{name} is not installed")
    report = verify_model(finished / "model.tflite", consumers=[name])
    assert report.problems == []
    assert report.consumers[0].largest_difference < 1e-3


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_real_consumer_splits_texts_as_we_do(name, tmp_path):
    """With a model that returns its own input."""
    if name not in installed_consumers():
        pytest.skip(f"{name} is not installed")
    length = 24
    texts = [text for text in hard_texts() if "\0" not in text]
    vocabulary = find_words(texts, 10_000, 1, lowercase=True).vocabulary
    graph = GraphBuilder()
    output = graph.cast("probability", graph.input("input_text", [1, length]))
    labels = [f"position {number}" for number in range(length)]
    content = write_metadata(
        graph.finish({output: "probability"}, "ids"),
        name="ids",
        labels=labels,
        vocabulary=vocabulary,
        delimiter_pattern=DELIMITER_PATTERN,
    )
    (tmp_path / "ids.tflite").write_bytes(content)
    theirs = run_consumer(name, tmp_path / "ids.tflite", labels, texts)
    encoded = WordTokenizer(vocabulary).encode([(text,) for text in texts], length)
    ours = np.zeros((len(texts), length))
    for row, ids in enumerate(ids_of(encoded)):
        ours[row, : len(ids)] = ids
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.skipif(not os.environ.get("TEXTCLF_TASK_LIBRARY_PYTHON"), reason="the Task Library is not installed")
def test_the_task_library_answers_with_every_form(finished, tmp_path):
    for form in ("none", "float16"):
        path, _ = export_run(finished, [f"quantization={form}"], tmp_path / f"{form}.tflite")
        assert verify_model(path, consumers=["task-library"]).problems == []
