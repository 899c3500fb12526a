"""The measurement with few rows: the same rows for every method, what continues, what the tables say. Peers answer without
training."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from pretraining.few_rows import main, tables
from tests.pretraining.peers import POSIX, Peers, read_results, write_set
from tests.tiny import write_tiny_encoder

pytestmark = POSIX


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path / "data" / "sst2", rows=60)
    return tmp_path / "data"


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(tmp_path)


def measure(data: Path, peers: Peers, *arguments: str) -> int:
    work = ["--work", str(data.parent / "work"), "--peers-python", str(peers.python), "--sets", "sst2"]
    return main(["--data", str(data), *work, *arguments])


def results(data: Path) -> list[dict]:
    return read_results(data.parent / "work" / "few_rows.jsonl")


def test_every_method_of_a_draw_gets_the_same_rows_and_each_draw_others(data, peers) -> None:
    methods = ("--methods", "tf-idf", "all-minilm-l6-v2 head", "setfit")
    assert measure(data, peers, *methods, "--rows", "4", "50", "--draws", "2") == 0
    drawn = [[(row["text"], row["label"]) for row in job["rows"]] for job in peers.jobs]
    assert [Counter(label for _, label in rows) for rows in drawn] == [
        Counter(good=n, bad=n) for n in [4] * 3 + [30] * 3
    ] * 2
    assert drawn[0] == drawn[1] == drawn[2] != drawn[6]
    with open(data / "sst2" / "train.csv", encoding="utf-8", newline="") as file:
        assert set(drawn[0]) < {(row["text"], row["label"]) for row in csv.DictReader(file)}
    assert {job["validation"] for job in peers.jobs} == {None}
    assert {job["test"] for job in peers.jobs} == {str(data / "sst2" / "test.csv")}
    assert [row["train_rows"] for row in results(data)] == ([8] * 3 + [60] * 3) * 2


def test_support_tickets_are_measured_on_the_blind_file(data, peers) -> None:
    options = ("--sets", "support_tickets", "--methods", "tf-idf", "--rows", "2", "--draws", "1")
    assert measure(data, peers, *options) == 0
    job = peers.jobs[0]
    assert (Path(job["test"]).name, job["text"], job["label"]) == ("support_tickets_blind.csv", ["message"], "queue")
    assert set(Counter(row["queue"] for row in job["rows"]).values()) == {2}


def test_the_same_command_measures_only_what_is_missing(data, peers) -> None:
    options = ("--methods", "setfit", "--rows", "4")
    measure(data, peers, *options, "--draws", "2")
    measure(data, peers, *options, "--draws", "3")
    assert [job["seed"] for job in peers.jobs] == [1, 2, 3]
    measure(data, peers, *options, "--draws", "1", "--setfit-steps", "5")
    assert [job["recipe"]["max_steps"] for job in peers.jobs] == [200, 200, 200, 5]


def test_where_the_default_fits_only_the_last_layer_this_is_not_measured_twice(data, peers, capsys) -> None:
    pytest.importorskip("tensorflow")
    encoder = str(write_tiny_encoder(data.parent / "encoder", max_position_embeddings=128))
    options = ("--encoders", encoder, "--methods", "textclf", "textclf head", "--rows", "12", "--draws", "1")
    assert measure(data, peers, *options) == 0
    default, head = results(data)
    assert (default["epochs"], default["recipe"], head["recipe"]) == (0, {}, {"epochs": 0})
    assert len(default["sha256"]) == 64
    same = ("encoder", "sha256", "train_rows", "accuracy", "macro_f1", "seconds", "processor", "bfloat16")
    assert {name: head[name] for name in same} == {name: default[name] for name in same}
    assert f"| textclf head, {encoder} | {100 * head['accuracy']:.1f} |" in capsys.readouterr().out


def test_tables_show_mean_and_deviation_over_the_draws_and_the_seconds() -> None:
    rows = [
        {"set": "sst2", "method": method, "encoder": encoder, "rows_a_label": count, "draw": draw}
        | {"accuracy": accuracy, "macro_f1": accuracy - 0.1, "seconds": 10.0 * draw}
        for method, encoder, count, draw, accuracy in (
            ("textclf", "builtin", 16, 1, 0.7),
            ("textclf", "builtin", 8, 1, 0.60),
            ("textclf", "builtin", 8, 2, 0.64),
            ("tf-idf", None, 8, 1, 0.5),
        )
    ]
    accuracy, macro_f1, seconds = tables(rows).split("\n\n")
    assert accuracy.splitlines() == [
        "| sst2, accuracy | 8 rows a label | 16 rows a label |",
        "| --- | ---: | ---: |",
        "| textclf, builtin | 62.0 ± 2.8 (2) | 70.0 |",
        "| tf-idf | 50.0 |  |",
    ]
    assert "| textclf, builtin | 52.0 ± 2.8 (2) | 60.0 |" in macro_f1
    assert "| textclf, builtin | 15 | 10 |" in seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sets", "sst"], "has no set sst; did you mean sst2?"),
        (["--rows", "0"], "--rows: 0 is too few"),
        (["--draws", "0"], "--draws: 0 is too few"),
        (["--encoders", "builtin:large"], "there is no built-in encoder 'large'"),
    ],
)
def test_arguments_that_cannot_be_used_are_explained_before_anything_is_measured(
    arguments, message, data, peers, capsys
) -> None:
    assert measure(data, peers, *arguments) == 2
    assert message in capsys.readouterr().err
    assert peers.jobs == []


def test_a_peer_without_an_environment_is_refused_when_named(data, capsys) -> None:
    assert main(["--data", str(data), "--work", str(data.parent / "work"), "--methods", "setfit"]) == 2
    assert "setfit runs in an environment of its own: name its Python with --peers-python" in capsys.readouterr().err
