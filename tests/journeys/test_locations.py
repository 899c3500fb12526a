"""Tables at addresses, through every command: an HTTP server and a server of S3's protocol on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answering import write_squad, write_tiny_answerer
from tests.command import run
from tests.journeys.test_table_formats import rows_of
from tests.loopback import Answer, Server
from tests.stores import Store, Web, s3_store, web_server
from tests.table_writers import write_csv, write_parquet, write_table
from textclf import answer_file, evaluate_answers
from textclf.classify.tables.job import classify_file
from textclf.errors import DataError, RunError
from textclf.files import copies, network

SECRET = "s3cr3t-signature"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_store() as found:
        yield found


@pytest.fixture(scope="module")
def web() -> Web:
    return Web()


@pytest.fixture(scope="module")
def server(web: Web) -> Iterator[Server]:
    with web_server(web) as found:
        yield found


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, no proxy, and the network may be used."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "TEXTCLF_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(copies, "_PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, store, web, server) -> Path:
    """A folder with a recipe whose files are at three addresses, and its run."""
    folder = tmp_path_factory.mktemp("places")
    web.files["/train.jsonl.gz"] = write_table(folder, "train.jsonl.gz", rows_of(0, 60)).read_bytes()
    web.files["/dev.csv"] = write_csv(folder / "dev.csv", rows_of(60, 15)).read_bytes()
    for number in range(2):
        part = write_parquet(folder / "part.parquet", rows_of(80 + 10 * number, 10))
        store.put(f"test/part-{number}.parquet", part.read_bytes())
    for file in folder.iterdir():
        file.unlink()
    signed = server.url.replace("//", f"//reader:{SECRET}@")
    (folder / "recipe.yaml").write_text(
        f"name: topics\ndataset:\n  train: {signed}/train.jsonl.gz\n  validation: {server.url}/dev.csv?sig={SECRET}\n"
        "  test: s3://bucket/test/part-*.parquet\n  text: body\n  label: topic\n"
        "encoder: average-words\ntraining:\n  epochs: 20\n"
    )
    assert run("train", folder / "recipe.yaml", "--run-dir", folder / "run") == 0
    shutil.copytree(folder / "run", folder / "other")
    return folder


def copies_left() -> list[str]:
    base = network.cache_folder() / "copies"
    return os.listdir(base) if base.exists() else []


def outputs_left() -> list[str]:
    base = network.cache_folder() / "outputs"
    return os.listdir(base) if base.exists() else []


# --- Training --------------------------------------------------------------------------------------------------------
def test_a_recipe_names_addresses_and_the_run_never_contains_their_secret(folder, server, capsys):
    metrics = json.loads((folder / "run/metrics.json").read_text())
    assert metrics["rows"] == {"train": 120, "validation": 30, "test": 40}
    assert list(metrics["files"]) == ["train.jsonl.gz", "dev.csv", "part-0.parquet", "part-1.parquet"]
    assert metrics["recipe"]["dataset"]["train"] == "train.jsonl.gz"
    recipe = (folder / "run/recipe.yaml").read_text()
    assert f"train: {server.url.replace('//', '//***@')}/train.jsonl.gz\n" in recipe
    assert f"validation: {server.url}/dev.csv?***\n" in recipe
    for file in (folder / "run").rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file
    assert copies_left() == []
    assert run("check", folder / "recipe.yaml") == 0
    assert SECRET not in "".join(capsys.readouterr())


def test_a_run_whose_address_had_a_secret_asks_for_the_whole_address(folder, capsys):
    assert run("check", folder / "run/recipe.yaml") == 2
    said = capsys.readouterr().err
    assert (
        "/train.jsonl.gz: its secret part was left out (***) when it was written down; write the whole address" in said
    )


def test_messages_name_the_address_and_the_row(folder, web, server, capsys):
    web.files["/bad.csv"] = b"body,topic\ngood,food\nno label,\nbus,transport\n"
    assert run("check", folder / "recipe.yaml", f"dataset.train={server.url}/bad.csv?token={SECRET}") == 2
    said = capsys.readouterr().err
    assert f"{server.url}/bad.csv?***: no label in row 3" in said
    assert SECRET not in said


def test_new_writes_a_recipe_for_an_address(store, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    address = store.put("in/tickets.csv", write_csv(tmp_path / "a.csv", rows_of(0, 30)).read_bytes())
    assert run("new", address) == 0
    assert f"train: {address}\n" in Path("tickets.yaml").read_text()
    assert "is relative" not in Path("tickets.yaml").read_text()
    assert run("check", "tickets.yaml") == 0


def test_new_does_not_write_a_secret_into_a_recipe(server, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("new", f"{server.url}/dev.csv?sig={SECRET}") == 2
    said = capsys.readouterr().err
    assert "the hidden part of this address is not written into one" in said
    assert SECRET not in said
    assert os.listdir(tmp_path) == []


# --- Measuring -------------------------------------------------------------------------------------------------------
def test_evaluate_verify_and_compare_read_addresses(folder, store, web, server, capsys):
    web.files["/labelled.csv"] = b"body,topic\n" + b"".join(
        f"{row['body']},{row['topic']}\n".encode() for row in rows_of(200, 10)
    )
    address = f"{server.url}/labelled.csv?sig={SECRET}"
    assert run("evaluate", folder / "run", address, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 20
    assert run("verify", folder / "run/model.tflite", address, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"]["rows"] == 20
    assert run("compare", folder / "run", folder / "other", "--data", address, "--json") == 0
    assert SECRET not in "".join(capsys.readouterr())
    assert copies_left() == []


def test_evaluating_on_the_training_file_is_noticed_at_an_address_too(folder, server, capsys):
    assert run("evaluate", folder / "run", f"{server.url}/train.jsonl.gz") == 0
    assert "the model was trained on this file" in capsys.readouterr().err


# --- Batch jobs ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.zst", "a.parquet", "a.xlsx"])
def test_classify_reads_and_writes_addresses_as_it_does_files(folder, store, tmp_path, name):
    source = write_table(tmp_path, name, rows_of(0, 40))
    store.put(f"in/{name}", source.read_bytes())
    output = tmp_path / f"out{''.join(source.suffixes)}"
    classify_file(folder / "run/model.tflite", source, output)
    summary = classify_file(folder / "run", f"s3://bucket/in/{name}", f"s3://bucket/out/{output.name}")
    assert summary.rows == 80
    if name != "a.xlsx":  # workbooks contain the time at which they were written
        assert store.get(f"out/{output.name}") == output.read_bytes()
    assert copies_left() == outputs_left() == []


def test_a_pattern_is_listed_and_the_files_are_read_in_order(folder, store, tmp_path):
    for number in (2, 0, 1):
        store.put(f"many/{number}.csv", f"body\nthe bus was number {number}\n".encode())
    classify_file(folder / "run", "s3://bucket/many/*.csv", tmp_path / "out.csv")
    rows = [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert rows == ["body", *(f"the bus was number {number}" for number in range(3))]


def test_a_web_server_is_not_asked_for_a_list_and_is_not_written(folder, server, tmp_path, capsys):
    assert run("classify", folder / "run", f"{server.url}/*.csv", "-o", tmp_path / "out.csv") == 2
    assert "a web server does not list its files" in capsys.readouterr().err
    assert run("classify", folder / "run", f"{server.url}/dev.csv", "-o", f"{server.url}/out.csv") == 2
    assert "a web server cannot be written" in capsys.readouterr().err


def test_an_output_that_exists_is_replaced_only_with_force(folder, store, web, server):
    store.put("out/taken.csv", b"precious\n")
    web.files["/in.csv"] = b"body\nthe bus\n"
    with pytest.raises(RunError, match=r"^s3://bucket/out/taken\.csv: exists already"):
        classify_file(folder / "run", f"{server.url}/in.csv", "s3://bucket/out/taken.csv")
    assert store.get("out/taken.csv") == b"precious\n"
    classify_file(folder / "run", f"{server.url}/in.csv", "s3://bucket/out/taken.csv", force=True)
    assert store.get("out/taken.csv").startswith(b"body,predicted_label")
    assert outputs_left() == []


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("model.csv", b"\x1c\0\0\0TFL3" + b"\0" * 50, "a TFLite model"),
        ("notes.csv", b"%PDF-1.7 " + b"x" * 5000, "a PDF"),
        ("settings", b"name: run\ndataset:\n  train: a.csv\n", "a text that is no table"),
    ],
)
def test_force_replaces_only_tables_at_an_address_too(folder, store, web, server, tmp_path, name, content, what):
    web.files["/in.csv"] = b"body\nthe bus\n"
    store.put(f"kept/{name}", content)
    (tmp_path / name).write_bytes(content)
    for output in (tmp_path / name, f"s3://bucket/kept/{name}"):
        message = rf"{name}: force \(--force\) replaces tables only, but this file is {what}; delete it yourself"
        with pytest.raises(RunError, match=message):
            classify_file(folder / "run", f"{server.url}/in.csv", output, force=True)
    assert store.get(f"kept/{name}") == content
    assert outputs_left() == copies_left() == []


def test_an_upload_that_fails_is_resumed_without_classifying_again(folder, store, web, server, monkeypatch):
    web.files["/in.csv"] = b"body\nthe bus\nthe soup\n"
    arguments = (folder / "run", f"{server.url}/in.csv?sig={SECRET}", "s3://bucket/out/later.csv")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("textclf.classify.tables.journal.is_there", lambda _: False)
    with pytest.raises(RunError, match=r"s3://bucket/out/later\.csv: cannot be reached.*to upload it, use resume=True"):
        classify_file(*arguments)
    for file in (network.cache_folder() / "outputs").rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes()
    monkeypatch.undo()
    monkeypatch.setattr("textclf.classify.tables.job.begin_rows", None)  # nothing is classified again
    summary = classify_file(*arguments[:1], f"{server.url}/in.csv?sig=another", arguments[2], resume=True)
    assert summary.rows == 2
    assert store.get("out/later.csv").count(b"\n") == 3
    assert outputs_left() == []


def test_a_job_whose_input_changed_meanwhile_is_not_resumed(folder, web, server, tmp_path, monkeypatch):
    rows = [f"the bus {number}" for number in range(2000)]
    web.files["/big.csv"] = ("body\n" + "\n".join(rows) + "\n").encode()
    output = tmp_path / "out.csv"
    monkeypatch.setattr("textclf.classify.tables.journal.SECONDS_BETWEEN_COMMITS", 0.0)
    started = classify_file.__globals__["begin_rows"]
    calls = []

    def stops(*arguments):
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return started(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("textclf.classify.tables.job.begin_rows", stops)
        with pytest.raises(KeyboardInterrupt):
            classify_file(folder / "run", f"{server.url}/big.csv", output)
    assert copies_left() == []
    original = web.files["/big.csv"]
    web.files["/big.csv"] = original.replace(b"the bus 1\n", b"the tram 1\n")
    with pytest.raises(RunError, match="rows are not those"):
        classify_file(folder / "run", f"{server.url}/big.csv", output, resume=True)
    web.files["/big.csv"] = original
    assert classify_file(folder / "run", f"{server.url}/big.csv", output, resume=True).rows == 2000


def test_a_transfer_that_breaks_off_is_continued_and_if_it_never_ends_no_row_is_written(folder, web, server, tmp_path):
    content = b"body\n" + b"the bus was late\n" * 2000
    web.files["/broken.csv"] = content
    cut = Answer(200, content, {"ETag": '"1"'}, cut_after=20_000)
    web.faults["/broken.csv"] = [cut]
    web.ranges = False
    try:
        with pytest.raises(DataError, match=r"/broken\.csv: the transfer broke off"):
            classify_file(folder / "run", f"{server.url}/broken.csv", tmp_path / "out.csv")
        assert os.listdir(tmp_path) == []
        web.faults["/broken.csv"] = [cut, Answer(200, content, {"ETag": '"1"'})]
        assert classify_file(folder / "run", f"{server.url}/broken.csv", tmp_path / "out.csv", resume=True).rows == 2000
    finally:
        web.ranges = True
    web.faults["/broken.csv"] = [cut]
    web.faults.pop("/broken.csv")


@pytest.mark.parametrize("words", [["dataset.trian="], ["dataset.label=none", "dataset.train="], ["train="]])
def test_a_setting_on_the_command_line_is_shown_without_its_secret(folder, server, words, capsys):
    address = f"{server.url.replace('//', f'//reader:{SECRET}@')}/train.jsonl.gz?sig={SECRET}"
    assert run("check", folder / "recipe.yaml", *words[:-1], f"{words[-1]}{address}") == 2
    said = "".join(capsys.readouterr())
    assert "/train.jsonl.gz" in said
    assert SECRET not in said


# --- Questions -------------------------------------------------------------------------------------------------------
def test_questions_are_answered_and_measured_at_addresses(store, web, server, tmp_path, capsys):
    model = write_tiny_answerer(tmp_path / "model.tflite")
    rows = [
        {"question": "is the app free?", "context": f"The app is free. {number}", "answer": "free"}
        for number in range(6)
    ]
    web.files["/questions.csv"] = write_csv(tmp_path / "questions.csv", rows).read_bytes()
    web.files["/questions.json"] = write_squad(
        tmp_path / "questions.json", [(row["question"], row["context"], row["answer"]) for row in rows]
    ).read_bytes()
    answer_file(model, f"{server.url}/questions.csv?sig={SECRET}", "s3://bucket/out/answers.jsonl", column_prefix="m_")
    assert [json.loads(line)["context"] for line in store.get("out/answers.jsonl").splitlines()] == [
        row["context"] for row in rows
    ]
    measured = evaluate_answers(model, tmp_path / "questions.json").as_dict()
    arrow = pytest.importorskip("pyarrow")
    for data in (f"{server.url}/questions.csv", f"{server.url}/questions.json?x=1", arrow.Table.from_pylist(rows)):
        assert evaluate_answers(model, data).as_dict() == measured
    assert copies_left() == outputs_left() == []


# --- Without the network ---------------------------------------------------------------------------------------------
def test_offline_refuses_every_address(folder, server, store, tmp_path, monkeypatch, capsys):
    address, before = f"{server.url}/dev.csv", len(server.requests)
    for arguments in (
        ("classify", folder / "run", address, "-o", tmp_path / "out.csv", "--offline"),
        ("evaluate", folder / "run", address, "--offline"),
        ("verify", folder / "run/model.tflite", address, "--offline"),
        ("compare", folder / "run", folder / "other", "--data", address, "--offline"),
        ("new", address, "--offline"),
        ("check", folder / "recipe.yaml", "--offline"),
    ):
        assert run(*arguments) == 2
        assert "the network is not to be used (--offline, TEXTCLF_OFFLINE)" in capsys.readouterr().err
    monkeypatch.setenv("TEXTCLF_OFFLINE", "1")
    assert run("classify", folder / "run", "s3://bucket/in/*.csv", "-o", tmp_path / "out.csv") == 2
    assert "the network is not to be used" in capsys.readouterr().err
    assert len(server.requests) == before
