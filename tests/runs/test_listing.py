"""`textclf runs` lists runs from their records alone: finished, unfinished, damaged, and folders that are none."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import textclf
from tests.command import run
from tests.conftest import REPOSITORY
from textclf.errors import ArgumentError, RunError
from textclf.files.writing import locked

RECORDS = REPOSITORY / "tests" / "fixtures" / "metrics"


def record(folder: Path, name: str, **changes) -> Path:
    values = {**json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")), **changes}
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def unfinished(runs: Path, name: str, *, saved: bool) -> None:
    folder = runs / f".{name}.unfinished"
    (folder / "checkpoints").mkdir(parents=True)
    if saved:
        (folder / "checkpoints" / "last.safetensors").write_bytes(b"x")
        step = {"event": "step", "loss": 1.5, "learning_rate": 0.1, "rows": 8, "seconds": 2.0}
        epoch = {"event": "epoch", "step": 1, "epoch": 1, "training_loss": 1.5, "validation_loss": 0.5}
        lines = [json.dumps(values) for values in ({**step, "step": 1}, epoch, {**step, "step": 2})]
        (folder / "log.jsonl").write_text("\n".join(lines) + '\n{"event": "st', encoding="utf-8")


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = Path("runs")
    record(folder / "words", "words")
    record(folder / "deeper" / "seeds", "seeds")
    record(folder / "withheld", "withheld")
    unfinished(folder, "stopped", saved=True)
    unfinished(folder, "dead", saved=False)
    (folder / "cut").mkdir()
    (folder / "cut" / "metrics.json").write_text("{", encoding="utf-8")
    (folder / "notes").mkdir()
    (folder / "odd").mkdir()
    (folder / "odd" / "metrics.json").write_text('{"format": "textclf-metrics", "version": 1}', encoding="utf-8")
    return folder


def test_every_run_has_its_state_and_what_to_do(runs, capsys):
    assert run("runs", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    entries = {Path(one["folder"]).name: one for one in found["runs"]}
    assert {name: one["state"] for name, one in entries.items()} == {
        "words": "finished",
        "seeds": "finished",
        "withheld": "without a model",
        "stopped": "interrupted",
        "dead": "failed",
        "cut": "damaged",
        "odd": "damaged",
    }
    assert found["others"] == ["notes"]
    assert entries["stopped"]["problem"] == "it was interrupted after step 2"
    assert entries["stopped"]["remedy"].endswith("--resume")
    assert entries["odd"]["problem"] == "the metrics are damaged (KeyError: 'export')"
    assert entries["withheld"]["problem"] == "bound broken"
    assert entries["withheld"]["remedy"] == f"textclf export {runs / 'withheld'} quantization=none"
    assert run("runs") == 0
    shown = capsys.readouterr().out
    assert "Without a run: notes" in shown
    assert "cut: the metrics are not those of a run of textclf\n  restore metrics.json, or train again\n" in shown


def test_a_finished_run_has_its_result_with_the_interval(runs):
    [entry] = textclf.list_runs(runs / "words").runs
    assert (entry.task, entry.encoder, entry.rows, entry.size) == ("text-classification", "average-words", 256, 8307)
    assert entry.score is not None
    assert entry.score.as_text() == "accuracy 100.0 % (94.0–100.0), 60 test rows"


def test_runs_are_sorted_and_wrong_folders_refused(runs):
    names = [Path(entry.folder).name for entry in textclf.list_runs(sort="name").runs]
    assert names == ["cut", "dead", "seeds", "odd", "stopped", "withheld", "words"]
    scores = [entry.score.value for entry in textclf.list_runs(sort="score").runs if entry.score]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(ArgumentError, match="choose one of date, name"):
        textclf.list_runs(sort="luck")
    with pytest.raises(RunError, match="there is no such folder"):
        textclf.list_runs(runs / "none")


def test_runs_are_sorted_by_latency_and_older_runs_say_that_it_was_not_measured(runs, capsys):
    export = json.loads((RECORDS / "words.json").read_text(encoding="utf-8"))["export"]
    for name, milliseconds in (("slow", 41.26), ("fast", 8.0)):
        latency = {"milliseconds": milliseconds, "tokens": 128, "threads": 1, "runs": 20, "processor": "a processor"}
        record(runs / name, "words", export={**export, "latency": latency})
    names = [Path(entry.folder).name for entry in textclf.list_runs(sort="latency").runs]
    assert names[:2] == ["fast", "slow"]
    assert run("runs", "--sort", "latency") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("runs/")}
    assert lines["runs/slow"].endswith("41.3 ms (128 tokens)")
    assert lines["runs/words"].endswith("not measured")
    assert "not measured" not in lines["runs/withheld"]
    assert "not measured" not in lines["runs/stopped"]
    assert run("runs", "--json") == 0
    found = {Path(one["folder"]).name: one["latency"] for one in json.loads(capsys.readouterr().out)["runs"]}
    assert found["fast"] == {"milliseconds": 8.0, "tokens": 128, "threads": 1, "processor": "a processor"}
    assert found["words"] is None


def test_a_run_that_another_process_writes_is_running(runs):
    with locked(runs / ".stopped.lock"):
        states = {entry.name: entry.state for entry in textclf.list_runs(runs).runs}
    assert states["stopped"] == "running"


def test_listing_loads_no_tensorflow_pydantic_or_runtime(runs):
    code = (
        "import sys, textclf; textclf.list_runs();"
        "print([name for name in ('tensorflow', 'pydantic', 'tokenizers', 'ai_edge_litert') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_event_files_have_the_losses_of_the_log_and_replace_only_their_own(runs, capsys):
    pytest.importorskip("tensorboard")
    assert run("runs", "--tensorboard", "events") == 0
    assert "1 event file written; look at them with: tensorboard --logdir events" in capsys.readouterr().err
    [file] = Path("events").rglob("*tfevents*")
    assert file.parent.name == "stopped"
    (file.parent / "mine").write_text("x", encoding="utf-8")
    found = scalars(file.read_bytes())
    assert found["loss/training"] == [(1, 1.5), (2, 1.5)]
    assert found["loss/validation"] == [(1, 0.5)]
    assert found["rows_per_second"] == [(1, 4.0), (2, 4.0)]
    assert run("runs", "--tensorboard", "events") == 0
    assert (file.parent / "mine").exists()


def scalars(content: bytes) -> dict[str, list[tuple[int, float]]]:
    """The values of an event file by their tags. A record is its length, a checksum, the event, and another checksum."""
    from tensorboard.compat.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        content = content[16 + length :]
    return found
