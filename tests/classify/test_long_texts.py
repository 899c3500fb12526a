"""A model that reads windows classifies texts of any length: by text, everywhere, with little memory."""

from __future__ import annotations

import csv
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.classify.test_classifier import LABELS, MAX_LENGTH, write_tiny_model
from tests.command import run
from tests.tiny import VOCABULARY
from textclf.classify.classifier import Classifier
from textclf.classify.combining import combine_probabilities, combine_windows
from textclf.classify.metrics import softmax
from textclf.classify.multi_label.metrics import sigmoid
from textclf.classify.tables.job import classify_file, evaluate_file
from textclf.errors import DataError, ModelError
from textclf.tflite.inspection import inspect_model

STRIDE, MOST, ROOM = 15, 4, MAX_LENGTH - 2
WORDS = [word for word in VOCABULARY[50:] if word.isalpha() and len(word) > 1]


def long_text(words: int, seed: int = 0) -> str:
    """A text of this many words, each of which is one token."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def windows_of(text: str) -> list[str]:
    """The windows of a text of such words, as texts."""
    words = text.split()
    begins = [0]
    while begins[-1] + ROOM < len(words):
        begins.append(begins[-1] + STRIDE)
    return [" ".join(words[begin : begin + ROOM]) for begin in begins[:MOST]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("windows")


@pytest.fixture(scope="module")
def model(folder) -> Path:
    return write_tiny_model(folder / "windows.tflite", overflow="windows", stride=STRIDE, max_windows=MOST)


@pytest.fixture(scope="module")
def plain(folder) -> Classifier:
    """The same weights, of which only the head of a text is read."""
    return Classifier(write_tiny_model(folder / "head.tflite", overflow="head"))


@pytest.fixture
def classifier(model) -> Classifier:
    return Classifier(model, num_threads=2)


def expected(plain: Classifier, text: str) -> np.ndarray:
    """The softmax of the mean of the logits of the windows, each classified as a text of its own."""
    probabilities = plain.probabilities([(window,) for window in windows_of(text)])
    return softmax(np.log(probabilities.astype(np.float64)).mean(axis=0))


def test_a_long_text_gets_the_mean_of_the_logits_of_its_windows(classifier, plain):
    texts = [long_text(words, seed=words) for words in (23, 40, 60, 67, 200)]
    assert [len(windows_of(text)) for text in texts] == [2, 3, 4, 4, 4]
    found = classifier.probabilities([(text,) for text in texts])
    np.testing.assert_allclose(found, [expected(plain, text) for text in texts], atol=1e-5)
    assert (np.abs(found - plain.probabilities([(text,) for text in texts])).max(axis=1) > 1e-3).all()


def test_a_text_that_fits_gets_what_it_got_without_windows_to_the_bit(classifier, plain):
    texts = [("good film",), (long_text(ROOM),), ("",), (long_text(ROOM - 1),)]
    together = classifier.probabilities([*texts, (long_text(90),)])
    np.testing.assert_array_equal(together[:4], plain.probabilities(texts))


def test_other_runtimes_see_the_first_window(classifier, plain):
    texts = [(long_text(words),) for words in (10, 50, 300)]
    np.testing.assert_array_equal(classifier.first_window_probabilities(texts), plain.probabilities(texts))
    np.testing.assert_array_equal(
        classifier.probabilities_at_full_length(texts), plain.probabilities_at_full_length(texts)
    )


def test_texts_come_back_in_order_however_many_are_in_memory_at_once(classifier, monkeypatch):
    texts = [(long_text(3 + (number * 17) % 90, number),) for number in range(40)]
    alone = np.concatenate([classifier.probabilities([text]) for text in texts])
    monkeypatch.setattr("textclf.classify.long_texts._CALL_CHARACTERS", 700)
    np.testing.assert_array_equal(classifier.probabilities(texts), alone)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(classifier)).probabilities(texts), alone)


def test_a_frame_and_single_texts_get_the_same_labels(classifier, plain):
    texts = [long_text(70, 1), "good film", "", long_text(150, 2)]
    frame = classifier.classify_frame(pd.DataFrame({"text": texts}), scores=True)
    predictions = classifier.classify(texts)
    assert [None if pd.isna(label) else label for label in frame["predicted_label"]] == [
        one.label or None for one in predictions
    ]
    for row in (0, 1, 3):
        wanted = expected(plain, texts[row])
        assert predictions[row].label == LABELS[int(wanted.argmax())]
        assert predictions[row].score == pytest.approx(wanted.max(), abs=1e-5)
        assert frame[f"score:{LABELS[0]}"][row] == pytest.approx(wanted[0], abs=1e-5)


def write_table(path: Path, texts: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("id", "text", "label"), *((n, text, LABELS[n % 3]) for n, text in enumerate(texts))]
        )
    return path


def test_a_table_is_classified_and_measured_by_text(model, plain, tmp_path):
    texts = [long_text(5 + 9 * number, number) for number in range(12)]
    wanted = np.array([expected(plain, text) for text in texts])
    table = write_table(tmp_path / "in.csv", texts)
    summary = classify_file(model, table, tmp_path / "out.csv", scores=True, where_label=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts
    assert [row["predicted_label"] for row in rows] == [LABELS[index] for index in wanted.argmax(axis=1)]
    found = np.array([[float(row[f"score:{label}"]) for label in LABELS] for row in rows])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # More than 4 windows are needed beyond 67 words.
    assert (summary.rows, summary.truncated) == (12, sum(len(text.split()) > 67 for text in texts))
    accuracy = float((wanted.argmax(axis=1) == np.arange(12) % 3).mean())
    assert summary.accuracy == pytest.approx(accuracy)
    assert evaluate_file(model, table).accuracy == pytest.approx(accuracy)


def test_a_label_is_withheld_by_the_probability_of_the_whole_text(model, plain, tmp_path):
    text = next(
        text
        for text in (long_text(40, seed) for seed in range(200))
        if expected(plain, text).max() < plain.probabilities([(windows_of(text)[0],)]).max() - 0.1
    )
    bound = float(expected(plain, text).max()) + 0.05
    [prediction] = Classifier(model).classify([text], reject_below=bound)
    assert prediction.rejected
    write_table(tmp_path / "in.csv", [text])
    assert classify_file(model, tmp_path / "in.csv", tmp_path / "out.csv", reject_below=bound).rejected == 1


def test_a_text_of_megabytes_needs_no_more_memory_than_its_head_and_is_counted_as_truncated(model, plain, tmp_path):
    table = write_table(tmp_path / "in.csv", ["good", (long_text(1000) + " ") * 200, "bad"])  # 1 MB

    def classified(path: Path) -> tuple[int, int]:
        tracemalloc.start()
        try:
            summary = classify_file(path, table, tmp_path / "out.csv", force=True)
            return summary.truncated, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (truncated, peak), (truncated_head, peak_of_head) = classified(model), classified(plain.path)
    assert (truncated, truncated_head) == (1, 1)
    assert peak < peak_of_head + (1 << 20)


def test_inspect_shows_the_windows(model, plain, capsys):
    assert run("inspect", model) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"long texts windows, each {STRIDE} tokens after the one before, at most {MOST}; the mean" in said
    assert "long texts" not in inspect_model(plain.path).as_text()
    assert run("inspect", model, "--json") == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["overflow"], settings["stride"], settings["max_windows"]) == ("windows", STRIDE, MOST)


def test_a_model_with_windows_reads_single_texts_only(classifier, tmp_path):
    with pytest.raises(DataError, match="one text"):
        classifier.probabilities([("good", "bad")])
    with pytest.raises(ModelError, match="read in windows, which needs BERT's tokenizer and single texts"):
        write_tiny_model(tmp_path / "pair.tflite", text=("a", "b"), overflow="windows")


def test_settings_without_numbers_get_the_defaults(tmp_path):
    path = write_tiny_model(tmp_path / "model.tflite", overflow="windows")
    assert Classifier(path).long_texts == (ROOM * 3 // 4, 64)


def test_values_of_windows_are_combined_by_text():
    values = np.array([[1, 5], [3, 7], [0.1, 0.2], [4, 4], [5, 5], [9, 0]], np.float32)
    found = combine_windows(values, np.array([0, 0, 1, 2, 2, 2]))
    np.testing.assert_array_equal(found, np.array([[2, 6], [0.1, 0.2], [6, 3]], np.float32))
    alone = combine_windows(values, np.arange(6))
    np.testing.assert_array_equal(alone, values)


def test_each_of_several_labels_gets_the_sigmoid_of_its_mean_logit():
    logits = np.array([[-2.0, 3.0], [1.0, -1.0], [0.5, 0.25], [40.0, -40.0], [-40.0, -40.0], [np.nan, 0.0], [0.0, 0.0]])
    texts = np.array([0, 0, 1, 2, 2, 3, 3])
    given = sigmoid(logits).astype(np.float32)
    found = combine_probabilities(given, texts, several_labels=True)
    np.testing.assert_allclose(found[0], sigmoid(np.array([-0.5, 1.0])), atol=1e-6)
    np.testing.assert_array_equal(found[1], given[2])
    np.testing.assert_allclose(found[2], [0.5, 0.0], atol=1e-6)  # certain windows of opposite opinions are undecided
    assert np.isnan(found[3]).tolist() == [True, False]


def test_a_model_of_several_labels_decides_by_the_whole_text(model, tmp_path):
    thresholds = [0.1, 0.3, 0.6]
    separated = {"task": "multi-label-classification", "thresholds": thresholds, "label_separator": "|"}
    path = write_tiny_model(
        tmp_path / "sets.tflite", overflow="windows", stride=STRIDE, max_windows=MOST, label=None, **separated
    )
    texts = ["good film", *(long_text(words, seed=words) for words in (23, 40, 67, 200))]
    with Classifier(path) as classifier:
        windows = [classifier.probabilities([(window,) for window in windows_of(text)]) for text in texts]
        wanted = np.array([sigmoid(logit(own).mean(axis=0)) for own in windows])
        np.testing.assert_allclose(classifier.probabilities([(text,) for text in texts]), wanted, atol=1e-5)
        np.testing.assert_array_equal(
            classifier.first_window_probabilities([(text,) for text in texts]), [own[0] for own in windows]
        )
        predictions = classifier.classify(texts)
    sets = [tuple(np.array(LABELS)[row >= thresholds]) for row in wanted]
    assert [one.labels for one in predictions] == sets
    table = write_table(tmp_path / "in.csv", texts)
    summary = classify_file(path, table, tmp_path / "out.csv", scores=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["predicted_labels"] for row in csv.DictReader(file)] == ["|".join(one) for one in sets]
    assert (summary.rows, summary.truncated) == (5, 1)


def logit(probabilities: np.ndarray) -> np.ndarray:
    exact = probabilities.astype(np.float64)
    return np.log(exact) - np.log1p(-exact)


def test_probabilities_of_zero_and_what_is_no_number_are_combined_too():
    texts = np.array([0, 0, 1, 1, 2])
    given = np.array([[1, 0, 0], [0, 1, 0], [np.nan, 0.5, 0.5], [0.2, 0.3, 0.5], [0, 1, 0]], np.float32)
    found = combine_probabilities(given, texts)
    np.testing.assert_allclose(found[0], [0.5, 0.5, 0], atol=1e-6)
    assert np.isnan(found[1]).any()
    np.testing.assert_array_equal(found[2], [0, 1, 0])
