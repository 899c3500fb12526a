"""Bad files, recipes, models and tables of question answering, as commands get them: one message, exit code 2, no traceback."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.answering import CONTEXT, write_tiny_answerer
from tests.command import run
from tests.questions import write_question_recipe

ROW = {"question": "is it free?", "context": CONTEXT, "answer": CONTEXT.split()[0]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of questions with its files, a model, and files that are wrong in many ways."""
    folder = tmp_path_factory.mktemp("bad")
    write_question_recipe(folder, questions=20)
    model = write_tiny_answerer(folder / "model.tflite")
    squad = (folder / "train.json").read_bytes()
    files: dict[str, bytes | str] = {
        "cut.tflite": model.read_bytes()[:5000],
        "text.tflite": "hello " * 20,
        "packed.json.gz": gzip.compress(squad)[:-20],
        "cut.json": squad[:200],
        "rows.json": json.dumps([ROW]),
        "object.json": '{"rows": []}',
        "labels.csv": "text,label\ngood film,good\nbad film,bad\n",
        "header.csv": "question,context,answer\n",
        "in.csv": f'question,context\nis it free?,"{CONTEXT}"\n',
        "lists.jsonl": json.dumps(
            {"question": "?", "context": CONTEXT, "answers": {"text": ["a"], "answer_start": [0]}}
        ),
        "cells.jsonl": json.dumps({**ROW, "answer": ["a"]}),
        "blank.txt": " \n",
        "latin.txt": "Où ?".encode("cp1252"),
        "page.txt": CONTEXT,
        "parquet.json": b"PAR1\0\0",
        "wrong.yaml": "name: q\ntask: question_answering\ndataset: {train: train.json}\n",
        "texts.yaml": "name: q\ntask: question-answering\ndataset: {train: train.json, label: intent}\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for label in ("good", "bad"):
        (folder / "folder" / label).mkdir(parents=True)
        (folder / "folder" / label / "a.txt").write_text("a text")
    return folder


CASES: dict[str, str] = {
    # Files of a recipe
    "check recipe.yaml dataset.train=labels.csv": "labels.csv: there is no column `context` (dataset.context)",
    "check recipe.yaml dataset.train=rows.json": "If each object is a row of a table, rename the file",
    "check recipe.yaml dataset.train=object.json": "the file is not in the format of SQuAD: it is an object (only `rows`)",
    "check recipe.yaml dataset.train=cut.json": "cut.json: line 1, column",
    "check recipe.yaml dataset.train=packed.json.gz": "packed.json.gz: the gzip stream ends early; make or fetch the file again",
    "check recipe.yaml dataset.train=parquet.json": "parquet.json: is a Parquet file, not JSON",
    "check recipe.yaml dataset.train=missing.json": "missing.json: there is no such file",
    "check recipe.yaml dataset.train=none-*.json": "none-*.json: the pattern matches no file; check the path",
    "check recipe.yaml dataset.train=folder": "a row needs 2 texts here; name a table instead (CSV",
    "check recipe.yaml dataset.train=header.csv": "header.csv: no rows below the header; add rows with a context, a question",
    "check recipe.yaml dataset.train=lists.jsonl": "write one row for each answer, with the columns answer and answer_start",
    "check recipe.yaml dataset.train=cells.jsonl": "cells.jsonl: row 1 holds a list in `answer`",
    "check recipe.yaml dataset.train=page.txt": "page.txt: there is no column `context`",
    "check recipe.yaml dataset.validation=model.tflite": "it is perhaps no text at all; export the table as CSV with UTF-8",
    # Recipes
    "check wrong.yaml": "wrong.yaml:2:7: task is `question_answering`, but must be text-classification or multi-label-",
    "check texts.yaml": "dataset.label belongs to the task text-classification; the column of the answers is dataset.answer",
    "check recipe.yaml encoder.max_length=10": "windows would not overlap; lower encoder.stride or encoder.question_length",
    "check recipe.yaml encoder.max_length=5000": "encoder.max_length is `5000`, but must be 512 or less",
    "check recipe.yaml dataset.sheet=One": "dataset.sheet is a setting of tables, but the recipe names SQuAD files (.json) only",
    "check recipe.yaml encoder.source=model.tflite": "model.tflite: is a file, but no archive",
    # Models
    "answer cut.tflite in.csv -o out.csv": "cut.tflite: not a whole TFLite model",
    "answer text.tflite in.csv -o out.csv": "text.tflite: not a whole TFLite model",
    "answer recipe.yaml in.csv -o out.csv": "recipe.yaml: this is a recipe, not a model; train it first",
    "answer in.csv model.tflite -o out.csv": "in.csv: this is a table, not a model; name the model first, then the data",
    "classify model.tflite in.csv -o out.csv": "the model's task is question-answering",
    "verify model.tflite --run nowhere": "nowhere: has no recipe.yaml",
    # Tables and texts to answer or to measure
    "answer model.tflite train.json -o out.csv": "train.json: is a SQuAD file, but answers are written into tables; measure",
    "answer model.tflite labels.csv -o out.csv": "labels.csv: there is no column `question`",
    "answer model.tflite header.csv -o out.csv": "header.csv: has a column `answer` already; put a prefix before",
    "answer model.tflite in.csv -o in.csv": "in.csv: exists already",
    "answer model.tflite --context blank.txt --question why?": "blank.txt: is empty; name a file with the text",
    "answer model.tflite --context latin.txt --question why?": "latin.txt: is not utf-8 at byte 1; save it as UTF-8, or name",
    "evaluate model.tflite labels.csv": "there is no column `context` (context_column (--text))",
    "evaluate model.tflite in.csv": "in.csv: there is no column `answer` (answer_column (--label))",
    "evaluate model.tflite header.csv --text question": "--text) names only question; name two columns",
    "verify model.tflite labels.csv": "there is no column `context` (the context column of the training)",
    "compare recipe.yaml --engines native,slow": "'slow' is not an engine; choose from native, model-maker",
    "new cut.json": "No recipe was written; correct the file, then run the command again",
}


@pytest.mark.parametrize("command", CASES)
def test_bad_input_gets_one_message_that_says_what_to_do(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert run(*command.split()) == 2
    shown = capsys.readouterr().err
    assert CASES[command] in shown
    assert shown.startswith("Error: ")
    assert "Traceback" not in shown
    assert not {"out.csv", "cut.yaml"} & {path.name for path in place.iterdir()}


def test_only_settings_of_the_export_can_change_after_training(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    run_dir = Path(__file__).parent.parent / "fixtures" / "first_version" / "runs" / "reviews"
    assert run("export", run_dir, "max_length=10", "-o", "other.tflite") == 2
    assert (
        "the section export has no setting max_length; after training, only these can change: "
        in capsys.readouterr().err
    )
