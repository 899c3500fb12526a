"""Unknown models run in a process of their own first: crashes, waits and refusals there are messages here."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable

import pytest

import textclf
from tests.encoders.test_average_words import as_model_maker
from tests.model_files import places_of_graph, with_meaningful_damage
from tests.tflite.test_checks import described, packed, unpacked
from tests.tflite.test_inference_graph import LENGTH, classifier_weights
from tests.tflite.test_model_file import operator
from tests.tiny import tiny_checkpoint
from textclf.errors import ModelError, TextclfError
from textclf.tflite.graph.mobilebert import build_inference_graph
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.trial import graph_check, probe
from textclf.tflite.trial.probe import START, TRIAL, Trial, check_runnable
from textclf.tflite.trial.probe_child import READY


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    """Verdicts go to a folder of the test."""
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def graph() -> bytes:
    return build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "dynamic")


@pytest.fixture(scope="module")
def sound(graph) -> bytes:
    return described(graph, tokenizer="device")


@pytest.fixture(scope="module")
def deadly(graph) -> bytes:
    """A model that leads LiteRT to memory that is not its own."""
    changed = unpacked(graph)
    transpose = operator(changed, "TRANSPOSE")
    transpose.inputs = [int(transpose.inputs[0]), -1]
    return described(packed(changed), tokenizer="device")


def checked(content: bytes, known: Iterable[str] = (), trial: Trial = TRIAL) -> set[str]:
    """Checks a model in a process that knows some; returns those that it knows then."""
    known = set(known)
    check_runnable(TfliteModel(content, "m.tflite"), [30, 1, 1], resizable=True, known=known, trial=trial)
    return known


def test_a_crash_of_the_runtime_is_named_by_its_signal(deadly, monkeypatch):
    monkeypatch.setattr(graph_check, "check_graph", lambda *_: None)
    with pytest.raises(ModelError, match=r"^m\.tflite: a damaged model: it ends LiteRT with (signal SIG|exit code 0x)"):
        checked(deadly)


def test_the_check_comes_first_and_needs_no_process(deadly, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(ModelError, match=r"input 1 of operation \d+ \(TRANSPOSE\) is tensor -1"):
        checked(deadly)


def test_a_model_that_passed_is_not_tried_again_in_this_process_or_the_next(sound, monkeypatch, tmp_path):
    known = checked(sound)
    [verdict] = (tmp_path / "cache" / "models").iterdir()
    monkeypatch.setattr(subprocess, "Popen", None)
    checked(sound)
    verdict.unlink()
    checked(sound, known)
    with pytest.raises(TypeError):
        checked(sound + b"another")


def test_a_refused_model_leaves_no_verdict(deadly, tmp_path):
    with pytest.raises(ModelError):
        checked(deadly)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_costs_a_trial_and_nothing_else(sound, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "file"))
    checked(sound)


def test_a_user_without_a_home_folder_has_no_cache_and_is_served_all_the_same(sound, monkeypatch):
    def no_home() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(probe, "cache_folder", no_home)
    checked(sound)


def test_a_model_that_never_ends_is_given_up(sound):
    trial = Trial(program=f"print({READY!r}, flush=True); import time; time.sleep(60)", seconds=1)
    with pytest.raises(ModelError, match="its trial did not finish within 1 s"):
        checked(sound, trial=trial)


def test_last_words_are_shown(sound):
    words = "'x' * 9999 + '\\nF0000 Check failed\\n'"
    program = f"import sys; print({READY!r}, flush=True); sys.stderr.write({words}); sys.exit(7)"
    with pytest.raises(ModelError, match=r"ends LiteRT with exit code 7 \(F0000 Check failed\)"):
        checked(sound, trial=Trial(program=program))


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param(Trial(interpreter="/nonexistent/python"), id="no program"),
        pytest.param(Trial(program="import sys; sys.exit('no LiteRT here')"), id="a broken Python"),
    ],
)
def test_where_no_process_can_be_started_the_check_alone_counts(trial, sound, caplog):
    checked(sound, trial=trial)
    assert "runs without a trial in a separate process" in caplog.text


def test_ids_that_the_tables_do_not_have_are_found_in_the_trial(sound):
    model = TfliteModel(sound, "m.tflite")
    with pytest.raises(ModelError, match="LiteRT cannot run this model: gather index out of bounds"):
        check_runnable(model, [1_000_000, 1, 1], known=set())


def test_a_trial_loads_no_tensorflow(sound):
    heavy = "[name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')]"
    checked(sound, trial=Trial(program=f"{START}; assert not {heavy}"))


def test_a_damaged_model_ends_a_classifier_with_one_line(deadly, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(deadly)
    with pytest.raises(ModelError, match=r"m\.tflite: a damaged model"):
        textclf.Classifier(path)


def test_whatever_is_damaged_a_classifier_answers_or_says_why(sound, tmp_path):
    """The check finds most of these; those that pass run in processes of their own, and then here."""
    chance = random.Random(3)
    path = tmp_path / "m.tflite"
    answered, messages = 0, []
    for content in (sound, as_model_maker()[0]):
        places = places_of_graph(content)
        for _ in range(15):
            path.write_bytes(with_meaningful_damage(content, places, chance))
            try:
                textclf.Classifier(path, num_threads=1).probabilities([("good film",), ("",)])
                answered += 1
            except TextclfError as error:
                messages.append(str(error))
    assert answered >= 1
    assert len(messages) >= 10
    assert not any("\n" in message for message in messages)
