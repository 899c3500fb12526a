"""What a batch job writes is safe: it replaces only tables, notices what was changed meanwhile, and can be stopped."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.classify.test_batch import left_over, read, start_job, write, write_rows
from tests.classify.test_classifier import write_tiny_model
from textclf.classify.tables import journal as batch_journal
from textclf.classify.tables import windows as batch_windows
from textclf.classify.tables.job import classify_file
from textclf.classify.tables.table_job import JobInterruptedError
from textclf.errors import RunError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("outputs") / "model.tflite")


@pytest.fixture
def source(tmp_path) -> Path:
    return write_rows(tmp_path / "input.csv", 100)


def stop_after(monkeypatch, model: Path, source: Path, output: Path, windows: int) -> None:
    """Interrupts a job after it has written some windows of eight rows."""
    monkeypatch.setattr(batch_windows, "FIRST_WINDOW_ROWS", 8)
    monkeypatch.setattr(batch_windows, "WINDOW_ROWS", 8)
    write_bytes = batch_journal.UnfinishedOutput.write
    written: list[bytes] = []

    def write_or_stop(self: batch_journal.UnfinishedOutput, content: bytes) -> None:
        if len(written) == windows + 1:  # the header is one
            raise KeyboardInterrupt
        written.append(content)
        write_bytes(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(batch_journal.UnfinishedOutput, "write", write_or_stop)
        with pytest.raises(JobInterruptedError):
            classify_file(model, source, output)


# --- What is replaced ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.tflite", "hard.tflite", "soft.tflite", "folder/../model.tflite"])
def test_the_model_is_never_the_output(model, source, tmp_path, name):
    content = model.read_bytes()
    own = write(tmp_path / "model.tflite", content)
    (tmp_path / "folder").mkdir()
    os.link(own, tmp_path / "hard.tflite")
    (tmp_path / "soft.tflite").symlink_to(own)
    for options in ({"force": True}, {"resume": True}, {}):
        with pytest.raises(RunError, match="is the model itself; name another output"):
            classify_file(own, source, tmp_path / name, **options)
    with pytest.raises(RunError, match="is the model itself"):
        classify_file(tmp_path, source, own, force=True)  # the folder of a run
    assert own.read_bytes() == content


@pytest.mark.parametrize("ending", ["unfinished", "packed", "journal", "lock"])
def test_a_file_that_is_read_is_not_used_for_unfinished_work(model, tmp_path, ending):
    read_file = write(tmp_path / f".output.csv.{ending}", b"text\ngood\n")
    with pytest.raises(RunError, match=r"unfinished work in .*, which it also reads; rename that file"):
        classify_file(model, read_file, tmp_path / "output.csv", force=True)
    with pytest.raises(RunError, match="jobs keep their unfinished work under such names"):
        classify_file(model, write(tmp_path / "input.csv", b"text\ngood\n"), read_file, force=True)
    assert read_file.read_bytes() == b"text\ngood\n"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("output.csv", b"PK\x03\x04 a workbook", "an Excel workbook"),
        ("output.csv", b"\x1c\0\0\0TFL3 another model", "a TFLite model"),
        ("output.csv", b"\x7fELF\0\0\0", "a program"),
        ("output.csv", b"\x1f\x8b packed", "compressed with gzip"),
        ("output.csv.gz", b"%PDF-1.7", "a PDF"),
        ("recipe.yaml", b"name: mine\ndataset: {train: a.csv, text: t, label: l}\n", "a YAML file"),
        ("rows.txt", b'[{"text": "good"}]', "JSON"),
        ("clean.py", b"import os\nprint(1, 2, 3)\n", "a text that is no table"),
        ("thesis.md", b"# Years of work\n\nBegan well, ended late.\n", "a text that is no table"),
    ],
)
def test_force_replaces_tables_and_nothing_else(model, source, tmp_path, name, content, what):
    output = write(tmp_path / name, content)
    with pytest.raises(RunError, match=rf"force \(--force\) replaces tables only, but this file is {what}"):
        classify_file(model, source, output, force=True)
    assert output.read_bytes() == content


@pytest.mark.parametrize("ending", ["journal", "unfinished"])
def test_a_folder_under_a_hidden_name_is_named_and_kept(model, source, tmp_path, ending):
    hidden = tmp_path / f".output.csv.{ending}"
    hidden.mkdir()
    for options in ({}, {"resume": True}, {"force": True}):
        with pytest.raises(RunError, match=rf"\.output\.csv\.{ending}: is a folder, but the job keeps .*; move it"):
            classify_file(model, source, tmp_path / "output.csv", **options)
    assert [path.name for path in tmp_path.glob(".output.csv.*") if path.is_dir()] == [hidden.name]


def test_force_replaces_tables_in_every_form(model, source, tmp_path):
    for name in ("output.csv", "output.csv.gz", "output.csv.zst"):
        classify_file(model, source, tmp_path / name)
        assert classify_file(model, source, tmp_path / name, force=True).rows == 100
    write(tmp_path / "wide.csv", "text\ngood\n".encode("utf-16"))
    assert classify_file(model, source, tmp_path / "wide.csv", force=True).rows == 100
    for name, content in (("notes.csv", b"old\n"), ("old.txt", b"text;label\ngood;good\n"), ("empty", b"\n")):
        write(tmp_path / name, content)
        assert classify_file(model, source, tmp_path / name, force=True).rows == 100


def test_an_input_may_be_replaced_by_its_output(model, source, tmp_path):
    classify_file(model, source, tmp_path / "other.csv")
    assert classify_file(model, source, source, force=True).rows == 100
    assert source.read_bytes() == (tmp_path / "other.csv").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".ods", r"an output cannot be .ods; name it .csv, .tsv or .jsonl"),
        (".bz2", r"an output cannot be .bz2; name it .csv, .tsv or .jsonl"),
        (".json", r"an output cannot be .json; name it .csv, .tsv or .jsonl"),
        (".parquet.gz", r".parquet is compressed inside already; leave out .gz"),
    ],
)
def test_a_name_that_promises_another_form_is_refused(model, source, tmp_path, suffix, message):
    with pytest.raises(RunError, match=message):
        classify_file(model, source, tmp_path / f"output{suffix}")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("name", ["output.csv", "output.csv.gz"])
def test_what_replaces_a_private_file_is_private_from_the_start(model, source, tmp_path, monkeypatch, name):
    output = write(tmp_path / name, b"")
    output.chmod(0o600)
    seen: dict[str, int] = {}
    finish = batch_journal.replace_file

    def look(ready: Path, target: Path) -> None:
        for entry in tmp_path.iterdir():
            seen[entry.name] = stat.S_IMODE(entry.stat().st_mode)
        finish(ready, target)

    monkeypatch.setattr(batch_journal, "replace_file", look)
    classify_file(model, source, output, force=True)
    assert {mode for entry, mode in seen.items() if entry.endswith(("unfinished", "packed", "journal"))} == {0o600}
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_a_link_is_followed_to_the_file_that_it_names(model, source, tmp_path):
    (tmp_path / "far").mkdir()
    target = write(tmp_path / "far" / "target.csv", b"old")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    classify_file(model, source, link, force=True)
    assert link.is_symlink()
    assert len(read(target)) == 100
    assert left_over(tmp_path) == left_over(tmp_path / "far") == []


def test_a_link_under_a_hidden_name_is_not_followed(model, source, tmp_path):
    precious = write(tmp_path / "precious.txt", b"precious")
    (tmp_path / ".output.csv.unfinished").symlink_to(precious)
    (tmp_path / ".output.csv.journal.part").symlink_to(precious)
    classify_file(model, source, tmp_path / "output.csv")
    assert precious.read_bytes() == b"precious"
    assert len(read(tmp_path / "output.csv")) == 100


def test_an_error_of_the_input_is_not_blamed_on_the_output(model, source, tmp_path, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "some/other/file")

    monkeypatch.setattr("textclf.classify.tables.job.begin_rows", broken)
    with pytest.raises(OSError, match="some/other/file"):
        classify_file(model, source, tmp_path / "output.csv")


# --- Locks -----------------------------------------------------------------------------------------------------------


def test_a_lock_file_that_was_left_behind_is_harmless(model, source, tmp_path):
    write(tmp_path / ".output.csv.lock", b"")
    assert classify_file(model, source, tmp_path / "output.csv").rows == 100
    assert left_over(tmp_path) == []


def test_of_many_that_want_one_output_only_one_has_it_at_a_time(tmp_path):
    inside, most, had = [0], [0], [0]
    refused: list[str] = []
    guard = threading.Lock()

    def work() -> None:
        for _ in range(15):
            try:
                with batch_journal.open_output(str(tmp_path / "o.csv"), settings={}, force=True, resume=False):
                    with guard:
                        inside[0] += 1
                        had[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0.001)
                    with guard:
                        inside[0] -= 1
            except RunError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert had[0] >= 15
    assert most == [1]
    assert all("another process is writing this file" in message for message in refused)
    assert left_over(tmp_path) == []


# --- Journals --------------------------------------------------------------------------------------------------------


def journal_of(tmp_path: Path) -> Path:
    return tmp_path / ".output.csv.journal"


def test_an_output_that_was_altered_meanwhile_is_noticed(model, source, tmp_path, monkeypatch):
    output = tmp_path / "output.csv"
    stop_after(monkeypatch, model, source, output, 3)
    unfinished = tmp_path / ".output.csv.unfinished"
    content = unfinished.read_bytes()
    unfinished.write_bytes(content[:70] + b"X" + content[71:])
    with pytest.raises(RunError, match=r"output was changed since it was interrupted; start again with force=True"):
        classify_file(model, source, output, resume=True)
    unfinished.write_bytes(content)
    classify_file(model, source, output, resume=True)
    classify_file(model, source, tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_journal_of_the_first_version_is_resumed(model, source, tmp_path, monkeypatch):
    output = tmp_path / "output.csv"
    stop_after(monkeypatch, model, source, output, 3)
    entry = json.loads(journal_of(tmp_path).read_bytes())
    del entry["version"], entry["output_digest"]
    del entry["state"]["tally"]["uneven_rows"], entry["state"]["tally"]["unknown_labels"]
    entry["state"]["window"] = 3
    entry["settings"]["text_wanted_by"] = "words of that time"
    journal_of(tmp_path).write_text(json.dumps(entry))
    assert classify_file(model, source, output, resume=True).rows == 100
    classify_file(model, source, tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_journal_of_a_newer_version_is_refused_and_named(model, source, tmp_path, monkeypatch):
    output = tmp_path / "output.csv"
    stop_after(monkeypatch, model, source, output, 3)
    entry = json.loads(journal_of(tmp_path).read_bytes())
    journal_of(tmp_path).write_text(json.dumps({"version": 99, "what": entry}))
    for options in ({}, {"resume": True}):
        with pytest.raises(RunError, match=r"of a newer textclf was found \(journal version 99"):
            classify_file(model, source, output, **options)
    assert classify_file(model, source, output, force=True).rows == 100


GOOD_STATE = {
    "digest": "00",
    "seconds": 1.0,
    "tally": {"rows": 1, "blank_lines": 0, "labels": {}, "errors": {}, "confusion": {}},
}


def state_with(**tally: object) -> dict[str, object]:
    return {**GOOD_STATE, "tally": {**GOOD_STATE["tally"], **tally}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"{}",
        b'{"settings":{},"state":null,"size":0,"complete":false,"replace":false}',
        *(
            json.dumps(
                {"settings": {}, "state": GOOD_STATE, "size": 0, "complete": False, "replace": False} | change
            ).encode()
            for change in (
                {"settings": []},
                {"size": -1},
                {"size": "0"},
                {"complete": 1},
                {"replace": None},
                {"version": "2"},
                {"version": 2},
                {"state": {**GOOD_STATE, "seconds": "long"}},
                {"state": {**GOOD_STATE, "digest": 5}},
                {"state": {**GOOD_STATE, "tally": None}},
                {"state": state_with(rows=-1)},
                {"state": state_with(rows=True)},
                {"state": state_with(labels=[])},
                {"state": state_with(labels={"a": "b"})},
                {"state": state_with(confusion={"a": {}})},
                {"state": state_with(confusion={"1": {"x": 1}})},
                {"state": state_with(unknown_labels={"a": 5})},
            )
        ),
    ],
)
def test_a_foreign_or_damaged_journal_is_an_error_of_one_line(model, source, tmp_path, content):
    write(journal_of(tmp_path), content)
    write(tmp_path / ".output.csv.unfinished", b"")
    for options in ({}, {"resume": True}):
        with pytest.raises(
            RunError, match=r"journal of an interrupted job, but it is damaged; start again with force=True"
        ):
            classify_file(model, source, tmp_path / "output.csv", **options)
    assert journal_of(tmp_path).read_bytes() == content


def test_a_finished_output_that_is_gone_before_it_was_put_in_place_is_noticed(model, source, tmp_path, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batch_journal, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            classify_file(model, source, tmp_path / "output.csv")
    (tmp_path / ".output.csv.unfinished").unlink()
    with pytest.raises(RunError, match="output is gone; start again with force=True"):
        classify_file(model, source, tmp_path / "output.csv", resume=True)


# --- Stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_job_that_is_stopped_names_resume_and_loses_nothing(model, tmp_path, number, code):
    source, output = write_rows(tmp_path / "input.csv", 20_000), tmp_path / "output.csv"
    job = start_job(model, source, output)
    unfinished = tmp_path / ".output.csv.unfinished"
    while job.poll() is None and not (unfinished.exists() and unfinished.stat().st_size > 150_000):
        time.sleep(0.005)
    job.send_signal(number)
    _, messages = job.communicate(timeout=60)
    assert job.returncode == code
    last = messages.decode().splitlines()[-1]
    assert last.startswith("Error: interrupted after ")
    assert "--resume" in last
    done = json.loads(journal_of(tmp_path).read_bytes())["state"]["tally"]["rows"]
    assert f"{done:,} rows" in last
    assert done > 1000
    summary = classify_file(model, source, output, resume=True)
    assert summary.rows == 20_000
    classify_file(model, source, tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def run_shell(command: str, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PY": sys.executable,
        **{k: str(v) for k, v in variables.items()},
    }
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_ends_or_is_full_takes_one_line_at_most(model, tmp_path):
    source = write_rows(tmp_path / "input.csv", 20_000)
    full = run_shell(
        '"$PY" -m textclf classify "$MODEL" "$SOURCE" -o - > /dev/full; echo $?', MODEL=model, SOURCE=source
    )
    assert full.stdout.strip() == "2"
    assert "Error: standard output: cannot be written (No space left on device)" in full.stderr
    ended = run_shell('"$PY" -m textclf classify "$MODEL" "$SOURCE" -o - | head -1', MODEL=model, SOURCE=source)
    assert ended.stdout.startswith("id,text,label,predicted_label")
    for done in (full, ended):
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
