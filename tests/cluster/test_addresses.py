"""Jobs of a cluster whose inputs and outputs are at addresses: web servers and object stores."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_partitions import joined_csv, on_one_machine, write_csv
from tests.command import run
from tests.stores import Store, Web, s3_store, web_server
from textclf.cluster.folder import MANIFEST
from textclf.dask import classify_files
from textclf.errors import DataError, RunError
from textclf.files.network import cache_folder, offline

distributed = pytest.importorskip("distributed")
pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_store() as started:
        yield started


@pytest.fixture(scope="module")
def scheduler(store: Store) -> Iterator[str]:
    """The workers have the credentials of the store in their environment."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as started:
        yield str(started.scheduler_address)


def keys_of(store: Store, folder: str) -> list[str]:
    keys = store.keys()
    return sorted(key.removeprefix(f"{folder}/") for key in keys if key.startswith(f"{folder}/"))


def fetched(store: Store, folder: str, target: Path) -> Path:
    target.mkdir()
    for key in keys_of(store, folder):
        (target / key).write_bytes(store.get(f"{folder}/{key}"))
    return target


def journals() -> list[Path]:
    return list((cache_folder() / "outputs").rglob("*"))


def test_a_store_gives_and_takes_the_bytes_of_one_machine(model, store, scheduler, tmp_path, capsys):
    inputs = [write_csv(tmp_path / "a.csv", 130), write_csv(tmp_path / "b.csv", 40, first=1000)]
    store.put("in/a.csv", inputs[0].read_bytes())
    store.put("in/b.csv.gz", gzip.compress(inputs[1].read_bytes()))
    command = ("classify", model, "s3://bucket/in/*", "-o", "s3://bucket/out/", "--dask", scheduler)
    assert run(*command, "--partition-rows", "50", "--output-format", "csv", "--json") == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["output"], summary["partitions"]) == ("s3://bucket/out", 4)
    folder = fetched(store, "out", tmp_path / "out")
    assert joined_csv(folder) == on_one_machine(model, inputs, tmp_path / "one.csv")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    assert [one["input"] for one in manifest["partitions"]] == ["s3://bucket/in/a.csv"] * 3 + [
        "s3://bucket/in/b.csv.gz"
    ]
    assert all(one["version"] and len(one["sha256"]) == 64 for one in manifest["partitions"])
    assert sorted(path.name for path in folder.iterdir()) == [
        MANIFEST,
        *(one["output"] for one in manifest["partitions"]),
    ]
    # Nothing is left on this machine.
    assert journals() == []
    assert [path for path in (cache_folder() / "copies").rglob("*") if path.is_file()] == []
    assert run(*command) == 2
    assert "s3://bucket/out: holds a complete output already; name another folder" in capsys.readouterr().err


def test_signed_addresses_are_read_and_their_signature_is_written_nowhere(model, scheduler, tmp_path):
    first, second = write_csv(tmp_path / "a.csv", 90), write_csv(tmp_path / "b.csv", 30, first=500)
    web = Web({"/a.csv": first.read_bytes(), "/b.csv": second.read_bytes()})
    with web_server(web) as server:
        inputs = [f"{server.url}/{name}?signature=very-secret" for name in ("a.csv", "b.csv")]
        classify_files(model, inputs, tmp_path / "out", scheduler=scheduler, partition_rows=40)
    assert joined_csv(tmp_path / "out") == on_one_machine(model, [first, second], tmp_path / "one.csv")
    manifest = (tmp_path / "out" / MANIFEST).read_text()
    assert "very-secret" not in manifest
    assert json.loads(manifest)["partitions"][0]["input"] == f"{server.url}/a.csv?***"


def test_an_interrupted_job_at_an_address_writes_only_what_is_missing(model, store, scheduler, tmp_path, monkeypatch):
    table = write_csv(tmp_path / "a.csv", 130)
    store.put("again/a.csv", table.read_bytes())
    options: dict[str, Any] = {"scheduler": scheduler, "partition_rows": 50}
    job = (model, "s3://bucket/again/a.csv", "s3://bucket/again-out")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("textclf.cluster.folder.JobFolder.finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        classify_files(*job, **options)
    monkeypatch.undo()
    assert journals()
    kept = store.get("again-out/part-000000.csv")
    with pytest.raises(RunError, match="an interrupted job was found, of which 3 partitions are done"):
        classify_files(*job, **options)
    store.put("again-out/part-000001.csv", b"x" * len(store.get("again-out/part-000001.csv")))
    with pytest.raises(
        RunError, match=r"again-out/part-000001.csv: was changed since the job wrote it \(another version"
    ):
        classify_files(*job, **options, resume=True)
    for key in ("part-000001.csv", "part-000002.csv"):
        store.client.delete_object(Bucket=store.bucket, Key=f"again-out/{key}")
    classify_files(*job, **options, resume=True)
    folder = fetched(store, "again-out", tmp_path / "out")
    assert (folder / "part-000000.csv").read_bytes() == kept
    assert joined_csv(folder) == on_one_machine(model, [table], tmp_path / "one.csv")
    assert journals() == []


def test_what_cannot_be_written_or_read_is_refused_before_a_cluster_starts(model, store, tmp_path):
    table = write_csv(tmp_path / "a.csv", 5)
    store.put("foreign/notes.txt", b"mine")
    with pytest.raises(RunError, match=r"s3://bucket/foreign: holds what no job of textclf wrote there \(notes.txt\)"):
        classify_files(model, table, "s3://bucket/foreign", force=True)
    with pytest.raises(RunError, match="a web server cannot be written"):
        classify_files(model, table, "https://example.org/out")
    with offline(), pytest.raises(DataError, match="the network is not to be used"):
        classify_files(model, "s3://bucket/in/a.csv", tmp_path / "out")
    with pytest.raises(DataError, match=r"s3://bucket/none.csv: there is no such file"):
        classify_files(model, "s3://bucket/none.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert store.get("foreign/notes.txt") == b"mine"


def test_force_replaces_the_outputs_of_a_job_at_an_address(model, store, scheduler, tmp_path):
    options: dict[str, Any] = {"scheduler": scheduler, "output_format": "jsonl"}
    classify_files(model, write_csv(tmp_path / "a.csv", 90), "s3://bucket/forced", partition_rows=40, **options)
    assert len(keys_of(store, "forced")) == 4
    table = write_csv(tmp_path / "b.csv", 10)
    classify_files(model, table, "s3://bucket/forced", force=True, **options)
    assert keys_of(store, "forced") == [MANIFEST, "part-000000.jsonl"]


@pytest.mark.parametrize("address", ["s3://bucket/below/*.csv", "s3a://bucket/below/part-000000.csv"])
def test_inputs_below_the_output_address_are_refused_and_kept(model, store, scheduler, tmp_path, address):
    if not keys_of(store, "below"):
        classify_files(model, write_csv(tmp_path / "a.csv", 30), "s3://bucket/below/", scheduler=scheduler)
    before = {key: store.get(f"below/{key}") for key in keys_of(store, "below")}
    with pytest.raises(
        RunError, match=r"s3://bucket/below: the input s3a?://bucket/below/part-000000\.csv lies in this"
    ):
        classify_files(model, address, "s3://bucket/below", force=True, column_prefix="again_")
    assert {key: store.get(f"below/{key}") for key in keys_of(store, "below")} == before
