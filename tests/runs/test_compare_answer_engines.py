"""`textclf compare RECIPE --engines` for question answering; Model Maker's worker is a stand-in that gives back our file."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.answering import tiny_graph, write_question_recipe
from tests.command import run
from tests.model_maker.fake_environment import write_fake_environment
from tests.tiny import tiny_checkpoint
from textclf import evaluate_answers
from textclf.data.question_answering.dataset import load_questions
from textclf.data.question_answering.questions import QuestionSplit
from textclf.files.output_folder import foreign_entries
from textclf.model_maker.hub_module import VARIABLE_PREFIX
from textclf.recipe.reading import load_recipe
from textclf.runs.comparison.folder import COMPARISON
from textclf.runs.tasks.question_answering.comparing import AnsweringMeasures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Model Maker runs on Linux only")


def write_given_model(folder: Path) -> Path:
    """What the stand-in gives back: a file with random weights, and these weights by the names of Model Maker."""
    folder.mkdir()
    (folder / "model.tflite").write_bytes(tiny_graph(64, "dynamic", seed=5))
    weights = {VARIABLE_PREFIX + name: array for name, array in tiny_checkpoint(seed=5).weights.items()}
    head = {"output/kernel": np.ones((32, 2), np.float32), "output/bias": np.zeros(2, np.float32)}
    np.savez(folder / "weights.npz", **weights, **head)
    return folder


def test_both_engines_are_measured_on_the_same_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_fake_environment(tmp_path / "cache")
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_MODEL", str(write_given_model(tmp_path / "given")))
    recipe = write_question_recipe(tmp_path, questions=60, epochs=1)
    output = tmp_path / "compared"
    assert run("compare", recipe, "-o", output, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert json.loads((output / "comparison.json").read_text()) == {
        "format": "textclf-comparison",
        "version": 1,
        **found,
    }
    assert (found["task"], found["split"], found["rows"]) == (
        "question-answering", "test", {"train": 48, "validation": 12, "test": 40}
    )  # fmt: skip
    own, theirs = found["measurements"]
    assert (own["engine"], theirs["engine"]) == ("native", "model-maker")
    for one in (own, theirs):
        measured = evaluate_answers(output / one["run"], output / "data" / "test.json")
        assert (one["f1"], one["exact_match"]) == (measured.server.f1, measured.server.exact_match)
        assert one["phone_f1"] is None, "the tiny model reads 64 tokens"
        export = json.loads((output / one["run"] / "metrics.json").read_text())["export"]
        assert (one["changed_answers"], one["compared_questions"]) == (export["changed_answers"], 52)
        assert one["quantization"] == export["quantization"]
        assert one["bytes"] == (output / one["run"] / "model.tflite").stat().st_size
        assert 0 < one["first_step"] < one["total"]
        assert found["latency_ms"][one["engine"]] > 0
        assert found["rows_per_second"][one["engine"]] > 0
    assert theirs["export"] == 2.5, "the stand-in's own time"
    assert theirs["examples_per_second"] == 16 / 0.5
    page = (output / "comparison.md").read_text()
    assert "# shop-questions: native and model-maker\n\nQuestions: 48 train, 12 validation, 40 test. Seeds: " in page
    assert f"| F1 on a server, test split | {100 * own['f1']:.1f} % | {100 * theirs['f1']:.1f} % |" in page
    assert "| F1 on a phone, test split | – | – |" in page
    assert "| latency, 64 tokens, 1 thread | " in page
    assert f"| answers changed by quantisation | {own['changed_answers']} of 52 | 0 of 52 |" in page
    assert not foreign_entries(output, COMPARISON.entries), "so `--force` may replace the folder"


def test_the_written_split_is_the_split(tmp_path: Path) -> None:
    """Also from a table in another encoding, with several answers, and names of its own."""
    recipe = write_question_recipe(tmp_path)
    with (tmp_path / "asked.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["key", "asked", "passage", "said", "place"])
        for number in range(20):
            passage = f"The lamp “{number}” costs 9 euros, 9 in all.\u2028It is naïve 😀."
            writer.writerow([f"a{number}", "How much?", passage, "9", passage.index("9 euros")])
            writer.writerow([f"a{number}", "How much?", passage, "9 in all", ""])
            writer.writerow([f"b{number}", "Who?", passage, "", ""])
    columns = {"id": "key", "question": "asked", "context": "passage", "answer": "said", "answer_start": "place"}
    settings = [f"dataset.{name}={column}" for name, column in columns.items()]
    loaded = load_recipe(
        recipe,
        [f"dataset.train={tmp_path / 'asked.csv'}", "dataset.test=0.2", "dataset.delimiter=semicolon", *settings],
    )
    expected = load_questions(loaded.dataset, 1)
    (tmp_path / "split").mkdir()
    changed = AnsweringMeasures().write_split(loaded, expected, tmp_path / "split")
    found = load_questions(loaded.dataset.model_copy(update=changed), 2)
    for one, other in zip(found.splits, expected.splits, strict=True):
        assert isinstance(one, QuestionSplit)
        assert isinstance(other, QuestionSplit)
        assert (one.name, one.texts, one.answers, one.ids) == (other.name, other.texts, other.answers, other.ids)
    assert {len(answers) for answers in found.train.answers} == {0, 2}
    assert not [finding for finding in found.findings if finding.kind.startswith("answer_")]


def test_a_task_with_one_engine_has_no_engines_to_compare(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "name: sets\ntask: multi-label-classification\ndataset: {train: train.csv, label_separator: '|'}\n"
    )
    assert run("compare", tmp_path / "recipe.yaml", "--engines", "native", "-o", tmp_path / "compared") == 2
    assert (
        "sets: is a recipe of multi-label-classification, which only the engine native can train"
        in capfd.readouterr().err
    )
    assert not (tmp_path / "compared").exists()
