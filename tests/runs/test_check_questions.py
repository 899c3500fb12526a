"""`textclf check` says of questions what a person needs to know before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import textclf
from tests.command import run
from tests.encoders.test_question_head import write_with_head
from tests.tiny import tiny_checkpoint, write_tiny_encoder

WORDS = "the film was good and not bad so i love this app"


def write_squad(path: Path, contexts: int, *, words: int = 1, answer: str = "good") -> None:
    """Two questions for each context of so many times 12 words; every tenth context answers only one of them."""
    paragraphs = []
    for number in range(contexts):
        context = f"{number} {WORDS} " + f"{WORDS} ".replace("good", "fine") * (words - 1)
        answers = [{"text": answer, "answer_start": context.index(answer)}]
        second: dict[str, Any] = {"answers": [] if number % 10 == 9 else answers}
        questions = [{"question": "what film", "answers": answers}, {"question": "what app", **second}]
        qas = [{**one, "id": f"{number}-{place}"} for place, one in enumerate(questions)]
        paragraphs.append({"context": context, "qas": qas})
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of questions with a tiny encoder, whose windows have 40 tokens."""
    folder = tmp_path_factory.mktemp("help")
    write_tiny_encoder(folder / "encoder")
    write_squad(folder / "train.json", 80)
    write_squad(folder / "test.json", 30, words=4)
    (folder / "recipe.yaml").write_text(
        "name: help\ntask: question-answering\ndataset: {train: train.json, test: test.json, validation: 0.25}\n"
        "encoder: {source: encoder, max_length: 40, stride: 10, question_length: 8}\nexport: {compatibility: litert}\n"
    )
    return folder


def test_a_check_counts_questions_contexts_answers_and_windows(folder):
    report = textclf.check(folder / "recipe.yaml")
    assert report.labels == []
    assert {name: sum(counts.values()) for name, counts in report.rows.items()} == {
        "train": 120,
        "validation": 40,
        "test": 60,
    }
    test = report.as_dict()["questions"]["test"]
    assert test == {
        "questions": 60,
        "answerable": 57,
        "answers": 57,
        "contexts": 30,
        "windows": 180,
        "long_contexts": 60,
    }
    assert report.as_dict()["max_length"] == 40


def test_a_check_is_shown_as_lines_and_as_json(folder, capsys):
    assert run("check", folder / "recipe.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("recipe.yaml: the recipe is valid")
    assert lines[1] == "Questions: 120 train, 40 validation, 60 test"
    assert lines[2].startswith("With an answer: ")
    assert lines[2].endswith("57 test (95.0%)")
    assert lines[4] == "Contexts: 60 train, 20 validation, 30 test"
    assert lines[5] == "Windows of 40 tokens: 120 train, 40 validation, 180 test"
    assert lines[6] == "Questions with several windows: 0 train, 0 validation, 60 test"
    assert run("check", folder / "recipe.yaml", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(json.dumps(textclf.check(folder / "recipe.yaml").as_dict()))
    assert shown["questions"]["test"]["windows"] == 180


def kinds(report: textclf.CheckReport) -> dict[str, tuple[str, int]]:
    return {one.kind: (one.severity, one.count) for one in report.findings}


def test_a_check_reports_what_windows_do_not_show(folder):
    found = kinds(textclf.check(folder / "recipe.yaml"))
    assert found["several_windows"] == ("note", 60)
    assert "beyond_first_window" not in found


@pytest.mark.parametrize(
    ("question", "context", "answer", "kind", "severity"),
    [
        ("what", f"{WORDS} " * 5 + "bill", "bill", "beyond_first_window", "note"),
        ("what", "good " * 31 + "bad", "good " * 30 + "good", "long_answer", "warning"),
        ("what", "good " * 50, "good " * 45 + "good", "answer_without_window", "warning"),
        ("what " * 20, "good bad", "bad", "truncated_question", "note"),
    ],
)
def test_an_answer_or_question_that_does_not_fit_is_reported_with_its_number(
    folder, question, context, answer, kind, severity
):
    answers = [{"text": answer, "answer_start": context.index(answer)}]
    paragraph = {"context": context, "qas": [{"question": question, "id": "odd", "answers": answers}]}
    (folder / "odd.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    report = textclf.check(folder / "recipe.yaml", [f"dataset.test={folder / 'odd.json'}"])
    assert kinds(report)[kind] == (severity, 1)
    (message,) = [one.message for one in report.findings if one.kind == kind]
    assert "odd.json: test: 1 of 1 question (100.0%) " in message
    assert message.endswith("(question 1)")


def test_a_check_reports_unknown_words_with_the_number_of_their_question(folder):
    paragraphs = [
        {"context": f"good {number} \N{SNOWMAN}", "qas": [{"question": "what", "answers": [{"text": "good"}]}]}
        for number in range(4)
    ]
    (folder / "few.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    report = textclf.check(folder / "recipe.yaml", [f"dataset.train={folder / 'few.json'}"])
    (message,) = [one.message for one in report.findings if one.kind == "unknown_tokens"]
    assert "(question" in message
    assert "\N{SNOWMAN}" in message


def test_tables_in_memory_are_checked(folder):
    rows = [{"context": f"{number} {WORDS}", "question": "what film", "answer": "good"} for number in range(40)]
    report = textclf.check(folder / "recipe.yaml", data={"train": rows})
    assert report.rows["train"] == {"answerable": 30, "not answerable": 0}
    assert any("data[train]: every question has an answer" in one.message for one in report.findings)


def test_an_encoder_without_a_second_segment_is_refused(folder, tmp_path):
    write_tiny_encoder(tmp_path / "single", type_vocab_size=1)
    with pytest.raises(textclf.TextclfError, match="has only one segment, but a question and its context are two"):
        textclf.check(folder / "recipe.yaml", [f"encoder.source={tmp_path / 'single'}"])


def test_an_encoder_that_is_too_short_for_a_window_is_refused(folder):
    with pytest.raises(textclf.TextclfError, match=r"encoder\.max_length is 80, but .* takes at most 64 tokens"):
        textclf.check(folder / "recipe.yaml", ["encoder.max_length=80"])


# --- Through the command ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "overrides", "expected"),
    [
        (b'{"data": [}', [], "line 1, column 11: this is not JSON"),
        (b'{"data": [{"paragraphs": 3}]}', [], "data[0].paragraphs is the number `3`, expected a list of objects"),
        (b"", [], "the file is empty"),
        (
            b'{"data": []}',
            ["task=text-classification", "encoder.stride=null", "encoder.question_length=null"],
            "SQuAD file",
        ),
        (b"{}", ["encoder=average-words", "encoder.stride=20"], "encoder.source is average-words"),
        (b"{}", ["dataset.label=intent"], "dataset.label belongs to the task text-classification"),
    ],
)
def test_bad_input_ends_a_check_with_code_2_and_what_is_wrong(folder, capsys, content, overrides, expected):
    (folder / "bad.json").write_bytes(content)
    assert run("check", folder / "recipe.yaml", f"dataset.train={folder / 'bad.json'}", *overrides) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert "Traceback" not in captured.err + captured.out


def test_a_training_without_epochs_needs_an_encoder_with_a_head_for_questions(folder, tmp_path, capsys):
    recipe = [folder / "recipe.yaml", "training.epochs=0"]
    assert run("check", *recipe) == 2
    assert "training.epochs is 0, but " in (shown := capsys.readouterr().err)
    assert "encoder has no head for question answering, so nothing could answer; set training.epochs to 1" in shown
    with_head = write_with_head(tmp_path / "published", "model.safetensors", tiny_checkpoint())
    assert run("check", *recipe, f"encoder.source={with_head}") == 0


def test_half_a_character_is_named_before_a_training_as_in_a_table(folder, capsys):
    paragraphs = [
        {"context": f"good {number}", "qas": [{"question": "what \udc00", "answers": [{"text": "good"}]}]}
        for number in range(20)
    ]
    (folder / "half.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    assert run("check", folder / "recipe.yaml", f"dataset.train={folder / 'half.json'}") == 2
    said = capsys.readouterr().err
    assert "data[0].paragraphs[0].qas[0].question holds half of a character (U+DC00); write the text again" in said
