"""The service in this process: predictions of `Classifier` over HTTP, and an answer in JSON to every wrong request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", minversion="1.10")  # whose client uses httpx2; it needs Python 3.11

import httpx2
from starlette.testclient import TestClient

import textclf
from tests.answering import CONTEXT, write_tiny_answerer
from tests.classify.test_classifier import LABELS, write_tiny_model
from tests.runs.test_demo import write_model
from textclf.errors import ArgumentError
from textclf.serving.batching import Batcher, QueueFullError
from textclf.serving.limits import Limits, read_token
from textclf.serving.models import open_model
from textclf.serving.service import Service

TOKEN = "a-token-of-24-characters"
TEXTS = ["the film was good", "bad bad app", "so so", "", "never again " * 200, "日本語 ünïcödé 🎉", "before\0after"]


def client_of(model: Path, token: str | None = None, **limits: Any) -> TestClient:
    chosen = Limits(**limits)
    service = Service(open_model(model, 2, chosen), chosen, token)
    return TestClient(service.application(), base_url="http://127.0.0.1:8000")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("served") / "model.tflite", reject_below=0.4, reject_label="other")


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[TestClient]:
    with client_of(model, max_body=20_000, max_texts=20, max_characters=5_000, max_batch=8) as client:
        yield client


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    path = write_tiny_answerer(tmp_path_factory.mktemp("served") / "answers.tflite")
    with client_of(path) as client:
        yield client, path


# --- Predictions -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bound", [None, 0.0, 0.9])
def test_predictions_are_those_of_the_classifier_to_the_bit(client, model, bound):
    asked = {"texts": TEXTS, "scores": True, **({} if bound is None else {"reject_below": bound})}
    predictions = client.post("/classify", json=asked).json()["predictions"]
    with textclf.Classifier(model) as classifier:
        expected = classifier.classify(TEXTS, reject_below=bound)
    assert len({prediction.label for prediction in expected}) > 1
    for sent, own in zip(predictions, expected, strict=True):
        if own.error:
            assert sent == {"label": None, "score": None, "rejected": False, "error": "has no text"}
        else:
            values = {"label": own.label, "score": own.score, "rejected": own.rejected, "scores": own.scores}
            assert sent == values


def test_one_text_gets_what_it_gets_among_others(client):
    together = client.post("/classify", json={"texts": TEXTS}).json()["predictions"]
    alone = [client.post("/classify", json={"text": text}).json()["predictions"] for text in TEXTS]
    assert [[prediction] for prediction in together] == alone


def test_pairs_are_lists_of_two_strings(tmp_path):
    path = write_tiny_model(tmp_path / "pairs.tflite", text=("question", "reply"))
    pairs = [("how are you", "fine"), ("is it good", "")]
    with client_of(path) as client, textclf.Classifier(path) as classifier:
        sent = client.post("/classify", json={"texts": pairs}).json()["predictions"]
        assert [one["score"] for one in sent] == [own.score for own in classifier.classify(pairs)]
        assert client.post("/classify", json={"text": pairs[0]}).json()["predictions"] == sent[:1]
        [problem] = client.post("/classify", json={"text": "how are you"}).json()["problems"]
    assert problem["problem"] == "is a string"
    assert problem["expected"] == "a list of two strings of at most 100,000 characters"


def test_several_labels_are_those_above_their_thresholds(tmp_path):
    settings = {"task": "multi-label-classification", "thresholds": [0.5, 0.5, 0.5], "label_separator": "|"}
    path = write_model(tmp_path / "several.tflite", several=True, **settings)
    with client_of(path) as client, textclf.Classifier(path) as classifier:
        for bound in (None, 0.1):
            asked = {"texts": TEXTS, "scores": True, **({} if bound is None else {"reject_below": bound})}
            sent = client.post("/classify", json=asked).json()["predictions"]
            expected = classifier.classify(TEXTS, reject_below=bound)
            assert [tuple(one["labels"]) for one in sent] == [own.labels for own in expected]
            assert [one.get("scores", {}) for one in sent] == [own.scores for own in expected]
        assert client.get("/model").json()["thresholds"] == dict.fromkeys(classifier.labels, 0.5)


def test_answers_are_those_of_the_question_answerer(answering):
    client, path = answering
    questions = [("is the app free?", CONTEXT), ("who calls?", CONTEXT * 3), (" ", CONTEXT), ("why?", "")]
    asked = [{"question": question, "context": context} for question, context in questions]
    sent = client.post("/answer", json={"questions": asked}).json()["answers"]
    with textclf.QuestionAnswerer(path) as answerer:
        expected = answerer.answers(questions)
    assert [(one["answer"], one["score"], one["start"], one["end"]) for one in sent[:2]] == [
        (own.text, own.score, own.start, own.end) for own in expected[:2]
    ]
    assert [one["error"] for one in sent[2:]] == [own.error.partition(": ")[2] for own in expected[2:]]
    assert client.post("/answer", json=asked[0]).json()["answers"] == sent[:1]
    assert client.post("/classify", json={"text": "good"}).json()["error"] == "the model answers questions"


def test_an_output_that_is_no_number_fails_only_its_text(client, monkeypatch):
    monkeypatch.setattr("textclf.serving.models.are_numbers", lambda rows: np.arange(len(rows)) != 1)
    sent = client.post("/classify", json={"texts": ["good", "bad", "so so"]}).json()["predictions"]
    assert ["error" in one for one in sent] == [False, True, False]


# --- Wrong requests --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "where", "problem", "expected"),
    [
        ("", "body", "is not JSON (", "a JSON object with the key texts, or with text"),
        ("{", "body", "is not JSON (", "a JSON object"),
        ('{"text": "\\ud800"}', "body", "is not JSON (", "a JSON object"),
        ("[" * 5000, "body", "is not JSON (", "a JSON object"),
        ("[]", "body", "is a list", "a JSON object"),
        ("null", "body", "is null", "a JSON object"),
        ("{}", "body.text", "is missing", "a string of at most 5,000 characters"),
        ('{"text": 5}', "body.text", "is a number", "a string"),
        ('{"texts": []}', "body.texts", "has 0 elements", "a list of 1 to 20 texts"),
        ('{"texts": "good"}', "body.texts", "is a string", "a list of 1 to 20 texts"),
        (json.dumps({"texts": ["x"] * 21}), "body.texts", "has 21 elements", "a list of 1 to 20 texts"),
        ('{"texts": ["x", null]}', "body.texts[1]", "is null", "a string"),
        ('{"texts": ["x", ["y", "z"]]}', "body.texts[1]", "is a list", "a string"),
        (json.dumps({"text": "x" * 5001}), "body.text", "has 5,001 characters", "a string of at most 5,000 characters"),
        ('{"text": "x", "reject_below": 2}', "body.reject_below", "is 2", "a number from 0 to 1"),
        ('{"text": "x", "reject_below": NaN}', "body.reject_below", "is nan", "a number from 0 to 1"),
        ('{"text": "x", "scores": "yes"}', "body.scores", "is a string", "true or false"),
        ('{"text": "x", "top_k": 2}', "body.top_k", "is an unknown key", "only the keys text, reject_below, scores"),
        ('{"text": "x", "texts": ["x"]}', "body.text", "is an unknown key", "only the keys texts, reject_below"),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_is_answered_with_its_problem(client, body, where, problem, expected):
    response = client.post("/classify", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["error"] == "the body of the request cannot be used"
    found = response.json()["problems"][0]
    assert found["where"] == where
    assert found["problem"].startswith(problem)
    assert found["expected"].startswith(expected)


def test_a_question_that_does_not_fit_is_answered_with_its_place(answering):
    client, _ = answering
    asked = [{"question": "why?", "context": 5}, {"question": "why?"}, {"question": "a", "context": "b", "id": 7}, None]
    response = client.post("/answer", json={"questions": asked})
    assert response.status_code == 422
    assert [tuple(problem.values())[:2] for problem in response.json()["problems"]] == [
        ("body.questions[0].context", "is a number"),
        ("body.questions[1].context", "is missing"),
        ("body.questions[2].id", "is an unknown key"),
        ("body.questions[3]", "is null"),
    ]
    assert response.json()["problems"][2]["expected"] == "only the keys question, context"


def test_a_body_with_thousands_of_problems_is_answered_with_the_first(model):
    with client_of(model) as client:
        response = client.post("/classify", json={f"{'k' * 200}{number}": 0 for number in range(4000)})
    assert len(response.json()["problems"]) == 10
    assert len(response.content) < 5000


def test_a_body_that_is_too_large_is_refused_whether_its_size_is_declared_or_not(client):
    def parts() -> Iterator[bytes]:
        yield from [b'{"text": "'] + [b"x" * 1000] * 400

    headers = {"Content-Type": "application/json"}
    for content in (b"x" * 20_001, b"x" * 1_000_000, parts()):
        response = client.post("/classify", content=content, headers=headers)
        assert response.status_code == 413
        assert response.json()["problems"][0]["expected"] == "at most 20,000 bytes"


def test_other_media_types_methods_and_paths_are_refused_in_json(client):
    response = client.post("/classify", data={"text": "good"})
    assert response.status_code == 415
    assert response.json()["problems"][0] == {
        "where": "header Content-Type", "problem": "is 'application/x-www-form-urlencoded'", "expected": "application/json"
    }  # fmt: skip
    response = client.get("/classify")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["problems"][0]["problem"] == "is GET"
    response = client.post("/answer", json={})
    assert (response.status_code, response.json()["error"]) == (404, "the model classifies texts")
    assert client.get("/classify/").status_code == 404


def test_a_bug_is_answered_without_a_traceback_and_without_the_text(client, monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise ValueError("a secret text")

    monkeypatch.setattr("textclf.serving.requests.BodySchema.read", broken)
    response = client.post("/classify", json={"text": "a secret text"})
    assert response.status_code == 500
    assert "secret" not in response.text + caplog.text
    assert "ValueError at test_service.py" in caplog.text


def test_a_name_of_another_site_is_refused_where_there_is_no_token(client):
    assert client.get("/health", headers={"Host": "evil.example:8000"}).status_code == 403
    assert client.get("/health", headers={"Host": "[::1]:8000"}).status_code == 200
    for name in ("localhost", "LOCALHOST:8000", "[::1]:8000", "[::1]", "127.0.0.5:80"):
        assert client.get("/health", headers={"Host": name}).status_code == 200


def test_with_a_token_only_health_and_the_description_are_public(model):
    with client_of(model, TOKEN) as client:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            for method, path in (("POST", "/classify"), ("GET", "/model"), ("GET", "/metrics")):
                response = client.request(method, path, headers=header)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
                assert TOKEN not in response.text
        assert {client.get(path).status_code for path in ("/health", "/openapi.json", "/")} == {200}
        header = {"Authorization": f"Bearer {TOKEN}", "Host": "models.example"}
        assert client.post("/classify", json={"text": "good"}, headers=header).status_code == 200


@pytest.mark.parametrize("token", ["", "short", "two words are no token", "ünïcödé-ünïcödé-ünïcödé"])
def test_a_token_that_protects_nothing_is_an_error(tmp_path, token, monkeypatch):
    (tmp_path / "token").write_text(token + "\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match="token"):
        read_token(tmp_path / "token")
    monkeypatch.setenv("TEXTCLF_TOKEN", token)
    with pytest.raises(ArgumentError, match="TEXTCLF_TOKEN"):
        read_token(None)


def test_the_token_of_a_file_goes_before_that_of_the_environment(tmp_path, monkeypatch):
    assert read_token(None) is None
    monkeypatch.setenv("TEXTCLF_TOKEN", "the-token-of-the-environment")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN
    assert read_token(None) == "the-token-of-the-environment"


# --- What a service says about itself --------------------------------------------------------------------------------
def test_the_model_is_described_with_its_labels_and_limits(client, model):
    facts = client.get("/model").json()
    with textclf.Classifier(model) as classifier:
        assert facts["sha256"] == classifier.sha256
    assert facts["labels"] == list(LABELS)
    assert (facts["reject_below"], facts["reject_label"], facts["file"]) == (0.4, "other", "model.tflite")
    assert facts["limits"]["max_body"] == 20_000
    assert str(model.parent) not in json.dumps(facts)


def test_metrics_count_requests_texts_and_batches(model):
    with client_of(model, max_batch=4) as client:
        client.post("/classify", json={"texts": ["good", "bad", "so so"] * 3})
        client.post("/classify", json={"text": 5})
        client.get("/nowhere")
        lines = client.get("/metrics").text.splitlines()
    assert 'textclf_requests_total{path="/classify",status="200"} 1.0' in lines
    assert 'textclf_requests_total{path="/classify",status="422"} 1.0' in lines
    assert 'textclf_requests_total{path="other",status="404"} 1.0' in lines
    assert "textclf_texts_total 9.0" in lines
    assert "textclf_batch_texts_count 3.0" in lines
    assert "textclf_queue_texts 0.0" in lines


@pytest.mark.parametrize("token", [None, TOKEN])
def test_the_description_names_every_route_and_fits_what_is_sent(model, answering, token):
    with client_of(model, token) as client:
        document = client.get("/openapi.json").json()
        assert set(document["paths"]) == {"/classify", "/model", "/health", "/metrics", "/openapi.json", "/"}
        assert ("security" in document["paths"]["/classify"]["post"]) == (token is not None)
    schemas = document["components"]["schemas"]
    assert schemas["ClassifyTexts"]["properties"]["texts"]["maxItems"] == 256
    assert schemas["ClassifyText"]["required"] == ["text"]
    assert set(answering[0].get("/openapi.json").json()["paths"]) >= {"/answer", "/model"}


def test_the_page_loads_nothing_from_elsewhere(client):
    response = client.get("/")
    assert response.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "://" not in response.text
    assert "<td><code>/classify</code></td>" in response.text
    assert "{{" not in response.text


# --- The queue -------------------------------------------------------------------------------------------------------
class Held:
    """A computation that waits until it is released, and keeps the batches that it got."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.released = threading.Event()

    def __call__(self, rows: list[tuple[str, ...]]) -> list[str]:
        self.batches.append([row[0] for row in rows])
        self.released.wait(20)
        if ("bad",) in rows:
            raise ValueError("bad")
        return [row[0].upper() for row in rows]


def rows_of(text: str) -> list[tuple[str, ...]]:
    return [(letter,) for letter in text]


def run_batches(scenario: Any, slots: int = 1, **limits: Any) -> Held:
    """Runs a scenario with a batcher whose computation is held, in an event loop."""
    held = Held()

    async def run() -> None:
        batcher = Batcher(held, slots, Limits(**limits), lambda rows, seconds: None)
        try:
            await asyncio.wait_for(scenario(batcher, held), 20)
        finally:
            held.released.set()
            batcher.close()

    asyncio.run(run())
    return held


def test_requests_that_wait_are_computed_together_and_long_ones_take_turns():
    async def scenario(batcher: Batcher, held: Held) -> None:
        asked = [asyncio.create_task(batcher.results(rows_of(text))) for text in ("a", "bcdefgh", "ij", "k")]
        await asyncio.sleep(0)
        assert batcher.waiting == 10
        held.released.set()
        assert ["".join(found) for found in await asyncio.gather(*asked)] == ["A", "BCDEFGH", "IJ", "K"]

    held = run_batches(scenario, max_batch=4)
    assert held.batches == [["a"], list("bcde"), list("ijkf"), list("gh")]


def test_a_full_queue_refuses_and_recovers():
    async def scenario(batcher: Batcher, held: Held) -> None:
        first = asyncio.create_task(batcher.results(rows_of("ab")))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(batcher.results(rows_of("cd")))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError) as refused:
            await batcher.results(rows_of("e"))
        assert refused.value.retry_after >= 1
        held.released.set()
        assert await first + await waiting == list("ABCD")
        assert await batcher.results(rows_of("e")) == ["E"]

    run_batches(scenario, max_batch=2, max_queue=2)


def test_texts_of_a_client_that_leaves_are_not_computed():
    async def scenario(batcher: Batcher, held: Held) -> None:
        first, leaving, last = (asyncio.create_task(batcher.results(rows_of(text))) for text in ("a", "bcd", "e"))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        held.released.set()
        assert await first + await last == ["A", "E"]

    held = run_batches(scenario, max_batch=2)
    assert held.batches == [["a"], ["e"]]


def test_an_incomplete_batch_waits_for_company_but_not_longer_than_it_should():
    async def scenario(batcher: Batcher, held: Held) -> None:
        held.released.set()
        asked = [asyncio.create_task(batcher.results(rows_of(letter))) for letter in "ab"]
        await asyncio.gather(*asked)
        await asyncio.gather(*(batcher.results(rows_of(letter)) for letter in "cdef"))

    held = run_batches(scenario, max_batch=4, max_wait_ms=50)
    assert held.batches == [["a", "b"], list("cdef")]


def test_a_batch_that_fails_fails_its_requests_and_no_others():
    async def scenario(batcher: Batcher, held: Held) -> None:
        held.released.set()
        with pytest.raises(ValueError, match="bad"):
            await batcher.results([("bad",), ("x",), ("y",)])
        assert batcher.waiting == 0
        assert await batcher.results(rows_of("z")) == ["Z"]

    run_batches(scenario, max_batch=2)


def test_overload_is_answered_with_429_and_then_recovers(model, monkeypatch):
    chosen = Limits(max_queue=3, max_batch=1)
    served = open_model(model, 1, chosen)
    compute, started, held = served.compute, threading.Event(), threading.Event()

    def held_compute(rows: list[tuple[str, ...]]) -> list[Any]:
        started.set()
        held.wait(20)
        return compute(rows)

    monkeypatch.setattr(served, "compute", held_compute)
    service = Service(served, chosen)

    async def scenario() -> None:
        transport = httpx2.ASGITransport(service.application())
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = [asyncio.create_task(client.post("/classify", json={"text": "good"}))]
            while not started.is_set():
                await asyncio.sleep(0.01)
            asked += [asyncio.create_task(client.post("/classify", json={"text": f"good {n}"})) for n in range(11)]
            while sum(task.done() for task in asked) < 8:
                await asyncio.sleep(0.01)
            held.set()
            responses = await asyncio.gather(*asked)
            assert sorted(response.status_code for response in responses) == [200] * 4 + [429] * 8
            refused = next(response for response in responses if response.status_code == 429)
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["problems"][0]["expected"] == "at most 3"
            assert (await client.post("/classify", json={"text": "good"})).status_code == 200

    asyncio.run(asyncio.wait_for(scenario(), 30))
    service.close()
