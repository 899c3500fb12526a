"""Several files of questions for one split: they are read one after the other, and messages name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.questions import write_question_recipe, write_questions
from textclf.data.examples import Dataset
from textclf.data.question_answering.dataset import load_questions
from textclf.data.question_answering.questions import QuestionSplit, place_of
from textclf.errors import DataError
from textclf.recipe.settings import Recipe
from textclf.runs.check import check


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def squad(path: str, *contexts: str, start: int | None = None) -> str:
    """A question about each context, whose answer is its first word."""
    paragraphs = []
    for number, context in enumerate(contexts, 1):
        answer = {"text": context.split()[0], "answer_start": 0 if start is None else start}
        question = {"id": f"{path}-{number}", "question": f"what is {number}?", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    Path(path).write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def table(path: str, *rows: str) -> str:
    Path(path).write_text("question,context,answer\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def load(train: Any, **more: Any) -> Dataset:
    return load_questions(Recipe(name="q", task="question-answering", dataset={"train": train, **more}).dataset, 0)


def train_of(dataset: Dataset) -> QuestionSplit:
    assert isinstance(dataset.train, QuestionSplit)
    return dataset.train


def test_a_list_and_a_pattern_are_read_in_order_and_every_file_is_hashed(tmp_path):
    squad("part-2.json", "two is here", "three is here")
    squad("part-1.json", "one is here")
    squad("more.json", "four is here")
    squad("held.json", "five is here")
    dataset = load(["part-*.json", "more.json"], validation="held.json")
    train = train_of(dataset)
    assert [context.split()[0] for context in train.contexts] == ["one", "two", "three", "four"]
    assert [place_of(train, row) for row in (2, 3)] == [
        "question part-2.json-2 (the 2nd of part-2.json)", "question more.json-1 (the 1st of more.json)",
    ]  # fmt: skip
    assert {path.name for path in dataset.files} == {"part-1.json", "part-2.json", "more.json", "held.json"}


def test_rows_of_tables_without_ids_are_not_called_repeated(tmp_path):
    table("a.csv", "what?,red box,red", "where?,blue box,blue")
    table("b.csv", "who?,green box,green", "when?,late box,late")
    squad("held.json", "five is here")
    dataset = load(["a.csv", "b.csv"], validation="held.json")
    assert not [finding for finding in dataset.findings if finding.kind == "repeated_id"]
    assert place_of(train_of(dataset), 3) == "row 3 of b.csv"


def test_a_finding_names_the_file_of_each_question(tmp_path):
    squad("a.json", "one is here", "two is here", start=3)
    squad("b.json", "three is here", start=3)
    squad("held.json", "five is here")
    [finding] = [
        one for one in load(["a.json", "b.json"], validation="held.json").findings if one.kind == "answer_moved"
    ]
    assert finding.message.startswith("a.json and 1 more: 3 questions with an answer that is not at its offset")
    assert finding.message.endswith("(questions 1 of a.json, 2 of a.json and 1 of b.json)")


def test_tables_and_squad_files_may_be_mixed(tmp_path):
    squad("a.json", "one is here")
    table("b.csv", "who?,green box,green")
    squad("held.json", "five is here")
    train = train_of(load(["a.json", "b.csv"], validation="held.json"))
    assert [answers[0].text for answers in train.answers] == ["one", "green"]
    assert [place_of(train, row) for row in (0, 1)] == ["question a.json-1 (the 1st of a.json)", "row 2 of b.csv"]


def test_a_finding_about_tables_and_squad_files_says_what_each_number_counts(tmp_path):
    squad("a.json", "one is here", "<b>two</b> is here", start=3)
    table("b.csv", "who?,<b>green</b> box,box", ",red box,red")
    table("c.csv", ",blue box,blue")
    squad("held.json", "five is here")
    findings = load(["a.json", "b.csv", "c.csv"], validation="held.json").findings
    moved, empty, markup = (
        next(one.message for one in findings if one.kind == kind)
        for kind in ("answer_moved", "empty_question", "markup")
    )
    assert moved.endswith("(questions 1 of a.json and 2 of a.json)")
    assert empty.endswith("(rows 3 of b.csv and 2 of c.csv)")
    assert markup.endswith("(question 2 of a.json and row 2 of b.csv)")


def test_fractions_are_set_aside_from_all_files_together(tmp_path):
    for number in range(4):
        squad(f"part-{number}.json", *(f"word{number}{letter} is here" for letter in "abcdef"))
    dataset = load("part-*.json", validation=0.5)
    assert (len(dataset.train.rows), len(dataset.validation.rows)) == (12, 12)
    assert len({str(row) for row in dataset.train.rows} | {str(row) for row in dataset.validation.rows}) == 24


def test_the_problems_of_all_files_are_reported_at_once(tmp_path):
    Path("a.json").write_text("[1, 2", encoding="utf-8")
    table("b.csv", "what?,red box,blue")
    with pytest.raises(DataError) as caught:
        load(["a.json", "b.csv", "c.json"], validation="none-*.json")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["a.json", "b.csv", "c.json", "dataset.validation"]
    assert "the pattern matches no file" in lines[3]


def test_check_counts_the_questions_of_all_files(tmp_path):
    recipe = write_question_recipe(tmp_path, questions=20)
    write_questions(tmp_path / "more.json", 30, seed=5)
    report = check(recipe, ["dataset.train=[train.json, more.json]"])
    assert sum(report.rows["train"].values()) == 50
    assert any("of more.json" in finding.message for finding in report.findings)
