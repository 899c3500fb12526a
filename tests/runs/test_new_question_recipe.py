"""A first recipe for questions: which tables are tables of questions, and what the recipe says."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

import textclf
from tests.command import run
from tests.questions import write_questions

THINGS = "lamp chair desk phone cable screen printer keyboard".split()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def context(number: int) -> str:
    thing = THINGS[number % 8]
    return (
        f"You can return the {thing} within {number + 10} days after the delivery. Write to us before you send it back, and keep "
        f"the receipt of page {number}. We refund the price within a week."
    )


def write(path: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def rows(count: int = 40, *, empty: int = 5) -> list[tuple[object, ...]]:
    return [
        (
            n,
            f"How long can I return the {THINGS[n % 8]} of page {n}?",
            context(n),
            "" if n % empty == 0 else f"{n + 10} days",
            "shop" if n % 2 else "web",
        )
        for n in range(count)
    ]


def test_a_squad_file_becomes_a_recipe_that_passes_its_check():
    write_questions(Path("prizes.json"), 60)
    write_questions(Path("prizes_test.json"), 30, seed=1)
    made = textclf.new_recipe("prizes.json")
    assert (made.task, made.rows, made.path) == ("question-answering", 60, Path("prizes.yaml"))
    assert {split: path.name for split, path in made.files.items()} == {"test": "prizes_test.json"}
    text = made.path.read_text(encoding="utf-8")
    assert "task: question-answering" in text
    assert "60 questions about 60 contexts; 80.0% have an answer" in " ".join(text.split("\n  # "))
    assert "question:" not in text, "columns are settings of tables"
    assert textclf.check(made.path).split_sizes() == "48 train, 12 validation, 30 test"


def test_a_compressed_squad_file_is_recognised_and_a_list_of_objects_is_a_table():
    write_questions(Path("prizes.json"), 20)
    Path("packed.json.gz").write_bytes(gzip.compress(Path("prizes.json").read_bytes()))
    assert textclf.new_recipe("packed.json.gz").task == "question-answering"
    mails = [{"text": f"my {THINGS[n % 8]} of order {n} is broken", "label": "ab"[n % 2]} for n in range(20)]
    Path("mails.json").write_text(json.dumps(mails))
    assert textclf.new_recipe("mails.json").task == "text-classification"


def test_a_squad_file_is_recognised_by_its_data_whatever_comes_first():
    write_questions(Path("prizes.json"), 20)
    content = json.loads(Path("prizes.json").read_text())
    titled = {"title": "prizes", "made": {"by": "hand"}, **content}
    Path("titled.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(titled, indent=1).encode())
    assert textclf.new_recipe("titled.json").task == "question-answering"


def test_a_table_of_questions_is_recognised_by_its_answers(capsys):
    assert run("new", write("manual.csv", ["id", "question", "context", "answer", "channel"], rows())) == 0
    shown = capsys.readouterr().out
    assert "  question  `question`\n  context   `context`\n  answer    `answer`\n" in shown
    assert "not used: `id` (identifiers), `channel` (2 values: web, shop)" in shown
    assert "32 of 32 cells of `answer` are in `context`. To predict a label instead, name it: --label COLUMN" in shown
    recipe = textclf.load_recipe("manual.yaml")
    assert recipe.answers_questions
    assert "Where it is empty, the context does not answer the question." in " ".join(
        Path("manual.yaml").read_text().split("\n  # ")
    )


def test_columns_with_other_names_are_detected_from_their_contents():
    table = write("faq.csv", ["nr", "asked", "body", "extract", "channel"], rows())
    made = textclf.new_recipe(table)
    assert (made.text, made.label) == (("asked", "body"), "extract")
    assert textclf.check(made.path).split_sizes() == "24 train, 8 validation, 8 test"


def test_the_place_of_an_answer_is_used_if_it_is_right():
    header = ["question", "context", "answer", "answer_start"]
    given = [(q, c, a, c.index(str(a)) if a else "") for _, q, c, a, _ in rows()]
    made = textclf.new_recipe(write("manual.csv", header, given))
    assert textclf.load_recipe(made.path).dataset.answer_start == "answer_start"
    wrong = textclf.new_recipe(write("wrong.csv", header, [(q, c, a, 1) for _, q, c, a, _ in rows(empty=100)][1:]))
    assert textclf.load_recipe(wrong.path).dataset.answer_start is None


def labels_of_pairs() -> str:
    return write(
        "pairs.csv", ["question", "context", "label"], [(q, c, "yes" if n % 2 else "no") for n, q, c, _, _ in rows()]
    )


def answers_from_elsewhere() -> str:
    header = ["question", "context", "answer", "label"]
    return write("own_words.csv", header, [(q, c, f"please wait {n} weeks", "ab"[n % 2]) for n, q, c, _, _ in rows()])


def keywords_without_questions() -> str:
    return write(
        "keys.csv", ["text", "keyword", "label"], [(c, THINGS[n % 8], "ab"[n % 2]) for n, _, c, _, _ in rows()]
    )


@pytest.mark.parametrize("make", [labels_of_pairs, answers_from_elsewhere, keywords_without_questions])
def test_other_tables_stay_tables_of_labels(make: Callable[[], str]):
    assert textclf.new_recipe(make()).task == "text-classification"


def test_a_label_that_is_named_decides():
    made = textclf.new_recipe(
        write("manual.csv", ["id", "question", "context", "answer", "channel"], rows()),
        label="channel",
        text="question",
    )
    assert (made.task, made.label) == ("text-classification", "channel")


def test_answers_that_cannot_be_used_are_reported_and_nothing_is_written():
    table = rows(empty=100)
    table[7] = (7, "Where is it?", context(7), "on the moon", "web")
    with pytest.raises(textclf.TextclfError) as caught:
        textclf.new_recipe(write("manual.csv", ["id", "question", "context", "answer", "channel"], table))
    assert "manual.csv: row 9 has the answer `on the moon`" in str(caught.value)
    assert str(caught.value).endswith("No recipe was written; correct the file, then run the command again")
    assert not list(Path().glob("*.yaml"))


def test_long_contexts_get_a_larger_stride():
    long = [(q, " ".join([c] * 30), a) for _, q, c, a, _ in rows()]
    long = [(q, f"{c} Extra {n}: {n}x days", f"{n}x days" if a else "") for n, (q, c, a) in enumerate(long)]
    made = textclf.new_recipe(write("long.csv", ["question", "context", "answer"], long))
    assert textclf.load_recipe(made.path).encoder.stride == 256


def test_help_names_both_tasks_and_other_tables_than_csv(capsys):
    assert run("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "The model classifies texts, or answers questions from a text. Tables are CSV, JSON Lines, Parquet or Excel"
        in shown
    )
