"""The command line: every argument of the wrong kind is recognised, and every failure is one line with a remedy."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.command import run
from textclf.cli.group import cli
from textclf.errors import ModelError, RunError
from textclf.files.kinds import kind_of, model_path, run_path

MODEL = b"\x1c\0\0\0TFL3" + bytes(64)
RECIPE = "name: moods\ndataset:\n  train: reviews.csv\n  text: review\n  label: mood\nencoder: average-words\n"
REVIEWS = "id,review,mood\n" + "".join(f"{n},film number {n} is {m},{m}\n" for n in range(20) for m in ("good", "bad"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a recipe, its data, the folder of a run, and one without."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    Path("reviews.csv").write_text(REVIEWS)
    Path("records.json").write_text('[{"text": "a", "label": "b"}]')
    Path("empty").mkdir()
    Path("runs/moods").mkdir(parents=True)
    Path("runs/moods/recipe.yaml").write_text(RECIPE)
    Path("runs/moods/metrics.json").write_text("{}")
    Path("runs/moods/model.tflite").write_bytes(MODEL)
    return tmp_path


@pytest.fixture
def said(folder, capsys):
    """The message of a command that must fail with exit code 2, without `Error: `."""

    def collect(*arguments: object, code: int = 2) -> str:
        assert run(*arguments) == code
        written = capsys.readouterr()
        assert written.err.startswith("Error: ")
        assert "Traceback" not in written.err
        return written.err.removeprefix("Error: ").rstrip("\n")

    return collect


# --- Arguments of another kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "runs/moods/model.tflite"],
            "not a recipe; the recipe that trained it is runs/moods/recipe.yaml",
        ),
        (
            ["check", "runs/moods"],
            "this is the folder of a run; to train it again, name its recipe: runs/moods/recipe.yaml",
        ),
        (["check", "https://x.org/r.yaml"], "this is a web address; download the recipe first"),
        (
            ["train", "training.epochs=3"],
            "name the recipe before it, for example `textclf train recipe.yaml training.epochs=3`",
        ),
        (
            ["check", "records.json"],
            "this is a list of JSON records, not a recipe. To write a recipe for it: textclf new",
        ),
        (
            ["check", "recipe.yaml", "dataset.train=ftp://bucket/a.csv"],
            "dataset.train is ftp://bucket/a.csv: tables are read from https://, http://, s3://",
        ),
        (["inspect", "recipe.yaml"], "this is a recipe, not a model; train it first"),
        (["verify", "reviews.csv"], "this is a table, not a model; name the model first, then the data"),
        (["evaluate", "https://x.org/m.tflite", "reviews.csv"], "this is a web address; download the model first"),
        (
            ["inspect", "empty"],
            "this folder has no model.tflite; name a .tflite file, or the folder of a finished run",
        ),
        (["classify", "runs/moods", "recipe.yaml", "-o", "o.csv"], "this is a recipe, not a table; name a CSV file"),
        (
            ["classify", "runs/moods", "ftp://x.org/a.csv", "-o", "o.csv"],
            "ftp://x.org/a.csv: tables are read from https://",
        ),
        (["evaluate", "runs/moods", "runs/moods/model.tflite"], "this is a model, not a table; name the model first"),
        (["export", "recipe.yaml"], "this is a recipe; name the folder of the run that it trained, such as runs/NAME"),
    ],
)
def test_an_argument_of_another_kind_is_recognised(said, arguments, expected):
    assert expected in said(*arguments)


def test_a_run_stands_for_its_model_and_a_model_for_its_run(folder):
    assert kind_of("runs/moods") == "run"
    assert model_path("runs/moods") == Path("runs/moods/model.tflite")
    assert run_path("runs/moods/model.tflite") == Path("runs/moods")
    shutil.copy("runs/moods/model.tflite", "alone.tflite")
    with pytest.raises(RunError, match="this is a model without its run"):
        run_path("alone.tflite")
    Path("runs/moods/model.tflite").unlink()
    with pytest.raises(ModelError, match=r"this run has no model\.tflite; write one with: textclf export runs/moods"):
        model_path("runs/moods")


# --- Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "recipe.yaml", "--epochs", "3"], "textclf train RECIPE training.epochs=3"),
        (["check", "recipe.yaml", "--batch-size=8"], "textclf check RECIPE training.batch_size=8"),
        (["train", "recipe.yaml", "--lr", "1e-4"], "textclf train RECIPE training.learning_rate=1e-4"),
        (["train", "recipe.yaml", "--training.seed=2"], "textclf train RECIPE training.seed=2"),
        (["train", "recipe.yaml", "--calibrate"], "textclf train RECIPE training.calibrate=VALUE"),
        (["export", "runs/moods", "--quantization", "int4"], "textclf export RUN export.quantization=int4"),
        (
            ["inspect", "runs/moods", "--max-length", "64"],
            "encoder.max_length is a setting of the recipe: textclf train RECIPE",
        ),
    ],
)
def test_an_option_that_is_a_setting_is_answered_with_the_setting(said, arguments, expected):
    message = said(*arguments)
    assert message.startswith("no such option: --")
    assert expected in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--delimiter", "ab"],
            "--delimiter is `ab`, not a delimiter; write one character in quotes (or a few, such as `||`), or one of",
        ),
        (["--delimiter", ""], "--delimiter has no value; write one character in quotes"),
        (["--encoding", "rot13"], "--encoding is `rot13`, not a text encoding that Python knows"),
        (["--text", ""], "--text has no value; write the name of a column"),
        (["--text", "a", "--text", "b", "--text", "c"], "--text is given 3 times; name one column, or two"),
        (["--text", "a", "--text", "a"], "--text names the column `a` twice"),
        (["--label", " "], "--label has no value; write the name of a column"),
        (["--reject-below", "nan"], "--reject-below is `nan`, but must be a number from 0 to 1"),
        (["--reject-below", "1.5"], "--reject-below is `1.5`, but must be a number from 0 to 1"),
    ],
)
def test_options_are_checked_as_the_recipes_keys_are(said, options, expected):
    assert said("classify", "runs/moods", "reviews.csv", "-o", "o.csv", *options).startswith(expected)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.epochs", "=", "3"], "command line: training.epochs: not of the form KEY=VALUE; write for example "),
        (["\u2014force"], "begins with U+2014, which only looks like a hyphen; type -- for an option"),
        (["other.yaml"], "one recipe is taken, before the settings"),
        (["name=\udcff"], "holds bytes that are not UTF-8"),
        (["epochs=3"], "unknown key `epochs`; did you mean `training.epochs`?"),
    ],
)
def test_settings_written_in_another_way_are_answered_with_the_right_one(said, overrides, expected):
    assert expected in said("check", "recipe.yaml", *overrides)


def test_an_empty_path_is_no_path(said):
    assert said("train", "recipe.yaml", "--run-dir", "") == "--run-dir has no value; write a path"
    assert said("train", "") == "RECIPE has no value; write a path"


def test_a_file_in_place_of_a_command_is_answered_with_the_command(said):
    assert "to train it: textclf train recipe.yaml" in said("recipe.yaml")
    assert said("train").endswith("for example: textclf train my_recipe.yaml. See textclf train --help")


# --- How a command ends ----------------------------------------------------------------------------------------------


def test_an_interrupted_training_names_the_command_that_continues_it(folder, capsys, monkeypatch):
    from textclf.runs import train as trainer
    from textclf.training.saved.run_folder import RunFolder

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", interrupted)
    assert run("train", "recipe.yaml", "--force", "training.epochs=5") == 130
    assert capsys.readouterr().err == "Interrupted before anything was saved; run the command again\n"
    state = RunFolder(Path("runs/moods")).last_state
    state.parent.mkdir(parents=True)
    state.write_bytes(b"")
    assert run("train", "recipe.yaml", "--force", "training.epochs=5") == 130
    assert capsys.readouterr().err == (
        "Interrupted; continue with: textclf train recipe.yaml training.epochs=5 --resume\n"
    )
    assert run("train", "recipe.yaml", "--engine", "model-maker") == 130
    assert capsys.readouterr().err == "Interrupted\n"


@pytest.mark.parametrize(
    ("failure", "code", "expected"),
    [
        (
            TypeError("a \x1b[31mfault"),
            1,
            r"textclf has a bug (TypeError: a \x1b[31mfault at ",
        ),
        (MemoryError(), 1, "memory ran out; "),
        (RecursionError("deep"), 1, "textclf has a bug (RecursionError: deep"),
        (PermissionError(13, "Permission denied", "a.csv"), 1, "a.csv: Permission denied; check the path, "),
        (click.ClickException("odd"), 2, "odd; see textclf --help"),
    ],
)
def test_a_failure_that_nobody_foresaw_is_one_line(said, monkeypatch, failure, code, expected):
    from textclf.runs import check as checking

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(checking, "check", fail)
    message = said("check", "recipe.yaml", code=code)
    assert message.startswith(expected)
    assert "\n" not in message


def test_the_traceback_of_a_fault_is_shown_to_who_asks(folder, capsys, monkeypatch):
    from textclf.runs import check as checking

    monkeypatch.setattr(checking, "check", lambda *_: {}["nothing"])
    monkeypatch.setenv("TEXTCLF_DEBUG", "1")
    assert run("check", "recipe.yaml") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("Error: textclf has a bug (KeyError: 'nothing'")


def test_a_reader_that_leaves_ends_the_command_quietly(folder):
    line = f"{sys.executable} -m textclf check recipe.yaml --json | true"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.stderr == ""


# --- Help ------------------------------------------------------------------------------------------------------------


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in group.commands.items():
        found += _commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("command", _commands(cli), ids=" ".join)
def test_help_fits_eighty_columns_and_cuts_nothing_off(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(cli, [*command, "--help"], prog_name="textclf", terminal_width=80)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    assert "Usage: textclf" in result.output
    assert not any(line.endswith("...") for line in result.output.splitlines()[1:])


@pytest.mark.parametrize("command", _commands(cli), ids=" ".join)
def test_help_ends_with_examples_whose_options_exist(command):
    shown = CliRunner().invoke(cli, [*command, "--help"], prog_name="textclf").output
    _, heading, end = shown.partition("\nExamples:\n")
    assert heading
    examples = [line.strip() for line in end.splitlines() if "textclf " in line]
    assert all(f"textclf {' '.join(command)}".strip() in line for line in examples[:1] if command)
    for line in examples:
        words = shlex.split(line.partition("textclf ")[2])
        found: click.Command = cli
        while isinstance(found, click.Group) and words and words[0] in found.commands:
            found = found.commands[words.pop(0)]
        options = {name for parameter in found.params for name in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("-") and word != "-"} <= options
