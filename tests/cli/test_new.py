"""`textclf new` on the command line: its check, its question on a terminal, and the next command."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import run

MOODS = "".join(
    f"film number {n} was {'good' if n % 2 else 'bad'} in every way,{n % 2},{'ab'[n % 3 == 0]}\n" for n in range(60)
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("films.csv").write_text("text,label,version\n" + MOODS)
    return tmp_path


def test_the_recipe_is_written_checked_and_followed_by_the_next_command(capsys):
    assert run("new", "films.csv", "-o", "my films.yaml") == 0
    said = capsys.readouterr().out
    assert said.startswith("my films.yaml: written for 60 rows of films.csv\n  text   `text`\n  label  `label`\n")
    assert "\nmy films.yaml: the recipe is valid\nRows: 36 train, 12 validation, 12 test\n" in said
    assert said.endswith("\n\nTrain with: textclf train 'my films.yaml'\n")


def test_an_existing_recipe_is_kept(capsys):
    Path("films.yaml").write_text("mine")
    assert run("new", "films.csv") == 2
    assert "films.yaml: exists already" in capsys.readouterr().err
    assert Path("films.yaml").read_text() == "mine"
    assert run("new", "films.csv", "--force") == 0


def test_data_that_cannot_be_trained_on_leaves_the_recipe_and_says_how_to_go_on(capsys):
    with Path("films.csv").open("a") as file:
        file.write("a film without a label,,\n")
    assert run("new", "films.csv", "--label", "label") == 2
    message = capsys.readouterr().err
    assert message.startswith("Error: films.csv: no label in row 62")
    assert message.endswith(
        "The recipe films.yaml is written. Correct the problems, then run: textclf check films.yaml\n"
    )
    assert Path("films.yaml").is_file()


def test_without_a_terminal_a_doubt_is_an_error(capsys):
    Path("films.csv").write_text("text,mark,version\n" + MOODS)
    assert run("new", "films.csv") == 2
    message = capsys.readouterr().err
    assert message.startswith("Error: films.csv: 2 columns could be the label:\n  1  `mark`     2 values: ")
    assert not Path("films.yaml").exists()


def test_on_a_terminal_a_doubt_is_a_question():
    Path("films.csv").write_text("text,mark,version\n" + MOODS)
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "textclf", "new", "films.csv"],
        stdin=other_end,
        stderr=other_end,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "Its number or name: " in read_until(terminal, "Its number or name: ")
    os.write(terminal, b"colour\n")
    assert "colour: not one of these columns; type a number from 1 to 2" in read_until(terminal, "from 1 to 2")
    os.write(terminal, b"2\n")
    try:
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(terminal)
        os.close(other_end)
    assert process.returncode == 0
    assert "  label  `version`\n" in said.decode()


def read_until(terminal: int, expected: str) -> str:
    read, end = "", time.monotonic() + 60
    while expected not in read and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            read += os.read(terminal, 4096).decode()
    return read


@pytest.mark.parametrize("command", ["check", "train"])
def test_a_table_in_place_of_a_recipe_is_answered_with_the_command(capsys, command):
    assert run(command, "films.csv") == 2
    assert capsys.readouterr().err == (
        "Error: films.csv: this is a table, not a recipe; its columns are `text`, `label`, `version`. To write a recipe for "
        "it: textclf new films.csv\n"
    )


def test_a_table_in_place_of_a_command_is_answered_with_the_command(capsys):
    assert run("films.csv") == 2
    assert "to write a recipe for it: textclf new films.csv" in capsys.readouterr().err
