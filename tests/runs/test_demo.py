"""`textclf demo` writes a page whose model predicts in a browser what ours predicts, without any request."""

from __future__ import annotations

import http.client
import json
import random
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import textclf
from tests.answering import CONTEXT, tiny_answerer
from tests.browser import Page, needs_browser
from tests.command import run
from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.classify.classifier import Classifier
from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.errors import ModelError, RunError
from textclf.files.output_folder import foreign_entries
from textclf.runs.demo.serving import DemoServer
from textclf.runs.demo.writing import make_page
from textclf.tflite.graph.classification import PROBABILITIES
from textclf.tflite.graph.mobilebert import ClassifierWeights, build_inference_graph
from textclf.tflite.graph.multi_label import INDEPENDENT_PROBABILITIES
from textclf.tflite.metadata import write_metadata
from textclf.tflite.trial.probe import trust
from textclf.training.saved.run_folder import RUN_ENTRIES

LABELS = ("bad", "good", "so so")
HARD_TEXTS = [
    "Ünïcödé Äpfel straße İSTANBUL ﬁ",
    "日本語のテキスト、中文字符。𠀀",
    "🎉🎉 emoji 👩‍👩‍👧‍👦 ☎️ good",
    "before\0after",
    "tab\there\nnew\rline\x0bvertical\xa0fixed",
    "don't can't e-mail: foo@bar.com, #1! C++ & 5.00 € 7%",
    "مرحبا بالعالم हिन्दी पाठ ไทย",
    "Việt e\u0301 combining x\u200by\ufeff",
    "ΣΑΣ ΟΔΥΣΣΕΥΣ “quotes” — dash…",
    "a" * 101 + " good " + "é" * 50,
    "good <script>alert(1)</script> &amp; film",
    "never again " * 300,
    "   ",
    "",
    "x",
]


_LETTERS = sorted(
    {letter for text in HARD_TEXTS for letter in text + text.lower() if letter > "~" and not letter.isspace()}
)
PIECES = [*VOCABULARY, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
"""The tiny vocabulary and every letter of the hard texts, so that no difference is hidden by [UNK]."""

SEVERAL = {"several": True, "task": "multi-label-classification", "thresholds": [0.5, 0.3, 0.7]}
"""The settings of a model of several labels."""


def texts_of(count: int) -> list[str]:
    chance = random.Random(1)
    more = [" ".join(chance.choices(VOCABULARY[40:], k=chance.randint(1, 30))) for _ in range(count - len(HARD_TEXTS))]
    return [*HARD_TEXTS, *more]


def write_model(
    path: Path,
    quantization: str = "dynamic",
    compatibility: str = "litert",
    *,
    several: bool = False,
    length: int = 24,
    labels: Sequence[str] = LABELS,
    **settings: object,
) -> Path:
    """A tiny classifier with random weights, whose label differs from text to text."""
    checkpoint, chance = tiny_checkpoint(seed=3, vocab_size=len(PIECES)), np.random.default_rng(5)
    kernel = 3 * chance.standard_normal((checkpoint.config.hidden_size, len(labels))).astype(np.float32)
    # With this bias, about half of the texts have each of several labels.
    bias = np.array([14, 27, 14] if several else np.zeros(len(labels)), np.float32)
    outputs = INDEPENDENT_PROBABILITIES if several else PROBABILITIES
    weights = ClassifierWeights(
        checkpoint.config, checkpoint.weights, checkpoint.mask_convention, kernel, bias, outputs
    )
    rows = Tokenizer(PIECES).encode([(text,) for text in texts_of(60) if text.strip()], length)
    content = write_metadata(
        build_inference_graph(weights, length, quantization, compatibility, rows),  # type: ignore[arg-type]
        name="tiny",
        labels=labels,
        vocabulary=PIECES,
        settings={
            "tokenizer": "device",
            "text": ["text"],
            "label": "label",
            "quantization": quantization,
            "compatibility": compatibility,
            **settings,
        },
    )
    path.write_bytes(content)
    trust(content)
    return path


def opened(browser: Page, model: Path, **options: object) -> Page:
    demo = textclf.demo(model, model.with_suffix(".html"), force=True, **options)  # type: ignore[arg-type]
    browser.open(demo.path.as_uri())
    browser.wait("document.body && document.body.dataset.ready")
    return browser


def assert_same_predictions(page: Page, model: Path, rows: Sequence[Sequence[str]]) -> None:
    results = page.run(f"Promise.all({json.dumps(rows)}.map((row) => textclf.classify(...row)))")
    with Classifier(model) as classifier:
        predictions = classifier.classify([row if len(row) > 1 else row[0] for row in rows])
    for row, result, prediction in zip(rows, results, predictions, strict=True):
        if prediction.error:
            assert result is None
            continue
        assert (tuple(result["labels"]), result["rejected"]) == (prediction.labels, prediction.rejected), row
        np.testing.assert_allclose(result["scores"], list(prediction.scores.values()), atol=1e-3)


def assert_quiet(page: Page, address: str) -> None:
    assert page.logged == []
    assert [one for one in page.requested if not one.startswith("blob:")] == [address]


@needs_browser
def test_the_page_predicts_as_we_do_on_a_hundred_texts_and_asks_nobody(browser, tmp_path):
    model = write_model(tmp_path / "model.tflite", reject_below=0.9, reject_label="unsure")
    page = opened(browser, model)
    assert_same_predictions(page, model, [[text] for text in texts_of(100)])
    assert_quiet(page, model.with_suffix(".html").as_uri())


@needs_browser
@pytest.mark.parametrize(
    ("quantization", "compatibility"),
    [("none", "litert"), ("float16", "litert"), ("int4", "litert"), ("dynamic", "task-library")],
)
def test_the_page_computes_every_form_of_export(quantization, compatibility, browser, tmp_path):
    model = write_model(tmp_path / "model.tflite", quantization, compatibility)
    assert_same_predictions(opened(browser, model), model, [[text] for text in texts_of(40)])


@needs_browser
@pytest.mark.parametrize(
    "settings",
    [
        SEVERAL,
        {"overflow": "windows", "stride": 12, "max_windows": 4},
        {**SEVERAL, "overflow": "windows", "stride": 12, "max_windows": 4},
        {"overflow": "head_tail"},
        {"tokenizer": "bert"},
        {"fixed_length": True},
    ],
    ids=[
        "several labels",
        "windows",
        "several labels in windows",
        "head and tail",
        "tokenizer of BERT",
        "fixed length",
    ],
)
def test_the_page_reads_texts_as_the_settings_of_the_model_say(settings, browser, tmp_path):
    model = write_model(tmp_path / "model.tflite", **settings)
    page = opened(browser, model)
    assert_same_predictions(page, model, [[text] for text in texts_of(40)])
    tokens = page.run(f"Promise.all({json.dumps(HARD_TEXTS)}.map((text) => textclf.tokens(text)))")
    assert tokens == Tokenizer(PIECES, settings.get("tokenizer", "device")).pieces(HARD_TEXTS)


@needs_browser
def test_the_page_reads_pairs(browser, tmp_path):
    model = write_model(tmp_path / "model.tflite", text=["question", "faq"])
    texts = texts_of(40)
    assert_same_predictions(opened(browser, model), model, list(zip(texts, reversed(texts), strict=True)))


@needs_browser
@pytest.mark.parametrize("phone", [True, False], ids=["phone", "windows"])
def test_the_page_answers_questions_as_we_do(phone, browser, tmp_path):
    model = tmp_path / "model.tflite"
    model.write_bytes(tiny_answerer(384 if phone else 48, "dynamic", spread=0.5, null_bound=None if phone else 0.1))
    page = opened(browser, model)
    chance = random.Random(2)
    contexts = [
        CONTEXT,
        *(" ".join(chance.choices(CONTEXT.split(), k=size)) for size in (5, 40, 120)),
        "日本 good 🎉 film",
        " ",
    ]
    questions = [[question, context] for context in contexts for question in ("what is free?", "who?")]
    results = page.run(
        f"Promise.all({json.dumps(questions)}.map(([q, c]) => textclf.answer(q, c, {json.dumps(phone)})))"
    )
    with QuestionAnswerer(model) as answerer:
        answers = answerer.answers(questions, phone=phone)
    for result, answer in zip(results, answers, strict=True):
        if answer.error:
            assert result is None
            continue
        assert (result["text"], pytest.approx(result["score"], abs=1e-3)) == (answer.text, answer.score)


@needs_browser
def test_a_person_types_chooses_a_row_and_sees_which_words_decided(browser, finished_run):
    demo = textclf.demo(finished_run, force=True)
    assert (demo.path, demo.rows_name, demo.examples) == (finished_run / "demo.html", "test rows", 12)
    assert foreign_entries(finished_run, RUN_ENTRIES) == []  # so that `train --force` may replace the run
    browser.open(demo.path.as_uri())
    browser.wait("document.body && document.body.dataset.ready")
    browser.insert("an awful film")  # the field has the focus
    browser.wait("document.body.dataset.explained === 'an awful film'")
    with Classifier(finished_run) as classifier:
        [prediction] = classifier.classify(["an awful film"])
    assert browser.run("document.querySelector('.verdict .label').textContent") == prediction.label
    assert browser.run("document.querySelectorAll('#words span').length") == 3
    assert "awful" in browser.run("document.querySelector('#strongest').textContent")
    browser.key("Escape", 27)
    browser.wait("document.querySelector('textarea').value === '' && document.getElementById('why').hidden")
    browser.run("document.querySelector('#example-list button').click()")
    browser.wait("document.getElementById('verdict').textContent.includes('The test row says')")
    assert_quiet(browser, demo.path.as_uri())


@needs_browser
def test_a_served_page_asks_only_for_itself(browser, finished_run):
    content = make_page(finished_run, examples=2).content
    with DemoServer(content) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open(server.address)
        browser.wait("document.body && document.body.dataset.ready")
        assert browser.run("textclf.classify('a good film').then(({labels}) => labels.length)") == 1
        assert_quiet(browser, server.address)
        server.shutdown()


def test_the_server_answers_only_this_machine_and_only_the_page():
    with DemoServer(b"<p>") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = []
        for path, host in (("/", "localhost"), ("/favicon.ico", "localhost"), ("/", "other.example"), ("/", "[::1]")):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", path, headers={"Host": f"{host}:{server.server_port}"})
            found.append(connection.getresponse().status)
            connection.close()
        server.shutdown()
    assert found == [200, 404, 404, 200]


def test_a_page_has_the_name_of_a_page(finished_run, tmp_path, capsys):
    assert run("demo", finished_run, "-o", tmp_path / "page.txt") == 2
    assert "a page needs a name that ends in .html or .htm; change the name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_rows_are_in_the_page_only_if_they_are_wanted(finished_run, tmp_path, capsys):
    row = re.compile(r'"texts":\["[^"]')
    assert run("demo", finished_run, "-o", tmp_path / "with.html", "--examples", 4) == 0
    assert len(row.findall((tmp_path / "with.html").read_text("utf-8"))) == 4
    assert "4 test rows are inside the page" in capsys.readouterr().err
    assert run("demo", finished_run, "-o", tmp_path / "without.html", "--no-examples") == 0
    assert run("demo", finished_run / "model.tflite", "-o", tmp_path / "file.html") == 0
    for name in ("without.html", "file.html"):
        assert not row.findall((tmp_path / name).read_text("utf-8"))
    assert "inside the page" not in capsys.readouterr().err
    table = finished_run.parent.parent / "test.csv"
    demo = textclf.demo(finished_run / "model.tflite", tmp_path / "table.html", examples_from=table, examples=3)
    assert (demo.examples, demo.rows_name) == (3, "rows of test.csv")


def test_nothing_else_is_replaced(finished_run, tmp_path):
    page = tmp_path / "page.html"
    textclf.demo(finished_run, page)
    with pytest.raises(RunError, match="exists already; choose another output"):
        textclf.demo(finished_run, page)
    textclf.demo(finished_run, page, force=True)
    page.write_text("<!DOCTYPE html><p>mine")
    with pytest.raises(RunError, match="is not a demo of textclf"):
        textclf.demo(finished_run, page, force=True)
    assert page.read_text() == "<!DOCTYPE html><p>mine"


def test_a_run_without_its_data_gets_a_page_without_examples(finished_run, tmp_path, capsys):
    data = finished_run.parent.parent / "test.csv"
    data.rename(tmp_path / "test.csv")
    try:
        demo = textclf.demo(finished_run, tmp_path / "page.html", quiet=False)
    finally:
        (tmp_path / "test.csv").rename(data)
    assert demo.examples == 0
    assert "no examples, because the rows of the run cannot be read" in capsys.readouterr().err


def test_a_graph_that_textclf_did_not_write_is_refused(tmp_path):
    foreign = Path(__file__).parent.parent / "fixtures" / "tflite_support.tflite"
    with pytest.raises(ModelError, match=r"computes only the graphs that textclf writes itself|metadata name"):
        textclf.demo(foreign, tmp_path / "page.html")
