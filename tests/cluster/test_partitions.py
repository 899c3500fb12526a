"""A folder that a cluster writes has the rows that one machine writes, whatever is killed on the way."""

from __future__ import annotations

import _thread
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.command import run
from tests.table_writers import write_parquet
from textclf.classify.tables.job import classify_file
from textclf.classify.tables.table_job import JobInterruptedError
from textclf.cluster import engine
from textclf.cluster.folder import MANIFEST, open_folder
from textclf.cluster.partition import WORK_FOLDER
from textclf.dask import classify_files
from textclf.errors import ArgumentError, DataError, RunError

SECONDS = 120


# --- What is read and written ----------------------------------------------------------------------------------------
def rows_of(count: int, first: int = 0) -> list[dict[str, Any]]:
    words = "good bad film food phone love hate the is was very so again never help".split()
    return [
        {
            "id": number,
            "text": " ".join(words[(number * step) % 15] for step in range(1, 2 + number % 9)) + f" {number}",
        }
        for number in range(first, first + count)
    ]


def write_csv(path: Path, count: int, first: int = 0) -> Path:
    """Rows of which some have line breaks and quotation marks inside, and some are wrong."""
    lines = ["id,text\r\n"]
    for row in rows_of(count, first):
        number, text = row["id"], row["text"]
        kinds: dict[int, str] = {
            3: f'{number},"two\nlines, and ""quoted"" {text}"\r\n',
            5: f'{number},"never closed {text}\r\n',
            7: f'{number},5" {text}\n',
            11: "\r\n",
            13: f"{number},\r\n",
            17: f"{number},{text},too many\r\n",
            19: f"{number},größer {text}\r\n",
        }
        lines.append(kinds.get(number % 23, f"{number},{text}\r\n"))
    path.write_bytes("".join(lines).encode())
    return path


def write_json_lines(path: Path, count: int) -> Path:
    lines = [json.dumps({**row, "more": [1, {"a": "ü\n"}]}, ensure_ascii=row["id"] % 2 == 0) for row in rows_of(count)]
    lines[7], lines[40] = "", "{not json"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def parts_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*"))


def joined_csv(folder: Path) -> bytes:
    """All outputs, with the header of the first."""
    contents = [path.read_bytes() for path in parts_of(folder)]
    header = contents[0][: contents[0].index(b"\n") + 1]
    assert all(content.startswith(header) for content in contents)
    return header + b"".join(content[len(header) :] for content in contents)


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return manifest


def on_one_machine(model: Path, inputs: Sequence[Path], output: Path, **options: Any) -> bytes:
    classify_file(model, inputs, output, **options)
    return output.read_bytes()


# --- Equal to one machine --------------------------------------------------------------------------------------------
def test_csv_files_give_the_bytes_of_one_machine_whatever_is_inside_of_quotation_marks(model, scheduler, tmp_path):
    inputs = [write_csv(tmp_path / "a.csv", 400), write_csv(tmp_path / "b.csv", 100, first=1000)]
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(inputs[1].read_bytes()))
    inputs.append(tmp_path / "c.csv.gz")
    options: dict[str, Any] = {"scores": True, "top_k": 2, "column_prefix": "p_", "reject_below": 0.5}
    summary = classify_files(
        model, inputs, tmp_path / "out", scheduler=scheduler, partition_rows=60, output_format="csv", **options
    )
    expected = on_one_machine(model, inputs, tmp_path / "one.csv", **options)
    assert joined_csv(tmp_path / "out") == expected
    entries = manifest_of(tmp_path / "out")["partitions"]
    assert [entry["partition"] for entry in entries] == list(range(summary.partitions))
    assert summary.partitions == len(parts_of(tmp_path / "out")) > 9
    assert sum(entry["counts"]["rows"] for entry in entries) == summary.rows
    one = classify_file(model, inputs, tmp_path / "again.csv", **options)
    assert (summary.rows, summary.errors, summary.labels) == (one.rows, one.errors, one.labels)
    assert (summary.blank_lines, summary.rejected) == (one.blank_lines, one.rejected)
    assert sorted(os.listdir(tmp_path / "out")) == sorted([MANIFEST, *(entry["output"] for entry in entries)])


def test_json_lines_give_the_bytes_of_one_machine(model, scheduler, tmp_path):
    source = write_json_lines(tmp_path / "in.jsonl", 130)
    classify_files(model, source, tmp_path / "out", scheduler=scheduler, partition_rows=33)
    outputs = parts_of(tmp_path / "out")
    assert [path.suffix for path in outputs] == [".jsonl"] * 4
    assert b"".join(path.read_bytes() for path in outputs) == on_one_machine(model, [source], tmp_path / "one.jsonl")


def test_parquet_files_and_row_groups_without_rows_are_partitions_like_others(model, scheduler, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_pylist(rows_of(40))
    with parquet.ParquetWriter(tmp_path / "a.parquet", table.schema):
        pass
    with parquet.ParquetWriter(tmp_path / "b.parquet", table.schema) as writer:
        for start, count in ((0, 0), (0, 20), (20, 0), (20, 20), (40, 0)):
            writer.write_table(table.slice(start, count))
    classify_files(model, tmp_path / "?.parquet", tmp_path / "out", scheduler=scheduler, partition_rows=10)
    tables = [parquet.read_table(path) for path in parts_of(tmp_path / "out")]
    assert arrow.concat_tables(tables).select(table.column_names).equals(table)


def test_row_groups_of_parquet_give_the_rows_of_one_machine(model, scheduler, tmp_path):
    inputs = [
        write_parquet(tmp_path / f"{name}.parquet", rows_of(count, first), row_group_size=20)
        for name, count, first in (("a", 130, 0), ("b", 35, 500))
    ]
    summary = classify_files(model, tmp_path / "*.parquet", tmp_path / "out", scheduler=scheduler, partition_rows=40)
    on_one_machine(model, inputs, tmp_path / "one.parquet")
    entries = manifest_of(tmp_path / "out")["partitions"]
    assert [entry["row_groups"] for entry in entries] == [[0, 2], [2, 4], [4, 6], [6, 7], [0, 2]]
    frames = [pd.read_parquet(path) for path in parts_of(tmp_path / "out")]
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), pd.read_parquet(tmp_path / "one.parquet"))
    assert summary.rows == 165


def test_true_labels_are_compared_over_all_partitions(model, scheduler, tmp_path):
    source = tmp_path / "in.csv"
    labels = ("good", "bad", "so so", "unheard of")
    frame = pd.DataFrame(rows_of(90)).assign(label=lambda rows: [labels[number % 4] for number in rows.id])
    frame.to_csv(source, index=False)
    one = classify_file(model, source, tmp_path / "one.csv", where_label=True)
    code = run(
        *(
            "classify",
            model,
            source,
            "-o",
            tmp_path / "out",
            "--dask",
            scheduler,
            "--partition-rows",
            20,
            "--where-label",
        )
    )
    assert code == 0
    totals = manifest_of(tmp_path / "out")["totals"]
    assert one.confusion is not None
    assert sum(sum(row.values()) for row in totals["confusion"].values()) == sum(map(sum, one.confusion))
    assert totals["unknown_truths"] == one.unknown_truths == 22


def test_partitions_do_not_depend_on_the_workers(model, scheduler, tmp_path):
    source = write_csv(tmp_path / "in.csv", 200)
    classify_files(model, source, tmp_path / "two", scheduler=scheduler, partition_rows=50)
    classify_files(model, source, tmp_path / "one", scheduler="local:1", partition_rows=50)
    entries = [manifest_of(tmp_path / name)["partitions"] for name in ("two", "one")]
    for name in ("start", "end", "digest", "first_row", "output", "sha256", "counts"):
        assert [entry[name] for entry in entries[0]] == [entry[name] for entry in entries[1]]


def test_a_file_in_an_encoding_with_two_bytes_a_character_is_one_partition(model, scheduler, tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes(("id,text\n" + "".join(f"{number},good {number}\n" for number in range(50))).encode("utf-16"))
    summary = classify_files(model, source, tmp_path / "out", scheduler=scheduler, partition_rows=10)
    assert summary.partitions == 1
    assert parts_of(tmp_path / "out")[0].read_bytes() == on_one_machine(model, [source], tmp_path / "one.csv")


def test_inputs_of_which_some_have_more_columns_give_the_bytes_of_one_machine(model, scheduler, tmp_path):
    for name, content in (("a", "id,text\n1,good\n"), ("b", "id,text,more\n2,bad,x\n"), ("c", "text,last\nlove,y\n")):
        (tmp_path / f"{name}.csv").write_text(content)
    inputs = sorted(tmp_path.glob("*.csv"))
    classify_files(model, inputs, tmp_path / "out", scheduler=scheduler)
    assert joined_csv(tmp_path / "out") == on_one_machine(model, inputs, tmp_path / "one.csv")


# --- Interruptions ---------------------------------------------------------------------------------------------------
def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill_worker(nanny: Any) -> None:
    wait_until(lambda: nanny.process is not None and nanny.process.pid is not None)
    os.kill(nanny.process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows ends a process by either


def test_workers_that_are_killed_lose_and_repeat_nothing(model, cluster, scheduler, tmp_path):
    source = tmp_path / "in.csv"
    pd.DataFrame(rows_of(12 * 300)).to_csv(source, index=False)
    done: list[int] = []

    def kill() -> None:
        for count in (1, 5):
            wait_until(lambda count=count: len(parts_of(tmp_path / "out")) >= count)  # type: ignore[misc]
            kill_worker(list(cluster.workers.values())[count % 2])
            done.append(count)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = classify_files(model, source, tmp_path / "out", scheduler=scheduler, partition_rows=300)
    killer.join()
    assert done == [1, 5]
    assert joined_csv(tmp_path / "out") == on_one_machine(model, [source], tmp_path / "one.csv")
    assert (summary.partitions, summary.rows) == (12, 3600)
    assert not (tmp_path / "out" / WORK_FOLDER).exists()


def start_command(model: Path, source: Path, output: Path, scheduler: str, *more: object) -> subprocess.Popen[str]:
    words = ["classify", model, source, "-o", output, "--dask", scheduler, "--partition-rows", 150, *more]
    command = [sys.executable, "-m", "textclf", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_job_whose_client_was_killed_does_only_what_is_missing(model, scheduler, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out"
    pd.DataFrame(rows_of(20 * 150)).to_csv(source, index=False)
    journal = output / WORK_FOLDER / "done.jsonl"
    with start_command(model, source, output, scheduler) as process:
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 2)
        process.kill()
    done = [json.loads(line)["output"] for line in journal.read_bytes().split(b"\n")[:-1]]
    assert 2 <= len(done) < 20
    journal.write_bytes(journal.read_bytes() + b'{"partition": 9, "outp')  # what a killed process leaves of a line
    times = {name: (output / name).stat().st_mtime_ns for name in done}
    options: dict[str, Any] = {"scheduler": scheduler, "partition_rows": 150}
    with pytest.raises(RunError, match="an interrupted job was found"):
        classify_files(model, source, output, **options)
    with pytest.raises(RunError, match=r"other settings: top_k was 1 and is now 2; use the same"):
        classify_files(model, source, output, resume=True, top_k=2, **options)
    other = tmp_path / "other.csv"
    other.write_bytes(source.read_bytes())
    with pytest.raises(RunError, match=r"inputs with .*other\.csv"):
        classify_files(model, [source, other], output, resume=True, **options)
    content = (output / done[0]).read_bytes()
    for changed, said in (
        (content[:-1], "bytes then"),
        (content.replace(b"good", b"evil"), "other bytes of the same number"),
    ):
        (output / done[0]).write_bytes(changed)
        with pytest.raises(RunError, match=rf"{done[0]}: was changed since the job wrote it \(.*{said}.*delete it"):
            classify_files(model, source, output, resume=True, **options)
    (output / done[0]).write_bytes(content)
    os.utime(output / done[0], ns=(times[done[0]], times[done[0]]))
    summary = classify_files(model, source, output, resume=True, **options)
    assert {name: (output / name).stat().st_mtime_ns for name in done} == times
    assert joined_csv(output) == on_one_machine(model, [source], tmp_path / "one.csv")
    assert (summary.rows, summary.partitions) == (3000, 20)
    with pytest.raises(RunError, match="complete output already; there is nothing to resume"):
        classify_files(model, source, output, resume=True, **options)


def test_an_interrupted_job_says_how_to_continue(model, scheduler, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out"
    pd.DataFrame(rows_of(20 * 150)).to_csv(source, index=False)

    def interrupt() -> None:
        wait_until(lambda: len(parts_of(output)) >= 2)
        _thread.interrupt_main()

    threading.Thread(target=interrupt).start()
    message = r"of 20 partitions; run the same command with --resume \(resume=True\) to continue"
    with pytest.raises(JobInterruptedError, match=message):
        classify_files(model, source, output, scheduler=scheduler, partition_rows=150)


# --- What goes wrong -------------------------------------------------------------------------------------------------
def test_a_damaged_partition_is_named_and_the_others_are_done(model, scheduler, tmp_path):
    source = write_parquet(
        tmp_path / "in.parquet", rows_of(100), row_group_size=20, compression="none", use_dictionary=False
    )
    sound = source.read_bytes()
    classify_files(model, source, tmp_path / "sound", scheduler=scheduler, partition_rows=20)
    start = manifest_of(tmp_path / "sound")["partitions"][3]["start"]
    source.write_bytes(sound[:start] + b"\xff" * 40 + sound[start + 40 :])
    options: dict[str, Any] = {"scheduler": scheduler, "partition_rows": 20}
    with pytest.raises(
        DataError, match=r"in row group 4 .*4 of 5 partitions are done, partition 3 could not be computed"
    ):
        classify_files(model, source, tmp_path / "out", **options)
    source.write_bytes(sound)
    classify_files(model, source, tmp_path / "out", resume=True, **options)
    names = [path.name for path in parts_of(tmp_path / "out")]
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "sound" / name).read_bytes()


def test_a_done_partition_whose_input_has_changed_is_refused(model, scheduler, tmp_path):
    source = write_parquet(
        tmp_path / "in.parquet", rows_of(60), row_group_size=20, compression="none", use_dictionary=False
    )
    sound = source.read_bytes()
    source.write_bytes(sound[:8] + b"\xff" * 40 + sound[48:])
    options: dict[str, Any] = {"scheduler": scheduler, "partition_rows": 20}
    with pytest.raises(DataError, match="2 of 3 partitions are done"):
        classify_files(model, source, tmp_path / "out", **options)
    write_parquet(source, rows_of(60, first=7), row_group_size=20, compression="none", use_dictionary=False)
    with pytest.raises(RunError, match=r"in\.parquet: was changed since the job began"):
        classify_files(model, source, tmp_path / "out", resume=True, **options)


def test_a_row_without_a_label_stops_a_strict_job(model, scheduler, tmp_path):
    source = write_csv(tmp_path / "in.csv", 60)
    with pytest.raises(DataError, match=r"in\.csv: row 7 .* quotation mark .* leave out strict"):
        classify_files(model, source, tmp_path / "out", scheduler=scheduler, partition_rows=20, strict=True)


def test_inputs_that_do_not_fit_are_refused_before_a_row_is_classified(model, scheduler, tmp_path):
    (tmp_path / "a.csv").write_text("id,text,predicted_label\n1,good,x\n")
    (tmp_path / "b.csv").write_text("id,text\n1,good\n")
    (tmp_path / "c.csv").write_text("text,id\ngood,1\n")
    with pytest.raises(DataError, match="has a column `predicted_label` already"):
        classify_files(model, tmp_path / "a.csv", tmp_path / "out", scheduler=scheduler)
    with pytest.raises(DataError, match=r"c\.csv: has the columns `text`, `id`, but .*b\.csv has `id`, `text`"):
        classify_files(model, [tmp_path / "b.csv", tmp_path / "c.csv"], tmp_path / "out", scheduler=scheduler)
    assert not (tmp_path / "out").exists()


def test_a_wrong_address_is_an_error_in_bounded_time(model, tmp_path, monkeypatch):
    source = write_csv(tmp_path / "in.csv", 5)
    monkeypatch.setattr(engine, "SECONDS_TO_CONNECT", 1.0)
    with pytest.raises(RunError, match=r"tcp://127\.0\.0\.1:9: there is no Dask scheduler .*check the address"):
        classify_files(model, source, tmp_path / "out", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArgumentError, match="give the address of a Dask scheduler"):
        classify_files(model, source, tmp_path / "out", scheduler="localhost")


def test_a_scheduler_without_workers_is_an_error_in_bounded_time(model, tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(engine, "SECONDS_FOR_WORKERS", 1.0)
    with (
        LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(RunError, match="the scheduler has no workers after 1 s"),
    ):
        classify_files(model, write_csv(tmp_path / "in.csv", 5), tmp_path / "out", scheduler=empty.scheduler_address)


def test_a_folder_with_foreign_files_is_left_alone(model, tmp_path):
    source, output = write_csv(tmp_path / "in.csv", 5), tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("three years")
    for force in (False, True):
        with pytest.raises(RunError, match=r"holds what no job of textclf wrote there \(thesis\.txt\)"):
            classify_files(model, source, output, scheduler="tcp://127.0.0.1:9", force=force)
    assert os.listdir(output) == ["thesis.txt"]


def test_force_replaces_an_earlier_output_and_nothing_else_does(model, scheduler, tmp_path):
    source, output = write_csv(tmp_path / "in.csv", 50), tmp_path / "out"
    options: dict[str, Any] = {"scheduler": scheduler}
    classify_files(model, source, output, partition_rows=10, **options)
    with pytest.raises(RunError, match="holds a complete output already; name another folder"):
        classify_files(model, source, output, **options)
    classify_files(model, source, output, partition_rows=30, force=True, **options)
    assert len(parts_of(output)) == 2


def test_inputs_in_the_output_folder_are_refused_and_kept(model, scheduler, tmp_path):
    output = tmp_path / "out"
    classify_files(model, write_csv(tmp_path / "in.csv", 50), output, scheduler=scheduler, partition_rows=20)
    (tmp_path / "link.csv").symlink_to(output / "part-000000.csv")
    (tmp_path / "linked").symlink_to(output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    for given in (f"{output}/*.csv", tmp_path / "link.csv", [tmp_path / "in.csv", tmp_path / "linked/part-000001.csv"]):
        for options in ({"force": True}, {"resume": True}, {}):
            with pytest.raises(
                RunError, match=r"out: the input .*\.csv lies in this folder.*name another output folder"
            ):
                classify_files(model, given, output, column_prefix="again_", **options)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_a_link_in_the_output_folder_is_no_input(model, scheduler, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-000000.csv").symlink_to(write_csv(tmp_path / "in.csv", 5))
    (tmp_path / "out" / MANIFEST).write_text('{"format": "textclf-partitions", "version": 1, "settings": {}}\n')
    with pytest.raises(RunError, match=r"part-000000\.csv lies in this folder"):
        classify_files(model, tmp_path / "out" / "part-000000.csv", tmp_path / "out", scheduler=scheduler, force=True)
    assert (tmp_path / "out" / "part-000000.csv").is_symlink()


def test_two_jobs_cannot_write_the_same_folder(model, tmp_path):
    source = write_csv(tmp_path / "in.csv", 5)
    with (
        open_folder(str(tmp_path / "out"), {}, [], force=False, resume=False),
        pytest.raises(RunError, match="another process is writing this folder"),
    ):
        classify_files(model, source, tmp_path / "out", scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-", "--dask", "local"], "-: can be read only once"),
        (["ftp://example.org/in.csv", "--dask", "local"], "ftp://example.org/in.csv: tables are read from"),
        (
            ["in.csv", "--dask", "local", "-o", "https://example.org/out"],
            "https://example.org/out: a web server cannot",
        ),
        ([".", "--dask", "local"], ".: is a folder; name its files"),
        (["in.csv", "--dask", "local", "--output-format", "doc"], "output_format (--output-format) is 'doc'"),
        (["in.csv", "in.csv", "--dask", "local"], "is named twice"),
        (["in.csv", "--partition-rows", "5"], "--partition-rows has no effect without --dask"),
    ],
)
def test_what_cannot_be_divided_is_refused(model, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "in.csv", 5)
    assert run("classify", model, *words, *([] if "-o" in words else ["-o", "out"])) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_job_counts_its_rows_by_reason(model, scheduler, tmp_path, capsys):
    source = write_csv(tmp_path / "in.csv", 100)
    code = run("classify", model, source, "-o", tmp_path / "out", "--dask", scheduler, "--partition-rows", 30, "--json")
    assert code == 3
    summary = json.loads(capsys.readouterr().out)
    counted: Counter[str] = Counter()
    for entry in manifest_of(tmp_path / "out")["partitions"]:
        counted.update(entry["counts"]["errors"])
    assert summary["errors"] == dict(counted) == {"quote": 5, "empty": 4, "fields": 4}
    assert summary["blank_lines"] == 4
