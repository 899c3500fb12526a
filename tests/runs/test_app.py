"""`textclf app` writes projects that predict what ours predicts: the Python program and the page in a browser are run."""

from __future__ import annotations

import functools
import http.server
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textclf
from tests.answering import CONTEXT, tiny_answerer
from tests.browser import Page, needs_browser
from tests.command import run
from tests.runs.test_demo import SEVERAL, texts_of, write_model
from textclf.classify.classifier import Classifier
from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.errors import ArgumentError, ModelError, RunError
from textclf.files.output_folder import foreign_entries
from textclf.training.saved.run_folder import RUN_ENTRIES

BOUND = {"reject_below": 0.9, "reject_label": "unsure"}
PAIR = {"text": ["question", "faq"]}

# Prints the results of rows, which it reads as JSON, with the program in the current folder.
_CALLER = """
import json, sys, classify
method, rows = json.load(sys.stdin)
model = classify.Model()
print(json.dumps([getattr(model, method)(*row) for row in rows]))
"""


def in_python(folder: Path, rows: Sequence[Sequence[str]], method: str = "classify") -> list[Any]:
    """What the Python app returns, in a process that cannot import textclf."""
    ended = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", _CALLER],
        input=json.dumps([method, rows]),
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(folder), "PATH": ""},
        check=True,
    )
    return list(json.loads(ended.stdout))


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64  # a browser opens several connections at once


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""


@contextmanager
def in_browser(browser: Page, folder: Path) -> Iterator[Page]:
    """The web app, served from this machine; checks that it logs nothing and asks only for its files."""
    with _Server(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        browser.open(address)
        try:
            browser.wait("document.body?.dataset.ready || document.getElementById('note')?.textContent")
            yield browser
        finally:
            server.shutdown()
    assert browser.logged == []
    assert [one for one in browser.requested if not one.startswith((address, "data:"))] == []


def pages_results(page: Page, rows: Sequence[Sequence[str]], method: str = "classify") -> list[Any]:
    return list(page.run(f"Promise.all({json.dumps(rows)}.map((row) => model.{method}(...row)))"))


def assert_same_predictions(results: Sequence[Any], model: Path, rows: Sequence[Sequence[str]]) -> None:
    with Classifier(model) as classifier:
        predictions = classifier.classify([row if len(row) > 1 else row[0] for row in rows])
        bound = classifier.reject_below
    assert len({prediction.labels for prediction in predictions}) > 1
    assert any(prediction.rejected for prediction in predictions) == (bound > 0)
    for row, result, prediction in zip(rows, results, predictions, strict=True):
        if prediction.error:
            assert result is None
            continue
        assert (tuple(result["labels"]), result["rejected"]) == (prediction.labels, prediction.rejected), row
        scores = result["scores"]
        scores = list(scores.values()) if isinstance(scores, dict) else scores
        np.testing.assert_allclose(scores, list(prediction.scores.values()), atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        BOUND,
        SEVERAL,
        PAIR,
        {"overflow": "windows", "stride": 12, "max_windows": 4},
        {**SEVERAL, "overflow": "windows", "stride": 12, "max_windows": 4},
        {"tokenizer": "bert", "overflow": "head_tail"},
    ],
    ids=["bound", "several labels", "pairs", "windows", "several labels in windows", "tokenizer of BERT"],
)
def test_the_python_app_predicts_as_we_do_on_a_hundred_texts(settings, tmp_path):
    model = write_model(tmp_path / "model.tflite", **settings)
    [app] = textclf.app(model, ["python"], tmp_path / "apps")
    texts = texts_of(100)
    rows = list(zip(texts, reversed(texts), strict=True)) if settings == PAIR else [(text,) for text in texts]
    assert_same_predictions(in_python(app.path, rows), model, rows)
    assert ("tokenizers" in (app.path / "requirements.txt").read_text()) == (settings.get("tokenizer") == "bert")


@needs_browser
@pytest.mark.parametrize(
    "settings",
    [BOUND, SEVERAL, PAIR],
    ids=["bound", "several labels", "pairs"],
)
def test_the_web_app_predicts_as_we_do_on_a_hundred_texts_and_asks_nobody(settings, browser, tmp_path):
    model = write_model(tmp_path / "model.tflite", **settings)
    [app] = textclf.app(model, ["web"], tmp_path / "apps")
    texts = texts_of(100)
    rows = list(zip(texts, reversed(texts), strict=True)) if settings == PAIR else [(text,) for text in texts]
    with in_browser(browser, app.path) as page:
        assert_same_predictions(pages_results(page, rows), model, rows)


@needs_browser
def test_a_person_types_into_the_web_app(browser, finished_run, tmp_path):
    [app] = textclf.app(finished_run, ["web"], tmp_path)
    with in_browser(browser, app.path) as page:
        page.insert("an awful film")  # the field has the focus
        page.wait("document.body.dataset.shown === 'an awful film'")
        with Classifier(finished_run) as classifier:
            [prediction] = classifier.classify(["an awful film"])
        assert page.run("document.getElementById('result').textContent") == prediction.label
        assert page.run("document.querySelectorAll('#bars li').length") == len(prediction.scores)


@needs_browser
def test_the_python_and_web_apps_answer_questions_as_we_do(browser, tmp_path):
    model = tmp_path / "model.tflite"
    model.write_bytes(tiny_answerer(48, "dynamic", spread=0.5, null_bound=0.1))
    python, web = sorted(textclf.app(model, ["python", "web"], tmp_path / "apps"), key=lambda app: app.platform)
    chance = random.Random(2)
    contexts = [
        CONTEXT,
        *(" ".join(chance.choices(CONTEXT.split(), k=size)) for size in (5, 40, 120)),
        "日本 good 🎉 film",
        " ",
    ]
    questions = [[question, context] for context in contexts for question in ("what is free?", "who?")]
    with QuestionAnswerer(model) as answerer:
        answers = answerer.answers(questions)
    with in_browser(browser, web.path) as page:
        from_page = pages_results(page, questions, "answer")
    for results in (in_python(python.path, questions, "answer"), from_page):
        for result, answer in zip(results, answers, strict=True):
            if answer.error:
                assert result is None
                continue
            assert (result["text"], pytest.approx(result["score"], abs=1e-3)) == (answer.text, answer.score)


def test_the_python_app_reads_lines_and_arguments(finished_run, tmp_path):
    [app] = textclf.app(finished_run, ["python"], tmp_path)
    program = [sys.executable, app.path / "classify.py"]
    lines = subprocess.run(program, input="a good film\n\n", capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    argument = subprocess.run([*program, "a good film"], capture_output=True, text=True, check=True).stdout
    with Classifier(finished_run) as classifier:
        [prediction] = classifier.classify(["a good film"])
    assert lines[0].split("\t") == [prediction.label, f"{prediction.score:.4f}", "a good film"]
    assert lines[1:] == ["\t0.0000\t", ""]
    assert argument.rstrip("\n") == lines[0]


def test_every_platform_gets_a_project_with_the_model_and_its_settings(finished_run, capsys):
    assert run("app", finished_run) == 0
    assert "python → " in capsys.readouterr().out
    content = (finished_run / "model.tflite").read_bytes()
    apps = finished_run / "app"
    models = {
        "android": "app/src/main/assets/model.tflite",
        "ios": "model.tflite",
        "flutter": "assets/model.tflite",
        "python": "model.tflite",
    }
    assert {path.name for path in apps.iterdir()} == {*models, "web"}
    for platform, path in models.items():
        assert (apps / platform / path).read_bytes() == content
        settings = json.loads((apps / platform / path).with_name("model_settings.json").read_text("utf-8"))
        assert settings["labels"] == list(Classifier(finished_run).labels)
        readme = (apps / platform / "README.md").read_text("utf-8").splitlines()
        assert len(readme) <= 7
        assert not any("{{" in line for line in readme)
    # A person may have changed an app, so `train --force` does not delete it unasked.
    assert foreign_entries(finished_run, RUN_ENTRIES) == ["app/"]
    shutil.rmtree(apps)


def test_an_app_is_replaced_only_on_request_and_other_folders_never(finished_run, tmp_path, capsys):
    assert run("app", finished_run, "--for", "python", "-o", tmp_path) == 0
    program, own = tmp_path / "python" / "classify.py", tmp_path / "python" / "mine.py"
    program.write_text("changed")
    own.write_text("mine")
    assert run("app", finished_run, "--for", "python", "--for", "web", "-o", tmp_path) == 2
    assert "exists already" in capsys.readouterr().err
    assert (program.read_text(), (tmp_path / "web").exists()) == ("changed", False)
    textclf.app(finished_run, ["python"], tmp_path, force=True)
    assert (program.read_text() != "changed", own.read_text()) == (True, "mine")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("mine")
    with pytest.raises(RunError, match="is not an app of textclf"):
        textclf.app(finished_run, ["web"], tmp_path, force=True)
    assert (tmp_path / "web" / "index.html").read_text() == "mine"


def test_what_a_platform_cannot_use_is_refused_with_what_helps(tmp_path, capsys):
    model = tmp_path / "model.tflite"
    with pytest.raises(ArgumentError, match="choose a folder"):
        textclf.app(write_model(model))
    with pytest.raises(ArgumentError, match="'windows' is unknown; expected android"):
        textclf.app(model, ["windows"], tmp_path)
    write_model(model, **PAIR)
    with pytest.raises(ModelError, match="MediaPipe's TextClassifier reads one; write a flutter"):
        textclf.app(model, ["android"], tmp_path)
    assert run("app", model, "-o", tmp_path / "apps") == 0
    assert "no android app: " in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "apps").iterdir()} == {"web", "flutter", "python"}
    with pytest.raises(ModelError, match="tokenizer: bert"):
        textclf.app(write_model(model, tokenizer="bert"), ["flutter"], tmp_path)
    model.write_bytes(tiny_answerer(384, "dynamic", compatibility="task-library"))
    android = textclf.app(model, ["android"], tmp_path)[0].path
    assert "BertQuestionAnswerer" in next(android.rglob("Model.kt")).read_text()
    model.write_bytes(tiny_answerer(48, "dynamic"))
    with pytest.raises(ModelError, match="needs a model of 384 tokens"):
        textclf.app(model, ["ios"], tmp_path)


def test_a_file_that_old_runtimes_refuse_gets_the_command_that_helps(tmp_path):
    [app] = textclf.app(write_model(tmp_path / "model.tflite"), ["flutter"], tmp_path / "apps")
    assert "does not load in Flutter on iOS: FULLY_CONNECTED has version 12" in "".join(app.notes)
    assert "textclf export RUN compatibility=task-library writes a file that does" in app.notes[0]
    assert app.notes[0] in (app.path / "README.md").read_text("utf-8")
    older = write_model(tmp_path / "older.tflite", compatibility="task-library")
    assert textclf.app(older, ["flutter"], tmp_path / "others")[0].notes == ()
