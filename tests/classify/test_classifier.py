"""Finished models give the right labels: alone, in batches, from several threads, in frames; others are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.classify import interpreters, opening
from textclf.classify.classifier import Classifier
from textclf.classify.interpreters import check_understood
from textclf.data.tokens.encoded import Tokens, pad
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.errors import DataError, ModelError
from textclf.tflite.graph.mobilebert import ClassifierWeights, build_inference_graph
from textclf.tflite.metadata import read_metadata, write_metadata
from textclf.tflite.trial.probe import trust

LABELS = ["bad", "good", "so so"]
MAX_LENGTH = 24
TEXTS = [
    "good film",
    "the food was awful and the phone is broken, please help",
    "thanks",
    "",
    "why?",
    "never again " * 20,
    "GOOD film",
]


def write_tiny_model(
    path: Path, text: tuple[str, ...] = ("text",), labels: tuple[str, ...] = tuple(LABELS), **settings: object
) -> Path:
    """A classifier with random weights whose label differs from text to text."""
    checkpoint = tiny_checkpoint(seed=3)
    random = np.random.default_rng(5)
    kernel = 5 * random.standard_normal((checkpoint.config.hidden_size, len(labels))).astype(np.float32)
    bias = np.zeros(len(labels), np.float32)
    for _ in range(2):
        weights = ClassifierWeights(checkpoint.config, checkpoint.weights, checkpoint.mask_convention, kernel, bias)
        content = write_metadata(
            build_inference_graph(weights, MAX_LENGTH, "dynamic"),
            name="tiny",
            labels=labels,
            vocabulary=VOCABULARY,
            settings={"tokenizer": "device", "text": list(text), "label": "label", **settings},
        )
        path.write_bytes(content)
        trust(content)
        # Once more, with a bias that makes the labels about equally likely.
        probabilities = Classifier(path).probabilities([(word,) * len(text) for word in VOCABULARY[50:]])
        bias = -np.log(probabilities).mean(axis=0)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("predictor") / "model.tflite")


@pytest.fixture
def classifier(model) -> Classifier:
    return Classifier(model, num_threads=2)


def run_at_full_length(model: Path, texts: list[str]) -> np.ndarray:
    """Each text alone at `max_length`, as a device does it."""
    from ai_edge_litert.interpreter import Interpreter

    encoded = Tokenizer(VOCABULARY).encode([(text,) for text in texts], MAX_LENGTH)
    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    inputs = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    rows = []
    for row in range(len(texts)):
        for name, values in zip(("ids", "mask", "segment_ids"), pad(encoded, [row], MAX_LENGTH), strict=True):
            interpreter.set_tensor(inputs[name], values)
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(rows)


def test_texts_in_a_batch_get_what_each_gets_alone_at_full_length(classifier, model):
    probabilities = classifier.probabilities([(text,) for text in TEXTS])
    np.testing.assert_allclose(probabilities, run_at_full_length(model, TEXTS), atol=2e-5)
    assert len(set(probabilities.argmax(axis=1).tolist())) > 1


def test_a_prediction_holds_the_likeliest_label_and_every_score(classifier):
    [prediction] = classifier.classify(["good film"])
    assert prediction.label == max(prediction.scores, key=prediction.scores.get)
    assert prediction.score == prediction.scores[prediction.label]
    assert list(prediction.scores) == LABELS
    assert sum(prediction.scores.values()) == pytest.approx(1.0, abs=1e-5)


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """One entry for each text that an interpreter classifies."""
    done: list[int] = []
    run = interpreters.Runner.run

    def counted(self: interpreters.Runner, tokens: Tokens) -> np.ndarray:
        done.append(1)
        return run(self, tokens)

    monkeypatch.setattr(interpreters.Runner, "run", counted)
    return done


def test_equal_texts_are_classified_once(classifier, runs):
    classifier.probabilities([("good film",)])
    result = classifier.probabilities([("Good Film",), ("thanks",), ("thanks",), ("good film",)])
    assert len(runs) == 2
    assert (result[0] == result[3]).all()
    assert (result[1] == result[2]).all()
    assert (result[0] != result[1]).any()


def test_results_are_forgotten_when_there_are_too_many(model, runs):
    classifier = Classifier(model, num_threads=1, cache_bytes=700)  # enough for two results
    classifier.probabilities([("good",), ("bad",), ("film",)])
    assert len(runs) == 3
    classifier.probabilities([("film",)])
    assert len(runs) == 3
    classifier.probabilities([("good",)])
    assert len(runs) == 4


def test_more_texts_than_go_at_once_come_back_in_order(classifier, monkeypatch):
    monkeypatch.setattr("textclf.classify.classifier.CALL_TEXTS", 3)
    texts = [(f"film {number}",) for number in range(20)]
    together = classifier.probabilities(texts)
    alone = np.concatenate([classifier.probabilities([text]) for text in texts])
    assert (together == alone).all()
    assert len({row.tobytes() for row in together}) > 10


def test_no_texts_give_no_probabilities(classifier):
    assert classifier.probabilities([]).shape == (0, 3)
    assert classifier.classify([]) == []


def test_several_threads_may_use_one_classifier(model):
    classifier = Classifier(model, num_threads=2)
    expected = run_at_full_length(model, TEXTS)
    start = threading.Barrier(6)

    def work(shift: int) -> float:
        start.wait()
        worst = 0.0
        for _ in range(10):
            order = np.roll(np.arange(len(TEXTS)), shift)
            found = classifier.probabilities([(TEXTS[index],) for index in order])
            worst = max(worst, float(np.abs(found - expected[order]).max()))
        return worst

    with ThreadPoolExecutor(6) as threads:
        assert max(threads.map(work, range(6))) < 2e-5
    assert len(classifier._workers.runners) <= 2


def test_a_text_that_another_caller_gave_up_is_classified_all_the_same(classifier):
    expected = classifier.probabilities([("thanks",)])
    classifier._workers.settle(dict.fromkeys(list(classifier._workers.known)))
    blocked, go_on = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        go_on.wait()

    for _ in range(2):
        classifier._workers.pool.submit(block)
    blocked.wait()
    first, second = classifier.submit([("thanks",)]), classifier.submit([("thanks",)])
    first.cancel()
    go_on.set()
    assert (second.result() == expected).all()


def test_a_model_of_pairs_takes_pairs_only(tmp_path):
    classifier = Classifier(write_tiny_model(tmp_path / "pairs.tflite", text=("question", "answer")))
    first, second = classifier.classify([("what is it", "good food"), ("good food", "what is it")])
    assert first.scores != second.scores
    with pytest.raises(DataError, match="trained on question and answer; give two texts"):
        classifier.classify(["what is it"])


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_below_one_is_refused(model, threads):
    with pytest.raises(ValueError, match="expected 1 or more"):
        Classifier(model, num_threads=threads)


# --- Frames ----------------------------------------------------------------------------------------------------------


def test_a_frame_comes_back_with_labels_and_the_rest_as_it_was(classifier):
    frame = pd.DataFrame({"id": ["01", "02", "03"], "text": ["good film", None, "thanks"]}, index=[7, 3, 5])
    before = frame.copy()
    result = classifier.classify_frame(frame, scores=True)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(result[["id", "text"]], frame)
    first, third = classifier.classify(["good film", "thanks"])
    assert list(result.columns[2:]) == ["predicted_label", "predicted_score", "score:bad", "score:good", "score:so so"]
    assert result.loc[7, "predicted_label"] == first.label
    assert result.loc[5, "predicted_score"] == pytest.approx(third.score)
    assert result.loc[7, "score:good"] == pytest.approx(first.scores["good"])
    assert pd.isna(result.loc[3, "predicted_label"])
    assert pd.isna(result.loc[3, "predicted_score"])


def test_a_frame_without_rows_gets_the_columns(classifier):
    result = classifier.classify_frame(pd.DataFrame({"text": []}))
    assert list(result.columns) == ["text", "predicted_label", "predicted_score"]
    assert len(result) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["words"], "0 columns `text`"), (["text", "text"], "2 columns `text`"), (["text", "predicted_label"], "already")],
)
def test_a_frame_that_does_not_fit_is_refused(classifier, columns, message):
    with pytest.raises(DataError, match=message):
        classifier.classify_frame(pd.DataFrame([["a"] * len(columns)], columns=columns))


# --- Models that are refused -----------------------------------------------------------------------------------------


def test_model_makers_model_classifies_too(shared):
    classifier = Classifier(shared / "peers" / "model_maker_mobilebert_dynamic.tflite")
    assert classifier.max_length == 128
    first, second = classifier.classify(["free entry, text WIN now", "see you at home"])
    assert {first.label, second.label} <= set(classifier.labels)
    assert first.scores != second.scores


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"id,text\n1,hello\n")
    with pytest.raises(ModelError, match="TFL3"):
        Classifier(tmp_path / "model.tflite")


def test_a_model_with_another_tokenizer_is_refused_with_what_was_found(model, monkeypatch):
    import dataclasses

    metadata = dataclasses.replace(opening.read_metadata(model), tokenizer="sentencepiece", input_names=("input_text",))
    monkeypatch.setattr(opening, "read_metadata", lambda *_: metadata)
    with pytest.raises(
        ModelError, match="name the inputs 'input_text', the tokenizer sentencepiece, 3 labels; expected a BERT"
    ):
        Classifier(model)


def test_a_model_whose_labels_do_not_fit_its_output_is_refused(model, monkeypatch):
    import dataclasses

    metadata = dataclasses.replace(opening.read_metadata(model), labels=("bad", "good"))
    monkeypatch.setattr(opening, "read_metadata", lambda *_: metadata)
    with pytest.raises(ModelError, match=r"has 2 labels, but its output is float32 \[1, 3\]"):
        Classifier(model)


def test_classifying_loads_neither_tensorflow_nor_pandas(model):
    code = (
        "import sys; from textclf import Classifier; "
        f"print(Classifier({str(model)!r}).classify(['good film'])[0].label); "
        "print(sorted({'tensorflow', 'keras', 'pandas', 'tokenizers'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    label, loaded = done.stdout.splitlines()
    assert label in LABELS
    assert loaded == "[]"


def test_a_model_of_another_task_is_refused_by_name(tmp_path):
    metadata = read_metadata(write_tiny_model(tmp_path / "m.tflite", task="text-classification"))
    check_understood("m.tflite", metadata)
    other = replace(metadata, settings={**(metadata.settings or {}), "task": "question-answering"})
    with pytest.raises(ModelError, match=r"^m\.tflite: the model's task is question-answering, but this command"):
        check_understood("m.tflite", other)
