"""Where encoders come from: the package, the disk, and the hubs, each asked for only once."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.encoder_writers import write_hugging_face, write_tf1_hub
from tests.loopback import Answer, HuggingFace, Kaggle, Request, Server, TfHub, file_answer
from tests.tiny import tiny_checkpoint
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.encoders.sources import download
from textclf.encoders.sources import locate as source
from textclf.encoders.sources.locate import builtin_names, load_checkpoint, load_facts, load_vocabulary, locate
from textclf.errors import EncoderError
from textclf.files import network

HANDLE = "/google/mobilebert/uncased_L-24_H-128_B-512_A-4_F-4_OPT/1"
VARIATION = "tensorflow/mobilebert/tensorFlow2/en-uncased-l-24-h-128-b-512-a-4-f-4-opt"
WEIGHT = "embeddings/word_embeddings"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no pauses, and nothing of the machine's own settings. Returns the cache."""
    for name in ("TEXTCLF_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "KAGGLE_API_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder, tiny_checkpoint())
    return folder


@pytest.fixture(scope="module")
def archive(encoder: Path) -> bytes:
    return tar_of(encoder)


Serve = Callable[[Callable[[Request], Answer]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(Server(answer).running())


def tar_of(folder: Path, inside: str = "uncased_L-2") -> bytes:
    file = folder.with_suffix(".tar.gz")
    with tarfile.open(file, "w:gz", compresslevel=1) as content:
        content.add(folder, inside)
    return file.read_bytes()


def is_tiny(name: str, *, without_network: bool = False) -> bool:
    with network.offline(without_network):
        found = load_checkpoint(name)
    return np.array_equal(found.weights[WEIGHT], tiny_checkpoint().weights[WEIGHT])


def offline_locate(name: str) -> Path:
    with network.offline():
        return locate(name)


# On this machine.


def test_builtin_encoders_are_found_in_the_package(encoder: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(encoder, tmp_path / "builtin" / name)
    (tmp_path / "builtin" / "__pycache__").mkdir()
    assert builtin_names(tmp_path / "builtin") == ["one", "other"]
    assert builtin_names(tmp_path / "nothing") == []
    assert source.DEFAULT_BUILTIN in builtin_names()
    assert locate("builtin") == locate(f"builtin:{source.DEFAULT_BUILTIN}")
    assert locate("builtin").parent == source.BUILTIN
    assert (locate("builtin") / "config.json").is_file()
    message = "no built-in encoder 'mobilebert-smal'; known are: .*builtin:mobilebert-small.*; did you mean"
    with pytest.raises(EncoderError, match=message):
        locate("builtin:mobilebert-smal")


def test_relative_paths_are_taken_from_the_given_folder(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(encoder.name, encoder.parent) == encoder
    monkeypatch.chdir(encoder.parent)
    assert locate(f"./{encoder.name}").resolve() == encoder
    assert locate(str(encoder), Path("/")) == encoder


def test_a_misspelt_folder_gets_the_nearest_one_named(encoder: Path) -> None:
    with pytest.raises(EncoderError, match=f"there is no such file or folder; did you mean '{encoder.name}'"):
        locate(str(encoder)[:-1])


@pytest.mark.parametrize("name", ["~nobody-of-this-name/encoder", "a\0b", "x" * 5000])
def test_a_path_that_no_file_can_have_is_said(name: str) -> None:
    with pytest.raises(EncoderError, match=r"cannot be found|cannot be read|there is no such file or folder"):
        locate(name)


def test_a_repository_without_hf_is_told_how_to_write_it() -> None:
    with pytest.raises(EncoderError, match="for the Hugging Face repository write hf:google/mobilebert-uncased"):
        locate("google/mobilebert-uncased")


@pytest.mark.parametrize("text", ["s3://bucket/x.tgz", "git@host:x", "", ":", "hfx:a/b", "builtins"])
def test_what_is_not_understood_says_what_is(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match=r"there is no such|no encoder was recognised"):
        load_checkpoint(text)


def test_an_archive_is_unpacked_once_and_known_by_its_content(encoder: Path, tmp_path: Path, archive: bytes) -> None:
    file = tmp_path / "no-suffix"
    file.write_bytes(archive)
    first = locate(str(file))
    assert is_tiny(str(file))
    assert first.is_relative_to(tmp_path / "cache" / "encoders")
    renamed = file.rename(tmp_path / "no-suffix-2")
    assert locate(str(renamed)).parent.name.endswith(first.parent.name[-16:])
    before = first.stat().st_mtime_ns
    assert locate(str(renamed.rename(file))) == first
    assert first.stat().st_mtime_ns == before


def test_a_zip_of_a_folder_in_another_format_is_read(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "hf", tiny_checkpoint(), prefix="mobilebert.")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "hf")
    assert is_tiny(str(tmp_path / "packed.zip"))


def test_a_file_that_is_no_archive_is_refused(encoder: Path) -> None:
    with pytest.raises(EncoderError, match=r"encoder\.safetensors: is a file, but no archive; point to the folder"):
        locate(str(encoder / "encoder.safetensors"))


def test_an_archive_of_something_else_is_named_as_the_user_knows_it(tmp_path: Path) -> None:
    file = tmp_path / "other.zip"
    with zipfile.ZipFile(file, "w") as content:
        content.writestr("readme.txt", "x")
    for load in (load_checkpoint, load_vocabulary):
        with pytest.raises(EncoderError, match=f"^{re.escape(str(file))}: .*it holds readme.txt"):
            load(str(file))


def test_a_bad_archive_leaves_nothing_in_the_cache(tmp_path: Path, surroundings: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as content:
        content.writestr("good", "x")
        content.writestr("../evil", "x")
    with pytest.raises(EncoderError, match="leads out of the folder"):
        locate(str(tmp_path / "bad.zip"))
    assert [file for file in surroundings.rglob("*") if file.is_file() and file.suffix != ".lock"] == []
    assert [folder.name for folder in (surroundings / "encoders").iterdir() if folder.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(archive)
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EncoderError, match=r"cannot be written \(Not a directory\); .* set TEXTCLF_CACHE"):
        locate(str(tmp_path / "file"))


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert network.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TEXTCLF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert network.cache_folder() == tmp_path / "xdg" / "textclf"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert network.cache_folder() == tmp_path / "home" / ".cache" / "textclf"


def test_an_unfinished_folder_of_a_killed_process_is_made_again(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "a.tgz").write_bytes(archive)
    found = locate(str(tmp_path / "a.tgz")).parent
    found.rename(found.with_name(f".{found.name}.unfinished"))
    shutil.rmtree(found.with_name(f".{found.name}.unfinished") / "content" / "uncased_L-2")
    assert is_tiny(str(tmp_path / "a.tgz"))


# TF Hub.


def test_a_tf_hub_handle_is_fetched_once_by_the_hubs_own_protocol(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "textclf")
    write_tf1_hub(tmp_path / "module", tiny_checkpoint())
    server = serve(TfHub({HANDLE: tar_of(tmp_path / "module", ".")}))
    monkeypatch.setattr(source, "TFHUB", server.url)
    for handle in (f"tfhub:{HANDLE[1:]}", f"{server.url}{HANDLE}", f"{server.url}{HANDLE}/"):
        assert load_checkpoint(handle).format == "tf1_hub"
    assert [request.path for request in server.requests] == [HANDLE, f"/storage{HANDLE}.tar.gz"]
    assert server.requests[0].query == {"tf-hub-format": ["compressed"]}
    assert sum("fetching" in message for message in caplog.messages) == 1
    about = json.loads((locate(f"tfhub:{HANDLE[1:]}").parent / "source.json").read_text())
    assert about["sha256"] == hashlib.sha256((tmp_path / "module.tar.gz").read_bytes()).hexdigest()


def test_another_server_that_speaks_tf_hubs_protocol_is_asked_in_it(serve: Serve, archive: bytes) -> None:
    server = serve(TfHub({"/company/encoder/2": archive}))
    assert is_tiny(f"{server.url}/company/encoder/2")


def test_an_unknown_handle_is_said_not_to_exist(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, surroundings: Path
) -> None:
    monkeypatch.setattr(source, "TFHUB", serve(TfHub({})).url)
    with pytest.raises(EncoderError, match=r"/google/none/1: does not exist there \(404"):
        locate("tfhub:google/none/1")
    with pytest.raises(EncoderError, match="names no model; expected tfhub:OWNER/MODEL/VERSION"):
        locate("tfhub:")


# Kaggle.


@pytest.fixture
def kaggle(serve: Serve, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = serve(Kaggle({VARIATION: {1: tar_of_nothing(), 2: archive}}))
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
    return server


def tar_of_nothing() -> bytes:
    return b"PK\x05\x06" + bytes(18)


def test_a_kaggle_handle_means_the_newest_version(kaggle: Server) -> None:
    assert is_tiny(f"kaggle:{VARIATION}")
    paths = [request.path for request in kaggle.requests]
    assert paths == [
        f"/api/v1/models/{VARIATION}/get",
        f"/api/v1/models/{VARIATION}/2/download",
        f"/storage/{VARIATION}/2",
    ]
    assert is_tiny(f"kaggle:{VARIATION}/2")
    assert is_tiny(f"https://www.kaggle.com/models/{VARIATION}/versions/2")
    assert len(kaggle.requests) == 3


def test_a_kaggle_version_can_be_named(kaggle: Server) -> None:
    with pytest.raises(EncoderError, match="no encoder was recognised"):
        load_checkpoint(f"kaggle:{VARIATION}/1")
    with pytest.raises(EncoderError, match=rf"kaggle:{VARIATION}/7: does not exist there"):
        locate(f"kaggle:{VARIATION}/7")


def test_offline_the_newest_kaggle_version_at_hand_is_taken(kaggle: Server) -> None:
    with pytest.raises(EncoderError, match="was not fetched before"):
        offline_locate(f"kaggle:{VARIATION}")
    assert kaggle.requests == []
    online = locate(f"kaggle:{VARIATION}/2")
    locate(f"kaggle:{VARIATION}/1")
    before = len(kaggle.requests)
    assert offline_locate(f"kaggle:{VARIATION}") == online
    assert len(kaggle.requests) == before


def test_a_kaggle_account_is_shown_to_kaggle_alone(
    kaggle: Server, serve: Serve, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = serve(lambda request: file_answer(request, archive))
    # Another host's name for the same machine: an account must not follow a redirect to it.
    elsewhere = storage.url.replace("127.0.0.1", "localhost")
    kaggle.answer = lambda _: Answer(302, b"", {"Location": f"{elsewhere}/x"})
    monkeypatch.setenv("KAGGLE_USERNAME", "ann")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert is_tiny(f"kaggle:{VARIATION}/2")
    assert kaggle.requests[0].headers["authorization"] == "Basic YW5uOnNlY3JldA=="
    assert "authorization" not in storage.requests[0].headers
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    locate(f"kaggle:{VARIATION}/3")
    assert kaggle.requests[-1].headers["authorization"] == "Bearer token"


@pytest.mark.parametrize("handle", ["", "tensorflow/mobilebert", f"{VARIATION}/latest", f"{VARIATION}/1/2", "a/b/../c"])
def test_a_kaggle_handle_of_another_form_is_refused(handle: str, kaggle: Server) -> None:
    with pytest.raises(EncoderError, match="expected kaggle:OWNER/MODEL/FRAMEWORK/VARIATION"):
        locate(f"kaggle:{handle}")
    assert kaggle.requests == []


# An address.


def test_an_address_is_fetched_once_and_works_offline_then(serve: Serve, archive: bytes) -> None:
    server = serve(lambda request: file_answer(request, archive))
    url = f"{server.url}/uncased_L-24_H-128_B-512_A-4_F-4_OPT.tgz"
    with pytest.raises(EncoderError, match=r"was not fetched before, and the network is not to be used"):
        offline_locate(url)
    assert server.requests == []
    assert is_tiny(url)
    assert is_tiny(url, without_network=True)
    assert load_facts(url).vocabulary.pieces == tiny_checkpoint().vocabulary
    assert len(server.requests) == 1


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_the_environment_can_forbid_the_network(value: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda _: Answer(500))
    monkeypatch.setenv("TEXTCLF_OFFLINE", value)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
    monkeypatch.setattr(source, "TFHUB", server.url)
    for name in (f"{server.url}/a.tgz", "tfhub:a/b/1", f"kaggle:{VARIATION}", f"kaggle:{VARIATION}/1", "hf:a/b"):
        with pytest.raises(EncoderError, match=r"was not fetched before.*use `builtin`"):
            locate(name)
    assert server.requests == []


def test_the_hash_after_an_address_is_compared(serve: Serve, archive: bytes) -> None:
    server = serve(lambda request: file_answer(request, archive))
    digest = hashlib.sha256(archive).hexdigest()
    assert is_tiny(f"{server.url}/a.tgz#sha256={digest.upper()}")
    with pytest.raises(EncoderError, match=f"its sha256 is {digest}, but {'0' * 64} was published"):
        locate(f"{server.url}/a.tgz#sha256={'0' * 64}")
    with pytest.raises(EncoderError, match="expected #sha256= and 64 hexadecimal digits"):
        locate(f"{server.url}/a.tgz#sha256=12")


def test_what_is_no_archive_is_refused_and_not_kept(serve: Serve, surroundings: Path) -> None:
    server = serve(lambda request: file_answer(request, b"hello"))
    with pytest.raises(EncoderError, match=r"a\.tgz: what arrived is neither a tar nor a zip archive"):
        locate(f"{server.url}/a.tgz")
    assert [file.name for file in surroundings.rglob("*") if file.is_file() and file.suffix != ".lock"] == []


def test_secrets_in_an_address_are_neither_shown_nor_stored(
    serve: Serve, archive: bytes, surroundings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "textclf")
    server = serve(lambda request: file_answer(request, archive))
    url = server.url.replace("//", "//ann:s3cr3t@")
    assert is_tiny(f"{url}/a.tgz?signature=s3cr3t")
    assert "s3cr3t" not in caplog.text
    with pytest.raises(EncoderError) as caught:
        offline_locate(f"{url}/b.tgz?signature=s3cr3t")
    assert "s3cr3t" not in str(caught.value)
    for file in surroundings.rglob("*"):
        assert "s3cr3t" not in file.name
        assert file.is_dir() or b"s3cr3t" not in file.read_bytes()


def test_a_transfer_that_a_killed_process_began_goes_on(serve: Serve, archive: bytes, surroundings: Path) -> None:
    def slow(request: Request) -> Answer:
        answer = file_answer(request, archive)
        if "range" not in request.headers:
            answer.cut_after = len(archive) // 2
        else:
            time.sleep(30)
        return answer

    server = serve(slow)
    code = "import sys; from textclf.encoders.sources.locate import locate; locate(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/a.tgz"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(server.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    server.answer = lambda request: file_answer(request, archive)
    assert is_tiny(f"{server.url}/a.tgz")
    assert server.requests[-1].headers["range"] == f"bytes={len(archive) // 2}-"


def _locate(arguments: tuple[str, str]) -> str:
    os.environ["TEXTCLF_CACHE"] = arguments[1]
    return str(locate(arguments[0]))


def test_processes_that_want_the_same_encoder_fetch_it_once(serve: Serve, archive: bytes, surroundings: Path) -> None:
    server = serve(lambda request: file_answer(request, archive))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(_locate, [(f"{server.url}/a.tgz", str(surroundings))] * 6, chunksize=1)
    assert len(set(found)) == 1
    assert len(server.requests) == 1


# Hugging Face.


@pytest.fixture
def repository(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> tuple[HuggingFace, Server]:
    folder = write_hugging_face(tmp_path / "hf", tiny_checkpoint())
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    # Two more forms of the same weights, as many repositories have them: they need not be fetched.
    hub = HuggingFace("google/mobilebert-uncased", {**files, "pytorch_model.bin": b"x" * 99, "tf_model.h5": b"y" * 99})
    server = serve(hub)
    # The hub's storage is another host; the library follows no redirect to one while it asks what a file is.
    hub.storage = server.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return hub, server


def test_a_repository_is_fetched_with_one_form_of_its_weights(
    repository: tuple[HuggingFace, Server], surroundings: Path
) -> None:
    hub, server = repository
    assert is_tiny("hf:google/mobilebert-uncased")
    folder = locate("https://huggingface.co/google/mobilebert-uncased")
    assert folder.is_relative_to(surroundings)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    assert locate(f"hf:google/mobilebert-uncased@{hub.commit}") == folder
    transfers = [r.path for r in server.requests if r.method == "GET" and r.path.startswith("/storage/")]
    assert transfers == ["/storage/model.safetensors"]


@pytest.mark.parametrize(
    ("removed", "kept"),
    [(("model.safetensors",), "pytorch_model.bin"), (("model.safetensors", "pytorch_model.bin"), "tf_model.h5")],
)
def test_older_forms_are_fetched_where_there_is_no_newer_one(
    removed: tuple[str, ...], kept: str, repository: tuple[HuggingFace, Server]
) -> None:
    hub, _ = repository
    for name in removed:
        del hub.files[name]
    folder = locate("hf:google/mobilebert-uncased")
    assert sorted(file.name for file in folder.iterdir()) == sorted(["config.json", kept, "vocab.txt"])
    assert offline_locate("hf:google/mobilebert-uncased") == folder


def test_a_repository_fetched_before_works_offline_and_with_a_dead_hub(
    repository: tuple[HuggingFace, Server], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, server = repository
    assert is_tiny("hf:google/mobilebert-uncased")
    before = len(server.requests)
    assert is_tiny("hf:google/mobilebert-uncased", without_network=True)
    assert len(server.requests) == before
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert is_tiny("hf:google/mobilebert-uncased")
    assert "the hub cannot be reached; what was fetched before is used" in caplog.text
    with pytest.raises(
        EncoderError, match=r"hf:google/other@main: cannot be reached .*; fetch it where there is a network"
    ):
        locate("hf:google/other")


def test_a_repository_or_revision_that_does_not_exist_is_said(repository: tuple[HuggingFace, Server]) -> None:
    with pytest.raises(EncoderError, match="hf:google/nothing@main: there is no such repository, or it is private"):
        locate("hf:google/nothing")
    with pytest.raises(EncoderError, match="hf:google/mobilebert-uncased@v9: the repository has no such revision"):
        locate("hf:google/mobilebert-uncased@v9")


@pytest.mark.parametrize("handle", ["", "mobilebert", "a/b/c", "../x/y", "a/b c"])
def test_a_repository_name_of_another_form_is_refused(handle: str, repository: tuple[HuggingFace, Server]) -> None:
    with pytest.raises(EncoderError, match=r"is not understood; expected hf:OWNER/MODEL\[@REVISION\]"):
        locate(f"hf:{handle}")
    assert repository[1].requests == []


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_a_file_that_arrived_damaged_is_noticed_and_fetched_again(
    name: str, repository: tuple[HuggingFace, Server]
) -> None:
    hub, _ = repository
    content = bytearray(hub.files[name])
    content[-3] ^= 1
    hub.damaged[name] = bytes(content)
    with pytest.raises(EncoderError, match=f"{name}: what arrived is not what was published"):
        locate("hf:google/mobilebert-uncased")
    hub.damaged.clear()
    assert is_tiny("hf:google/mobilebert-uncased")


def test_a_transfer_from_the_hub_that_breaks_goes_on(
    repository: tuple[HuggingFace, Server],
) -> None:
    hub, server = repository
    half = len(hub.files["model.safetensors"]) // 2

    def breaking(request: Request) -> Answer:
        answer = hub(request)
        if request.path.startswith("/storage/") and request.method == "GET" and "range" not in request.headers:
            answer.cut_after = half
        return answer

    server.answer = breaking
    assert is_tiny("hf:google/mobilebert-uncased")
    assert server.requests[-1].headers["range"] == f"bytes={half}-"


def test_a_busy_hub_is_asked_again_and_one_out_of_order_is_said(repository: tuple[HuggingFace, Server]) -> None:
    hub, server = repository
    server.answer = lambda _: Answer(503, b"busy")
    with pytest.raises(EncoderError, match="the server answers 503"):
        locate("hf:google/mobilebert-uncased")
    assert len(server.requests) == 5
    server.answer = lambda request: Answer(429, b"slower") if len(server.requests) < 8 else hub(request)
    assert is_tiny("hf:google/mobilebert-uncased")


def test_a_repository_without_weights_is_refused(repository: tuple[HuggingFace, Server]) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "tf_model.h5"):
        del repository[0].files[name]
    with pytest.raises(EncoderError, match=r"holds none of model\.safetensors, pytorch_model\.bin, tf_model\.h5"):
        locate("hf:google/mobilebert-uncased")
