"""`textclf serve` as a process: its address, how it stops, and what it refuses to do."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import textclf
from tests.classify.test_classifier import write_tiny_model
from tests.command import run

SECONDS = 30

posix_only = pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("server") / "model.tflite")


@contextmanager
def service(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running service and its address, which it prints."""
    command = [sys.executable, "-m", "textclf", "serve", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"on (http://\S+) \(Ctrl-C to stop\)$", line)
        assert found is not None, (line, process.communicate(timeout=SECONDS))
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def predictions_of(address: str, *texts: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{address}/classify", json.dumps({"texts": texts}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        return json.load(response)["predictions"]


def wait_for(address: str, metric: str) -> None:
    deadline = time.monotonic() + SECONDS
    while metric not in urllib.request.urlopen(f"{address}/metrics").read().decode():
        assert time.monotonic() < deadline, metric
        time.sleep(0.02)


def stopped_with_texts_under_way(process: subprocess.Popen[str], address: str, number: signal.Signals) -> list[float]:
    """The scores of two texts that wait for company when the service is asked to stop."""
    found: list[Any] = []
    client = threading.Thread(target=lambda: found.extend(predictions_of(address, "good", "bad")))
    client.start()
    wait_for(address, "textclf_queue_texts 2.0")
    process.send_signal(number)
    client.join(SECONDS)
    return [one["score"] for one in found]


@posix_only
def test_a_killed_service_starts_again_at_its_port_and_a_stopped_one_answers_what_is_under_way(model):
    with textclf.Classifier(model) as classifier:
        expected = [prediction.score for prediction in classifier.classify(["good", "bad"])]
    with service(model, "--port", 0) as (process, address):
        assert [one["score"] for one in predictions_of(address, "good", "bad")] == expected
        process.kill()
    with service(model, "--port", address.rpartition(":")[2], "--max-wait-ms", 1000) as (process, again):
        assert again == address
        assert stopped_with_texts_under_way(process, again, signal.SIGTERM) == expected
        output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output, errors) == (0, "", "")


@posix_only
def test_an_interrupted_service_ends_well_and_forgets_a_client_that_has_left(model):
    with service(model, "--port", 0, "--max-wait-ms", 1000, "--log-requests") as (process, address):
        body = b'{"texts": ["a", "b", "bad"]}'
        head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as leaving:
            leaving.sendall(head % len(body) + body)
            wait_for(address, "textclf_queue_texts 3.0")
        wait_for(address, 'textclf_requests_total{path="/classify",status="499"} 1.0')
        assert len(stopped_with_texts_under_way(process, address, signal.SIGINT)) == 2
        output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (0, "")
    assert "POST /classify 499" in errors
    assert re.search(r"^POST /classify 200 [\d.]+ ms$", errors, re.MULTILINE)
    assert "good" not in errors


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_served_only_with_a_token(model, host, capsys, monkeypatch):
    monkeypatch.delenv("TEXTCLF_TOKEN", raising=False)
    assert run("serve", model, "--host", host) == 2
    said = capsys.readouterr().err
    assert f"host (--host) is {host}, which other machines can reach; set a token in a file (--token-file)" in said


def test_an_address_that_cannot_be_used_is_an_error(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("serve", model, "--port", port) == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err
    assert run("serve", model, "--host", "no such host") == 2
    assert "host (--host) is no such host, which is unknown" in capsys.readouterr().err
    assert run("serve", model, "--token-file", model.parent / "missing") == 2
    assert "missing: the token cannot be read (No such file or directory)" in capsys.readouterr().err
