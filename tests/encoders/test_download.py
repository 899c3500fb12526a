"""Downloads over a network that breaks, lies and waits: the file arrives whole, or the reason is said."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.loopback import Answer, Request, Server, file_answer, google_hashes
from textclf.encoders.sources import download as module
from textclf.encoders.sources.download import download
from textclf.errors import EncoderError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the downloader waits, without waiting it; and no proxy of the machine's own."""
    waited: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waited.append, time=time.time))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return waited


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Request], Answer]], Server]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(Server(answer).running())


def fetch(server: Server, folder: Path, **options: str) -> str:
    return download(f"{server.url}/encoder.tgz", folder / "file", name="the encoder", **options)


Serve = Callable[[Callable[[Request], Answer]], Server]


def in_turn(*answers: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """One answer a request, the last for all that follow."""
    waiting = list(answers)
    return lambda request: (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)


def whole(request: Request) -> Answer:
    return file_answer(request, CONTENT)


def cut(after: int) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        found = file_answer(request, CONTENT)
        found.cut_after = after
        return found

    return answer


def status(code: int, **headers: str) -> Callable[[Request], Answer]:
    return lambda _: Answer(code, b"", {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(serve: Serve, tmp_path: Path) -> None:
    assert fetch(serve(whole), tmp_path) == SHA256
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_cut_connection_goes_on_where_it_broke(serve: Serve, tmp_path: Path) -> None:
    server = serve(in_turn(cut(300_000), cut(100_000), whole))
    assert fetch(server, tmp_path) == SHA256
    ranges = [request.headers.get("range") for request in server.requests]
    assert ranges == [None, "bytes=300000-", "bytes=400000-"]
    assert server.requests[1].headers["if-range"] == '"1"'


def test_a_transfer_of_an_earlier_process_goes_on(serve: Serve, tmp_path: Path) -> None:
    server = serve(in_turn(cut(300_000), status(404)))
    with pytest.raises(EncoderError, match="does not exist there"):
        fetch(server, tmp_path)
    server.answer = whole
    assert fetch(server, tmp_path) == SHA256
    assert server.requests[-1].headers["range"] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(serve: Serve, tmp_path: Path) -> None:
    other = b"x" + CONTENT[:-5]
    server = serve(in_turn(cut(300_000), lambda request: file_answer(request, other, '"2"')))
    assert fetch(server, tmp_path) == hashlib.sha256(other).hexdigest()


def test_another_address_does_not_go_on_with_the_first_ones_bytes(serve: Serve, tmp_path: Path) -> None:
    server = serve(in_turn(cut(300_000), status(404)))
    with pytest.raises(EncoderError):
        fetch(server, tmp_path)
    server.answer = whole
    download(f"{server.url}/other.tgz", tmp_path / "file", name="other")
    assert "range" not in server.requests[-1].headers


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_validator_a_transfer_begins_again(etag: str | None, serve: Serve, tmp_path: Path) -> None:
    def first(request: Request) -> Answer:
        answer = file_answer(request, CONTENT, etag)
        answer.cut_after = 300_000
        return answer

    server = serve(in_turn(first, lambda request: file_answer(request, CONTENT, etag)))
    assert fetch(server, tmp_path) == SHA256
    assert "range" not in server.requests[-1].headers


def test_a_server_that_ignores_ranges_is_understood(serve: Serve, tmp_path: Path) -> None:
    server = serve(in_turn(cut(300_000), lambda _: Answer(200, CONTENT, {"ETag": '"1"'})))
    assert fetch(server, tmp_path) == SHA256


def test_a_server_that_sends_another_part_is_not_believed(serve: Serve, tmp_path: Path) -> None:
    # As long as the missing part, so that only its place tells.
    wrong = Answer(206, CONTENT[200_001:-99_999], {"Content-Range": f"bytes 200001-924000/{len(CONTENT)}"})
    server = serve(in_turn(cut(300_000), lambda _: wrong, whole))
    assert fetch(server, tmp_path) == SHA256
    assert "range" not in server.requests[-1].headers


def test_a_refused_range_begins_again(serve: Serve, tmp_path: Path) -> None:
    assert fetch(serve(in_turn(cut(300_000), status(416), whole)), tmp_path) == SHA256


def test_a_transfer_that_was_complete_but_not_yet_renamed_is_not_repeated(serve: Serve, tmp_path: Path) -> None:
    server = serve(in_turn(cut(300_000), status(404)))
    with pytest.raises(EncoderError):
        fetch(server, tmp_path)
    (tmp_path / "file.part").write_bytes(CONTENT)
    server.answer = whole
    assert fetch(server, tmp_path) == SHA256
    assert len(server.requests) == 3


def test_an_answer_without_a_length_is_taken_to_its_end(serve: Serve, tmp_path: Path) -> None:
    assert fetch(serve(lambda _: Answer(200, CONTENT, without_length=True)), tmp_path) == SHA256


def test_content_encoding_is_left_as_it_was_sent(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda request: file_answer(request, CONTENT, **{"Content-Encoding": "gzip"}))
    assert fetch(server, tmp_path) == SHA256
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_busy_server_is_asked_again_when_it_says(serve: Serve, tmp_path: Path, pauses: list[float]) -> None:
    busy = status(429, Retry_After="7")
    assert fetch(serve(in_turn(status(500), busy, status(503), whole)), tmp_path) == SHA256
    assert pauses == [1.0, 7.0, 4.0]


def test_a_server_that_asks_for_hours_is_asked_after_a_minute(
    serve: Serve, tmp_path: Path, pauses: list[float]
) -> None:
    assert fetch(serve(in_turn(status(429, Retry_After="9000"), whole)), tmp_path) == SHA256
    assert pauses == [60.0]


def test_a_server_that_stays_broken_is_given_up(serve: Serve, tmp_path: Path) -> None:
    server = serve(status(500))
    with pytest.raises(EncoderError, match=r"the encoder: the server answers 500 .*fetch it where there is a network"):
        fetch(server, tmp_path)
    assert len(server.requests) == 5


def test_a_line_that_breaks_often_but_gets_on_is_not_given_up(serve: Serve, tmp_path: Path) -> None:
    server = serve(cut(100_000))
    assert fetch(server, tmp_path) == SHA256
    assert len(server.requests) == 11


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (404, r"does not exist there \(404 Not Found\); check its spelling and version"),
        (410, "does not exist there"),
        (401, r"the server refuses access \(401"),
        (403, r"the server refuses access \(403"),
        (418, "the server answers 418"),
    ],
)
def test_a_final_answer_is_not_asked_for_twice(code: int, message: str, serve: Serve, tmp_path: Path) -> None:
    server = serve(status(code))
    with pytest.raises(EncoderError, match=message):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


def test_a_web_page_is_not_taken_for_the_file(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="the server answers with a web page"):
        fetch(serve(lambda _: Answer(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"})), tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        {"x-goog-hash": google_hashes(CONTENT)},
        {"Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}:"},
        {"Digest": f"SHA-256={base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}"},
    ],
)
def test_published_hashes_are_compared(header: dict[str, str], serve: Serve, tmp_path: Path) -> None:
    assert fetch(serve(lambda request: file_answer(request, CONTENT, **header)), tmp_path) == SHA256
    damaged = CONTENT[:-1] + b"!"
    (tmp_path / "other").mkdir()
    with pytest.raises(EncoderError, match=r"what arrived is not what was published: its (md5|sha256) is"):
        fetch(serve(lambda request: file_answer(request, damaged, **header)), tmp_path / "other")
    assert not (tmp_path / "other" / "file").exists()


def test_a_wrong_hash_after_going_on_is_fetched_once_more(serve: Serve, tmp_path: Path) -> None:
    first = Answer(200, b"\0" * len(CONTENT), {"ETag": '"1"'}, cut_after=300_000)
    hashes = {"x-goog-hash": google_hashes(CONTENT)}
    server = serve(in_turn(lambda _: first, lambda request: file_answer(request, CONTENT, **hashes)))
    assert fetch(server, tmp_path) == SHA256
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=300000-", None]


def test_the_hash_that_the_user_gave_is_compared(serve: Serve, tmp_path: Path) -> None:
    assert fetch(serve(whole), tmp_path, sha256=SHA256) == SHA256
    with pytest.raises(EncoderError, match="its sha256 is"):
        fetch(serve(whole), tmp_path, sha256="0" * 64)


def test_a_file_beyond_every_encoder_is_refused(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_CONTENT", 1000)
    with pytest.raises(EncoderError, match=r"is 1,024,000 bytes long, over the limit of 1,000"):
        fetch(serve(whole), tmp_path)
    with pytest.raises(EncoderError, match=r"is longer than 1,000 bytes"):
        fetch(serve(lambda _: Answer(200, CONTENT, without_length=True)), tmp_path)


def test_a_network_that_is_not_there_says_what_to_do(tmp_path: Path, pauses: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/x"
        with pytest.raises(EncoderError) as caught:
            download(address, tmp_path / "file", name="the encoder")
    assert re.search(r"cannot be reached \(\[Errno \d+\] Connection refused\)", str(caught.value))
    assert "give the path of the archive or of its folder as the encoder's source; or use `builtin`" in str(
        caught.value
    )
    assert len(pauses) == 1


def test_a_name_that_does_not_resolve_is_said(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"cannot be reached \((Failed to resolve|\[Errno)"):
        download("http://nowhere.invalid/x", tmp_path / "file", name="the encoder")


@pytest.mark.parametrize("url", ["http://", "http://[", "ftp://x/y", "http://a b/c"])
def test_an_address_that_is_none_is_said(url: str, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"the encoder: (cannot be fetched|cannot be reached)"):
        download(url, tmp_path / "file", name="the encoder")


def test_redirects_are_followed_and_endless_ones_are_not(serve: Serve, tmp_path: Path) -> None:
    server = serve(in_turn(status(302, Location="/elsewhere"), whole))
    assert fetch(server, tmp_path) == SHA256
    assert server.requests[1].path == "/elsewhere"
    with pytest.raises(EncoderError, match="leads on more than 10 times"):
        fetch(serve(status(302, Location="/again")), tmp_path)


def test_proxies_are_used(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(whole)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert download("http://hub.invalid/encoder.tgz", tmp_path / "file", name="the encoder") == SHA256
    monkeypatch.setenv("NO_PROXY", "hub.invalid")
    with pytest.raises(EncoderError, match="cannot be reached"):
        download("http://hub.invalid/encoder.tgz", tmp_path / "other", name="the encoder")


def test_a_dead_proxy_is_named_as_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(EncoderError, match=r"the proxy cannot be reached \(.*Connection refused\); check HTTPS_PROXY"):
        download("http://hub.invalid/x", tmp_path / "file", name="the encoder")


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUTS", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sockets: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    sockets.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        with pytest.raises(EncoderError, match=r"does not answer \(Read timed out"):
            download(f"http://127.0.0.1:{listener.getsockname()[1]}/x", tmp_path / "file", name="the encoder")
        assert len(sockets) == 5
        for connection in sockets:
            connection.close()


def test_a_damaged_note_about_an_earlier_transfer_is_ignored(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"rubbish")
    for note in ("", "[]", json.dumps({"address": 3})):
        (tmp_path / "file.part.json").write_text(note)
        assert fetch(serve(whole), tmp_path) == SHA256


def test_a_transfer_is_logged_in_one_line_and_prints_nothing(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "textclf"):
        fetch(serve(whole), tmp_path)
    assert capsys.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records] == ["fetching the encoder (1.0 MB)"]
