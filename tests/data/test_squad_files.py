"""SQuAD files: what is read, what is said about everything wrong in them, and how questions are set aside."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from textclf.data.examples import Dataset
from textclf.data.question_answering.dataset import load_question_file, load_questions
from textclf.data.question_answering.json_text import read_json
from textclf.data.question_answering.questions import Answer, QuestionSplit, place_of
from textclf.errors import DataError
from textclf.recipe.settings import DatasetSettings, Recipe

CONTEXT = "The shop opens at nine. It closes at six, and on Sundays it stays closed."


def question(text: str = "When does it open?", *answers: tuple[str, int | None], **more: Any) -> dict[str, Any]:
    """A question of the context; an answer without an offset has no such key."""
    given = [{"text": own, "answer_start": start} if start is not None else {"text": own} for own, start in answers]
    return {"id": "q1", "question": text, "answers": given, **more}


NINE = ("nine", CONTEXT.index("nine"))


def squad(*questions: Any, context: Any = CONTEXT) -> dict[str, Any]:
    return {
        "version": "v2.0",
        "data": [{"title": "shop", "paragraphs": [{"context": context, "qas": list(questions)}]}],
    }


def settings(path: Path, **more: Any) -> DatasetSettings:
    return Recipe(name="help", task="question-answering", dataset={"train": path, **more}).dataset


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes help.json into the current directory and reads its questions."""
    monkeypatch.chdir(tmp_path)

    def write_and_read(content: Any, **more: Any) -> QuestionSplit:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "help.json").write_bytes(raw)
        return load_question_file(settings(tmp_path / "help.json", **more), tmp_path / "help.json")[0]

    return write_and_read


@pytest.fixture
def problems(read):
    """The lines of the error about a file, with its name taken off."""

    def collect(content: Any, **more: Any) -> list[str]:
        with pytest.raises(DataError) as caught:
            read(content, **more)
        return [line.removeprefix("help.json: ") for line in str(caught.value).splitlines()]

    return collect


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes train.json, and others by name, and loads them as a recipe does."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(train: Any, seed: int = 1, **options: Any) -> Dataset:
        for name, content in {"train": train, **options}.items():
            if isinstance(content, dict):
                (tmp_path / f"{name}.json").write_text(json.dumps(content))
                options[name] = tmp_path / f"{name}.json"
        train = options.pop("train")
        return load_questions(settings(train, **options), seed)

    return write_and_load


def kinds(dataset: Dataset) -> dict[str, tuple[str, int, tuple[int, ...]]]:
    return {one.kind: (one.severity, one.count, one.rows) for one in dataset.findings}


# --- What is read ------------------------------------------------------------------------------------------------------
def test_questions_have_their_texts_their_answers_and_the_characters_of_the_first(read):
    split = read(squad(question("When does it open?", NINE, ("at nine", 15)), question("Where?", id="q2")))
    assert split.texts == [("When does it open?", CONTEXT), ("Where?", CONTEXT)]
    assert split.answers == [(Answer("nine", 18), Answer("at nine", 15)), ()]
    assert split.labels.tolist() == [[18, 22], [-1, -1]]
    assert split.ids == ["q1", "q2"]
    assert split.rows == [1, 2]
    assert (split.questions, split.contexts) == (["When does it open?", "Where?"], [CONTEXT, CONTEXT])
    assert [place_of(split, index) for index in (0, 1)] == ["question q1 (the 1st)", "question q2 (the 2nd)"]


def test_squad_2_marks_questions_that_the_context_does_not_answer(read):
    impossible = question("Who owns it?", is_impossible=True, plausible_answers=[{"text": "six", "answer_start": 37}])
    split = read(squad(question("When?", NINE, is_impossible=False), impossible))
    assert split.answers == [(Answer("nine", 18),), ()]


def test_an_answer_without_an_offset_is_found_where_it_is_unique(read):
    assert read(squad(question("When?", ("nine", None)))).answers == [(Answer("nine", 18),)]


def test_offsets_are_code_points_whatever_comes_before_them(read):
    context = "😀 Ça coûte 5 € le 東京 cafe\u0301."
    for text in ("5 €", "東京", "cafe\u0301"):
        split = read(squad(question("?", (text, context.index(text))), context=context))
        (answer,) = split.answers[0]
        assert context[answer.start : answer.end] == text
        assert split.contexts[0][slice(*split.labels[0])] == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_unicode_encoding_is_read_by_its_mark(read, encoding):
    text = json.dumps(squad(question("Wie viel?", ("5 €", 6)), context="kostet 5 €"[1:]), ensure_ascii=False)
    assert read(text.encode(encoding)).answers == [(Answer("5 €", 6),)]


def test_a_file_in_another_encoding_is_read_with_that_encoding(read):
    text = json.dumps(squad(question("Wo?", ("Café", 0)), context="Café"), ensure_ascii=False)
    assert read(text.encode("cp1252"), encoding="cp1252").answers == [(Answer("Café", 0),)]


def test_a_compressed_file_is_read(tmp_path):
    path = tmp_path / "help.json.gz"
    path.write_bytes(gzip.compress(json.dumps(squad(question("When?", NINE))).encode()))
    assert load_question_file(settings(path), path)[0].answers == [(Answer("nine", 18),)]


# --- What stops --------------------------------------------------------------------------------------------------------
def changed(**changes: Any) -> dict[str, Any]:
    return squad({**question("When?", NINE), **changes})


BAD = {
    "not json": (b'{"data": [}', "line 1, column 11: this is not JSON (Expecting value) at `}`; correct it, or"),
    "cut off": (b'{"data": [{"paragraphs": [', "line 1, column 27: the JSON ends too early (Expecting value)"),
    "empty": (b" \n", "the file is empty; it needs an object with the key `data`"),
    "lines": (b'{"question": "a"}\n{"question": "b"}', "line 2, column 1: a second JSON value begins"),
    "not utf-8": (b'{"data":\n "\xe9"}', "line 2, byte 3 of the line holds 0xe9, which is not utf-8; save the file as"),
    "nan": (b'{"data": "NaN",\n "a": NaN}', "line 2, column 7 holds the word NaN, which JSON does not have"),
    "deep": (b"[" * 100_000, "lists or objects are nested too deeply"),
    "long number": (
        b'{"data": ' + b"9" * 5000 + b"}",
        "line 1, column 10 holds a whole number of 5,000 digits; correct the value",
    ),
    "parquet": (b"PAR1\0\0", "is a Parquet file, not JSON; name a SQuAD file as JSON, or a table as CSV"),
    "list": (
        [{"question": "a", "context": "b"}],
        "the file is not in the format of SQuAD: it is a list of objects with",
    ),
    "no data": (
        {"version": "2"},
        "the file is not in the format of SQuAD: it is an object (only `version`), expected an",
    ),
    "data is text": ({"data": "x"}, "data is the text `x`, expected a list of objects"),
    "no paragraphs": ({"data": [{"title": "a"}]}, "data[0] has no key `paragraphs`, only `title`; add it as a list"),
    "no context": (
        {"data": [{"paragraphs": [{"qas": []}]}]},
        "data[0].paragraphs[0] has no key `context`, only `qas`; add it with a text",
    ),
    "context": (squad(question("?", NINE), context=["a"]), "data[0].paragraphs[0].context is a list, expected text"),
    "qas": ({"data": [{"paragraphs": [{"context": "a", "qas": {}}]}]}, "data[0].paragraphs[0].qas is an object (it is"),
    "question": (changed(question=3), "data[0].paragraphs[0].qas[0].question is the number `3`, expected text"),
    "id": (changed(id=[1]), "data[0].paragraphs[0].qas[0].id is a list, expected text or a whole number"),
    "answers of hugging face": (
        changed(answers={"text": ["nine"], "answer_start": [18]}),
        "data[0].paragraphs[0].qas[0].answers is an object (only `text` and `answer_start`), expected a list of objects",
    ),
    "no answers": (squad({"id": "1", "question": "?"}), "qas[0] has no key `answers`; add a list of answers or, for"),
    "answer": (changed(answers=["nine"]), "qas[0].answers[0] is the text `nine`, expected an object"),
    "answer text": (changed(answers=[{"text": None, "answer_start": 1}]), "qas[0].answers[0].text is null, expected"),
    "offset is text": (
        changed(answers=[{"text": "nine", "answer_start": "18"}]),
        "qas[0].answers[0].answer_start is the text `18`, expected a whole number of characters, or no such key",
    ),
    "offset is huge": (
        changed(answers=[{"text": "nine", "answer_start": 10**12}]),
        "qas[0].answers[0].answer_start is the number `1000000000000`, expected a whole number",
    ),
    "impossible": (changed(is_impossible="no"), "qas[0].is_impossible is the text `no`, expected true or false"),
    "not there": (
        squad(question("?", ("noon", None))),
        "qas[0].answers[0] has the answer `noon`, which is not in its context; write it as the context does",
    ),
    "several": (
        squad(question("?", ("at", None))),
        "qas[0].answers[0] has the answer `at`, which is in its context 2 times (at characters 15 and 34, counted from 0); "
        "add `answer_start` to say which is meant",
    ),
    "twice": (
        b'{"data": [{"paragraphs": [{"context": "a", "context": "b", "qas": []}]}]}',
        "data[0].paragraphs[0] has the key `context` twice; keep one of them",
    ),
    "half of a character": (
        squad(question("?", NINE), context=CONTEXT + "\ud83d"),
        "data[0].paragraphs[0].context holds half of a character (U+D83D); write the text again",
    ),
    "half of a character in a question": (
        changed(question="Cats \ud83d?"),
        "data[0].paragraphs[0].qas[0].question holds half of a character (U+D83D); write the text again",
    ),
    "half of a character in an id": (changed(id="\udc00"), "qas[0].id holds half of a character (U+DC00); write"),
    "no question": (squad(), "data has no question; add paragraphs with a `context` and `qas`"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_place(problems, name):
    content, expected = BAD[name]
    assert expected in problems(content)[0]


def test_all_problems_of_a_file_are_reported_at_once_but_not_thousands(problems):
    many = [question("?", ("nine", 18), id=["x"]) for _ in range(500)]
    lines = problems(squad(*many))
    assert len(lines) == 21
    assert lines[3] == "data[0].paragraphs[0].qas[3].id is a list, expected text or a whole number"
    assert lines[-1] == "… and 480 more problems of this kind"


def test_a_file_that_is_too_large_is_not_read_to_its_end():
    class Endless:
        left = 40

        def read(self, size: int) -> bytes:
            self.left -= 1
            assert self.left, "read on"
            return b" " * size

    with pytest.raises(DataError, match=r"huge\.json: has more than 5 MiB; split it"):
        read_json("huge.json", Endless(), largest=5 << 20)


def test_a_missing_file_is_said_like_a_missing_table(load, tmp_path):
    (tmp_path / "help.json").write_text("{}")
    with pytest.raises(DataError, match=r"halp\.json: there is no such file; did you mean help\.json\?"):
        load_questions(settings(tmp_path / "halp.json"), 1)


def test_problems_of_all_files_are_said_at_once(load):
    with pytest.raises(DataError) as caught:
        load({"data": 1}, test={"data": None})
    assert str(caught.value).splitlines() == [
        "train.json: data is the number `1`, expected a list of objects",
        "test.json: data is null, expected a list of objects",
    ]


def test_training_questions_without_any_answer_are_refused(load):
    with pytest.raises(DataError, match=r"train\.json: no question has an answer, so nothing can be learned"):
        load(squad(question("?"), question("!", id="2")))


def test_questions_about_a_single_context_cannot_be_split(load):
    with pytest.raises(DataError, match=r"train\.json: all questions are about the same context"):
        load(squad(question("?", NINE), question("!", NINE, id="2")))


# --- What is left out or changed, and said -----------------------------------------------------------------------------
def two_files(*questions: Any, context: Any = CONTEXT) -> dict[str, Any]:
    return {
        "train": squad(*questions, context=context),
        "validation": squad(question("Is it?", ("so", 0)), context="so it is"),
    }


ODD = {
    "moved": ([question("?", ("nine", 3))], "answer_moved", "warning", [[18, 22]]),
    "off by one": ([question("?", ("at", 35))], "answer_moved", "warning", [[34, 36]]),
    "negative": ([question("?", ("nine", -1))], "answer_moved", "warning", [[18, 22]]),
    "beyond the end": ([question("?", ("nine", 4000))], "answer_moved", "warning", [[18, 22]]),
    "spaces": ([question("?", ("at  nine", None))], "answer_spaces", "note", [[15, 22]]),
    "no text": ([question("?", NINE, (" ", 4))], "empty_answer", "note", [[18, 22]]),
    "contradictory": (
        [question("?", NINE), question("!", NINE, id="2", is_impossible=True)],
        "contradictory_question",
        "warning",
        [[18, 22]],
    ),
    "no answers though possible": (
        [question("?", NINE), question("!", id="2", is_impossible=False)],
        "contradictory_question",
        "warning",
        [[18, 22]],
    ),
    "missing": ([question("?", NINE, ("noon", 3))], "answer_missing", "warning", [[18, 22]]),
    "ambiguous": ([question("?", NINE, ("at", 70))], "answer_ambiguous", "warning", [[18, 22]]),
    "none left": ([question("?", NINE), question("!", ("noon", 3), id="2")], "no_answer_left", "warning", [[18, 22]]),
    "no question": ([question("?", NINE), question(" ", NINE, id="2")], "empty_question", "note", [[18, 22]]),
    "same id": ([question("?", NINE), question("!", NINE)], "repeated_id", "warning", [[18, 22]] * 2),
    "repeated": ([question("?", NINE), question(" ? ", NINE, id="2")], "duplicate", "note", [[18, 22]] * 2),
    "contradiction": (
        [question("?", NINE), question("?", ("six", 37), id="2")],
        "contradiction",
        "warning",
        [[18, 22], [37, 40]],
    ),
    "inside a word": ([question("?", ("open", 9))], "answer_inside_word", "warning", [[9, 13]]),
    "several answers": ([question("?", NINE, ("at nine", 15))], "several_answers", "note", [[18, 22]]),
    "unanswered": ([question("?", NINE), question("!", id="2")], "not_answerable", "note", [[18, 22], [-1, -1]]),
    "mostly unanswered": (
        [question("?", NINE), *(question(f"{number}?", id=str(number)) for number in range(5))],
        "mostly_not_answerable",
        "warning",
        [[18, 22], *([[-1, -1]] * 5)],
    ),
    "missing value": ([question("NaN", NINE)], "missing_value_text", "warning", [[18, 22]]),
    "markup": ([question("<b>When</b>?", NINE)], "markup", "warning", [[18, 22]]),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_used_as_well_as_possible_and_reported(load, name):
    questions, kind, severity, labels = ODD[name]
    dataset = load(**two_files(*questions))
    assert dataset.train.labels.tolist() == labels
    assert kinds(dataset)[kind][0] == severity
    (message,) = [one.message for one in dataset.findings if one.kind == kind]
    assert message.startswith("train.json: ")
    assert "(question" in message
    assert "row" not in message.partition("(question")[2]


def test_an_odd_question_is_named_by_its_number_in_the_file(load):
    dataset = load(
        **two_files(*(question("?", NINE, id=str(number)) for number in range(3)), question("!", ("nine", 2)))
    )
    assert kinds(dataset)["answer_moved"] == ("warning", 1, (4,))
    assert any(one.message.endswith("Correct the offsets (question 4)") for one in dataset.findings)


def test_offsets_of_javascript_are_noticed_behind_an_emoji(load):
    context = "😀😀 go and go and go"
    dataset = load(**two_files(question("?", ("go", 12)), context=context))
    assert context[10:12] == "go"
    assert dataset.train.labels.tolist() == [[10, 12]]
    assert kinds(dataset)["answer_utf16"] == ("warning", 1, (1,))


def test_an_empty_context_leaves_its_questions_out(load):
    content = two_files(question("?", NINE))
    content["train"]["data"].append({"paragraphs": [{"context": " ", "qas": [question("?", NINE)]}]})
    assert kinds(load(**content))["empty_context"] == ("note", 1, (2,))


# --- Splits ------------------------------------------------------------------------------------------------------------
def many(contexts: int, each: int) -> dict[str, Any]:
    paragraphs = [
        {
            "context": f"Shop {number} opens at nine.",
            "qas": [question(f"When {place}?", ("nine", None), id=f"{number}-{place}") for place in range(each)],
        }
        for number in range(contexts)
    ]
    return {"data": [{"paragraphs": paragraphs}]}


def test_no_context_is_in_two_splits_and_the_fractions_are_kept(load):
    dataset = load(many(50, 4), validation=0.1, test=0.2)
    contexts = [set(split.contexts) for split in dataset.splits]
    assert [len(split.rows) for split in dataset.splits] == [140, 20, 40]
    assert not contexts[0] & contexts[1] | contexts[0] & contexts[2] | contexts[1] & contexts[2]


def test_contexts_that_differ_in_capitals_and_blanks_stay_together(load):
    content = many(20, 1)
    twins = [
        {**one, "context": one["context"].upper().replace(" ", "  "), "qas": [question("?", ("NINE", None))]}
        for one in content["data"][0]["paragraphs"]
    ]
    content["data"].append({"paragraphs": twins})
    dataset = load(content, validation=0.5)
    assert len(dataset.train.rows) == len(dataset.validation.rows) == 20
    plain = [{" ".join(context.split()).lower() for context in split.contexts} for split in dataset.splits]
    assert not plain[0] & plain[1]


def test_the_split_depends_on_the_seed_and_the_texts_and_not_on_their_order(load):
    content = many(30, 2)
    sides = set(load(content).validation.contexts)
    content["data"][0]["paragraphs"].reverse()
    assert set(load(content).validation.contexts) == sides
    assert set(load(content, seed=2).validation.contexts) != sides


def test_contexts_in_training_and_test_data_are_a_leak(load):
    test = many(30, 2)
    dataset = load(many(20, 2), test=test)
    assert kinds(dataset)["leak"] == ("warning", 40, tuple(range(1, 21)))
    assert any(
        "the contexts of 40 of 60 questions (66.7%; 20 contexts) are in train.json too" in str(one)
        for one in dataset.findings
    )


def test_few_held_out_questions_and_no_test_data_are_said(load):
    found = kinds(load(many(20, 1)))
    assert found["few_rows"][:2] == ("warning", 2)
    assert found["no_test"][0] == "note"
    assert found["always_answerable"][0] == "note"


def test_held_out_questions_that_all_have_an_answer_do_not_measure_when_to_be_silent(load):
    training = many(20, 1)
    training["data"][0]["paragraphs"][0]["qas"].append(question("Who?", id="none"))
    found = kinds(load(training, validation=many(3, 1), test=many(2, 1)))
    assert {"validation_always_answerable", "test_always_answerable"} <= found.keys()


def test_the_hashes_of_the_files_and_no_labels_are_in_the_dataset(load, tmp_path):
    dataset = load(many(20, 1))
    assert dataset.labels == []
    assert list(dataset.files) == [tmp_path / "train.json"]


def test_real_offsets_that_are_one_character_off_are_all_found(shared):
    path = shared / "data-qa" / "covid_qa" / "200423_covidQA.json"
    dataset = load_questions(settings(path), 1)
    assert sum(len(split.rows) for split in dataset.splits) == 1380
    assert kinds(dataset)["answer_moved"][:2] == ("warning", 234)
    for split in dataset.splits:
        for (_, context), answers in zip(split.texts, split.answers, strict=True):
            assert all(context[answer.start : answer.end] == answer.text for answer in answers)
