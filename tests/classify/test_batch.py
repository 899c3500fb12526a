"""Batch jobs: every row comes out once, in order, as it was, with its label, whatever happens on the way."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from tests.classify.test_classifier import LABELS, write_tiny_model
from textclf.classify.classifier import Classifier
from textclf.classify.tables import forms as batch_forms
from textclf.classify.tables import journal as batch_journal
from textclf.classify.tables import windows as batch_windows
from textclf.classify.tables.job import classify_file, evaluate_file
from textclf.classify.tables.rows import ResultOptions, added_columns, classify_rows
from textclf.classify.tables.windows import TableOptions, read_windows
from textclf.cli.main import main
from textclf.errors import DataError, RunError

REPOSITORY = Path(__file__).resolve().parents[2]
ADDED = b",predicted_label,predicted_score,error"
Cells = dict[str, str]


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("batch") / "model.tflite")


@pytest.fixture(scope="session")
def expected(model) -> Callable[[str], bytes]:
    """The cells that a text gets, as they stand in the output."""
    classifier = Classifier(model)

    def cells(text: str) -> bytes:
        [prediction] = classifier.classify([text])
        return f"{prediction.label},{prediction.score:.6f}".encode()

    return cells


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def classified(model: Path, path: Path, content: bytes, **options: object) -> bytes:
    """The output for an input of these bytes."""
    output = path / "output.csv"
    classify_file(model, write(path / "input.csv", content), output, force=True, **options)
    return output.read_bytes()


def read(path: Path) -> list[Cells]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, count: int) -> Path:
    """Rows of which some are bad, some equal, and all of different lengths."""
    words = "good bad film food phone love hate the is was very so again never help".split()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number in range(count):
            text = (
                " ".join(words[(number * step) % len(words)] for step in range(1, 2 + number % 9)) + f" {number % 700}"
            )
            writer.writerow([f"{number:05}", "" if number % 97 == 0 else text, LABELS[number % 3]])
    return path


def left_over(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


# --- What comes out --------------------------------------------------------------------------------------------------


def test_every_other_column_comes_out_byte_for_byte(model, tmp_path, expected):
    rows = [
        b'1,"good, ""film""",007,NA,1.0,"2026-01-02"',
        b'"2",bad,,null,1e5, 03/04/05 ',
        '3,"two\r\nlines",é,"a,b",日本,🎉'.encode(),
    ]
    texts = ['good, "film"', "bad", "two\r\nlines"]
    content = b"\r\n".join([b"id,text,a,b,c,d", *rows, b""])
    wanted = b"".join(row + b"," + expected(text) + b",\r\n" for row, text in zip(rows, texts, strict=True))
    assert classified(model, tmp_path, content) == b"id,text,a,b,c,d" + ADDED + b"\r\n" + wanted


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_stay_and_the_last_row_gets_one(model, tmp_path, expected, line_end):
    content = line_end.join([b"text,id", b"good,1", b"bad,2"])
    wanted = [b"text,id" + ADDED, b"good,1," + expected("good") + b",", b"bad,2," + expected("bad") + b",", b""]
    assert classified(model, tmp_path, content) == line_end.join(wanted)


def test_each_row_keeps_its_own_line_end(model, tmp_path, expected):
    output = classified(model, tmp_path, b"text,id\r\ngood,1\nbad,2\r\n")
    assert output == b"text,id" + ADDED + b"\r\ngood,1," + expected("good") + b",\nbad,2," + expected("bad") + b",\r\n"


@pytest.mark.parametrize(
    ("mark", "codec"), [(b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")]
)
def test_byte_order_marks_and_encodings_stay(model, tmp_path, expected, mark, codec):
    content = mark + "text,id\ngood,é\n".encode(codec)
    cells = expected("good").decode()
    wanted = mark + f"text,id,predicted_label,predicted_score,error\ngood,é,{cells},\n".encode(codec)
    assert classified(model, tmp_path, content) == wanted


def test_a_named_encoding_is_read_and_written(model, tmp_path, expected):
    output = classified(model, tmp_path, "text,id\ngood,é\n".encode("cp1252"), encoding="cp1252")
    assert output == b"text,id" + ADDED + b"\ngood,\xe9," + expected("good") + b",\n"


def test_a_character_that_cannot_be_written_leaves_the_bytes_of_other_rows_as_they_are(model, tmp_path):
    source = write(tmp_path / "input.jsonl", b'{"text": "K\xf6ln"}\n{"text": "half \\ud83d"}\n{"text": "good"}\n')
    classify_file(model, source, tmp_path / "output.csv")
    rows = (tmp_path / "output.csv").read_bytes().splitlines()
    assert rows[1].startswith(b'"{""text"": ""K\xf6ln""}",')
    assert [row.partition(b",")[0] for row in rows[2:]] == [b"half ?", b"good"]


def test_bytes_that_are_not_in_the_named_encoding_stay(model, tmp_path):
    content = "text,id\nхорошо,1\ngood,привет\n".encode("cp1251")
    rows = classified(model, tmp_path, content, encoding="ascii").splitlines()
    assert [b",".join(row.split(b",")[:2]) for row in rows] == content.splitlines()


def test_undecodable_pairs_of_bytes_stay_in_utf_16(model, tmp_path):
    content = "\ufefftext,id\ngood,".encode("utf-16-le") + b"\xff\xdc" + "\nbad,2\n".encode("utf-16-le")
    output = classified(model, tmp_path, content)
    assert "\ngood,".encode("utf-16-le") + b"\xff\xdc" + ",".encode("utf-16-le") in output
    assert "\nbad,2,".encode("utf-16-le") in output


def test_rows_keep_their_order_over_many_windows(model, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_windows, "FIRST_WINDOW_ROWS", 2)
    monkeypatch.setattr(batch_windows, "WINDOW_ROWS", 16)
    source = write_rows(tmp_path / "input.csv", 400)
    summary = classify_file(model, source, tmp_path / "output.csv", num_threads=2)
    rows = read(tmp_path / "output.csv")
    classifier = Classifier(model)
    assert [row["id"] for row in rows] == [f"{number:05}" for number in range(400)]
    for row, original in zip(rows, read(source), strict=True):
        assert (row["text"], row["label"]) == (original["text"], original["label"])
        [prediction] = classifier.classify([row["text"]])
        wanted = (prediction.label, f"{prediction.score:.6f}", "") if row["text"] else ("", "", "empty: has no text")
        assert (row["predicted_label"], row["predicted_score"], row["error"]) == wanted
    assert summary.rows == 400
    assert summary.errors == {"empty": 5}
    assert sum(summary.labels.values()) == 395


def test_scores_and_further_labels_stand_beside_the_label(model, tmp_path):
    classified(model, tmp_path, b"text\ngood film\n", scores=True, top_k=9)
    [row] = read(tmp_path / "output.csv")
    [prediction] = Classifier(model).classify(["good film"])
    ranked = sorted(prediction.scores.items(), key=lambda item: -item[1])
    for rank, (label, score) in enumerate(ranked, start=1):
        suffix = "" if rank == 1 else f"_{rank}"
        assert row[f"predicted_label{suffix}"] == label
        assert row[f"predicted_score{suffix}"] == f"{score:.6f}"
        assert row[f"score:{label}"] == f"{score:.6f}"
    assert len(row) == 1 + 2 * 3 + 3 + 1


def test_uncertain_labels_give_way_to_the_label_for_none_of_these(tmp_path):
    model = write_tiny_model(tmp_path / "model.tflite", reject_label="unclear")
    scores = [prediction.score for prediction in Classifier(model).classify(["good film", "bad"])]
    bound = sum(scores) / 2
    source = write(tmp_path / "input.csv", b"text\ngood film\nbad\n")
    summary = classify_file(model, source, tmp_path / "output.csv", reject_below=bound)
    labels = [row["predicted_label"] for row in read(tmp_path / "output.csv")]
    assert [label == "unclear" for label in labels] == [score < bound for score in scores]
    assert summary.rejected == 1
    assert summary.labels["unclear"] == 1


def test_the_bound_that_training_chose_holds_unless_another_is_given(tmp_path):
    source = write(tmp_path / "input.csv", b"text\ngood film\nbad\n")
    plain = Classifier(write_tiny_model(tmp_path / "plain.tflite"))
    scores = [prediction.score for prediction in plain.classify(["good film", "bad"])]
    bound = sum(scores) / 2
    model = write_tiny_model(tmp_path / "model.tflite", reject_below=bound)
    assert classify_file(model, source, tmp_path / "its_own.csv").rejected == 1
    labels = [row["predicted_label"] for row in read(tmp_path / "its_own.csv")]
    assert [label == "" for label in labels] == [score < bound for score in scores]
    assert classify_file(model, source, tmp_path / "none.csv", reject_below=0.0).rejected == 0


def test_true_labels_are_compared_where_they_are_present(model, tmp_path):
    texts = ["good film", "bad", "love the food", "never again"]
    predictions = Classifier(model).classify(texts)
    truths = [predictions[0].label, predictions[1].label, next(x for x in LABELS if x != predictions[2].label), "other"]
    lines = ["text,label", *(f"{text},{truth}" for text, truth in zip(texts, truths, strict=True))]
    source = write(tmp_path / "input.csv", "\n".join(lines).encode())
    summary = classify_file(model, source, tmp_path / "output.csv", where_label=True)
    assert summary.accuracy == pytest.approx(2 / 3)
    assert summary.unknown_truths == 1
    wanted = [[0] * 3 for _ in range(3)]
    for prediction, truth in zip(predictions[:3], truths, strict=False):
        wanted[LABELS.index(truth)][LABELS.index(prediction.label)] += 1
    assert summary.confusion == wanted
    assert classify_file(model, source, tmp_path / "other.csv").as_dict().keys() & {"accuracy", "confusion"} == set()


def test_a_pair_of_columns_is_read_in_the_order_of_the_training(tmp_path):
    model = write_tiny_model(tmp_path / "model.tflite", text=("question", "answer"))
    source = write(tmp_path / "input.csv", b"answer,question\ngood food,what is it\n,why\n")
    classify_file(model, source, tmp_path / "output.csv")
    [prediction] = Classifier(model).classify([("what is it", "good food")])
    first, second = read(tmp_path / "output.csv")
    assert first["predicted_score"] == f"{prediction.score:.6f}"
    [alone] = Classifier(model).classify([("why", "")])
    assert (second["predicted_label"], second["error"]) == (alone.label, "")


# --- Rows that cannot be classified ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kept", "reason"),
    [
        (b"2", b"2,,", "fields: has 1 field"),
        (b"2,one,two,three", b'2,one,"two,three"', "fields: has 4 fields"),
        (b"2,caf\xe9,x", b"2,caf\xe9,x", "encoding: holds the byte 0xe9"),
        (b"2,nul\0,x", b"2,nul\0,x", "nul: holds a NUL"),
        (b"2,,x", b"2,,x", "empty: has no text"),
        (b'2," ",x', b'2," ",x', "empty: has no text"),
        (b",,", b",,", "empty: has no text"),
        (b'2,"closed" and more,x', b'"2,""closed"" and more,x",,', "quote: has a quotation mark"),
        (b'2,"never closed,x', b'"2,""never closed,x",,', "quote: has a quotation mark"),
    ],
)
def test_a_bad_row_keeps_its_place_and_says_why(model, tmp_path, expected, line, kept, reason):
    content = b"id,text,other\n1,good,a\n" + line + b"\n3,bad,c\n"
    output = classified(model, tmp_path, content)
    header, first, bad, last, end = output.split(b"\n")
    assert header == b"id,text,other" + ADDED
    assert first == b"1,good,a," + expected("good") + b","
    assert last == b"3,bad,c," + expected("bad") + b","
    assert end == b""
    assert bad.startswith(kept + b",,,")
    rows = list(csv.reader(io.StringIO(output.decode("utf-8", "surrogateescape").replace("\0", ""))))
    assert [len(row) for row in rows] == [6, 6, 6, 6]
    assert rows[2][5].startswith(reason)


def test_blank_lines_pass_as_they_are(model, tmp_path, expected):
    output = classified(model, tmp_path, b"text,id\n\ngood,1\n\n\n")
    assert output == b"text,id" + ADDED + b"\n\ngood,1," + expected("good") + b",\n\n\n"


def test_a_row_that_is_too_long_for_memory_is_cut_and_says_so(model, tmp_path, monkeypatch):
    monkeypatch.setattr("textclf.data.tables.table.LONGEST_ROW", 1000)
    output = classified(model, tmp_path, b"id,text\n1," + b"word " * 400 + b"\n2,good\n")
    rows = list(csv.reader(io.StringIO(output.decode())))
    assert rows[1][0].startswith("1,word word")
    assert rows[1][4].startswith("length: ")
    assert rows[1][4].endswith("only its beginning is kept here")
    assert rows[2][:2] == ["2", "good"]


def test_strict_stops_at_the_first_bad_row_and_goes_on_once_it_is_mended(model, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_windows, "FIRST_WINDOW_ROWS", 2)
    source, output = tmp_path / "input.csv", tmp_path / "output.csv"
    source.write_text("id,text\n1,good\n2,bad\n3,film\n4,\n5,food\n")
    with pytest.raises(DataError, match=r"row 5 has no text; correct it.*the 2 rows before it are done.*--resume"):
        classify_file(model, source, output, strict=True)
    assert not output.exists()
    source.write_text("id,text\n1,good\n2,bad\n3,film\n4,app\n5,food\n")
    classify_file(model, source, output, strict=True, resume=True)
    rows = read(output)
    assert [row["text"] for row in rows] == ["good", "bad", "film", "app", "food"]
    assert list(rows[0]) == ["id", "text", "predicted_label", "predicted_score"]
    assert all(row["predicted_label"] in LABELS for row in rows)
    assert left_over(tmp_path) == []


# --- Inputs ----------------------------------------------------------------------------------------------------------


def test_compressed_files_are_read_and_written(model, tmp_path):
    plain = write_rows(tmp_path / "input.csv", 200).read_bytes()
    packed = {
        "input.gz": gzip.compress(plain[:999]) + gzip.compress(plain[999:]),
        "input.zst": zstd.compress(plain[:999]) + zstd.compress(plain[999:]),
    }
    for name, content in {"input.csv": plain, **packed}.items():
        for suffix in ("csv", "csv.gz", "csv.zst"):
            classify_file(model, write(tmp_path / name, content), tmp_path / f"{name}.{suffix}")
    outputs = [path for path in tmp_path.iterdir() if path.name.startswith("input") and ".csv" in path.name[6:]]
    unpacked = set()
    for path in outputs:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        elif path.suffix == ".zst":
            content = zstd.ZstdDecompressor().decompress(content)  # one frame, which every reader reads whole
        unpacked.add(content)
    assert len(outputs) == 9
    assert len(unpacked) == 1


@pytest.mark.parametrize("cut", ["gzip", "zstd"])
def test_a_compressed_file_that_ends_early_is_an_error_not_an_end(model, tmp_path, cut):
    plain = write_rows(tmp_path / "plain.csv", 20_000).read_bytes()
    packed = gzip.compress(plain) if cut == "gzip" else zstd.compress(plain)
    source = write(tmp_path / "input", packed[: len(packed) * 9 // 10])
    with pytest.raises(DataError, match=f"the {cut} stream ends early.*rows before it are done"):
        classify_file(model, source, tmp_path / "output.csv")
    source.write_bytes(packed)
    classify_file(model, source, tmp_path / "output.csv", resume=True)
    classify_file(model, tmp_path / "plain.csv", tmp_path / "whole.csv")
    assert (tmp_path / "output.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_several_inputs_and_patterns_become_one_output(model, tmp_path, expected):
    write(tmp_path / "a.csv", b"id,text\n1,good")
    write(tmp_path / "b1.csv", b"id;text\n2;bad\n")
    write(tmp_path / "b2.csv", b'id,text\n3,"a; b"\n')
    inputs = [tmp_path / "a.csv", str(tmp_path / "b*.csv")]
    summary = classify_file(model, inputs, tmp_path / "output.csv")
    assert summary.rows == 3
    assert (tmp_path / "output.csv").read_bytes() == (
        b"id,text" + ADDED + b"\n"
        b"1,good," + expected("good") + b",\n2,bad," + expected("bad") + b',\n3,"a; b",' + expected("a; b") + b",\n"
    )


def test_inputs_that_do_not_fit_together_are_refused_before_anything_is_done(model, tmp_path):
    write(tmp_path / "a.csv", b"id,text\n1,good\n")
    write(tmp_path / "b.csv", b"text,id\ngood,1\n")
    write(tmp_path / "c.csv", "\ufeffid,text\n1,good\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"b\.csv: has the columns `text`, `id`, but .*a\.csv has `id`, `text`"):
        classify_file(model, [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "output.csv")
    with pytest.raises(DataError, match=r"c\.csv: is utf-16-le, but .*a\.csv is utf-8"):
        classify_file(model, [tmp_path / "a.csv", tmp_path / "c.csv"], tmp_path / "output.csv")
    with pytest.raises(DataError, match=r"d\.csv: there is no such file"):
        classify_file(model, [tmp_path / "a.csv", tmp_path / "d.csv"], tmp_path / "output.csv")
    with pytest.raises(DataError, match=r"e\*\.csv: the pattern matches no file"):
        classify_file(model, [tmp_path / "a.csv", tmp_path / "e*.csv"], tmp_path / "output.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "c.csv"]


def test_the_outputs_name_decides_between_commas_and_tabs(model, tmp_path):
    source = write(tmp_path / "input.csv", b'id,text\n1,"good, film"\n2,say ""hi\n')
    classify_file(model, source, tmp_path / "output.tsv")
    first, second, third = (tmp_path / "output.tsv").read_bytes().splitlines()
    assert first == b"id\ttext\tpredicted_label\tpredicted_score\terror"
    assert second.startswith(b"1\tgood, film\t")
    assert third.startswith(b'2\t"say """"hi"\t')


def test_a_table_of_one_column_gets_commas(model, tmp_path, expected):
    output = classified(model, tmp_path, b"text\ngood, film\nbad\n")
    assert output == (
        b"text" + ADDED + b'\n"good, film",' + expected("good, film") + b",\nbad," + expected("bad") + b",\n"
    )


def test_a_fifo_is_read_and_written_as_a_stream(model, tmp_path, expected):
    os.mkfifo(tmp_path / "in")
    os.mkfifo(tmp_path / "out")
    received: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: (tmp_path / "in").write_bytes(b"id,text\n1,good\n")),
        threading.Thread(target=lambda: received.append((tmp_path / "out").read_bytes())),
    ]
    for thread in threads:
        thread.start()
    classify_file(model, tmp_path / "in", tmp_path / "out")
    for thread in threads:
        thread.join()
    assert received == [b"id,text" + ADDED + b"\n1,good," + expected("good") + b",\n"]
    assert (tmp_path / "out").is_fifo()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"id,words\n1,good\n", r"there is no column `text` .* name another in text_columns \(--text\).*`id`, `words`"),
        (b"text,text\n1,good\n", "2 columns .* are called `text`"),
        (b"text,predicted_score\n1,good\n", "has a column `predicted_score` already; put a prefix.*column_prefix"),
        (b"text,error\n1,good\n", "has a column `error` already.*--prefix"),
        (b"PK\x03\x04abcdef", "Excel"),
        (gzip.compress(b"text\ngood\n", mtime=0)[:-9], "gzip stream ends early"),
    ],
)
def test_an_input_that_cannot_be_used_is_refused_and_nothing_is_left(model, tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        classify_file(model, write(tmp_path / "input.csv", content), tmp_path / "output.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["input.csv"]


def test_labels_that_the_inputs_encoding_cannot_hold_are_refused(tmp_path):
    model = write_tiny_model(tmp_path / "model.tflite", labels=("плохо", "хорошо"))
    source = write(tmp_path / "input.csv", b"text\ngood\n")
    with pytest.raises(DataError, match="is cp1252, in which the label `плохо` cannot be written"):
        classify_file(model, source, tmp_path / "output.csv", encoding="cp1252")


# --- Outputs, killing and resuming -----------------------------------------------------------------------------------


def test_an_existing_output_is_kept_unless_told(model, tmp_path):
    source = write(tmp_path / "input.csv", b"text\ngood\n")
    output = write(tmp_path / "output.csv", b"precious")
    with pytest.raises(
        RunError, match=r"exists already; name another output, or replace it with force=True \(--force\)"
    ):
        classify_file(model, source, output)
    assert output.read_bytes() == b"precious"
    classify_file(model, source, output, force=True)
    assert output.read_bytes().startswith(b"text" + ADDED)
    assert left_over(tmp_path) == []


def test_an_output_where_none_can_be_is_refused(model, tmp_path):
    source = write(tmp_path / "input.csv", b"text\ngood\n")
    with pytest.raises(RunError, match="is a folder"):
        classify_file(model, source, tmp_path)
    with pytest.raises(RunError, match="there is no folder"):
        classify_file(model, source, tmp_path / "missing" / "output.csv")
    with pytest.raises(RunError, match="No space left"):
        classify_file(model, source, "/dev/full")


def start_job(model: Path, source: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    code = "import sys; from textclf.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "classify", str(model), str(source), "-o", str(output), *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("name", ["output.csv", "output.csv.zst"])
def test_a_killed_job_is_resumed_to_the_bytes_of_an_undisturbed_one(model, tmp_path, name):
    source = write_rows(tmp_path / "input.csv", 20_000)
    (tmp_path / "whole").mkdir()
    whole, output = tmp_path / "whole" / name, tmp_path / name
    undisturbed = classify_file(model, source, whole, where_label=True)
    job = start_job(model, source, output, "--where-label")
    unfinished = tmp_path / f".{name}.unfinished"
    while job.poll() is None and not (unfinished.exists() and unfinished.stat().st_size > 150_000):
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert job.returncode == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(
        RunError, match=r"a job that was interrupted after .* rows was found; continue it with resume=True \(--resume\)"
    ):
        classify_file(model, source, output, where_label=True)
    with pytest.raises(RunError, match=r"started with other settings \(scores\)"):
        classify_file(model, source, output, where_label=True, scores=True, resume=True)
    summary = classify_file(model, source, output, where_label=True, resume=True)
    assert output.read_bytes() == whole.read_bytes()
    assert (summary.rows, summary.errors) == (undisturbed.rows, undisturbed.errors)
    assert (summary.labels, summary.confusion) == (undisturbed.labels, undisturbed.confusion)
    assert left_over(tmp_path) == []


@pytest.fixture
def interrupted(model, tmp_path, monkeypatch) -> Path:
    """The output of a job that stopped inside a window, as by a power cut."""
    monkeypatch.setattr(batch_windows, "FIRST_WINDOW_ROWS", 8)
    monkeypatch.setattr(batch_windows, "WINDOW_ROWS", 8)
    monkeypatch.setattr(batch_journal, "SECONDS_BETWEEN_COMMITS", 0.0)
    source = write_rows(tmp_path / "input.csv", 100)
    output = tmp_path / "output.csv"
    write_bytes = batch_journal.UnfinishedOutput.write
    written: list[bytes] = []

    def stop(self: batch_journal.UnfinishedOutput, content: bytes) -> None:
        written.append(content)
        if len(written) == 5:
            write_bytes(self, content[:11])
            raise KeyboardInterrupt
        write_bytes(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(batch_journal.UnfinishedOutput, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            classify_file(model, source, output)
    return output


def test_half_a_window_is_taken_back_when_resuming(model, tmp_path, interrupted):
    output = interrupted
    journal = json.loads((tmp_path / ".output.csv.journal").read_bytes())
    assert journal["version"] == 2
    assert journal["state"]["tally"]["rows"] == 24
    unfinished = tmp_path / ".output.csv.unfinished"
    assert unfinished.stat().st_size == journal["size"] + 11
    with unfinished.open("ab") as file:
        file.write(b"what a power cut may leave" * 1000)
    summary = classify_file(model, tmp_path / "input.csv", output, resume=True)
    assert summary.rows == 100
    classify_file(model, tmp_path / "input.csv", tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_job_is_not_resumed_on_another_input(model, tmp_path, interrupted):
    source = tmp_path / "input.csv"
    source.write_bytes(source.read_bytes().replace(b"00003", b"99999"))
    with pytest.raises(RunError, match="first 24 rows are not those that the interrupted job has classified"):
        classify_file(model, source, interrupted, resume=True)


def test_a_job_whose_output_was_cut_is_not_resumed(model, tmp_path, interrupted):
    os.truncate(tmp_path / ".output.csv.unfinished", 40)
    with pytest.raises(RunError, match="the interrupted job's output is damaged; start again with force=True"):
        classify_file(model, tmp_path / "input.csv", interrupted, resume=True)


def test_force_starts_an_interrupted_job_again(model, tmp_path, interrupted):
    assert classify_file(model, tmp_path / "input.csv", interrupted, force=True).rows == 100
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("name", ["output.csv", "output.csv.gz"])
@pytest.mark.parametrize("step", ["compress_file", "replace_file", "unlink"])
def test_a_job_killed_while_it_is_put_in_place_is_resumed(model, tmp_path, monkeypatch, name, step):
    source, output = write_rows(tmp_path / "input.csv", 50), tmp_path / name
    classify_file(model, source, tmp_path / f"whole-{name}")
    finish = batch_journal.UnfinishedOutput.finish

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def finish_until_killed(self: batch_journal.UnfinishedOutput, state: batch_journal.JobState) -> None:
        with monkeypatch.context() as patch:
            if step == "compress_file":
                patch.setattr(batch_forms, "compress_file", killed)
            elif step == "replace_file":
                patch.setattr(batch_journal, "replace_file", killed)
            else:
                patch.setattr(batch_journal, "sync_folder", lambda folder: killed() if output.exists() else None)
            finish(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(batch_journal.UnfinishedOutput, "finish", finish_until_killed)
        if name == "output.csv" and step == "compress_file":
            classify_file(model, source, output)
            return
        with pytest.raises(KeyboardInterrupt):
            classify_file(model, source, output)
    assert classify_file(model, source, output, resume=True).rows == 50
    assert output.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert left_over(tmp_path) == []


def test_resuming_what_never_began_begins_it(model, tmp_path):
    source = write_rows(tmp_path / "input.csv", 20)
    assert classify_file(model, source, tmp_path / "output.csv", resume=True).rows == 20
    with pytest.raises(RunError, match="exists already; there is nothing to resume"):
        classify_file(model, source, tmp_path / "output.csv", resume=True)


def test_two_jobs_do_not_write_one_output(model, tmp_path):
    source = write_rows(tmp_path / "input.csv", 20)
    with (
        batch_journal.open_output(str(tmp_path / "output.csv"), settings={}, force=False, resume=False),
        pytest.raises(RunError, match="another process is writing this file"),
    ):
        classify_file(model, source, tmp_path / "output.csv")


# --- As one task of many ---------------------------------------------------------------------------------------------


def test_a_chunk_gives_the_same_wherever_it_runs(model, tmp_path):
    source = write_rows(tmp_path / "input.csv", 300)
    options = ResultOptions(scores=True)
    classify_file(model, source, tmp_path / "output.csv", scores=True)
    windows = list(read_windows([str(source)], TableOptions(("text",), "--text"), added=added_columns(LABELS, options)))
    texts = {}
    for window in reversed(windows):
        result = classify_rows(Classifier(model, num_threads=1), window.layout, options, window.rows)
        texts[window.number] = window.header + result.text.encode()
    assert b"".join(texts[number] for number in sorted(texts)) == (tmp_path / "output.csv").read_bytes()


# --- Evaluating ------------------------------------------------------------------------------------------------------


def test_evaluation_measures_the_rows_that_have_a_text(model, tmp_path):
    texts = ["good film", "bad", "love the food"]
    predictions = Classifier(model).classify(texts)
    truths = [predictions[0].label, predictions[1].label, next(x for x in LABELS if x != predictions[2].label)]
    lines = ["text,label", *(f"{text},{truth}" for text, truth in zip(texts, truths, strict=True)), ",good", ""]
    source = write(tmp_path / "data.csv.gz", gzip.compress("\n".join(lines).encode()))
    metrics = evaluate_file(model, source)
    assert metrics.rows == 3
    assert metrics.accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"text,label\ngood,1.0\nbad,bda\n",
            r"no row has a label that the model knows; 2 rows .*`bda` \(1 row, first row 3",
        ),
        (b"text,label\ngood,good,x\n", "row 2 has 3 fields"),
        (b"text,label\n", "has no rows to evaluate"),
        (b"text,mood\ngood,good\n", "no column `label`"),
    ],
)
def test_data_that_cannot_be_evaluated_is_refused(model, tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        evaluate_file(model, write(tmp_path / "data.csv", content))


# --- The command -----------------------------------------------------------------------------------------------------


def test_bad_rows_end_the_command_with_code_3_and_a_count_by_reason(model, tmp_path, capsys):
    source = write(tmp_path / "input.csv", b"id,text\n1,good\n2\n3,\n4,\n")
    with pytest.raises(SystemExit) as ended:
        main(["classify", str(model), str(source), "-o", str(tmp_path / "output.csv"), "--json"])
    assert ended.value.code == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["errors"]) == (4, {"empty": 2, "fields": 1})


def test_rows_pass_from_standard_input_to_standard_output(model, tmp_path, expected):
    job = start_job(model, Path("-"), Path("-"), "--json")
    output, messages = job.communicate(b"id,text\n1,good\n")
    assert output == b"id,text" + ADDED + b"\n1,good," + expected("good") + b",\n"
    assert json.loads(messages[messages.index(b"{") :])["rows"] == 1
    assert job.returncode == 0
