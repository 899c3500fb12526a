"""What a batch job reads: packed and damaged files, pipes that are slow, rows that are uneven, labels that are unknown."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import logging
import lzma
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from backports import zstd

from tests.classify.test_batch import ADDED, classified, read, write, write_rows
from tests.classify.test_classifier import LABELS, write_tiny_model
from tests.command import run
from textclf.classify import interpreters
from textclf.classify.classifier import Classifier
from textclf.classify.tables import journal as batch_journal
from textclf.classify.tables import windows as batch_windows
from textclf.classify.tables.job import classify_file, evaluate_file
from textclf.data.tables.files import open_input
from textclf.errors import ArgumentError, DataError, ModelError, RunError, StreamError

SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
PACK = {"gzip": gzip.compress, "zstd": zstd.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("inputs") / "model.tflite")


# --- Packed files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", PACK)
def test_packed_streams_are_read_whole_however_many_there_are(tmp_path, form):
    plain = write_rows(tmp_path / "plain.csv", 3000).read_bytes()
    packed = PACK[form](plain[:999]) + PACK[form](b"") + PACK[form](plain[999:])
    if form == "zstd":
        packed = SKIPPABLE + packed + SKIPPABLE
    if form == "xz":
        packed += b"\0" * 8
    with open_input(str(write(tmp_path / "packed", packed))) as file:
        assert file.stream.read() == plain
        assert file.position == len(packed)


@pytest.mark.parametrize("form", PACK)
def test_a_stream_that_ends_early_or_is_followed_by_something_says_so(tmp_path, form):
    plain = write_rows(tmp_path / "plain.csv", 3000).read_bytes()
    packed = PACK[form](plain)
    for content, message in (
        (packed[: len(packed) * 2 // 3], f"the {form} stream ends early"),
        (packed + b"something else", f"something that is not {form} follows the {form} stream"),
    ):
        path = write(tmp_path / "packed", content)
        with pytest.raises(DataError, match=message), open_input(str(path)) as file:
            file.stream.read()


@pytest.mark.parametrize("form", ["gzip", "zstd", "bzip2"])
def test_damage_anywhere_never_passes_as_data(tmp_path, form):
    plain = write_rows(tmp_path / "plain.csv", 2000).read_bytes()
    options = {zstd.CompressionParameter.checksum_flag: 1}
    packed = zstd.compress(plain, options=options) if form == "zstd" else PACK[form](plain)
    random = np.random.default_rng(0)
    for place in random.integers(20, len(packed), 40):
        content = bytearray(packed)
        content[place] ^= int(random.integers(1, 256))
        try:
            with open_input(str(write(tmp_path / "packed", bytes(content)))) as file:
                assert file.stream.read() == plain  # a byte that does not matter
        except DataError as error:
            assert "stream" in str(error)  # noqa: PT017 - either is right


def test_a_checksum_that_fails_says_that_the_rows_cannot_be_trusted(model, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_journal, "SECONDS_BETWEEN_COMMITS", 0.0)
    packed = bytearray(gzip.compress(write_rows(tmp_path / "plain.csv", 9000).read_bytes(), 0))
    packed[len(packed) // 20] ^= 1
    source = write(tmp_path / "input.csv.gz", bytes(packed))
    with pytest.raises(
        DataError, match=r"gzip stream is damaged \(CRC check failed.*none of its rows can be trusted.*--force"
    ):
        classify_file(model, source, tmp_path / "output.csv")
    assert not (tmp_path / "output.csv").exists()
    source.write_bytes(gzip.compress((tmp_path / "plain.csv").read_bytes()))
    with pytest.raises(RunError, match="rows are not those that the interrupted job has classified"):
        classify_file(model, source, tmp_path / "output.csv", resume=True)


@pytest.mark.parametrize("form", PACK)
def test_a_small_file_that_unpacks_to_a_large_one_takes_little_memory(tmp_path, form):
    path = write(tmp_path / "bomb", PACK[form](bytes(64 << 20)))
    tracemalloc.start()
    try:
        with open_input(str(path)) as file:
            size = 0
            while piece := file.stream.read(1 << 16):
                size += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 16 << 20  # xz keeps what it may repeat, 8 MB


def test_an_xz_file_that_asks_for_too_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    path = write(tmp_path / "large.xz", lzma.compress(b"text\ngood\n", filters=filters))
    with pytest.raises(DataError, match=r"the xz stream is damaged \(Memory usage limit"), open_input(str(path)):
        pass


# --- Rows that arrive over time --------------------------------------------------------------------------------------


@pytest.fixture
def pipes(tmp_path) -> Iterator[tuple[Path, Path]]:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    return tmp_path / "in", tmp_path / "out"


@pytest.mark.parametrize("packed", [False, True])
def test_each_row_of_a_slow_pipe_is_answered_before_the_next_one_is_sent(model, pipes, packed):
    job = threading.Thread(target=lambda: classify_file(model, pipes[0], pipes[1]))
    job.start()
    answers: list[str] = []
    with pipes[1].open(encoding="utf-8") as receive, pipes[0].open("wb") as raw:
        send = gzip.GzipFile(fileobj=raw, mode="wb") if packed else raw

        def put(text: str) -> None:
            send.write(text.encode())
            send.flush()
            raw.flush()

        put("id,text\n1,good, with")  # in the middle of a row
        put(" too many\n2,ba")
        put("d\n")
        assert receive.readline().startswith("id,text,predicted_label")
        answers += [receive.readline(), receive.readline()]
        for number in range(3, 6):
            put(f'{number},"the film was\n{number} times bad"\n')
            answers += [receive.readline(), receive.readline()]
        if packed:
            send.close()
    job.join(30)
    assert not job.is_alive()
    assert answers[0].startswith('1,"good, with too many",,,"fields: ')
    assert [answer.split(",")[0] for answer in answers[1::2]] == ["2", '3 times bad"', '4 times bad"', '5 times bad"']


def test_a_job_on_a_pipe_is_resumed_however_its_rows_arrive(model, tmp_path, monkeypatch):
    source, output = write_rows(tmp_path / "input.csv", 200), tmp_path / "output.csv"
    os.mkfifo(tmp_path / "pipe")

    def feed() -> None:
        with (tmp_path / "pipe").open("wb") as pipe, source.open("rb") as file:
            try:
                for line in file:
                    pipe.write(line)
                    pipe.flush()
            except BrokenPipeError:
                pass

    def job(**options: object) -> int:
        thread = threading.Thread(target=feed)
        thread.start()
        try:
            return classify_file(model, tmp_path / "pipe", output, **options).rows
        finally:
            thread.join(30)

    write_bytes = batch_journal.UnfinishedOutput.write

    def write_or_stop(self: batch_journal.UnfinishedOutput, content: bytes) -> None:
        if self._size > 2000:
            raise KeyboardInterrupt
        write_bytes(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(batch_windows, "FIRST_WINDOW_ROWS", 7)
        patch.setattr(batch_windows, "WINDOW_ROWS", 7)
        patch.setattr(batch_journal.UnfinishedOutput, "write", write_or_stop)
        with pytest.raises(KeyboardInterrupt):
            job()
    assert job(resume=True) == 200
    classify_file(model, source, tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_missing_or_empty_cells_behind_the_text_are_no_fault(model, tmp_path):
    content = b'id,text,a,b\n1,"good",x,y\n2,"bad"\n3,film,x\n4,food,x,y,,\n5\n6,app,x,y,z\n'
    output = classified(model, tmp_path, content)
    rows = read(tmp_path / "output.csv")
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["error"].partition(":")[0] for row in rows] == ["", "", "", "", "fields", "fields"]
    assert [(row["a"], row["b"]) for row in rows] == [
        ("x", "y"),
        ("", ""),
        ("x", ""),
        ("x", "y"),
        ("", ""),
        ("x", "y,z"),
    ]
    assert b'\n2,"bad",,,' in output
    assert classify_file(model, tmp_path / "input.csv", tmp_path / "again.csv").uneven_rows == 3


def test_a_row_whose_output_is_no_number_gets_no_label_but_a_reason(model, tmp_path, monkeypatch):
    run_row = interpreters.Runner.run

    def broken(self, tokens):
        found = run_row(self, tokens)
        return np.full_like(found, np.nan) if (tokens.ids != 0).sum() > 4 else found

    monkeypatch.setattr(interpreters.Runner, "run", broken)
    source = write(tmp_path / "input.csv", b"id,text,label\n1,good,good\n2,the film was bad,bad\n3,bad,bad\n")
    summary = classify_file(model, source, tmp_path / "output.csv", reject_below=0.1, scores=True)
    rows = read(tmp_path / "output.csv")
    assert [row["predicted_label"] in LABELS for row in rows] == [True, False, True]
    assert (rows[1]["predicted_label"], rows[1]["predicted_score"], rows[1]["score:bad"]) == ("", "", "")
    assert rows[1]["error"] == "model: its output is not a number (NaN or infinity)"
    assert (summary.errors, summary.rejected) == ({"model": 1}, 0)
    with pytest.raises(ModelError, match=r"input\.csv: row 3 gets no label"):
        classify_file(model, source, tmp_path / "strict.csv", strict=True)
    with pytest.raises(ModelError, match=r"for row 3 the model's output is not a number"):
        evaluate_file(model, source)


def test_an_earlier_output_is_classified_again_with_a_prefix(model, tmp_path):
    source = write(tmp_path / "input.csv", b"text,error\ngood,none\n")
    with pytest.raises(DataError, match=r"a column `error` already; put a prefix .* column_prefix \(--prefix\)"):
        classify_file(model, source, tmp_path / "first.csv")
    classify_file(model, source, tmp_path / "first.csv", column_prefix="first_")
    assert run("classify", model, tmp_path / "first.csv", "-o", tmp_path / "second.csv", "--prefix", "second_") == 0
    [row] = read(tmp_path / "second.csv")
    assert list(row) == [
        *("text", "error", "first_predicted_label", "first_predicted_score", "first_error"),
        *("second_predicted_label", "second_predicted_score", "second_error"),
    ]
    assert (row["error"], row["first_predicted_label"]) == ("none", row["second_predicted_label"])


def test_files_of_which_one_has_more_columns_become_one_output(model, tmp_path):
    first = write(tmp_path / "a.csv", b'id,text\n1,"good"\n')
    second = write(tmp_path / "b.csv", b"id,topic,text,more\n2,x,bad,y\n3,,film\n")
    classify_file(model, [first, second], tmp_path / "ab.csv")
    classify_file(model, [second, first], tmp_path / "ba.csv")
    rows = read(tmp_path / "ab.csv")
    assert list(rows[0])[:4] == ["id", "text", "topic", "more"]
    assert [(row["id"], row["text"], row["topic"], row["more"], row["error"]) for row in rows] == [
        ("1", "good", "", "", ""),
        ("2", "bad", "x", "y", ""),
        ("3", "film", "", "", ""),
    ]
    assert [list(row.values())[:4] for row in read(tmp_path / "ba.csv")] == [
        ["2", "x", "bad", "y"],
        ["3", "", "film", ""],
        ["1", "", "good", ""],
    ]
    assert (tmp_path / "ab.csv").read_bytes().splitlines()[0] == b"id,text,topic,more" + ADDED


# --- True labels -----------------------------------------------------------------------------------------------------


def test_unknown_labels_are_counted_and_named_and_the_others_are_measured(tmp_path, caplog):
    model = write_tiny_model(tmp_path / "model.tflite", labels=("1", "2"))
    [known] = Classifier(model).classify(["good"])
    source = write(tmp_path / "data.csv", f"text,label\ngood,{known.label}\nbad,1.0\nfilm,1.0\n,2\nfood,\n".encode())
    with caplog.at_level(logging.WARNING, "textclf"):
        metrics = evaluate_file(model, source)
    assert (metrics.rows, metrics.accuracy) == (1, 1.0)
    assert (metrics.rows_with_unknown_label, metrics.rows_without_text) == (3, 1)
    assert (
        "3 rows with a label that the model does not know: `1.0` (2 rows, first row 3; did you mean `1`?)"
        in caplog.text
    )
    assert "no label (1 row, first row 6)" in caplog.text
    assert "1 row without text left out" in caplog.text
    summary = classify_file(model, source, tmp_path / "output.csv", where_label=True)
    assert (summary.accuracy, summary.unknown_truths) == (1.0, 3)
    assert "data.csv row 3; did you mean `1`?" in summary.as_text()


def test_labels_of_which_none_is_known_are_an_error(model, tmp_path):
    source = write(tmp_path / "data.csv", b"text,label\ngood,Good\nbad,x\n")
    with pytest.raises(DataError, match=r"no row has a label that the model knows.*`Good` .*did you mean `good`\?"):
        evaluate_file(model, source)
    with pytest.raises(DataError, match=r"complete, but there is no accuracy.*column `label`.*did you mean `good`\?"):
        classify_file(model, source, tmp_path / "output.csv", where_label=True)
    assert len(read(tmp_path / "output.csv")) == 2


@pytest.mark.parametrize(
    ("train", "names", "warned"),
    [
        ("train/data.csv", ("train/data.csv", "test/data.csv"), [True, False]),
        ("/moved/data.csv", ("train/data.csv", "test/data.csv"), [True, False]),
        ("*/data.csv", ("train/data.csv", "test/data.csv"), [True, True]),
        ("*.csv", ("data.csv", "test/data.csv"), [True, False]),
        ("train/**/*.csv", ("train/may/data.csv", "test/data.csv"), [True, False]),
        (["a.csv", "train/d*.csv"], ("train/data.csv", "test/data.csv"), [True, False]),
    ],
)
def test_files_of_one_name_in_different_folders_are_told_apart(model, tmp_path, caplog, train, names, warned):
    (tmp_path / "model.tflite").write_bytes(model.read_bytes())
    files = {}
    for name, content in zip(names, (b"text,label\ngood,good\nbad,bad\n", b"text,label\nfilm,good\n"), strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        files[name] = hashlib.sha256(write(tmp_path / name, content).read_bytes()).hexdigest()
    metrics = {"files": files, "recipe": {"dataset": {"train": train, "validation": 0.1, "test": "test/data.csv"}}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    found = []
    for name in names:
        caplog.clear()
        evaluate_file(tmp_path / "model.tflite", tmp_path / name)
        found.append("the model was trained on this file" in caplog.text)
    assert found == warned


def test_evaluating_on_the_training_file_warns(model, tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.tflite").write_bytes(model.read_bytes())
    train = write(tmp_path / "train.csv", b"text,label\ngood,good\nbad,bad\n")
    test = write(tmp_path / "test.csv", b"text,label\nfilm,good\n")
    files = {f"/elsewhere/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in (train, test)}
    metrics = {"files": files, "recipe": {"dataset": {"train": "/elsewhere/train.csv"}}}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    evaluate_file(tmp_path / "run", test)
    assert caplog.text == ""
    evaluate_file(tmp_path / "run", train)
    assert "train.csv: the model was trained on this file, so the results are too optimistic" in caplog.text
    for damaged in ("[", "[]", '{"files": [], "recipe": 5}', "[" * 100_000):
        (tmp_path / "run" / "metrics.json").write_text(damaged)
        assert evaluate_file(tmp_path / "run", train).rows == 2


# --- Arguments and options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": "ab"}, r"delimiter \(--delimiter\) is `ab`, not a delimiter"),
        ({"encoding": "rot13"}, r"encoding \(--encoding\) is `rot13`, not a text encoding"),
        ({"encoding": "utf8x"}, r"encoding \(--encoding\) is `utf8x`"),
        ({"reject_below": float("nan")}, r"reject_below \(--reject-below\) is nan; give a probability"),
        ({"top_k": 0}, r"top_k \(--top-k\) is 0; give 1 or more"),
        ({"force": True, "resume": True}, r"force \(--force\) starts again"),
        ({"num_threads": 0}, "num_threads is 0"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(model, tmp_path, options, message):
    source = write(tmp_path / "input.csv", b"text,label\ngood,good\n")
    with pytest.raises(ArgumentError, match=message):
        classify_file(model, source, tmp_path / "output.csv", **options)
    if set(options) <= {"delimiter", "encoding"}:
        with pytest.raises(ArgumentError, match=message):
            evaluate_file(model, source, **options)


def test_options_mean_what_the_keys_of_a_recipe_mean(model, tmp_path, capfd):
    source = write(tmp_path / "input.csv", b"text\tlabel\ngood\tgood\n")
    assert run("classify", model, source, "-o", tmp_path / "output.csv", "--delimiter", "tab") == 0
    assert run("evaluate", model, source, "--delimiter", "TAB") == 0
    for bad in (("--delimiter", "ab"), ("--encoding", "rot13"), ("--reject-below", "nan")):
        assert run("classify", model, source, "-o", tmp_path / "other.csv", *bad) == 2
        assert capfd.readouterr().err.splitlines()[-1].startswith("Error: ")


def test_one_column_may_be_named_without_a_list(model, tmp_path):
    source = write(tmp_path / "input.csv", b"message,label\ngood,good\n")
    assert classify_file(model, source, tmp_path / "output.csv", text_columns="message").rows == 1
    assert evaluate_file(model, source, text_columns="message").rows == 1


@pytest.mark.parametrize(
    "option",
    [
        ("-o", "q.csv"),
        ("--where-label",),
        ("--strict",),
        ("--text", "a"),
        ("--resume",),
        ("--force",),
        ("--delimiter", ","),
        ("--encoding", "utf-8"),
        ("--label", "x"),
        ("--prefix", "x"),
        ("--threads", "2"),
    ],
)
def test_an_option_that_a_single_text_would_ignore_is_refused(model, option, capfd):
    assert run("classify", model, "--text-input", "good", *option) == 2
    assert f"{option[0]} has no effect with --text-input" in capfd.readouterr().err.replace("--output", "-o")


def test_a_single_text_follows_the_rules_of_a_row(tmp_path, capfd):
    model = write_tiny_model(tmp_path / "model.tflite")
    for empty in ("", "  \n"):
        assert run("classify", model, "--text-input", empty) == 2
        found = capfd.readouterr()
        assert found.out == ""
        assert "Error: --text-input: has no text; pass a text to classify" in found.err
    [prediction] = Classifier(model).classify(["good"])
    assert run("classify", model, "--text-input", "good") == 0
    assert capfd.readouterr().out == f"{prediction.label}\t{prediction.score:.4f}\n"
    assert run("classify", model, "--text-input", "good", "--reject-below", "1") == 0
    found = capfd.readouterr()
    assert found.out == f"(no label)\t{prediction.score:.4f}\n"
    assert f"The probability of the label {prediction.label} is below the threshold." in found.err
    assert run("classify", model, "--text-input", "good", "--reject-below", "1", "--json") == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown == {"labels": [{"label": "", "score": pytest.approx(prediction.score)}], "rejected": True}


def test_the_folder_of_a_run_is_a_model_for_every_command(model, tmp_path, capfd):
    (tmp_path / "model.tflite").write_bytes(model.read_bytes())
    source = write(tmp_path / "input.csv", b"text,label\ngood,good\n")
    assert run("classify", tmp_path, source, "-o", tmp_path / "output.csv") == 0
    assert run("classify", tmp_path, "--text-input", "good") == 0
    assert run("evaluate", tmp_path, source) == 0
    assert run("inspect", tmp_path) == 0
    assert run("verify", tmp_path) in (0, 2)
    assert "model.tflite" in capfd.readouterr().out
    (tmp_path / "model.tflite").unlink()
    for command in (("classify", tmp_path, "--text-input", "x"), ("evaluate", tmp_path, source), ("inspect", tmp_path)):
        assert run(*command) == 2
        assert "this folder has no model.tflite" in capfd.readouterr().err


def test_standard_input_and_output_that_are_closed_are_errors_of_one_line(model, tmp_path, monkeypatch):
    source = write(tmp_path / "input.csv", b"text\ngood\n")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", None)
        with pytest.raises(StreamError, match="standard output is closed"):
            classify_file(model, source, "-")
    for closed in (None, io.StringIO()):
        if closed is not None:
            closed.close()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", closed)
            with pytest.raises(StreamError, match="standard input is closed"):
                classify_file(model, "-", tmp_path / "output.csv")
