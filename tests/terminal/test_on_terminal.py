"""Commands on a terminal: marks, word wrap, a summary with the next command; elsewhere plain lines."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.command import run
from tests.on_terminal import on_terminal
from tests.tiny import write_reviews
from textclf.terminal.progress import Progress

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")

RECIPE = "name: moods\ndataset:\n  train: reviews.csv\n  text: review\n  label: mood\nencoder: average-words\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a recipe whose data gives a warning: few validation rows."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    write_reviews(Path("reviews.csv"), 100)
    return tmp_path


# --- A terminal ------------------------------------------------------------------------------------------------------


def test_the_first_words_come_before_anything_is_read(folder):
    for arguments, words in ((["check", "recipe.yaml"], "Reading the recipe"), (["inspect", "recipe.yaml"], "")):
        assert on_terminal(arguments).raw.startswith(f"\x1b[2m{words} ..." if words else "\x1b[1;31mError: ")


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_check_shows_marks_a_box_and_the_next_command_below_it(folder, width):
    shown = on_terminal(["check", "recipe.yaml", "training.epochs=5"], width=width)
    assert shown.code == 0
    assert "Warning: " not in shown.text
    warning = next(line for line in shown.lines if line.startswith("⚠ "))
    assert f"\x1b[1;33m⚠ \x1b[0m{warning[2:]}" in shown.raw
    top, bottom = (next(i for i, line in enumerate(shown.lines) if line.startswith(c)) for c in "╭╰")
    box = shown.lines[top : bottom + 1]
    assert len({cell_len(line) for line in box}) == 1
    assert box[1].startswith("│ ⚠ recipe.yaml: the recipe and its")
    assert re.search(r"Rows +90 train, 10 validation", shown.text)
    assert shown.lines[bottom + 1 : bottom + 3] == ["Train the model:", "  textclf train recipe.yaml training.epochs=5"]
    assert all(cell_len(line) <= width for line in shown.lines[: bottom + 2])


def test_an_error_is_red_and_wrapped_and_keeps_its_word(folder):
    shown = on_terminal(["train", "reviews.csv"], width=40)
    assert shown.code == 2
    assert shown.raw.startswith("\x1b[1;31mError: \x1b[0mreviews.csv: this is a table, not\r\n")
    assert shown.lines[1:3] == ["  a recipe; its columns are `id`,", "  `review`, `mood`. To write a recipe"]
    assert "textclf new reviews.csv" in shown.text


def test_help_shows_examples_in_colour(folder):
    shown = on_terminal(["train", "--help"])
    assert "\x1b[1mExamples:\x1b[0m\r\n\x1b[36m  textclf train recipe.yaml\x1b[0m" in shown.raw
    assert shown.lines[-3:-1] == ["Next:", "  textclf classify runs/NAME inbox.csv -o sorted.csv"]


def test_a_training_ends_with_what_was_made_and_commands_that_work(folder):
    shown = on_terminal(["train", "recipe.yaml", "training.epochs=1"], width=100)
    assert shown.code == 0
    assert "Starting TensorFlow" in shown.raw
    metrics = json.loads(Path("runs/moods/metrics.json").read_text())
    accuracy = f"{100 * metrics['validation']['accuracy']:.1f} % on 10 validation rows (95 % confidence interval: "
    box = [line for line in shown.lines if line.startswith("│")]
    assert box[0].startswith("│ ⚠ moods: trained")
    assert any(accuracy in line for line in box)
    assert any(re.fullmatch(r"│ Model +runs/moods/model\.tflite +│", line) for line in box)
    assert not any("Done in" in line for line in shown.lines)
    command = next(line for line in shown.lines if line.startswith("  textclf classify runs/moods --text-input"))
    words = command.replace('"TEXT"', "good").split()[1:]
    classified = on_terminal(words)
    assert classified.code == 0
    assert re.fullmatch(r"(good|bad)\s+0\.\d{4}", classified.text.strip())
    evaluated = on_terminal(["evaluate", "runs/moods", "reviews.csv"], width=40)
    assert evaluated.code == 0
    assert "textclf compare runs/moods OTHER_RUN" in evaluated.text
    assert json.loads(on_terminal(["inspect", "runs/moods", "--json"], width=40).text)["labels"] == ["bad", "good"]


# --- Elsewhere -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "is_wrapped"), [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, None)]
)
def test_no_color_and_dumb_terminals_get_words_in_place_of_marks(folder, capsys, variables, is_wrapped):
    assert run("check", "recipe.yaml") == 0
    plain = capsys.readouterr().out
    assert "Warning: " in plain
    shown = on_terminal(["check", "recipe.yaml"], width=60, **variables)
    if is_wrapped is None:
        assert "\x1b[1;33m⚠ " in shown.raw
        return
    assert not re.search(r"\x1b\[[0-9;]*m", shown.raw)
    assert shown.text.split() == plain.split()
    assert (max(map(len, shown.lines)) <= 60) == is_wrapped


def test_a_terminal_without_unicode_gets_ascii(folder):
    shown = on_terminal(["check", "recipe.yaml"], PYTHONIOENCODING="ascii")
    assert shown.text.isascii()
    assert "\x1b[1;33mWarning: " in shown.raw
    assert "+----" in shown.text
    assert "| Warning: recipe.yaml: the recipe and its data" in shown.text


def test_json_on_a_terminal_is_json_and_nothing_else(folder):
    shown = on_terminal(["check", "recipe.yaml", "--json"], width=40)
    assert json.loads(shown.text)["labels"] == ["bad", "good"]


def test_a_pipe_gets_the_lines_of_the_report_alone(folder, capsys):
    from textclf.runs.check import check

    assert run("check", "recipe.yaml") == 0
    assert capsys.readouterr() == (check("recipe.yaml").as_text() + "\n", "")


def test_warnings_and_notes_have_words_in_a_log(capsys):
    progress = Progress()
    progress.warn("few rows")
    progress.say("Warning: few labels")
    progress.note("old file")
    Progress(quiet=True).warn("unseen")
    assert capsys.readouterr().err == "Warning: few rows\nWarning: few labels\nNote: old file\n"


# --- Data ------------------------------------------------------------------------------------------------------------

FROM_DATA = r"""
from textclf.terminal.door import write_message, write_report
from textclf.terminal.progress import Progress
from textclf.terminal.summary import Summary, show_summary
progress = Progress()
with progress.during("\x1b[31m[red]a{b}"):
    progress.say("\x1b[31mname [bold]x[/bold] :bug:")
with progress.bar("Epoch [1/3] {x}", 3) as bar:
    with progress.during("[blue]\x1b[34m"):
        bar.advance("[/]\x1b[2J")
write_report("Warning: a label\n\x9b2J")
show_summary(lambda: Summary("\x1b[31mtitle", [("Name\x07", "Warning: [b]x\x1b[2J")], next_steps=[("[i]do\x1b", "a\x1bb")]))
"""


def test_styles_and_control_characters_never_come_from_data():
    shown = on_terminal([], code=FROM_DATA, width=100)
    assert shown.code == 0
    # These are the sequences of Rich and of textclf: styles, cursor up, line and cursor visibility.
    assert not re.sub(r"\x1b\[(?:[0-9;]*m|1A|2K|\?25[lh])", "", shown.raw).count("\x1b")
    assert "\x1b[31m" not in shown.raw
    assert "\x1b[2J" not in shown.raw
    assert "\x07" not in shown.raw
    for text in (
        r"\x1b[31mname [bold]x[/bold] :bug:",
        "Warning: a label",
        r"\x9b2J",
        r"✓ \x1b[31mtitle",
        r"Name\x07",
        r"Warning: [b]x\x1b[2J",
        r"  a\x1bb",
    ):
        assert text in shown.text
    assert r"[red]a{b}" in shown.raw
