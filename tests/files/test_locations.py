"""Addresses of tables: what is refused, what goes wrong at servers, and the private copies on this machine."""

from __future__ import annotations

import gzip
import logging
import pickle
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.command import run
from tests.data.test_other_formats import error, load, patched
from tests.loopback import Answer, Server
from tests.stores import Store, Web, s3_store, web_server
from tests.table_writers import write_csv, write_parquet, write_workbook
from textclf.errors import DataError, MissingPackageError, RunError
from textclf.files import copies, locations
from textclf.files.copies import local_copies, local_file
from textclf.files.locations import Location, list_locations, location_of, open_location, path_of, upload
from textclf.files.network import cache_folder, offline

ROWS = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(8)]
TABLE = b"text,label\n" + b"".join(f"{row['text']},{row['label']}\n".encode() for row in ROWS)


@pytest.fixture(scope="module")
def web() -> Web:
    return Web()


@pytest.fixture(scope="module")
def server(web: Web) -> Iterator[Server]:
    with web_server(web) as found:
        yield found


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_store() as found:
        yield found


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "TEXTCLF_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(copies, "_PAUSES", (0.0, 0.0))


# --- Bad addresses and bad answers -----------------------------------------------------------------------------------
REFUSED = {
    "memory://data.csv": "tables are read from https://, http://, s3://, s3a://, gs://, gcs://, az://, abfs://, abfss:// only",
    "python://os.csv": "tables are read from https://",
    "reference://table.json": "tables are read from https://",
    "ftp://host/a.csv": "tables are read from https://",
    "local:///etc/passwd": "tables are read from https://",
    "file:///etc/passwd": "a file of this machine is named by its path; write the path without `file://`",
    "zip://a.csv::https://host/a.zip": "several addresses are chained with `::`, which is not followed; name the file itself",
    "simplecache::s3://bucket/a.csv": "several addresses are chained with `::`",
    "s3://bucket/a.csv::file:///etc/passwd": "several addresses are chained with `::`",
    "https:///": "this names no file; write the whole address, such as https://example.org/data.csv",
    "https://host/a.csv\nHost: other": "this names no file",
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_read_is_refused_before_anything_is_opened(address):
    with pytest.raises(DataError) as caught:
        path_of(address)
    assert REFUSED[address] in str(caught.value)
    with pytest.raises(ValueError, match=r"only; copy the file|name the file itself|names no file|its path; write"):
        load(address)


ANSWERS = {
    "missing": (Answer(404), ": there is no such file; check the address"),
    "gone": (Answer(410), ": there is no such file; check the address"),
    "unauthorised": (
        Answer(401),
        ": no permission to use it (HTTP 401); check the address and the credentials in the environment",
    ),
    "forbidden": (Answer(403), ": no permission to use it (HTTP 403)"),
    "broken": (Answer(500), ": the server answered HTTP 500; try again later, or ask who runs the server"),
    "busy": (Answer(503), ": the server answered HTTP 503"),
    "circle": (Answer(302, b"", {"Location": "/circle"}), ": the server leads from address to address without an end"),
    "nowhere": (Answer(302, b"", {"Location": "/none"}), ": there is no such file"),
    "elsewhere": (Answer(302, b"", {"Location": "file:///etc/passwd"}), ": cannot be reached"),
    "cut": (Answer(200, TABLE, cut_after=20), ": the transfer broke off"),
    "empty": (Answer(200, b""), ": the file is empty; it needs a header row"),
    "page": (
        Answer(200, b"<!DOCTYPE html><html><body>log in</body></html>"),
        ": this is a web page, perhaps in place of a download, not delimited text; download the table itself",
    ),
    "half.csv.gz": (Answer(200, gzip.compress(TABLE)[:-12]), ": the gzip stream ends early"),
    "half.parquet": (Answer(200, b"PAR1" + b"\0" * 50), ": the Parquet file cannot be read"),
    "columns": (Answer(200, b"a,b\n1,2\n"), ": there is no column `text` (dataset.text); the columns are `a`, `b`"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_goes_wrong_at_a_web_server_is_said_with_the_address(web, server, name):
    answer, message = ANSWERS[name]

    class Fixed(Web):
        def __call__(self, request):  # HEAD, too
            return Answer(404) if request.path == "/none" else answer

    server.answer = Fixed()
    try:
        said = error(f"{server.url.replace('//', '//user:pass@')}/{name}")
    finally:
        server.answer = web
    assert said.startswith(f"{server.url.replace('//', '//***@')}/{name}{message}")
    assert "user" not in said
    assert "pass@" not in said
    assert not any((cache_folder() / "copies").rglob("*"))


def test_nobody_at_the_address_is_said_at_once():
    assert "http://127.0.0.1:9/a.csv: cannot be reached (" in error("http://127.0.0.1:9/a.csv")


def test_a_hostile_workbook_is_refused_at_an_address_too(web, server, tmp_path):
    path = write_workbook(tmp_path / "a.xlsx", ROWS)
    bomb = b"<sheetData>" + b"<row></row>" * 8_000_000
    web.files["/bomb.xlsx"] = Path(
        patched(path, "bomb.xlsx", "xl/worksheets/sheet1.xml", b"<sheetData>", bomb)
    ).read_bytes()
    assert f"{server.url}/bomb.xlsx: xl/worksheets/sheet1.xml in the workbook unpacks to 88," in error(
        f"{server.url}/bomb.xlsx"
    )


def test_what_goes_wrong_at_an_object_store_is_said_with_the_address(store, monkeypatch):
    store.put("folder/a.csv", TABLE)
    assert error("s3://bucket/none.csv") == "s3://bucket/none.csv: there is no such file; check the address"
    assert "s3://nobucket/a.csv: there is no such file" in error("s3://nobucket/a.csv")
    assert "s3://bucket/*.none: the pattern matches no file" in error("s3://bucket/*.none")
    assert "s3://bucket/folder: is a folder; name a file in it, or a pattern such as" in error("s3://bucket/folder")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert "s3://bucket/folder/a.csv: no permission to use it (Unable to locate credentials)" in error(
        "s3://bucket/folder/a.csv"
    )


class AnsweredError(Exception):
    """As gcsfs keeps the status of an answer."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Anonymous caller, {code}")
        self.code = code


class RefreshError(Exception):
    """As google-auth names a login that is out of date."""


REFUSALS = {
    "gcsfs, not allowed": (OSError("Forbidden: b/bucket/o\nAnonymous caller"), "no permission to use it (HTTP 403)"),
    "gcsfs, no login": (AnsweredError(401), "no permission to use it (HTTP 401)"),
    "gcsfs, out of order": (AnsweredError(503), "the server answered HTTP 503"),
    "google-auth": (RefreshError("reauthenticate"), "no permission to use it (reauthenticate)"),
    "adlfs": (
        ValueError(
            "unable to connect to account for Must provide either a connection_string or account_name with credentials!!"
        ),
        "no permission to use it (unable to connect",
    ),
    "network": (OSError("Cannot connect to host"), "cannot be reached (Cannot connect to host)"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_told_from_a_network_that_is_down_in_each_package(name, monkeypatch, capsys):
    from fsspec import AbstractFileSystem
    from fsspec.registry import _registry

    raised, said = REFUSALS[name]

    class Refusing(AbstractFileSystem):
        def info(self, path, **options):
            logging.getLogger("gcsfs.retry").error("out of retries: %s?signature=very-secret", path)
            raise raised

    monkeypatch.setitem(_registry, "gs", Refusing)
    assert run("new", "gs://bucket/a.csv") == 2
    printed = capsys.readouterr().err
    assert f"gs://bucket/a.csv: {said}" in " ".join(printed.split())
    assert "very-secret" not in printed


@pytest.mark.parametrize(("address", "package"), [("gs://bucket/a.csv", "gcsfs"), ("az://box/a.csv", "adlfs")])
def test_the_package_of_a_protocol_is_named_if_it_is_missing(address, package):
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(MissingPackageError, match=f"{package} is not installed .*run: pip install {package}"):
        list_locations(f"{address[:-5]}*.csv")


def test_the_extra_is_named_if_fsspec_is_missing(monkeypatch):
    from textclf import extras

    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(MissingPackageError, match=r'run: pip install "textclf-tflite\[remote\]"'):
        list_locations("s3://bucket/*.csv")


def test_a_file_with_the_name_of_an_address_is_a_file(tmp_path):
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "a.csv").write_bytes(TABLE)
    assert location_of("s3:/a.csv") is None


# --- What is shown ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "shown", "name"),
    [
        ("https://host/a/b.csv", "https://host/a/b.csv", "b.csv"),
        ("https://u:p@host/a.csv?x=1#y", "https://***@host/a.csv?***", "a.csv"),
        ("https://token@host/a.csv", "https://***@host/a.csv", "a.csv"),
        ("http://[::1]:80/a.csv", "http://[::1]:80/a.csv", "a.csv"),
        ("s3://bucket/part-?.csv", "s3://bucket/part-?.csv", "part-?.csv"),
        ("s3://bucket/a.csv?versionId=7", "s3://bucket/a.csv?***", "a.csv"),
        ("az://box/a.csv?sv=1&sig=2", "az://box/a.csv?***", "a.csv"),
        ("abfs://box@account.dfs.core.windows.net/a.csv", "abfs://box@account.dfs.core.windows.net/a.csv", "a.csv"),
        ("s3://key:secret@bucket/a.csv", "s3://***@bucket/a.csv", "a.csv"),
    ],
)
def test_an_address_is_shown_without_its_secret_part(address, shown, name):
    location = location_of(address)
    assert (str(location), location.name, location.address) == (shown, name, address)
    assert shown in repr(location)
    assert location.has_secret == (shown != address)
    assert pickle.loads(pickle.dumps(location)) == location


def test_addresses_that_differ_in_the_hidden_part_are_different_files():
    first, second = location_of("https://host/a.csv?id=1"), location_of("https://host/a.csv?id=2")
    assert first != second
    assert len({first, second, location_of("https://host/a.csv?id=1")}) == 2
    assert location_of(first) is first


# --- Copies ----------------------------------------------------------------------------------------------------------
def test_a_copy_is_private_whole_and_removed(web, server):
    web.files["/a b/ä.csv"] = TABLE
    location = location_of(f"{server.url}/a b/ä.csv?key=%2Fvalue")
    with local_file(location) as copy:
        assert copy.read_bytes() == TABLE
        assert copy.suffix == ".csv"
        assert cache_folder() in copy.parents
        if sys.platform != "win32":
            assert (cache_folder() / "copies").stat().st_mode & 0o77 == 0
    assert not copy.exists()
    assert server.requests[-1].query == {"key": ["/value"]}


def test_inside_of_a_command_a_file_is_copied_once(web, server):
    web.files["/once.csv"] = TABLE
    location = location_of(f"{server.url}/once.csv")
    before = len(server.requests)
    with local_copies():
        with local_file(location) as first:
            asked = len(server.requests)
        with local_file(location) as second:
            assert first == second
    assert len(server.requests) == asked > before
    assert not first.exists()


def test_a_transfer_that_ends_before_the_stated_length_is_refused(web, server):
    server.answer = lambda request: (
        Answer(200, TABLE) if request.method == "HEAD" else Answer(200, TABLE[:30], without_length=True)
    )
    try:
        said = error(f"{server.url}/short.csv")
    finally:
        server.answer = web
    assert f"/short.csv: the transfer ended after 30 of {len(TABLE)} bytes; run the command again" in said


def test_a_broken_transfer_is_continued_where_it_broke(web, server):
    # More than fits into the buffers between server and reader, which are lost with the connection.
    content = bytes(range(256)) * 40_000
    web.files["/long.bin"] = content
    web.faults["/long.bin"] = [Answer(200, content, {"ETag": '"1"'}, cut_after=8_000_000)]
    served = web.__call__

    def answer(request):
        if request.method == "GET" and "range" not in request.headers:
            return Answer(200, content, {"ETag": '"1"'}, cut_after=8_000_000)
        web.faults.pop("/long.bin", None)
        return served(request)

    server.answer = answer
    try:
        with local_file(location_of(f"{server.url}/long.bin")) as copy:
            assert copy.read_bytes() == content
    finally:
        server.answer = web
    ranges = [request.headers["range"] for request in server.requests if "range" in request.headers]
    assert ranges
    assert ranges[-1].endswith(f"-{len(content) - 1}")


def test_a_file_that_changes_while_it_is_copied_is_refused(store, monkeypatch):
    location = location_of(store.put("changing.csv", TABLE))

    def changing(one, start=0):
        store.put("changing.csv", TABLE.replace(b"text 0", b"TEXT 0"))
        return open_location(one, start)

    monkeypatch.setattr(copies, "open_location", changing)
    with pytest.raises(DataError, match="was changed while it was copied; run the command again"), local_file(location):
        pass


def test_a_file_larger_than_the_disk_is_refused_before_it_is_copied(web, server, monkeypatch):
    web.files["/large.csv"] = TABLE
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: usage(len(TABLE)))
    before = len([request for request in server.requests if request.method == "GET"])
    with (
        pytest.raises(
            DataError, match=r"has \d+ bytes, but the disk of .* set TEXTCLF_CACHE to a folder on a larger disk"
        ),
        local_file(location_of(f"{server.url}/large.csv")),
    ):
        pass
    assert len([request for request in server.requests if request.method == "GET"]) == before


def test_copies_of_a_killed_process_are_removed_by_the_next(web, server):
    web.files["/a.csv"] = TABLE
    script = (
        "import os, sys\nfrom textclf.files.copies import local_file\nfrom textclf.files.locations import location_of\n"
        "with local_file(location_of(sys.argv[1])) as copy:\n    print(copy, flush=True)\n    os._exit(9)\n"
    )
    address = f"{server.url}/a.csv"
    left = subprocess.run(
        [sys.executable, "-c", script, address], capture_output=True, text=True, check=False
    ).stdout.strip()
    assert Path(left).is_file()
    with local_file(location_of(address)) as copy:
        assert copy.is_file()
        assert not Path(left).exists()
    assert list((cache_folder() / "copies").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(web, server, tmp_path, monkeypatch):
    web.files["/a.csv"] = TABLE
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "file"))
    with (
        pytest.raises(DataError, match="set TEXTCLF_CACHE to a folder that can be written"),
        local_file(location_of(f"{server.url}/a.csv")),
    ):
        pass


def test_the_network_is_not_used_where_it_is_forbidden(server):
    before = len(server.requests)
    with offline(), pytest.raises(DataError, match=r"the network is not to be used \(--offline, TEXTCLF_OFFLINE\)"):
        list_locations("s3://bucket/*.csv")
    with (
        offline(),
        pytest.raises(DataError, match="the network is not to be used"),
        local_file(location_of(f"{server.url}/a.csv")),
    ):
        pass
    assert len(server.requests) == before


def test_an_output_is_uploaded_as_a_whole_and_what_cannot_be_an_output_is_refused(store, tmp_path):
    (tmp_path / "a.csv").write_bytes(TABLE)
    upload(tmp_path / "a.csv", Location("s3://bucket/up/a.csv"))
    assert store.get("up/a.csv") == TABLE
    for address, message in (
        ("https://host/out.csv", "a web server cannot be written; name a file, or an address of s3://"),
        ("s3://bucket/out.csv?sig=1", "an output is a plain address; leave out the pattern or the part behind ?"),
        ("s3://bucket/*.csv", "an output is a plain address"),
    ):
        with pytest.raises(RunError, match=message.replace("?", r"\?")):
            locations.check_writable(location_of(address))


def test_every_format_is_read_at_an_address_as_on_the_disk(web, server, tmp_path):
    for path in (
        write_csv(tmp_path / "a.csv", ROWS),
        write_parquet(tmp_path / "a.parquet", ROWS),
        write_workbook(tmp_path / "a.xlsx", ROWS),
    ):
        web.files[f"/{path.name}"] = path.read_bytes()
        assert load(f"{server.url}/{path.name}").train.texts == load(path).train.texts
