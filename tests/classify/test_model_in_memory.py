"""A classifier is the model that was opened: its file may change or go, its process may fork, and it can be closed."""

from __future__ import annotations

import copy
import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.classify.test_classifier import LABELS, write_tiny_model
from textclf.classify.classifier import Classifier, Prediction
from textclf.errors import DataError, ModelError, TextclfError
from textclf.files.model_path import model_path_of

SECONDS = 30
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("memory") / "model.tflite")


@pytest.fixture
def classifier(model):
    with Classifier(model, num_threads=2) as opened:
        yield opened


def listed(column: pd.Series) -> list[str | None]:
    return [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]


def texts_of(count: int) -> list[str]:
    return [f"the film was {number} times good and {number * 7} times bad" for number in range(count)]


# --- The file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["replaced", "deleted", "overwritten"])
def test_a_file_that_changes_after_it_was_opened_does_not_matter(model, tmp_path, change):
    path = tmp_path / "model.tflite"
    path.write_bytes(model.read_bytes())
    opened = Classifier(path, num_threads=4)
    opened.classify(["good"])
    if change == "replaced":
        other = write_tiny_model(tmp_path / "other.tflite", labels=("x", "y"))
        os.replace(other, path)
    elif change == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"no model at all")
    texts = texts_of(300)
    assert opened.classify(texts) == Classifier(model, num_threads=1).classify(texts)


def test_a_relative_path_is_that_of_the_moment_when_the_model_was_opened(model, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    opened = Classifier(model.name, num_threads=2)
    monkeypatch.chdir(tmp_path)
    assert opened.path == model
    assert len(opened.classify(texts_of(100))) == 100


@pytest.mark.parametrize("copied", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_is_the_model_that_was_opened_even_where_the_file_is_gone(model, tmp_path, copied):
    path = tmp_path / "model.tflite"
    path.write_bytes(model.read_bytes())
    opened = Classifier(path, num_threads=2)
    path.unlink()
    other = copied(opened)
    assert other.classify(["good film"]) == opened.classify(["good film"])
    assert (other.num_threads, other.path) == (2, path)


def test_the_folder_of_a_run_stands_for_its_model(model, tmp_path):
    (tmp_path / "model.tflite").write_bytes(model.read_bytes())
    assert model_path_of(tmp_path) == tmp_path / "model.tflite"
    assert Classifier(tmp_path).labels == LABELS


def test_a_folder_without_a_model_is_refused_with_what_to_name(model, tmp_path):
    with pytest.raises(ModelError, match=r"has no model\.tflite; name a \.tflite file"):
        Classifier(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ModelError, match=r"this run has no model\.tflite; write one with: textclf export"):
        Classifier(tmp_path)
    (tmp_path / "model-float16.tflite").write_bytes(model.read_bytes())
    with pytest.raises(ModelError, match=r"name the file, for example .*model-float16\.tflite"):
        Classifier(tmp_path)


# --- Forked processes ------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], bool]) -> bool:
    """What the work returns in a forked process; False when it does not end within SECONDS."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 3
        finally:
            os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_classifier_that_was_used_works_in_a_forked_process(classifier):
    expected = classifier.classify(texts_of(100))
    assert in_a_child(lambda: classifier.classify(texts_of(100)) == expected)
    assert in_a_child(lambda: in_a_child(lambda: classifier.classify(texts_of(100)) == expected))
    assert classifier.classify(texts_of(100)) == expected


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_may_fork_while_other_threads_classify(classifier):
    expected = classifier.classify(texts_of(40))
    ended = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            round_ = 0
            while not ended.is_set():
                round_ += 1
                classifier.classify([f"{text} {number} {round_}" for text in texts_of(40)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        answers = [in_a_child(lambda: classifier.classify(texts_of(40)) == expected) for _ in range(12)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert answers == [True] * 12
    assert failures == []


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_was_begun_before_a_fork_is_classified_in_the_child(classifier):
    rows = [(text,) for text in texts_of(50)]
    expected = classifier.probabilities(rows)
    with Classifier(classifier.path, num_threads=1) as fresh:
        pending = fresh.submit(rows)
        assert in_a_child(lambda: bool((pending.result() == expected).all()))
        assert (pending.result() == expected).all()


def _label_of(text: str) -> str:
    return _inherited.classify([text])[0].label


_inherited: Classifier


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_pool_of_forked_processes_shares_a_classifier(classifier):
    global _inherited
    _inherited = classifier
    texts = texts_of(20)
    expected = [prediction.label for prediction in classifier.classify(texts)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_label_of, texts).get(SECONDS) == expected


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_that_ends_in_the_ordinary_way_does_end(model):
    code = (
        "import os, sys, threading\n"
        "from textclf import Classifier\n"
        f"c = Classifier({str(model)!r}, num_threads=2)\n"
        "work = lambda: c.classify([f'good film {i}' for i in range(3000)])\n"
        "thread = threading.Thread(target=work); thread.start()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print(c.classify(['good film'])[0].label, flush=True); sys.exit()\n"
        "thread.join(); print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    label, code_of_child = done.stdout.split()[-2:]
    assert label in "bad good so so"
    assert code_of_child == "0"


# --- Closing ---------------------------------------------------------------------------------------------------------


def test_a_closed_classifier_says_so(model):
    with Classifier(model) as opened:
        opened.classify(["good"])
    opened.close()
    for call in (
        lambda: opened.classify(["good"]),
        lambda: opened.classify([]),
        lambda: opened.probabilities([("bad",)]),
        lambda: opened.submit([("bad",)]),
        lambda: opened.classify_frame(pd.DataFrame({"text": ["good"]})),
    ):
        with pytest.raises(RuntimeError, match="this Classifier is closed; open the model again"):
            call()


def test_closing_while_calls_are_under_way_ends_them(model):
    opened = Classifier(model, num_threads=1)
    begun, outcome = threading.Event(), []

    def work() -> None:
        pending = [opened.submit([(f"{text} {part}",) for text in texts_of(2000)]) for part in range(2)]
        begun.set()
        try:
            outcome.append([one.result() for one in pending])
        except RuntimeError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(SECONDS)
    opened.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert "this Classifier is closed" in outcome[0]


def test_a_classifier_that_is_dropped_leaves_no_threads(model):
    before = set(threading.enumerate())
    for _ in range(3):
        Classifier(model, num_threads=2).classify(texts_of(100))
    gc.collect()
    end = time.monotonic() + SECONDS
    while set(threading.enumerate()) - before and time.monotonic() < end:
        time.sleep(0.01)
    assert set(threading.enumerate()) - before == set()


# --- What is given ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("where is my parcel", r'texts is one string, expected a list of texts; write \["where is my parcel"\]'),
        (b"bytes", "texts is a bytes, expected a list of texts"),
        (None, "texts is None, expected a list of texts"),
        (5, r"texts is 5 \(int\), expected a list"),
        ({"text": ["good"]}, "texts is a dict, expected a list"),
        ({"good", "bad"}, "texts is a set, expected a list"),
        (np.array("text"), "texts is a ndarray, expected a list"),
        (pd.DataFrame({"text": ["good"]}), "texts is a DataFrame.*classify_frame"),
        (["good", None], r"texts\[1\] is None, expected a string; leave it out"),
        (["good", "bad", float("nan")], r"texts\[2\] is nan \(float\), expected a string; leave it out"),
        (["good", pd.NA], r"texts\[1\] is <NA> \(NAType\), expected a string; leave it out"),
        ([5], r"texts\[0\] is 5 \(int\), expected a string"),
        ([b"good"], r"texts\[0\] is a bytes, expected a string"),
        ([[5]], r"texts\[0\]\[0\] is 5 \(int\), expected a string"),
        ([{"text": "good"}], r"texts\[0\] is a dict, expected a string"),
        ([["good", "bad"]], r"texts\[0\] has two texts, but the model was trained on text; give one text"),
        (["a", ("b", "c", "d")], r"texts\[1\] has 3 texts, but the model was trained on text; give one text"),
        ([()], r"texts\[0\] has 0 texts"),
        (["good", "half \ud83d of an emoji"], r"texts\[1\] holds half of a character \(U\+D83D at index 5\)"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_with_its_position(classifier, texts, message):
    with pytest.raises(DataError, match=message):
        classifier.classify(texts)


def test_any_iterable_of_texts_is_a_list_of_texts(classifier):
    texts = texts_of(3)
    expected = classifier.classify(texts)
    for given in (
        tuple(texts),
        iter(texts),
        (text for text in texts),
        pd.Series(texts, index=[5, 5, 7]),
        np.array(texts),
    ):
        assert classifier.classify(given) == expected
    assert classifier.classify([]) == []
    assert classifier.classify([(text,) for text in texts]) == expected


def test_one_string_is_no_list_of_rows_either(classifier):
    with pytest.raises(DataError, match=r'write \["abc"\]'):
        classifier.probabilities("abc")
    with pytest.raises(DataError, match=r'write \["abc"\]'):
        classifier.submit("abc")


def test_a_text_that_is_none_gets_no_label_as_in_a_batch(classifier):
    first, empty, blank, last = classifier.classify(["good", "", " \t\n\u3000", "bad"])
    [alone] = classifier.classify(["bad"])
    assert empty == blank == Prediction("", 0.0, {}, error="empty: has no text")
    assert first.error == last.error == ""
    assert last == alone


def test_a_pair_with_one_empty_side_is_a_text(tmp_path):
    pairs = Classifier(write_tiny_model(tmp_path / "pairs.tflite", text=("subject", "body")))
    one_side, none = pairs.classify([("", "good film"), ("", " ")])
    assert one_side.label in LABELS
    assert none.error == "empty: has no text"
    frame = pairs.classify_frame(pd.DataFrame({"subject": [None, None], "body": ["good film", ""]}))
    assert listed(frame["predicted_label"]) == [one_side.label, None]


# --- Bounds and numbers ----------------------------------------------------------------------------------------------


def test_the_bound_holds_for_texts_and_frames_too(tmp_path):
    texts = ["good film", "bad"]
    scores = [p.score for p in Classifier(write_tiny_model(tmp_path / "plain.tflite")).classify(texts)]
    bound = sum(scores) / 2
    strict = Classifier(write_tiny_model(tmp_path / "strict.tflite", reject_below=bound, reject_label="unclear"))
    predictions = strict.classify(texts)
    assert [p.rejected for p in predictions] == [score < bound for score in scores]
    assert [p.label == "unclear" for p in predictions] == [score < bound for score in scores]
    assert [p.score for p in predictions] == pytest.approx(scores)
    frame = strict.classify_frame(pd.DataFrame({"text": texts}))
    assert frame["predicted_label"].tolist() == [p.label for p in predictions]
    assert not any(p.rejected for p in strict.classify(texts, reject_below=0.0))
    assert [p.label for p in Classifier(tmp_path / "plain.tflite").classify(texts, reject_below=1.0)] == ["", ""]
    with pytest.raises(TextclfError, match="reject_below is nan; give a probability from 0 to 1"):
        strict.classify(texts, reject_below=float("nan"))
    with pytest.raises(TextclfError, match=r"reject_below is '0\.5'; give a probability from 0 to 1"):
        strict.classify(texts, reject_below="0.5")


def test_an_output_that_is_no_number_is_an_error_and_never_a_label(classifier, monkeypatch):
    from textclf.classify import interpreters

    run = interpreters.Runner.run

    def broken(self, tokens):
        found = run(self, tokens)
        return np.full_like(found, np.nan) if (tokens.ids != 0).sum() > 4 else found

    monkeypatch.setattr(interpreters.Runner, "run", broken)
    assert len(classifier.classify(["good"])) == 1
    for call in (
        lambda: classifier.classify(["good", "", "the film was bad"]),
        lambda: classifier.classify_frame(pd.DataFrame({"text": ["good", "", "the film was bad"]})),
        lambda: classifier.probabilities([("good",), ("bad",), ("the film was bad",)]),
        lambda: classifier.probabilities_at_full_length([("good",), ("bad",), ("the film was bad",)]),
    ):
        with pytest.raises(ModelError, match=r"output for texts\[2\] is not a number"):
            call()
    assert classifier.choose(np.full((1, 3), np.nan), 0.5)[0].rejected


# --- Frames ----------------------------------------------------------------------------------------------------------


def test_a_frame_keeps_its_index_and_its_other_columns_even_where_they_repeat(classifier):
    frame = pd.DataFrame(
        [["good", 1, 2.5], [None, 2, 3.5], ["bad", 3, 4.5]], columns=["text", "n", "n"], index=[1, 1, 0]
    )
    result = classifier.classify_frame(frame, "text", column_prefix="new_")
    assert list(result.columns) == ["text", "n", "n", "new_predicted_label", "new_predicted_score"]
    assert result.index.tolist() == [1, 1, 0]
    first, last = classifier.classify(["good", "bad"])
    assert listed(result["new_predicted_label"]) == [first.label, None, last.label]


@pytest.mark.parametrize("kind", ["category", "string", "object"])
def test_texts_of_every_kind_of_column_are_read(classifier, kind):
    frame = pd.DataFrame({"text": pd.Series(["good", None, "bad"]).astype(kind)})
    first, last = classifier.classify(["good", "bad"])
    assert listed(classifier.classify_frame(frame)["predicted_label"]) == [first.label, None, last.label]


def test_what_is_no_frame_of_texts_is_refused(classifier):
    with pytest.raises(
        DataError,
        match=r"frame is a list, expected a pandas DataFrame, .* or a list of dicts; use classify",
    ):
        classifier.classify_frame(["good"])
    with pytest.raises(DataError, match="frame is a Series, expected a pandas DataFrame"):
        classifier.classify_frame(pd.Series(["good"]))
    with pytest.raises(DataError, match=r"row 1 \(index 7\) of column `text` is 5 \(int\), expected text.*astype"):
        classifier.classify_frame(pd.DataFrame({"text": ["good", 5]}, index=[3, 7]))
    with pytest.raises(
        DataError, match="text_columns names a and b, but the model was trained on text; name one column"
    ):
        classifier.classify_frame(pd.DataFrame({"a": ["x"], "b": ["y"]}), ["a", "b"])
    with pytest.raises(DataError, match=r"has a column `predicted_label` already.*column_prefix"):
        classifier.classify_frame(pd.DataFrame({"text": ["x"], "predicted_label": ["y"]}))


def test_a_list_of_dicts_comes_back_as_one_with_labels(classifier):
    rows = [{"id": 7, "text": "good"}, {"text": None, "id": 8}, {"id": 9}, {"text": float("nan")}, {"text": "bad"}]
    before = [dict(row) for row in rows]
    result = classifier.classify_frame(rows, scores=True, column_prefix="new_")
    assert rows == before
    first, last = classifier.classify(["good", "bad"])
    added = ("new_predicted_label", "new_predicted_score", *(f"new_score:{label}" for label in classifier.labels))
    assert result[0] == {
        "id": 7,
        "text": "good",
        **dict(zip(added, (first.label, first.score, *first.scores.values()), strict=True)),
    }
    assert result[4]["new_predicted_label"] == last.label
    for position in (1, 2, 3):
        assert result[position] == pytest.approx({**rows[position], **dict.fromkeys(added)}, nan_ok=True)
    assert json.loads(json.dumps(result[:3])) == result[:3]
    assert classifier.classify_frame([]) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "good"}, {"text": 5}],
            r"^row 1 of column `text` is 5 \(int\), expected text; convert the column with str",
        ),
        ([{"words": "good"}], "the frame has 0 columns `text`, expected one; there are `words`"),
        ([{"text": "good", "predicted_label": ""}], "has a column `predicted_label` already"),
    ],
)
def test_a_list_of_dicts_that_does_not_fit_is_refused(classifier, rows, message):
    with pytest.raises(DataError, match=message):
        classifier.classify_frame(rows)


def test_a_table_with_to_pandas_is_classified_as_its_frame(classifier):
    frame = pd.DataFrame({"text": ["good", None, "bad"]})
    table = type("Table", (), {"to_pandas": lambda self: frame})()
    pd.testing.assert_frame_equal(classifier.classify_frame(table), classifier.classify_frame(frame))
