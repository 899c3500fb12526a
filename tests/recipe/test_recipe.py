"""What a recipe may say, how it is typed, and what is said about everything wrong in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from pydantic import ValidationError

from textclf.errors import RecipeError
from textclf.recipe import values
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe, recipe_json_schema

MINIMAL = "name: tickets\ndataset:\n  train: train.csv\n"
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path: Path):
    """Writes a recipe and loads it."""

    def load(text: str, *overrides: str) -> Recipe:
        (tmp_path / "recipe.yaml").write_bytes(text.encode("utf-8"))
        return load_recipe(tmp_path / "recipe.yaml", overrides)

    return load


@pytest.fixture
def problems(recipe, tmp_path: Path):
    """The lines of the error that a recipe causes, with the name of its file taken off."""

    def collect(text: str, *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            recipe(text, *overrides)
        return [line.replace(str(tmp_path / "recipe.yaml") + ":", "") for line in str(caught.value).splitlines()]

    return collect


# --- What is right ---------------------------------------------------------------------------------------------------


def test_three_lines_are_a_recipe_and_the_rest_has_defaults(recipe, tmp_path):
    loaded = recipe(MINIMAL)
    assert loaded.name == "tickets"
    assert loaded.dataset.train == tmp_path / "train.csv"
    assert (loaded.dataset.validation, loaded.dataset.test) == (0.1, None)
    assert (loaded.dataset.text, loaded.dataset.label, loaded.dataset.labels) == (("text",), "label", None)
    assert (loaded.dataset.delimiter, loaded.dataset.encoding) == (None, "utf-8")
    assert (loaded.encoder.source, loaded.encoder.max_length, loaded.encoder.tokenizer) == ("builtin", 128, "device")
    assert loaded.training.model_dump() == {
        "engine": "native",
        "epochs": "auto",
        "batch_size": 32,
        "accumulate": 1,
        "learning_rate": 5e-5,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "dropout": 0.1,
        "label_smoothing": 0.0,
        "class_weights": None,
        "clip_norm": 1.0,
        "head": "fitted",
        "freeze": "none",
        "precision": "auto",
        "early_stopping": None,
        "watchers": {
            "not_finite": "stop",
            "learning_rate": "warn",
            "stuck": "warn",
            "one_class": "warn",
            "overfitting": "warn",
        },
        "calibrate": True,
        "reject_for_precision": None,
        "seed": 1,
        "seeds": None,
    }
    assert loaded.export.quantization == "dynamic"


def test_sections_that_hold_only_comments_mean_the_defaults(recipe):
    assert recipe(MINIMAL + "encoder:\ntraining:\n  # epochs: 5\nexport: ~\n") == recipe(MINIMAL)


def test_words_that_yaml_reads_as_other_things_stay_the_words_of_the_file(recipe):
    labels = "[yes, NO, 1, 1.0, null, ~, 1_0]"
    loaded = recipe(f"name: 1.10\ndataset:\n  train: 2024\n  text: [on, 007]\n  label: null\n  labels: {labels}\n")
    assert loaded.name == "1.10"
    assert loaded.dataset.train.name == "2024"
    assert loaded.dataset.text == ("on", "007")
    assert loaded.dataset.label == "null"
    assert loaded.dataset.labels == ("yes", "NO", "1", "1.0", "null", "~", "1_0")
    assert {type(label) for label in loaded.dataset.labels} == {str}


@pytest.mark.parametrize("number", ["1e-5", "0.00001", "'1e-5'", "1.0E-05"])
def test_numbers_may_be_written_in_any_usual_way(recipe, number):
    assert recipe(MINIMAL + f"training:\n  learning_rate: {number}\n").training.learning_rate == 1e-5


def test_paths_start_at_the_folder_of_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path / "recipes")
    Path("a.yaml").write_text("name: a\ndataset: {train: ../data/a.csv, test: b.csv}\nencoder: {source: ../enc}\n")
    loaded = load_recipe("a.yaml")
    assert loaded.dataset.train == tmp_path / "data" / "a.csv"
    assert loaded.dataset.test == tmp_path / "recipes" / "b.csv"
    assert loaded.encoder.source == str(tmp_path / "enc")


def test_parent_folders_are_found_through_a_linked_folder_as_the_system_finds_them(tmp_path):
    (tmp_path / "real" / "recipes").mkdir(parents=True)
    (tmp_path / "real" / "train.csv").write_text("text,label\n")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "recipes")
    (tmp_path / "link" / "a.yaml").write_text("name: a\ndataset:\n  train: ../train.csv\n")
    assert load_recipe(tmp_path / "link" / "a.yaml").dataset.train == tmp_path / "real" / "train.csv"


@pytest.mark.parametrize(
    "source", ["builtin", "builtin:small", "hf:google/mobilebert-uncased", "https://tfhub.dev/x/1"]
)
def test_encoders_with_a_handle_are_no_paths_and_may_stand_without_a_section(recipe, source):
    assert recipe(MINIMAL + f"encoder: {source}\n").encoder.source == source


def test_a_folder_called_builtin_is_reached_with_a_dot(recipe, tmp_path):
    assert recipe(MINIMAL + "encoder: ./builtin\n").encoder.source == str(tmp_path / "builtin")


@pytest.mark.parametrize(
    ("written", "meant"),
    [('"\\t"', "\t"), (r"\t", "\t"), ("tab", "\t"), ("Tab", "\t"), ("pipe", "|"), ('","', ","), (";", ";"), ("", None)],
)
def test_delimiters_are_written_as_characters_or_as_words(recipe, written, meant):
    assert recipe(MINIMAL + f"  delimiter: {written}\n").dataset.delimiter == meant


def test_anchors_are_followed(recipe):
    loaded = recipe("name: &n pair\ndataset:\n  train: a.csv\n  text: &t [q, a]\n  label: *n\n")
    assert (loaded.dataset.text, loaded.dataset.label) == (("q", "a"), "pair")


def test_a_recipe_does_not_change(recipe):
    with pytest.raises(ValidationError):
        recipe(MINIMAL).name = "other"


def test_a_byte_order_mark_and_windows_line_ends_are_read(recipe):
    assert recipe("\ufeff" + MINIMAL.replace("\n", "\r\n")) == recipe(MINIMAL)


# --- Overrides -------------------------------------------------------------------------------------------------------


def test_overrides_are_typed_by_the_schema_and_the_last_one_wins(recipe):
    loaded = recipe(
        MINIMAL + "training:\n  epochs: 1\nencoder: builtin\n",
        "training.epochs=2",
        "training.epochs=5",
        "dataset.text=[question, answer]",
        "dataset.labels=[yes, 1]",
        "dataset.delimiter=,",
        "dataset.test=null",
        "encoder.max_length=64",
        'name="x"',
    )
    assert loaded.training.epochs == 5
    assert loaded.dataset.text == ("question", "answer")
    assert loaded.dataset.labels == ("yes", "1")
    assert (loaded.dataset.delimiter, loaded.dataset.test) == (",", None)
    assert (loaded.encoder.source, loaded.encoder.max_length) == ("builtin", 64)
    assert loaded.name == "x"


def test_a_path_in_an_override_starts_at_the_current_directory(recipe, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = recipe(MINIMAL, "dataset.test=my #1: test.csv", "encoder=../enc")
    assert loaded.dataset.test == tmp_path / "elsewhere" / "my #1: test.csv"
    assert loaded.dataset.train == tmp_path / "train.csv"
    assert loaded.encoder.source == str(tmp_path / "enc")


def test_an_override_mends_what_the_file_has_wrong(recipe):
    assert recipe(MINIMAL + "training:\n  epochs: many\n", "training.epochs=4").training.epochs == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epocs=5", "unknown key `training.epocs`; did you mean `training.epochs`?"),
        ("epochs=5", "unknown key `epochs`; did you mean `training.epochs`?"),
        ("quux=5", "unknown key `quux`; keys are written like training.epochs or dataset.test"),
        ("training.epochs", "not of the form KEY=VALUE; write for example training.epochs=5, without spaces"),
        (
            "training.epochs=five",
            "training.epochs is `five`, but must be a whole number or auto; correct it or remove the line",
        ),
        (
            "dataset.text=[a, b",
            "not a valid value; close every bracket and quote, for example dataset.text='[question, answer]'",
        ),
        (
            "training={a: &a [*a]}",
            "not a valid value; close every bracket and quote, for example dataset.text='[question, answer]'",
        ),
        ("training={epocs: 5}", "unknown key `epocs` in `training`; did you mean `epochs`?"),
        ("dataset.label=text", "dataset.label and dataset.text are both the column `text`; name two different columns"),
    ],
)
def test_a_wrong_override_is_named(problems, override, message):
    assert problems(MINIMAL, override) == [f"command line: {override}: {message}"]


def test_problems_of_the_file_come_before_those_of_the_overrides(problems):
    lines = problems(MINIMAL + "training:\n  seed: -1\n", "training.epochs=-1", "x=1")
    assert [line.partition(": ")[0] for line in lines] == ["5:9", "command line", "command line"]


# --- What is wrong ---------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(problems):
    text = """\
name: my tickets
dataset:
  trian: a.csv
  text: [q, q]
  validation: 10%
epochs: 3
training:
  epochs: -1
  batch_size: three
export:
  quantization: dinamic
"""
    assert problems(text) == [
        "1:7: name is `my tickets`, which is not safe as the name of a folder; "
        "use letters, digits, `-`, `_` and `.` (at most 80), for example `my-tickets`",
        "3:3: unknown key `trian` in `dataset`; did you mean `train`?",
        "4:9: dataset.text names the column `q` twice; name two columns, or one for single texts",
        "5:15: dataset.validation is the percentage `10%`; write a share such as 0.1, or the path of a file",
        "6:1: unknown key `epochs`; it belongs in `training`",
        "8:11: training.epochs is `-1`, but must be 0 or more; correct it or remove the line",
        "9:15: training.batch_size is `three`, but must be a whole number; correct it or remove the line",
        "11:17: export.quantization is `dinamic`, but must be dynamic or int4 or float16 or none; did you mean `dynamic`?",
    ]


WRONG_VALUES = [
    ("dataset", "  text:", "4:8: dataset.text has no value; write one, or remove the line"),
    (
        "dataset",
        "  text: [a, b, c]",
        "4:9: dataset.text names 3 columns, but must be one column or two (a sentence pair); ",
    ),
    ("dataset", "  text: [a, '']", "4:13: dataset.text[2] has no value"),
    ("dataset", "  label: {a: b}", "4:10: dataset.label is a section, but must be plain text"),
    ("dataset", "  labels: spam", "4:11: dataset.labels must be a list such as `[ham, spam]`"),
    ("dataset", "  labels: [spam]", "4:11: dataset.labels names 1 label; a classifier needs two or more"),
    ("dataset", "  labels: [a, b, a]", "4:11: dataset.labels names `a` twice; keep one of them"),
    ("dataset", "  labels: [a, ' ']", "4:15: dataset.labels[2] is an empty label"),
    ("dataset", '  labels: [a, "b\\nc"]', "4:15: dataset.labels[2] is a label with a line break"),
    (
        "dataset",
        "  validation: 0.6",
        "4:15: dataset.validation is the share 0.6; write a share above 0 and at most 0.5",
    ),
    ("dataset", "  test: 0", "4:9: dataset.test is the share 0; write a share above 0 and at most 0.5"),
    ("dataset", "  test: []", "4:9: dataset.test is an empty list; name a file in it"),
    ("dataset", "  delimiter: |", "4:14: dataset.delimiter has no value; write one character in quotes"),
    ("dataset", "  delimiter: t", "4:14: dataset.delimiter is `t`, not a delimiter; write one character in quotes"),
    (
        "dataset",
        "  encoding: utf9",
        "4:13: dataset.encoding is `utf9`, not a text encoding that Python knows; did you mean",
    ),
    ("dataset", "  encoding: hex", "4:13: dataset.encoding is `hex`, not a text encoding that Python knows"),
    ("dataset", "  train: b.csv", "4:3: the key `train` is here for the second time (first at 3:3); keep one of them"),
    ("encoder", "  max_length: 513", "5:15: encoder.max_length is `513`, but must be 512 or less"),
    ("encoder", "  max_length: 7", "5:15: encoder.max_length is `7`, but must be 8 or more"),
    (
        "encoder",
        "  tokenizer: berts",
        "5:14: encoder.tokenizer is `berts`, but must be device or bert; did you mean `bert`?",
    ),
    ("training", "  learning_rate: nan", "5:18: training.learning_rate is `nan`, but must be a finite number"),
    ("training", "  warmup: 1", "5:11: training.warmup is `1`, but must be less than 1"),
    ("training", "  epochs: 2.5", "5:11: training.epochs is `2.5`, but must be a whole number"),
    ("training", "  epochs: 10001", "5:11: training.epochs is `10001`, but must be 10000 or less"),
    ("training", "  epochs: [1]", "5:11: training.epochs is a list, but must be a whole number"),
    ("training", "  Epochs: 1", "5:3: unknown key `Epochs` in `training`; did you mean `epochs`?"),
    ("training", "  max_length: 64", "5:3: unknown key `max_length` in `training`; it belongs in `encoder`"),
    ("training", "  <<: *a", "5:7: found undefined alias 'a'; a value that starts with `*` needs quotes"),
    ("training", "  - epochs", "5:3: training is a list, but must be a section of indented `key: value` lines"),
    ("export", "  qantization: none", "5:3: unknown key `qantization` in `export`; did you mean `quantization`?"),
    ("export", "  format: onnx", "5:3: unknown key `format` in `export`; known keys: quantization"),
    (
        "export",
        "  quantization: !!python/object:x.y {}",
        "5:17: the tag `!!python/object:x.y` means nothing in a recipe",
    ),
    ("export", "  ? [a]\n  : b", "5:5: a key must be a word"),
]


@pytest.mark.parametrize(("section", "line", "expected"), WRONG_VALUES, ids=[row[1].strip() for row in WRONG_VALUES])
def test_a_wrong_value_is_reported_where_it_stands(problems, tmp_path, section, line, expected):
    lines = problems(MINIMAL + ("" if section == "dataset" else f"{section}:\n") + line + "\n")
    assert lines[0].startswith(expected)
    assert "; " in lines[0] or "did you mean" in lines[0], "every message has a remedy"
    assert len(lines) == 1 or "python" in line


WRONG_FILES = [
    ("", "1:1: the file is empty; write a recipe, at least `name` and `dataset.train`"),
    ("# later\n", "1:1: there are only comments here"),
    ("- a\n- b\n", "1:1: a recipe is a section of `key: value` lines, but this is a list"),
    ("text,label\nhello,a\n", "1:1: a recipe is a section of `key: value` lines, but this is plain text"),
    ("name: a\n", "1:1: the section `dataset` is missing; add `dataset:` and under it"),
    ("dataset:\n  train: a.csv\n", "1:1: `name` is missing; add a line such as `name: recipe`"),
    (
        "name: a\ndataset:\n  label: x\n",
        "2:1: `dataset.train` is missing; add under `dataset:` a line such as `train: ../datasets/support_tickets.csv`",
    ),
    ("name: a\ndataset: a.csv\n", "2:10: dataset is `a.csv`, but must be a section of indented `key: value` lines"),
    (MINIMAL + "\ttest: b.csv\n", "4:1: YAML does not allow a tab here; indent with spaces"),
    (MINIMAL + "   test: b.csv\n", "4:8: a second `:` or a wrong indentation; put the value in quotes, or align"),
    (MINIMAL + "  delimiter: ,\n", "4:14: not YAML: expected the node content, but found ','; put the value in quotes"),
    (MINIMAL + "  text: [a, b\n", "5:1: not YAML: "),
    (MINIMAL + "  text: 'a\n", "5:1: not YAML: found unexpected end of stream while scanning a quoted scalar"),
    (MINIMAL + "---\nname: b\n", "4:1: a second YAML document begins; keep one recipe in a file"),
    ("name: a\x07b\n", "1:8: the character U+0007 is not allowed in YAML; remove it"),
    ("name: &a [*a]\n", "1:1: the anchors of this file expand without end or too far; write the values out"),
    ("[" * 1000, "1:1: the values are nested too deeply"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG_FILES, ids=[row[1] for row in WRONG_FILES])
def test_a_file_that_is_no_recipe_is_reported_with_the_place(problems, text, expected):
    lines = problems(text)
    assert lines[0].startswith(expected)
    assert len(lines) == 1


@pytest.mark.parametrize("levels", [4, 12])
def test_nested_anchors_do_not_grow_without_end(problems, levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]" for n in range(1, levels)]
    assert "expand without end or too far" in problems("\n".join(lines))[0]


def test_a_file_that_is_not_utf8_is_reported_with_line_and_column(tmp_path):
    (tmp_path / "r.yaml").write_bytes("name: a\n# Größe\n".encode("cp1252"))
    with pytest.raises(RecipeError, match=r"r\.yaml:2:5: byte 0xf6 is not UTF-8; save the recipe as UTF-8 text"):
        load_recipe(tmp_path / "r.yaml")


def test_a_file_larger_than_a_megabyte_is_not_read(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"many words\n" * 100_000)
    with pytest.raises(
        RecipeError, match=r"larger than 1,000,000 bytes; name a recipe, a short YAML file, not the data"
    ):
        load_recipe(tmp_path / "notes.txt")


def test_a_missing_file_is_reported_with_the_one_that_was_meant(tmp_path):
    (tmp_path / "tickets.yaml").write_text(MINIMAL)
    with pytest.raises(RecipeError, match=r"there is no such file; did you mean .*tickets\.yaml\?"):
        load_recipe(tmp_path / "ticket.yaml")
    with pytest.raises(
        RecipeError, match=r"there is no such file; there is no folder .*nowhere either: check the path"
    ):
        load_recipe(tmp_path / "nowhere" / "a.yaml")


def test_a_folder_is_reported_with_the_recipe_in_it(tmp_path):
    (tmp_path / "tickets.yaml").write_text(MINIMAL)
    with pytest.raises(RecipeError, match=r"this is a folder; name the recipe file in it, for example .*tickets\.yaml"):
        load_recipe(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_reported(tmp_path):
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "a.yaml").chmod(0)
    with pytest.raises(RecipeError, match=r"cannot be read \(Permission denied\)"):
        load_recipe(tmp_path / "a.yaml")


LOOK_ALIKES = [
    ("  label: Ticket #\n", '4:10: the value ends before ` #`, which is a comment in YAML; write "Ticket #" in quotes'),
    ("  label: Room #2\n", '4:10: the value ends before ` #2`, which is a comment in YAML; write "Room #2" in quotes'),
    (
        "\u00a0 label: x\n",
        "4:1: the invisible character U+00A0 is not a space in YAML; replace it by an ordinary space",
    ),
    (
        "  label:\u3000x\n",
        "4:9: the invisible character U+3000 is not a space in YAML; replace it by an ordinary space",
    ),
    ("  label: x\u200b\n", r"4:10: `x\u200b` begins or ends with an invisible character; remove it, or put"),
    ("  label: “x”\n", "4:10: `“x”` is in typographic quotation marks; use straight ones, or none"),
    ("  labels: [‘a’, b]\n", "4:12: `‘a’` is in typographic quotation marks; use straight ones, or none"),
    (
        "  test: ftp://x.org/a.csv\n",
        "4:9: dataset.test is ftp://x.org/a.csv: tables are read from https://, http://, s3://",
    ),
    (
        "  test: file:///tmp/a.csv\n",
        "4:9: dataset.test is file:///tmp/a.csv: a file of this machine is named by its path; write",
    ),
    ("  text: [a, b, c]\n", "4:9: dataset.text names 3 columns, but must be one column or two (a sentence pair); "),
    ("  test: [a.csv, a.csv]\n", "4:9: dataset.test names "),
    ("  test: 25 %\n", "4:9: dataset.test is the percentage `25 %`; write a share such as 0.25, or"),
    ('  test: "C:\\Users\\x.csv"\n', "4:14: in double quotes a backslash starts an escape; write / in place of it"),
    ("training.epochs: 3\n", "4:1: unknown key `training.epochs`; write `training:` and under it, indented, `epochs:`"),
    ("training:\n  lr: 1e-4\n", "5:3: unknown key `lr` in `training`; did you mean `learning_rate`?"),
    ("training:\n  seq_len: 64\n", "5:3: unknown key `seq_len` in `training`; did you mean `encoder.max_length`?"),
]


@pytest.mark.parametrize(("lines", "expected"), LOOK_ALIKES, ids=[row[0].strip() for row in LOOK_ALIKES])
def test_what_looks_right_to_a_person_and_is_not_is_explained(problems, lines, expected):
    [line] = problems(MINIMAL + lines)
    assert line.startswith(expected)


def test_comments_and_quoted_values_are_left_alone(recipe):
    loaded = recipe(
        MINIMAL
        + '  text: "“x”"   # the text\n  label: "Ticket #" # the answer\n  labels: ["a\u200b", a] #two\nexport: # later\n'
    )
    assert (loaded.dataset.text, loaded.dataset.label) == (("“x”",), "Ticket #")
    assert loaded.dataset.labels == ("a\u200b", "a")
    assert recipe(dump_recipe(loaded)) == loaded


def test_of_very_many_problems_the_first_are_shown(problems):
    lines = problems(MINIMAL + "".join(f"key{number}: x\n" for number in range(60)))
    assert len(lines) == 51
    assert lines[0].startswith("4:1: unknown key `key0`")
    assert lines[-1] == "… and 10 problems more"


def test_a_file_in_utf16_is_named_as_such(tmp_path):
    (tmp_path / "r.yaml").write_text(MINIMAL, encoding="utf-16")
    with pytest.raises(RecipeError, match=r"r\.yaml:1:1: the file is UTF-16; save the recipe as UTF-8 text"):
        load_recipe(tmp_path / "r.yaml")


def test_a_path_that_is_not_utf8_is_refused_before_it_must_be_written(problems, recipe, monkeypatch):
    if sys.platform != "linux":
        pytest.skip("such names exist on Linux")
    [line] = problems(MINIMAL, "dataset.train=\udcff.csv")
    assert line.endswith("holds bytes that are not UTF-8; write the value in UTF-8")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_without_a_writer_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "r.yaml")
    with pytest.raises(RecipeError, match="the file is empty"):
        load_recipe(tmp_path / "r.yaml")


PIECES = """&a |*a|<<: *a|!!python/object:os.system |!!binary |!!set |!!float |? |- |: |{|}|[|]|'|"|---|%YAML 9|\t|\n|\r|
|nan|1e999|0x1F|1:20|~|yes|@|`|%|#| #|\\ud800|"\\ud800"|\\x1b|../|~nobody/|$HOME|*.csv|s3://x|,|>|\x00|\x1b[31m|\x85""".split(
    "|"
)
BYTES = [piece.encode() for piece in PIECES] + [
    b"|", b"\xff", b"\xfe\xff", b"\xc2\xa0", b"\xe2\x80\x8b", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"9" * 400, b"a" * 999
]  # fmt: skip


def test_damaged_recipes_end_in_recipe_errors_or_load_to_what_they_dump(tmp_path):
    random = Random(7)
    whole = [path.read_bytes() for path in sorted((REPOSITORY / "recipes").glob("*.yaml"))]
    file, dumped = tmp_path / "r.yaml", tmp_path / "dumped.yaml"
    ends = {"loaded": 0, "refused": 0}
    for _ in range(400):
        content = bytearray(random.choice(whole))
        for _ in range(random.choice((1, 1, 2, 5))):
            place = random.randrange(len(content) + 1)
            removed = random.choice((0, 0, 1, 20))
            content[place : place + removed] = random.choice(BYTES) * random.choice((1, 1, 1, 60))
        file.write_bytes(content)
        try:
            loaded = load_recipe(file)
        except RecipeError:
            ends["refused"] += 1
            continue
        dumped.write_text(dump_recipe(loaded), encoding="utf-8")
        assert load_recipe(dumped) == loaded
        ends["loaded"] += 1
    assert min(ends.values()) > 50


# --- The rules between values ----------------------------------------------------------------------------------------


def test_no_file_serves_two_splits(problems, tmp_path):
    assert problems(MINIMAL + "  test: ./x/../train.csv\n") == [
        f"4:9: dataset.test is the same file as dataset.train ({tmp_path}/train.csv); "
        "name another file, or a share such as 0.1 to set rows aside"
    ]


def test_the_shares_leave_rows_to_train_on(problems):
    assert problems(MINIMAL + "  validation: 0.4\n  test: 0.5\n") == [
        "5:9: dataset.validation (0.4) and dataset.test (0.5) set aside 90% of the rows, "
        "but must leave 20% to train on; lower one of them"
    ]


MODEL_MAKER = MINIMAL + "training:\n  engine: model-maker\n"


def test_model_maker_takes_every_default_and_what_it_has_a_setting_for(recipe):
    loaded = recipe(MODEL_MAKER + "  epochs: 5\n  dropout: 0.2\n  seeds: [1, 2]\n  reject_for_precision: 0.9\n")
    assert loaded.training.engine == "model-maker"
    assert recipe(dump_recipe(loaded)) == loaded


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("  warmup: 0.2\n", "6:11: training.warmup is 0.2, but Model Maker always warms up for a tenth of the steps; "),
        (
            "  class_weights: {spam: 3}\n",
            "6:18: training.class_weights is spam: 3, but Model Maker weights all rows alike",
        ),
        ("  freeze: 3\n", "6:11: training.freeze is 3, but Model Maker trains the whole encoder; "),
        ("  precision: bfloat16\n", "6:14: training.precision is bfloat16, but Model Maker computes in float32; "),
        (
            "  watchers:\n    stuck: stop\n",
            "7:12: training.watchers.stuck is stop, but Model Maker exports the last epoch",
        ),
        ("export:\n  quantization: int4\n", "7:17: export.quantization is int4, which Model Maker cannot write; "),
        (
            "encoder:\n  overflow: tail\n",
            "7:13: encoder.overflow is tail, but Model Maker always keeps the head of a text",
        ),
        (
            "  learning_rate: 0.1\nencoder: average-words\n",
            "6:18: training.learning_rate is 0.1, but Model Maker always trains word vectors at 0.001; ",
        ),
    ],
)
def test_what_model_maker_cannot_honour_is_an_error_at_its_line(problems, lines, expected):
    [line] = problems(MODEL_MAKER + lines)
    assert line.startswith(expected)


def test_model_maker_reads_no_pairs(problems):
    [line] = problems(MINIMAL + "  text: [question, answer]\ntraining:\n  engine: model-maker\n")
    assert line.startswith("4:9: dataset.text names two columns, but Model Maker reads single texts only; ")


def test_a_rule_says_nothing_about_a_value_that_is_already_reported(problems):
    assert len(problems(MINIMAL + "  label: text\n  text: {}\n")) == 1


def test_rules_are_applied_even_when_required_keys_are_missing(problems):
    lines = problems("dataset:\n  label: text\n")
    assert ["missing" in lines[0], "missing" in lines[1], "both the column" in lines[2]] == [True, True, True]


# --- Writing ---------------------------------------------------------------------------------------------------------


def test_a_dumped_recipe_loads_from_anywhere_to_an_equal_recipe(recipe, tmp_path):
    loaded = recipe(
        MINIMAL
        + "  test: '../ü ber: #1.csv'\n  text: [yes, 'a: b']\n  label: '#'\n  delimiter: tab\n"
        + '  labels: [yes, no, 1, null, \' x \', "a\'b", 😀, "a\\u00a0b"]\n'
        + "training:\n  learning_rate: 1.5e-5\n  seed: 4294967295\n",
        "encoder=builtin:small",
    )
    (tmp_path / "runs").mkdir()
    dumped = tmp_path / "runs" / "recipe.yaml"
    dumped.write_text(dump_recipe(loaded), encoding="utf-8")
    assert load_recipe(dumped) == loaded


def test_a_dumped_recipe_writes_every_default_out(recipe, tmp_path):
    assert dump_recipe(recipe(MINIMAL)) == (
        "# A recipe with every default written out. Train it again: textclf train THIS_FILE\n"
        f"name: tickets\ndataset:\n  train: {tmp_path}/train.csv\n  validation: 0.1\n  test: null\n  text: text\n"
        "  label: label\n  labels: null\n  delimiter: null\n  encoding: utf-8\n  unlabelled: error\n"
        "encoder:\n  source: builtin\n  max_length: 128\n  tokenizer: device\n  overflow: head\n"
        "training:\n  engine: native\n  epochs: auto\n  batch_size: 32\n  accumulate: 1\n  learning_rate: 5.0e-05\n"
        "  warmup: 0.1\n  weight_decay: 0.01\n  dropout: 0.1\n  label_smoothing: 0.0\n  class_weights: null\n  clip_norm: 1.0\n"
        "  head: fitted\n  freeze: none\n  precision: auto\n  early_stopping: null\n  watchers:\n    not_finite: stop\n"
        "    learning_rate: warn\n    stuck: warn\n    one_class: warn\n    overfitting: warn\n  calibrate: true\n"
        "  reject_for_precision: null\n  seed: 1\n  seeds: null\nexport:\n  quantization: dynamic\n  compatibility: litert\n"
        "  max_changed_labels: null\n  max_lost_accuracy: null\n  reject_label: ''\n"
    )


def test_a_recipe_without_a_task_is_text_classification_and_is_dumped_as_before_there_were_tasks(recipe):
    named = recipe(MINIMAL + "task: text-classification\n")
    assert named == recipe(MINIMAL)
    assert named.task == "text-classification"
    assert "task:" not in dump_recipe(named)
    assert "task" not in named.model_dump()


def test_a_task_that_is_not_known_is_answered_with_those_that_are(problems):
    [problem] = problems(MINIMAL + "task: text-clasification\n")
    assert problem == (
        "4:7: task is `text-clasification`, but must be text-classification or "
        "multi-label-classification or question-answering; did you mean `text-classification`?"
    )


def test_the_published_schema_is_the_one_of_the_code():
    published = json.loads((REPOSITORY / "docs" / "recipe.schema.json").read_text(encoding="utf-8"))
    assert published == recipe_json_schema(), "run make schema"


def test_every_key_is_described_in_the_schema_and_unknown_ones_are_refused():
    schema = recipe_json_schema()
    sections = [schema, *schema["$defs"].values()]
    for section in (definition.get("anyOf", [definition])[-1] for definition in sections):
        assert section["additionalProperties"] is False
        for key, definition in section["properties"].items():
            assert "description" in definition or "$ref" in definition, key


def test_importing_recipes_loads_no_heavy_package():
    code = (
        "import sys, textclf.recipe; print([m for m in ('numpy', 'pandas', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_encoding_that_is_proposed_is_one_that_is_taken():
    for name in ("rot13", "base64", "zip", "utf9", "latin11", "cp125", "hex", "idna"):
        with pytest.raises(ValueError, match="not a text encoding") as caught:
            values.checked_encoding(name)
        proposed = re.findall(r"did you mean `(.+?)`", str(caught.value))
        assert [values.checked_encoding(other) for other in proposed] == proposed
