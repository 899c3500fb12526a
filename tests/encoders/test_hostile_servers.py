"""Servers that lie, dawdle and lead astray: nothing that they say is believed unchecked, and nothing of theirs is kept."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import logging
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.command import run
from tests.encoder_writers import write_hugging_face
from tests.loopback import Answer, HuggingFace, Request, Server, file_answer
from tests.tiny import tiny_checkpoint
from textclf.encoders.sources import download as module
from textclf.encoders.sources.download import download
from textclf.encoders.sources.locate import locate
from textclf.errors import EncoderError
from textclf.files import network
from textclf.files.network import is_offline, offline

CONTENT = bytes(range(256)) * 400
VARIATION = "owner/model/tensorFlow2/variation"
Serve = Callable[..., Server]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no pauses, no proxy. Returns the cache."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "TEXTCLF_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answer, certificate=None: stack.enter_context(Server(answer, certificate).running())


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    file = tmp_path / "certificate.pem"
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = ["openssl", *options.split(), "-keyout", str(tmp_path / "key"), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(shutil.copy(file, tmp_path / "trusted.pem")))
    file.write_text(file.read_text() + (tmp_path / "key").read_text())
    return file


def leads_to(url: str) -> Callable[[Request], Answer]:
    return lambda _: Answer(302, b"", {"Location": url})


def files_in(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]


# Redirects.


def test_a_chain_that_leaves_https_on_its_way_is_refused_though_it_ends_there(
    serve: Serve, certificate: Path, tmp_path: Path
) -> None:
    last = serve(lambda request: file_answer(request, CONTENT), certificate)
    clear = serve(leads_to(f"{last.url}/end.tgz"))
    first = serve(leads_to(f"{clear.url}/middle.tgz"), certificate)
    assert download(f"{last.url}/end.tgz", tmp_path / "file", name="x") == hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(EncoderError, match=r"x: leads from https to 'http://127\.0\.0\.1:\d+', where anybody"):
        download(f"{first.url}/start.tgz", tmp_path / "file", name="x")
    assert clear.requests == []


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/", "data:text/plain,x", "javascript:1"]
)
def test_a_redirect_to_what_is_no_web_address_is_refused(target: str, serve: Serve, tmp_path: Path) -> None:
    server = serve(leads_to(target))
    with pytest.raises(EncoderError, match=r"which is not a web address"):
        download(f"{server.url}/x", tmp_path / "file", name="x")
    assert len(server.requests) == 1


def test_an_account_does_not_follow_a_chain_over_another_host_and_back(serve: Serve, tmp_path: Path) -> None:
    home = serve(lambda request: file_answer(request, CONTENT))
    away = serve(leads_to(f"{home.url}/back"))
    home.answer = lambda request: (
        leads_to(f"{away.url.replace('127.0.0.1', 'localhost')}/away")(request)
        if request.path == "/start"
        else file_answer(request, CONTENT)
    )
    download(f"{home.url}/start", tmp_path / "file", name="x", headers={"Authorization": "Bearer secret"})
    assert home.requests[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in away.requests[0].headers
    assert "authorization" not in home.requests[1].headers


# Slow servers.


def dripping(head: bytes, pause: float = 0.05) -> Iterator[str]:
    """A server that sends `head` at once and then a byte now and then, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(4096)
            connection.sendall(head)
            while True:
                connection.sendall(b"x")
                time.sleep(pause)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


SLOW = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    "endless body": b"HTTP/1.1 200 OK\r\n\r\n",
    "headers": b"HTTP/1.1 200 OK\r\nX-Slow: ",
    "status": b"HTTP/1.1 200 ",
}


@pytest.mark.parametrize("what", SLOW)
def test_a_server_that_drips_is_given_up(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_FOR_HEADERS", 0.5)
    monkeypatch.setattr(module, "SECONDS_A_CHUNK", 0.5)
    begun = time.monotonic()
    for url in dripping(SLOW[what]):
        with pytest.raises(EncoderError, match="the server is too slow: it sends less than 1 kB a second"):
            download(f"{url}/x", tmp_path / "file", name="x")
    assert time.monotonic() - begun < 20


def test_a_hub_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_FOR_HEADERS", 0.5)
    monkeypatch.setattr(module, "SECONDS_A_CHUNK", 0.5)
    for url in dripping(SLOW["headers"]):
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", url)
        for name in ("hf:owner/model", f"kaggle:{VARIATION}"):
            with pytest.raises(EncoderError, match="the server is too slow"):
                locate(name)


def test_a_transfer_ends_at_the_latest_when_its_time_is_over(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_TRANSFER", 1.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: time.sleep(0.05), time=time.time))

    def cut(request: Request) -> Answer:
        answer = file_answer(request, CONTENT * 100)
        answer.cut_after = 20_000
        return answer

    begun = time.monotonic()
    with pytest.raises(EncoderError, match=r"was cut after|too slow"):
        download(f"{serve(cut).url}/x", tmp_path / "file", name="x")
    assert time.monotonic() - begun < 15


# What is refused is not kept.


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, CONTENT),
        Answer(200, CONTENT, without_length=True),
        Answer(200, CONTENT, {"Digest": "SHA-256=" + "A" * 43 + "="}),
        Answer(200, CONTENT, {"Digest": "SHA-256=abc"}),
        Answer(200, CONTENT, {"Digest": "SHA-256=!"}),
    ],
)
def test_nothing_is_left_of_a_download_that_can_never_be_accepted(
    answer: Answer, serve: Serve, tmp_path: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not set(answer.headers) & {"Digest"}:
        monkeypatch.setattr(module, "LARGEST_CONTENT", 50_000)
    url = f"{serve(lambda _: answer).url}/e.tgz"
    with pytest.raises(EncoderError):
        locate(url)
    assert files_in(surroundings) == []
    assert run("encoder", url) == 2


def test_what_arrives_compressed_is_not_unpacked_on_the_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    server = serve(lambda _: Answer(200, bomb, {"Content-Encoding": "gzip", "Content-Type": "application/json"}))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with pytest.raises(EncoderError, match="the hub's answer is not understood"):
        locate("hf:owner/model")


# Hubs.


@pytest.fixture
def hub(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> tuple[HuggingFace, Server]:
    folder = write_hugging_face(tmp_path / "hf", tiny_checkpoint())
    repository = HuggingFace("owner/model", {file.name: file.read_bytes() for file in folder.iterdir()})
    server = serve(repository)
    repository.storage = server.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return repository, server


@pytest.mark.parametrize(
    "etag", ['"{0}/evil.pth"', '"../../../evil"', '"' + "a" * 39 + '"', '"' + "g" * 64 + '"', "", '"..\\evil"']
)
def test_an_etag_that_is_no_hash_is_refused_and_names_no_file(
    etag: str, hub: tuple[HuggingFace, Server], tmp_path: Path, surroundings: Path
) -> None:
    repository, server = hub
    etag = etag.format(tmp_path)

    def lying(request: Request) -> Answer:
        answer = repository(request)
        for name in ("ETag", "X-Linked-Etag"):
            if name in answer.headers:
                answer.headers[name] = etag
        return answer

    server.answer = lying
    with pytest.raises(EncoderError, match="publishes an invalid hash"):
        locate("hf:owner/model")
    assert list(tmp_path.rglob("evil*")) == []
    assert files_in(surroundings) == []


@pytest.mark.parametrize(
    "about",
    [
        [],
        None,
        {"sha": "../../evil", "siblings": []},
        {"sha": 3, "siblings": []},
        {"sha": "a" * 40, "siblings": {}},
        {"sha": "a" * 40, "siblings": [3, {"rfilename": 3}, {"rfilename": "../../model.safetensors"}]},
        {"siblings": []},
        {"sha": "a" * 40 + "\n", "siblings": []},
    ],
)
def test_a_hubs_answer_of_another_kind_is_refused(about: object, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda _: Answer(200, json.dumps(about).encode()))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with pytest.raises(EncoderError, match=r"the hub's answer is not understood|holds none of"):
        locate("hf:owner/model")
    assert len(server.requests) == 1


def test_the_hash_in_the_hubs_list_is_compared_whatever_the_file_server_says(hub: tuple[HuggingFace, Server]) -> None:
    repository, server = hub
    other = repository.files["config.json"].replace(b"mobilebert", b"mobilebErt")

    def lying(request: Request) -> Answer:
        if request.path.startswith("/api/"):
            about = json.loads(repository(request).body)
            for sibling in about["siblings"]:
                sibling["blobId"] = repository.etag(sibling["rfilename"])
            return Answer(200, json.dumps(about).encode())
        if request.path.endswith("config.json"):
            digest = hashlib.sha1(b"blob %d\0" % len(other) + other).hexdigest()
            return Answer(200, other, {"ETag": f'"{digest}"'})
        return repository(request)

    server.answer = lying
    with pytest.raises(EncoderError, match=r"config\.json: what arrived is not what was published"):
        locate("hf:owner/model")


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b"null", b'{"versionNumber": "../1"}', b'{"versionNumber": -1}', b"[" * 9999]
)
def test_a_kaggle_version_that_is_none_is_refused(body: bytes, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", serve(lambda _: Answer(200, body)).url)
    with pytest.raises(EncoderError, match="Kaggle names no newest version; name one, as in"):
        locate(f"kaggle:{VARIATION}")


def test_an_answer_of_a_hub_that_does_not_end_is_not_read_to_its_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, surroundings: Path
) -> None:
    server = serve(lambda _: Answer(200, b" " * (5 << 20), without_length=True))
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
    with pytest.raises(EncoderError, match="is longer than 4,194,304 bytes"):
        locate(f"kaggle:{VARIATION}")


def encoder_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return buffer.getvalue()


def test_a_hub_that_is_down_is_answered_for_by_the_cache_whichever_hub_it_is(
    serve: Serve, hub: tuple[HuggingFace, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = encoder_archive()
    kaggle = serve(
        lambda request: (
            Answer(200, b'{"versionNumber": 4}') if request.path.endswith("/get") else file_answer(request, archive)
        )
    )
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", kaggle.url)
    names = ("hf:owner/model", f"kaggle:{VARIATION}")
    found = [locate(name) for name in names]
    for server in (kaggle, hub[1]):
        server.answer = lambda _: Answer(503)
    assert [locate(name) for name in names] == found


# The cache.


def test_links_in_the_cache_are_neither_read_nor_written_through(
    serve: Serve, tmp_path: Path, surroundings: Path
) -> None:
    server = serve(lambda request: file_answer(request, encoder_archive()))
    url = f"{server.url}/e.tgz"
    entry = locate(url).parent
    victim = tmp_path / "victim"
    victim.write_text("precious")
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EncoderError, match="is a symbolic link, which textclf never makes in its cache; remove it"):
        locate(url)
    entry.unlink()
    lock = entry.with_name(f".{entry.name}.lock")
    lock.unlink(missing_ok=True)
    lock.symlink_to(victim)
    with pytest.raises(EncoderError, match="is a symbolic link"):
        locate(url)
    lock.unlink()
    for name in (f"{entry.name}.part", f"{entry.name}.part.json"):
        (surroundings / "downloads" / name).symlink_to(victim)
    entry.with_name(f".{entry.name}.unfinished").symlink_to(tmp_path / "elsewhere")
    assert locate(url).is_dir()
    assert victim.read_text() == "precious"
    assert (tmp_path / "elsewhere" / "content").is_dir()


@pytest.mark.parametrize("name", ["", "encoders", "downloads"])
def test_a_file_in_place_of_a_folder_of_the_cache_is_said(name: str, serve: Serve, surroundings: Path) -> None:
    (surroundings / name).parent.mkdir(parents=True, exist_ok=True)
    (surroundings / name).write_text("a file")
    with pytest.raises(EncoderError, match=r"cannot be written .*set TEXTCLF_CACHE"):
        locate(f"{serve(lambda request: file_answer(request, encoder_archive())).url}/e.tgz")


# Offline, and quiet.


def test_a_command_that_was_forbidden_the_network_leaves_it_to_those_after_it(tmp_path: Path) -> None:
    assert not is_offline()
    assert run("encoder", "--offline", "http://127.0.0.1:1/e.tgz") == 2
    assert not is_offline()
    with offline():
        assert is_offline()
        assert network.offline_variables() == {"TEXTCLF_OFFLINE": "1"}
        with offline(False):
            assert is_offline()
    assert not is_offline()
    assert network.offline_variables() == {}


def test_nothing_is_printed_by_the_library_when_it_fetches(
    hub: tuple[HuggingFace, Server], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "textclf"):
        locate("hf:owner/model")
    assert capsys.readouterr() == ("", "")
    assert any("fetching hf:owner/model@main: model.safetensors" in message for message in caplog.messages)
