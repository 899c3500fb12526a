"""The command: from text files and two teachers to encoders that textclf loads."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining import export  # noqa: E402
from pretraining.distil import main  # noqa: E402
from tests.pretraining.tiny_teachers import (  # noqa: E402
    BERT_VOCABULARY,
    changed,
    write_bert,
    write_corpus,
    write_mpnet,
    write_settings,
)
from textclf.encoders.formats.textclf_format import read  # noqa: E402


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_bert(folder / "minilm")
    write_mpnet(folder / "mpnet")
    write_corpus(folder / "corpus")
    write_settings(folder / "settings.yaml")
    return folder


def arguments(sources: Path, run: Path, *more: object) -> list[str]:
    named = {"--corpus": "corpus", "--minilm": "minilm", "--mpnet": "mpnet", "--settings": "settings.yaml"}
    paths = [str(part) for key, name in named.items() for part in (key, sources / name)]
    return [*paths, "--run", str(run), "--no-compile", "--threads", "1", *map(str, more)]


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: line[key] for key in line if key not in ("seconds", "tokens_per_second")} for line in lines]


def state_of(run: Path) -> Mapping[str, Any]:
    return torch.load(run / "state.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(arguments(sources, run)) == 0
    return run


def test_a_run_lowers_the_losses_on_text_that_it_does_not_see(whole: Path) -> None:
    lines = [line for line in log_of(whole) if line["kind"] == "held_out"]
    parts = {
        "both": {"minilm_0", "minilm_1", "minilm_2", "minilm_sentence", "minilm_cosine"}
        | {"mpnet_1", "mpnet_2", "mpnet_sentence", "mpnet_cosine", "relation_query", "relation_key", "relation_value"},
        "alone": {"minilm_0", "minilm_1", "minilm_2", "minilm_sentence", "minilm_cosine"},
    }
    for name, expected in parts.items():
        first, *_, last = [line for line in lines if line["student"] == name]
        assert {part for part in first if part.startswith(("minilm", "mpnet", "relation"))} == expected
        # The weight of the embeddings' error falls, and the sentences outweigh the states.
        for part in expected - {"minilm_0"}:
            assert last[part] < (0.8 if part.endswith(("sentence", "cosine")) else 1) * first[part], (name, part)
    assert all(np.isfinite(value) for line in log_of(whole) for value in line.values() if isinstance(value, float))


def test_the_log_tells_tokens_speed_and_a_rate_that_rises_and_ends_near_zero(whole: Path) -> None:
    lines = [line for line in log_of(whole) if line["kind"] == "train" and line["student"] == "both"]
    assert [line["step"] for line in lines[:3]] == [5, 10, 15]
    assert 16_000 <= lines[-1]["tokens"] < 16_400
    assert all(line["tokens_per_second"] > 0 and line["skipped"] == 0 for line in lines)
    rates = [line["rate"] for line in lines]
    assert max(rates) == pytest.approx(0.004, rel=0.15)
    assert rates[-1] < 0.0003


def test_a_run_writes_encoders_that_textclf_reads(whole: Path) -> None:
    for name in ("both", "alone"):
        loaded = read(whole / "encoders" / name)
        assert loaded.vocabulary == BERT_VOCABULARY
        trained = state_of(whole)["students"][name]["weights"]
        for key, array in loaded.weights.items():
            np.testing.assert_allclose(array, trained[key].numpy(), atol=0.02)


@contextmanager
def asked_to_stop_after_the_first_line_of(log: Path) -> Iterator[None]:
    """Sends this process a SIGTERM, which nothing but the run notices."""

    def ask() -> None:
        while not log.exists() and not over.is_set():
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    over, earlier = threading.Event(), signal.signal(signal.SIGTERM, lambda *_: None)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGTERM, earlier)


def test_a_run_that_was_stopped_and_resumed_ends_like_one_that_was_not(
    sources: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with asked_to_stop_after_the_first_line_of(run / "log.jsonl"):
        assert main(arguments(sources, run)) == 0
    stopped = state_of(run)["progress"]["step"]
    assert 5 <= stopped < state_of(whole)["progress"]["step"]
    # What a killed process wrote after its last saved state is removed.
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps({"kind": "train", "student": "both", "step": stopped + 5}) + '\n{"kind": "tr')

    assert main(arguments(sources, run)) == 0
    assert without_times(log_of(run)) == without_times(log_of(whole))
    before, after = state_of(whole)["students"], state_of(run)["students"]
    for name in before:
        for kind in ("weights", "maps"):
            for key, value in before[name][kind].items():
                torch.testing.assert_close(after[name][kind][key], value, atol=0, rtol=0)


def test_a_finished_run_is_left_as_it_is(sources: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = log_of(whole)
    assert main(arguments(sources, whole)) == 0
    assert log_of(whole) == before
    assert "of the budget)" in capsys.readouterr().out


def test_other_settings_or_teachers_than_those_of_the_run_folder_are_refused(
    sources: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_settings(tmp_path / "other.yaml", changed(students__both__learning_rate=0.5, mixture__holes=0.2))
    assert main(arguments(sources, whole, "--settings", other)) == 2
    message = capsys.readouterr().err
    assert "students.both.learning_rate: 0.004 then, 0.5 now" in message
    assert "mixture.holes: 0.1 then, 0.2 now" in message
    assert main(arguments(sources, whole, "--minilm", write_bert(tmp_path / "bert", seed=9))) == 2
    assert "minilm: " in capsys.readouterr().err
    assert main(arguments(sources, whole, "--tokens", 5)) == 2
    assert "budget.tokens: 16000 then, 5 now" in capsys.readouterr().err


def test_a_student_continues_from_given_weights_with_longer_texts(
    sources: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = write_settings(
        tmp_path / "longer.yaml", changed(mixture__lengths=[16, 32, 64], mixture__run_on=0.5, log__held_out_steps=1)
    )
    first = f"both={whole / 'encoders' / 'both'}"
    options = ("--settings", longer, "--tokens", 600, "--continue-from", first)
    assert main(arguments(sources, tmp_path / "run", *options)) == 0
    before = next(line for line in reversed(log_of(whole)) if line["student"] == "both" and line["kind"] == "held_out")
    after = {
        name: next(line for line in log_of(tmp_path / "run") if line["student"] == name and line["kind"] == "held_out")
        for name in ("both", "alone")
    }
    assert after["both"]["minilm_cosine"] == pytest.approx(before["minilm_cosine"], rel=0.3)
    assert after["alone"]["minilm_cosine"] > 2 * after["both"]["minilm_cosine"]

    assert main(arguments(sources, tmp_path / "other", *options[:-1], "nobody=builtin")) == 2
    assert "expected NAME=ENCODER with one of the students both, alone" in capsys.readouterr().err
    assert main(arguments(sources, tmp_path / "other", *options[:-1], "both=builtin:mobilebert-small")) == 2
    assert "another shape than the student both" in capsys.readouterr().err


def test_a_folder_can_be_prepared_before_the_run(sources: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(arguments(sources, run, "--prepare-only")) == 0
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["corpus", "heldout"]
    assert not (run / "origin.json").exists()


def test_a_run_with_a_budget_of_seconds_ends_in_time(sources: Path, tmp_path: Path) -> None:
    assert main(arguments(sources, tmp_path / "run", "--seconds", 0.5)) == 0
    progress = state_of(tmp_path / "run")["progress"]
    assert 0.5 <= progress["seconds"] < 5
    assert log_of(tmp_path / "run")[-1]["kind"] == "held_out"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"students__both__config__vocab_size": 99}, "has a vocabulary of 99, the teachers one of"),
        ({"students__both__config__hidden_size": 24}, "states of 24 numbers, MiniLM of 32"),
        ({"students__both__minilm_layers": [0, 3]}, "`minilm_layers` of both names layer 3, MiniLM has 3"),
        ({"students__both__mpnet_layers": {2: 5}}, "names state 5, MPNet has 2"),
        ({"relations__heads": 5}, "`relations.heads` is 5, which does not divide 32"),
    ],
)
def test_students_that_do_not_suit_the_teachers_are_refused(
    changes: dict[str, Any], message: str, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_settings(tmp_path / "own.yaml", changed(**changes))
    assert main(arguments(sources, tmp_path / "run", "--settings", own)) == 2
    assert message in capsys.readouterr().err


def test_two_processes_do_not_share_a_run_folder(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pretraining.run_folder import RunFolder

    with RunFolder(tmp_path).in_use():
        assert main(arguments(sources, tmp_path)) == 2
    assert "another process runs in this folder" in capsys.readouterr().err


def test_exported_weights_in_parts_are_the_whole_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export.main([str(whole), str(tmp_path / "whole")]) == 0
    file = tmp_path / "whole" / "both" / "encoder.safetensors"
    assert file.read_bytes() == (whole / "encoders" / "both" / "encoder.safetensors").read_bytes()
    # Parts of one MiB, of a file that is made larger than three.
    content = os.urandom(3 * 2**20 + 17)
    file.write_bytes(content)
    export.split(file.parent, 1)
    parts = sorted(file.parent.glob("encoder.safetensors.*"))
    assert [part.stat().st_size for part in parts] == [2**20] * 3 + [17]
    assert b"".join(part.read_bytes() for part in parts) == content
    assert not file.exists()


def test_a_folder_that_is_not_a_run_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "expected a run folder" in capsys.readouterr().err


def test_the_curves_of_a_run_are_drawn_the_same_way_every_time(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from pretraining.curves import draw

    for name in ("one.svg", "two.svg"):
        draw(whole / "log.jsonl", tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.svg").stat().st_size > 20_000
