"""Tables of questions: which columns are read, how rows become questions, and what is said about the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from textclf.data.examples import Dataset
from textclf.data.question_answering.dataset import load_question_file, load_questions
from textclf.data.question_answering.questions import Answer, QuestionSplit, place_of
from textclf.data.tables.frames import frame_table
from textclf.errors import DataError
from textclf.recipe.settings import DatasetSettings, Recipe

HEADER = "context,question,answer\n"
SHOP = "The shop opens at nine and closes at six."


def settings(path: Path, **columns: object) -> DatasetSettings:
    return Recipe(name="help", task="question-answering", dataset={"train": path, **columns}).dataset


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes help.csv into the current directory and reads its questions."""
    monkeypatch.chdir(tmp_path)

    def write_and_read(content: str | bytes, **columns: object) -> QuestionSplit:
        path = tmp_path / "help.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_question_file(settings(path, **columns), path)[0]

    return write_and_read


@pytest.fixture
def problems(read):
    """The lines of the error about a table, with its name taken off."""

    def collect(content: str | bytes, **columns: object) -> list[str]:
        with pytest.raises(DataError) as caught:
            read(content, **columns)
        return [line.removeprefix("help.csv: ") for line in str(caught.value).splitlines()]

    return collect


@pytest.fixture
def load(tmp_path: Path):
    """Writes a table and loads it as a recipe does, with validation questions of another table."""

    def write_and_load(content: str) -> Dataset:
        (tmp_path / "train.csv").write_text(content, encoding="utf-8")
        (tmp_path / "validation.csv").write_text(HEADER + "So it is,Is it?,So\n")
        return load_questions(settings(tmp_path / "train.csv", validation=tmp_path / "validation.csv"), 1)

    return write_and_load


def findings(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    return {one.kind: one.rows for one in dataset.findings}


# --- What is read ------------------------------------------------------------------------------------------------------
def test_a_row_is_a_question_and_an_empty_answer_means_none(read):
    split = read(HEADER + f"{SHOP},When does it open?,nine\n{SHOP},Who owns it?,\n")
    assert split.texts == [("When does it open?", SHOP), ("Who owns it?", SHOP)]
    assert split.answers == [(Answer("nine", 18),), ()]
    assert split.labels.tolist() == [[18, 22], [-1, -1]]
    assert split.rows == [2, 3]
    assert place_of(split, 1) == "row 3"


def test_the_columns_may_have_other_names_and_others_are_ignored(read):
    split = read(f"note;text;ask;reply\nx;{SHOP};When?;nine\n", context="text", question="ask", answer="reply")
    assert split.answers == [(Answer("nine", 18),)]


def test_rows_with_the_same_context_and_question_are_one_question_with_several_answers(read):
    split = read(HEADER + f"{SHOP},When?,nine\n{SHOP},Until when?,six\n{SHOP},When?,at nine\n")
    assert split.questions == ["When?", "Until when?"]
    assert split.answers == [(Answer("nine", 18), Answer("at nine", 15)), (Answer("six", 37),)]
    assert split.rows == [2, 3]


def test_rows_with_the_same_id_are_one_question_if_the_recipe_names_the_column(read):
    rows = f"1,{SHOP},When?,nine\n2,{SHOP},When?,nine\n1,{SHOP},When?,at nine\n"
    split = read(f"key,{HEADER}{rows}", id="key")
    assert split.ids == ["1", "2"]
    assert list(map(len, split.answers)) == [2, 1]


@pytest.mark.parametrize(("name", "columns"), [("answer_start", {}), ("begin", {"answer_start": "begin"})])
def test_an_offset_decides_between_equal_texts(read, name, columns):
    rows = f"{SHOP},Where?,at,34\n{SHOP},When?,nine,\n{SHOP},Until when?,six,37.0\n"
    split = read(f"context,question,answer,{name}\n{rows}", **columns)
    assert split.labels.tolist() == [[34, 36], [18, 22], [37, 40]]


def test_texts_with_line_breaks_are_read_whole(read):
    split = read(HEADER + '"Opens at nine.\nCloses\nat six.",When?,"Closes\nat six"\n')
    assert split.answers == [(Answer("Closes\nat six", 15),)]


def test_an_answer_with_other_white_space_is_the_contexts_own(read):
    assert read(HEADER + f'{SHOP},When?,"at\n nine"\n').answers == [(Answer("at nine", 15),)]


def test_offsets_count_characters_before_which_are_emoji_and_accents(read):
    context = "😀 Ça coûte 5 € à 東京"
    split = read(HEADER + f"{context},Où ?,東京\n{context},Combien ?,5 €\n")
    assert [context[start:end] for start, end in split.labels] == ["東京", "5 €"]


def test_a_table_in_memory_is_read_and_its_rows_are_counted_from_0(tmp_path):
    recipe = Recipe(name="help", task="question-answering", dataset={"train": "train.csv", "id": "key"})
    rows = [
        {
            "context": f"Shop {number} opens at nine.",
            "question": "When?",
            "answer": "nine",
            "answer_start": None,
            "key": number,
        }
        for number in range(20)
    ]
    rows[3]["answer_start"], rows[4]["answer"] = 16.0, None
    texts, label, others = recipe.columns
    dataset = load_questions(
        recipe.dataset, 1, frames={"train": frame_table(rows, "data[train]", texts, label, *others)}
    )
    assert sorted(dataset.train.rows + dataset.validation.rows) == list(range(20))
    assert dict(zip(dataset.train.rows, dataset.train.answers, strict=True))[4] == ()


# --- What stops --------------------------------------------------------------------------------------------------------
BAD = {
    "no column": (
        "text,question,answer\na,b,c\n",
        {},
        "there is no column `context` (dataset.context); the columns are `text`, `question`, `answer`; did you mean `text`?",
    ),
    "no start column": (
        HEADER + "a,b,a\n",
        {"answer_start": "start"},
        "there is no column `start` (dataset.answer_start)",
    ),
    "not there": (
        HEADER + f"{SHOP},When?,noon\n",
        {},
        "row 2 has the answer `noon`, which is not in its context; write it as the context does",
    ),
    "missing value": (
        HEADER + f"{SHOP},When?,NaN\n",
        {},
        "row 2 has the answer `NaN`, which is not in its context; pandas and NumPy write it for a missing value: leave the "
        "answer empty",
    ),
    "several": (
        HEADER + f"{SHOP},Where?,at\n",
        {},
        "row 2 has the answer `at`, which is in its context 2 times (at characters 15 and 34, counted from 0); add a column "
        "`answer_start` to say which is meant",
    ),
    "start is text": (
        f"context,question,answer,answer_start\n{SHOP},Where?,at,end\n",
        {},
        "row 2 has the answer_start `end`; expected a whole number of characters from the start of the context (0 for the",
    ),
    "no rows": (HEADER, {}, "no rows below the header; add rows with a context, a question and an answer"),
    "nothing": (
        HEADER + ",When?,nine\n",
        {},
        "no question can be used, because each lacks a question, a context or an",
    ),
    "id without a name": (
        f"key,{HEADER}1,{SHOP},When?,nine\n,{SHOP},When?,nine\n",
        {"id": "key"},
        "no id in row 3; fill in the column, or remove dataset.id",
    ),
    "one id for two": (
        f"key,{HEADER}1,{SHOP},When?,nine\n1,{SHOP},Until when?,six\n",
        {"id": "key"},
        "row 3 with the id of an earlier row, but with another question or context; give each question an id of its own",
    ),
    "quote": (HEADER + f'"{SHOP},When?,nine\n', {}, "row 2"),
    "encoding": ((HEADER + f"{SHOP},Où ?,nine\n").encode("cp1252"), {}, "row 2 holds the byte 0xf9"),
    "json": ('{"data": []}', {}, "JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_row(problems, name):
    content, columns, expected = BAD[name]
    assert expected in problems(content, **columns)[0]


def test_all_rows_that_are_wrong_are_reported_at_once_but_not_thousands(problems):
    lines = problems(HEADER + f"{SHOP},When?,noon\n" * 2 + "".join(f"{SHOP},Q{n},noon\n" for n in range(100)))
    assert len(lines) == 21
    assert lines[2].startswith("row 4 has the answer `noon`")
    assert lines[-1] == "… and 82 more problems of this kind"


# --- What is left out or changed, and said -----------------------------------------------------------------------------
ODD = {
    "empty_row": (",,\n", (3,)),
    "empty_question": (f"{SHOP}, ,six\n", (3,)),
    "empty_context": (",Until when?,six\n", (3,)),
    "contradictory_question": (f"{SHOP},Until when?,six\n{SHOP},Until when?,\n", (3,)),
    "repeated_row": (f"{SHOP},When?,nine\n", (3,)),
    "duplicate": (f"{SHOP},when? ,nine\n", (3,)),
    "contradiction": (f"{SHOP},when?,six\n", (3,)),
    "answer_inside_word": (f"{SHOP},Until when?,ix\n", (3,)),
    "not_answerable": (f"{SHOP},Who?,\n", (3,)),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_reported_with_its_row(load, kind):
    rows, numbers = ODD[kind]
    dataset = load(HEADER + f"{SHOP},When?,nine\n{rows}")
    assert findings(dataset)[kind] == numbers
    assert dataset.train.labels[0].tolist() == [18, 22]
    (message,) = [one.message for one in dataset.findings if one.kind == kind]
    assert message.endswith("(row 3)")


def test_an_offset_that_is_wrong_is_corrected_and_reported(load):
    dataset = load(f"context,question,answer,answer_start\n{SHOP},When?,nine,17\n{SHOP},Who?,nobody,3\n")
    assert dataset.train.labels.tolist() == [[18, 22]]
    found = findings(dataset)
    assert (found["answer_moved"], found["answer_missing"], found["no_answer_left"]) == ((2,), (3,), (3,))


def test_notes_on_the_table_are_findings(load):
    dataset = load(f"context,question,answer,note\n{SHOP},When?,nine,x\n{SHOP},Who?,\n")
    assert findings(dataset)["short_rows"] == (3,)
    assert dataset.train.labels.tolist() == [[18, 22], [-1, -1]]
