"""The measurement of encoders: which runs are made, what continues, what the tables say. Peers answer without training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pretraining.evaluate import main, tables
from tests.pretraining.peers import POSIX, Peers, read_results, write_set
from tests.tiny import write_tiny_encoder

pytestmark = POSIX

ROW = {"split": "test", "sha256": None, "recipe": {}, "macro_f1": 0.5}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path / "data" / "sst2")
    write_set(tmp_path / "data" / "mrpc", ("text_a", "text_b", "label"))
    write_set(tmp_path / "data" / "own_set")
    return tmp_path / "data"


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(tmp_path)


def evaluate(data: Path, peers: Peers, *arguments: str) -> int:
    work = ["--work", str(data.parent / "work"), "--peers-python", str(peers.python)]
    return main(["--data", str(data), *work, *arguments])


def results(data: Path) -> list[dict]:
    return read_results(data.parent / "work" / "results.jsonl")


def test_every_set_with_one_label_a_row_is_measured_and_the_others_are_named(data, peers, capsys) -> None:
    write_set(data / "go_emotions", ("text", "labels"))
    (data / "half").mkdir()
    assert evaluate(data, peers, "--encoders", "tf-idf") == 0
    assert [row["set"] for row in results(data)] == ["sst2", "mrpc", "own_set"]
    assert [job["text"] for job in peers.jobs] == [["text"], ["text_a", "text_b"], ["text"]]
    messages = capsys.readouterr().err
    assert "go_emotions: its rows have several labels (the column `labels`)" in messages
    assert "half: train.csv is missing" in messages
    assert "1 of 3: sst2, tf-idf: 50.0 % in 3 s" in messages


def test_the_same_command_measures_only_what_is_missing(data, peers) -> None:
    asked = ("--encoders", "tf-idf", "all-minilm-l6-v2", "--sets", "sst2")
    evaluate(data, peers, *asked, "--seeds", "1", "2")
    assert len(peers.jobs) == 3
    evaluate(data, peers, *asked, "--seeds", "1", "2")
    assert len(peers.jobs) == 3
    file = data.parent / "work" / "results.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    evaluate(data, peers, *asked, "--seeds", "1", "2", "3")
    assert [(job["peer"], job["seed"]) for job in peers.jobs[3:]] == [("all-minilm-l6-v2", 2), ("all-minilm-l6-v2", 3)]


def test_a_run_with_another_recipe_is_another_run(data, peers) -> None:
    asked = ("--encoders", "all-minilm-l6-v2", "--sets", "sst2", "--seeds", "1")
    evaluate(data, peers, *asked)
    evaluate(data, peers, *asked, "--recipe", "epochs=2", "learning_rate=1e-4")
    assert [job["recipe"]["epochs"] for job in peers.jobs] == [4, 2]
    assert [row["recipe"]["epochs"] for row in results(data)] == [4, 2]


def test_the_learning_rate_of_the_peer_is_chosen_with_the_first_seed_only(data, peers) -> None:
    evaluate(data, peers, "--encoders", "all-minilm-l6-v2", "--sets", "sst2", "--seeds", "7", "8")
    assert [job["recipe"]["learning_rates"] for job in peers.jobs] == [[2e-5, 5e-5, 1e-4], [2e-5]]
    assert [row["recipe"]["learning_rates"] for row in results(data)] == [[2e-5, 5e-5, 1e-4]] * 2


def test_the_dev_split_measures_dev_rows_and_reads_no_test_row(data, peers) -> None:
    for name in ("sst2", "mrpc", "own_set"):
        (data / name / "test.csv").write_text("must not be read")
    assert evaluate(data, peers, "--encoders", "tf-idf", "--sets", "sst2", "--split", "dev") == 0
    job = peers.jobs[0]
    assert job["test"] == str(data / "sst2" / "dev.csv")
    texts = {}
    for part in ("train", "validation"):
        with open(job[part], encoding="utf-8", newline="") as file:
            texts[part] = [row["text"] for row in csv.DictReader(file)]
    assert (len(texts["train"]), len(texts["validation"])) == (36, 4)
    assert sorted(texts["train"] + texts["validation"]) == sorted(
        f"{('good', 'bad')[number % 2]} film train {number}" for number in range(40)
    )
    assert sum(text.startswith("good") for text in texts["validation"]) == 2
    assert results(data)[0]["split"] == "dev"


def test_tables_show_mean_and_deviation_and_the_mean_of_the_sets_that_count() -> None:
    rows = [
        {**ROW, "set": name, "encoder": encoder, "seed": seed, "accuracy": accuracy}
        for name, encoder, seed, accuracy in (
            ("umsab_french", "a", 1, 0.2),
            ("sst2", "a", 1, 0.80),
            ("sst2", "a", 2, 0.82),
            ("mrpc", "a", 1, 0.70),
            ("sst2", "b", 1, 0.9),
        )
    ]
    accuracy, macro_f1 = tables(rows).split("\n\n")
    assert accuracy.splitlines() == [
        "| test rows, accuracy in % | a | b |",
        "| --- | ---: | ---: |",
        "| sst2 | 81.0 ± 1.4 (2) | 90.0 |",
        "| mrpc | 70.0 |  |",
        "| **mean of 2 sets** | 75.5 |  |",
        "| umsab_french | 20.0 |  |",
    ]
    assert macro_f1.splitlines()[2] == "| sst2 | 50.0 ± 0.0 (2) | 50.0 |"


def test_results_of_other_weights_are_kept_but_do_not_count(data, peers, capsys) -> None:
    encoder = str(write_tiny_encoder(data.parent / "encoder"))
    recipe = {"epochs": 4, "batch_size": 32, "learning_rate": 5e-5, "max_length": 128}
    row = {**ROW, "set": "sst2", "encoder": encoder, "seed": 1, "recipe": recipe, "accuracy": 0.8, "sha256": "0" * 64}
    (data.parent / "work").mkdir()
    file = data.parent / "work" / "results.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert evaluate(data, peers, "--encoders", encoder, "--sets", "sst2", "--table") == 0
    shown = capsys.readouterr()
    assert "80.0" not in shown.out
    assert "1 runs of" in shown.err
    assert results(data) == [row]


def test_a_textclf_encoder_is_fine_tuned_and_its_line_says_with_what(data, peers, capsys) -> None:
    pytest.importorskip("tensorflow")
    encoder = str(write_tiny_encoder(data.parent / "encoder"))
    changes = ("epochs=1", "max_length=24", "dropout=0.0")
    assert evaluate(data, peers, "--encoders", encoder, "--sets", "sst2", "--seeds", "3", "--recipe", *changes) == 0
    row = results(data)[0]
    assert row["recipe"] == {"epochs": 1, "batch_size": 32, "learning_rate": 5e-5, "dropout": 0.0, "max_length": 24}
    assert (row["set"], row["encoder"], row["seed"], len(row["sha256"])) == ("sst2", encoder, 3, 64)
    assert row["bfloat16"] in (True, False)
    assert row["processor"]
    assert 0.5 <= row["accuracy"] <= 1
    assert f"| sst2 | {100 * row['accuracy']:.1f} |" in capsys.readouterr().out
    assert [path.name for path in (data.parent / "work").iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sets", "ssst2"], "has no set ssst2; did you mean sst2?"),
        (["--sets", "nothing"], "has no set nothing; there are sst2, mrpc, own_set"),
        (["--seeds", "-1"], "--seeds: -1 is not a seed"),
        (["--recipe", "epochs"], "--recipe epochs: expected KEY=VALUE"),
        (["--recipe", "seed=2"], "--recipe seed=2: expected KEY=VALUE"),
        (["--recipe", "epoch=2"], "unknown key `training.epoch`"),
        (["--recipe", "epochs=0"], "epochs is 0"),
        (["--recipe", "learning_rate=fast"], "training.learning_rate"),
        (["--peer-rates", "5"], "--peer-rates: 5.0 is not a learning rate"),
        (["--encoders", "builtin:large"], "there is no built-in encoder 'large'"),
        (["--encoders", "random:large"], "there is no built-in encoder 'large'"),
        (["--encoders", "tf-idf", "--peers-python", "/no/python"], "--peers-python: /no/python cannot be started"),
        (["--results", "/no/folder/results.jsonl"], "--results: /no/folder/results.jsonl is not a file"),
    ],
)
def test_arguments_that_cannot_be_used_are_explained_before_anything_is_measured(
    arguments, message, data, peers, capsys
) -> None:
    assert evaluate(data, peers, *arguments) == 2
    assert message in capsys.readouterr().err
    assert peers.jobs == []


def test_peers_without_an_environment_are_left_out_or_refused_when_named(data, capsys) -> None:
    options = ["--data", str(data), "--work", str(data.parent / "work"), "--sets", "sst2"]
    assert main([*options, "--encoders", "tf-idf"]) == 2
    assert "name its Python with --peers-python" in capsys.readouterr().err


def test_a_folder_without_sets_is_refused(tmp_path, peers, capsys) -> None:
    (tmp_path / "data").mkdir()
    assert evaluate(tmp_path / "data", peers) == 2
    assert "has no set that can be measured" in capsys.readouterr().err
    assert evaluate(tmp_path / "missing", peers) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"split": "test"}', json.dumps({**ROW, "set": "a", "encoder": "b", "seed": 1})]
)
def test_a_line_of_the_results_that_is_no_run_is_named(line, data, peers, capsys) -> None:
    (data.parent / "work").mkdir()
    (data.parent / "work" / "results.jsonl").write_text(f"{line}\n")
    assert evaluate(data, peers, "--encoders", "tf-idf") == 2
    assert "results.jsonl:1: the line is" in capsys.readouterr().err


def test_a_peer_that_fails_ends_the_command_with_its_messages(data, peers, capsys) -> None:
    peers.python.write_text("#!/bin/sh\necho 'No module named sklearn' >&2\nexit 1\n")
    assert evaluate(data, peers, "--encoders", "tf-idf", "--sets", "sst2") == 2
    message = capsys.readouterr().err
    assert "the peer tf-idf failed on sst2 with exit code 1" in message
    assert "No module named sklearn" in message
