"""A first recipe for a table: its columns, its neighbours and its settings, and what cannot be decided."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

import textclf

WORDS = "parcel invoice lamp login refund order delivery password battery screen".split()
QUEUES = ("shipping", "billing", "account", "returns")


def text(number: int) -> str:
    return f"my {WORDS[number % 10]} is wrong and nobody answered message {number} about {WORDS[number % 7]}"


def german(number: int) -> str:
    return (
        f"die Lieferung kam verspätet und niemand beantwortete meine Nachricht {number} wegen beschädigter Verpackung"
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(
    path: str, header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",", encoding: str = "utf-8"
) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([*([header] if header else []), *rows])
    return path


def tickets(path: str = "tickets.csv", rows: int = 100) -> str:
    return write(path, ["message", "queue"], [(text(n), QUEUES[n % 4]) for n in range(rows)])


def refused(table: str, **arguments: str) -> str:
    with pytest.raises(textclf.TextclfError) as caught:
        textclf.new_recipe(table, **arguments)
    assert not list(Path().glob("*.yaml"))
    return str(caught.value)


# --- Columns ---------------------------------------------------------------------------------------------------------


def test_two_columns_become_a_recipe_that_passes_its_check():
    made = textclf.new_recipe(tickets())
    assert (made.path, made.text, made.label, made.rows) == (Path("tickets.yaml"), ("message",), "queue", 100)
    recipe = textclf.load_recipe(made.path)
    assert (recipe.name, recipe.dataset.text, recipe.dataset.label) == ("tickets", ("message",), "queue")
    assert textclf.check(made.path).labels == sorted(QUEUES)


def test_identifiers_dates_numbers_and_names_are_left_out():
    header = ["ticket_id", "created", "customer", "price", "message", "queue"]
    rows = [
        (f"T-{n}", f"2024-03-{n % 28 + 1:02}", f"Ann Lee {n % 90}", f"{n}.50", text(n), QUEUES[n % 4])
        for n in range(100)
    ]
    made = textclf.new_recipe(write("export.csv", header, rows))
    assert (made.text, made.label) == (("message",), "queue")
    assert made.left_out["ticket_id"] == "identifiers"
    assert made.left_out["created"] == "dates"
    assert made.left_out["price"] == "numbers"
    assert "customer" in made.left_out


def test_a_german_table_of_a_spreadsheet_keeps_its_encoding_and_the_language_is_reported():
    rows = [(f"{n % 28 + 1:02}.03.2024", german(n), ("Lob", "Kritik")[n % 2]) for n in range(60)]
    made = textclf.new_recipe(write("Rückmeldung.csv", ["Datum", "Äußerung", "Gefühl"], rows, ";", "cp1252"))
    recipe = textclf.load_recipe(made.path)
    assert (recipe.dataset.text, recipe.dataset.label, recipe.dataset.encoding) == (("Äußerung",), "Gefühl", "cp1252")
    assert made.notes == (f"the texts do not seem to be English; see encoder.source in {made.path}",)
    assert "It knows English only. 100.0% of the texts" in " ".join(
        made.path.read_text(encoding="utf-8").split("\n  # ")
    )


def test_labels_may_be_zero_and_one():
    made = textclf.new_recipe(write("sms.csv", ["sms", "spam"], [(text(n), n % 2) for n in range(40)]))
    assert made.label == "spam"


def test_of_two_columns_with_the_same_labels_the_one_with_words_is_taken():
    rows = [(text(n), n % 3, ("bad", "fair", "good")[n % 3]) for n in range(60)]
    made = textclf.new_recipe(write("reviews.csv", ["text", "label", "label_text"], rows))
    assert made.label == "label_text"


def test_a_usual_name_decides_between_two_labels_and_the_other_is_mentioned():
    rows = [(text(n), ("red", "blue")[n // 2 % 2], ("good", "bad")[n % 2]) for n in range(60)]
    made = textclf.new_recipe(write("reviews.csv", ["message", "colour", "sentiment"], rows))
    assert made.label == "sentiment"
    assert made.notes[0].startswith("the label could also be `colour` (2 values: red, blue)")


def test_two_equally_good_labels_are_an_error_that_names_them_or_a_question():
    rows = [(text(n), ("red", "blue")[n // 2 % 2], ("north", "south")[n % 2]) for n in range(60)]
    table = write("reviews.csv", ["message", "colour", "region"], rows)
    message = refused(table)
    assert message.startswith("reviews.csv: 2 columns could be the label:\n  1  `colour`  2 values: red, blue\n")
    assert message.endswith("Name the right one with --label, for example --label colour")
    asked = []

    def choose(question):
        asked.append((question.role, [column.name for column in question.candidates]))
        return "region"

    assert textclf.new_recipe(table, choose=choose).label == "region"
    assert asked == [("label", ["colour", "region"])]
    assert textclf.new_recipe(table, "other.yaml", label="colour").label == "colour"
    with pytest.raises(textclf.TextclfError, match="choose returned `message`; return one of `colour` and `region`"):
        textclf.new_recipe(table, "third.yaml", choose=lambda question: "message")


def test_two_equally_good_texts_are_an_error_that_names_them():
    rows = [(text(n), text(n + 500), QUEUES[n % 4]) for n in range(60)]
    message = refused(write("mails.csv", ["first_mail", "reply", "queue"], rows))
    assert "2 columns could be the text" in message
    assert "--text first_mail (--text-pair adds a second text)" in message


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("question", "faq"), ("question", "faq")),
        (("hypothesis", "premise"), ("premise", "hypothesis")),
        (("sentence1", "sentence2"), ("sentence1", "sentence2")),
        (("text_b", "text_a"), ("text_a", "text_b")),
    ],
)
def test_two_texts_that_belong_together_become_a_sentence_pair(names, found):
    rows = [(text(n), text(n % 9), ("yes", "no")[n % 2]) for n in range(60)]
    made = textclf.new_recipe(write("pairs.csv", [*names, "match"], rows))
    assert made.text == found
    assert textclf.load_recipe(made.path).dataset.text == found


def test_named_columns_are_taken_whatever_they_contain():
    rows = [(f"word{n}", text(n), QUEUES[n % 4]) for n in range(40)]
    table = write("pairs.csv", ["term", "message", "queue"], rows)
    made = textclf.new_recipe(table, text="term", text_pair="message", label="queue")
    assert made.text == ("term", "message")
    with pytest.raises(textclf.TextclfError, match=r"there is no column `topic` \(--label\); the columns are `term`"):
        textclf.new_recipe(table, "a.yaml", label="topic")
    with pytest.raises(textclf.TextclfError, match="--text and --label name the same column"):
        textclf.new_recipe(table, "a.yaml", text="message", label="message")
    with pytest.raises(textclf.TextclfError, match="name it with text"):
        textclf.new_recipe(table, "a.yaml", text_pair="message")


def test_columns_with_odd_names_are_read_back_unchanged():
    names = ["my: text #1", "yes"]
    rows = [(text(n), QUEUES[n % 4]) for n in range(40)]
    made = textclf.new_recipe(write("it's odd: #1.csv", names, rows))
    recipe = textclf.load_recipe(made.path)
    assert (*recipe.dataset.text, recipe.dataset.label) == tuple(names)
    assert recipe.dataset.train.name == "it's odd: #1.csv"
    assert recipe.name == "it-s-odd-1"


def test_names_with_line_breaks_and_control_characters_stay_in_their_comment():
    rows = [(text(n), QUEUES[n % 4]) for n in range(40)]
    made = textclf.new_recipe(write("odd.csv", ["text\nname: evil", "la\x1b[2Jbel"], rows))
    recipe = textclf.load_recipe(made.path)
    assert recipe.name == "odd-classifier"
    assert recipe.dataset.label == "la\x1b[2Jbel"


def test_rows_that_end_before_an_unused_column_are_rows():
    lines = ["text,label,note", *(f"{text(n)},{QUEUES[n % 4]}{',' if n < 10 else ''}" for n in range(40))]
    Path("sheet.csv").write_text("\n".join(lines))
    assert textclf.new_recipe("sheet.csv").rows == 40


def test_texts_of_one_word_are_found_by_the_name_of_their_column():
    rows = [(f"word{'abcdefghij'[n % 10]}{'xyz'[n // 10 % 3]}", ("fruit", "animal")[n % 2]) for n in range(40)]
    assert textclf.new_recipe(write("words.csv", ["text", "label"], rows)).text == ("text",)


@pytest.mark.parametrize("mark", ["|", ";", ", "])
def test_a_column_with_several_labels_in_a_cell_gets_its_separator(mark):
    sets = [["late"], ["late", "refund"], ["refund", "broken"], [], ["broken"], ["broken", "late"]]
    rows = [(text(n), mark.join(sets[n % 6])) for n in range(60)]
    made = textclf.new_recipe(write("tickets.csv", ["text", "topics"], rows))
    assert (made.label, made.separator) == ("topics", mark.strip())
    recipe = textclf.load_recipe(made.path)
    assert recipe.has_several_labels
    assert textclf.check(made.path).labels == ["broken", "late", "refund"]
    assert f"several with `{mark.strip()}` between them" in made.as_text()


def test_names_with_a_comma_are_one_label():
    rows = [(text(n), ("Paris, France", "Rome, Italy", "Berlin, Germany")[n % 3]) for n in range(60)]
    assert textclf.new_recipe(write("cities.csv", ["text", "label"], rows)).separator is None


def test_three_columns_of_zeros_and_ones_are_the_labels():
    rows = [(text(n), n % 2, n // 2 % 2, int(n % 3 == 0), 0, n // 4 % 2) for n in range(60)]
    made = textclf.new_recipe(write("flags.csv", ["text", "late", "refund", "broken", "rare", "praise"], rows))
    assert textclf.load_recipe(made.path).dataset.labels_from == ("late", "refund", "broken", "rare", "praise")
    [never] = [one for one in textclf.check(made.path).findings if one.kind == "label_without_rows"]
    assert "no row has the label `rare`" in never.message


def test_columns_of_which_exactly_one_is_1_are_labels_with_a_hint():
    rows = [(text(n), *(int(n % 3 == place) for place in range(3))) for n in range(60)]
    made = textclf.new_recipe(write("one_hot.csv", ["text", "billing", "shipping", "returns"], rows))
    assert textclf.load_recipe(made.path).has_several_labels
    assert "exactly one of them is 1" in " ".join(made.path.read_text().replace("#", "").split())


def test_two_columns_of_zeros_and_ones_are_a_question():
    rows = [(text(n), n % 2, n // 2 % 2) for n in range(60)]
    message = refused(write("flags.csv", ["text", "billing", "shipping"], rows))
    assert "if each of them is a label, name them in dataset.labels_from: [billing, shipping]" in message


@pytest.mark.parametrize("line", ["text^label\n", "Report of March\n\ntext,label\n"])
def test_named_columns_are_found_below_titles_and_between_unusual_delimiters(line):
    mark = "^" if "^" in line else ","
    Path("odd.csv").write_text(line + "".join(f"{text(n)}{mark}{QUEUES[n % 4]}\n" for n in range(40)))
    assert "name the columns with --text and --label" in refused("odd.csv")
    made = textclf.new_recipe("odd.csv", text="text", label="label")
    assert made.rows == 40
    assert textclf.check(made.path).labels == sorted(QUEUES)


def test_standard_input_is_not_a_file():
    assert "a recipe names a file, but - is standard input" in refused("-")


# --- Tables that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(text(n), QUEUES[n % 4]) for n in range(40)], "(`shipping` is also a value of its column)"),
        ([(text(n), n % 2) for n in range(40)], "(`0` is a number like the values below it)"),
    ],
)
def test_a_missing_header_is_detected(rows, expected):
    message = refused(write("headless.csv", [], rows))
    assert expected in message
    assert "for example `text,label`" in message


def test_a_label_column_named_like_one_of_its_labels_has_a_header():
    rows = [(text(n), ("spam", "ham")[n % 2]) for n in range(40)]
    assert textclf.new_recipe(write("sms.csv", ["sms", "spam"], rows)).label == "spam"


def test_a_table_without_a_label_lists_what_the_columns_contain():
    rows = [(n, f"2024-01-{n % 28 + 1:02}", text(n)) for n in range(60)]
    message = refused(write("inbox.csv", ["number", "day", "message"], rows))
    assert message.startswith("inbox.csv: no column looks like a label")
    assert "\n  `number`: identifiers\n  `day`: dates\n" in message
    assert message.endswith("Name the column with --label COLUMN, or add a column with the label of each row")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty"),
        ("text,label\n", "no rows below the header; add rows"),
        ('[{"text": "a", "label": "b"}]', "no column with texts of several words was detected"),
        ("text\n" + "\n".join(map(text, range(30))), "there is one column only, `text`"),
        (
            "text,label\n" + "".join(f"{text(n)},spam\n" for n in range(30)),
            "the column `label` has a single value, `spam`, in 30 rows",
        ),
        ("id,label\n" + "".join(f"{n},{QUEUES[n % 4]}\n" for n in range(30)), "no column with texts of several words"),
    ],
)
def test_what_is_no_labelled_table_is_an_error_with_the_remedy(content, expected):
    Path("table.csv").write_text(content)
    assert expected in refused("table.csv")


def test_a_recipe_or_a_missing_file_is_not_a_table():
    assert "there is no such file" in refused("missing.csv")
    Path("recipe.yml").write_text("name: a\n")
    assert "this is a recipe, not a table" in refused("recipe.yml")


# --- Files beside the table ------------------------------------------------------------------------------------------


def test_test_and_validation_files_beside_the_training_file_are_used():
    for split, rows in (("train", 80), ("test", 30), ("dev", 20)):
        tickets(f"desk/{split}.csv", rows)
    made = textclf.new_recipe("desk/train.csv")
    assert made.files == {"validation": Path("desk/dev.csv").resolve(), "test": Path("desk/test.csv").resolve()}
    recipe = textclf.load_recipe(made.path)
    assert recipe.name == "desk-classifier"
    report = textclf.check(made.path)
    assert {split: sum(counts.values()) for split, counts in report.rows.items()} == {
        "train": 80,
        "validation": 20,
        "test": 30,
    }
    assert "train: desk/train.csv\n" in made.path.read_text(encoding="utf-8")


def test_a_test_file_may_be_named_after_the_table_and_be_compressed():
    import gzip

    tickets()
    with gzip.open("tickets_test.csv.gz", "wb") as packed:
        packed.write(Path(tickets("x.csv", 20)).read_bytes())
    assert textclf.new_recipe("tickets.csv").files == {"test": Path("tickets_test.csv.gz").resolve()}


@pytest.mark.parametrize(
    ("header", "rows", "reason"),
    [
        (["id", "message"], [(n, text(n)) for n in range(20)], "it has no column `queue`"),
        (["message", "queue"], [(text(n), "") for n in range(20)], "20 of its rows have no label"),
        (["message", "queue"], [(text(n), "sales") for n in range(20)], "train.csv has no row with `sales`"),
    ],
)
def test_a_file_that_does_not_fit_is_not_used_and_the_reason_is_given(header, rows, reason):
    tickets("train.csv")
    write("test.csv", header, rows)
    made = textclf.new_recipe("train.csv")
    assert made.files == {}
    assert made.notes == (f"test.csv is not used for test: {reason}",)


def test_a_test_file_in_place_of_the_training_file_is_noticed():
    tickets("train.csv")
    tickets("test.csv")
    assert "If train.csv is the training file, run: textclf new train.csv" in textclf.new_recipe("test.csv").notes[0]


# --- Settings --------------------------------------------------------------------------------------------------------


def test_the_length_covers_nearly_all_rows():
    rows = [("one two three four five six " + "seven " * (60 if n == 0 else 10), QUEUES[n % 4]) for n in range(1000)]
    made = textclf.new_recipe(write("tickets.csv", ["message", "queue"], rows))
    # 16 words, [CLS], [SEP] and one [PAD] need 19 positions; the one long row is truncated.
    assert textclf.load_recipe(made.path).encoder.max_length == 24
    comments = " ".join(made.path.read_text(encoding="utf-8").split("\n  # "))
    assert (
        "half of the rows need at most 18, 99% at most 18, the longest needs 68. 0.1% of the rows are truncated."
        in comments
    )


@pytest.mark.parametrize(("long_rows", "proposed"), [(20, True), (5, False)])
def test_windows_are_proposed_where_many_texts_are_longer_than_any_row(long_rows, proposed):
    rows = [("word " * (600 if n < long_rows else 300) + str(n), QUEUES[n % 4]) for n in range(100)]
    made = textclf.new_recipe(write("letters.csv", ["message", "queue"], rows))
    text = made.path.read_text(encoding="utf-8")
    assert ("# overflow: windows" in text) == proposed
    assert ("20.0% of the rows need more than 512 tokens" in text) == proposed
    active = text.replace("# overflow:", "overflow:")
    made.path.write_text(active, encoding="utf-8")
    assert textclf.load_recipe(made.path).encoder.overflow == ("windows" if proposed else "head")


@pytest.mark.parametrize(
    ("rows", "fraction", "epochs", "batch_size"), [(100, 0.2, "auto", 32), (900, 0.2, 5, 32), (3000, 0.1, 3, 32)]
)
def test_few_rows_get_larger_fractions_and_more_epochs(rows, fraction, epochs, batch_size):
    recipe = textclf.load_recipe(textclf.new_recipe(tickets(rows=rows)).path)
    assert (recipe.dataset.validation, recipe.dataset.test) == (fraction, fraction)
    assert (recipe.training.epochs, recipe.training.batch_size) == (epochs, batch_size)


@pytest.mark.parametrize(("rare", "weights"), [(0, None), (20, "balanced"), (1, None)])
def test_imbalanced_labels_are_weighted_unless_single_rows_would_decide(rare, weights):
    rows = [(text(n), "rare" if n < rare else ("usual", "other")[n % 2]) for n in range(500)]
    made = textclf.new_recipe(write("tickets.csv", ["message", "queue"], rows))
    assert textclf.load_recipe(made.path).training.class_weights == weights
    assert ("# class_weights: balanced" in made.path.read_text(encoding="utf-8")) == (rare == 1)


def test_a_long_sorted_table_is_sampled_from_all_its_parts():
    rows = ((text(n), QUEUES[n // 12_500]) for n in range(50_000))
    made = textclf.new_recipe(write("tickets.csv", ["message", "queue"], rows))
    assert made.rows == 50_000
    written = made.path.read_text(encoding="utf-8")
    assert "4 labels in a sample of 12,500 rows: `shipping` 3,125" in written


# --- The file --------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_without_force():
    tickets()
    Path("tickets.yaml").write_text("mine")
    with pytest.raises(textclf.TextclfError, match=r"tickets\.yaml: exists already; .* replace it with --force"):
        textclf.new_recipe("tickets.csv")
    assert Path("tickets.yaml").read_text() == "mine"
    assert (
        textclf.new_recipe("tickets.csv", force=True).path.read_text(encoding="utf-8").startswith("# Predicts `queue`")
    )


def test_paths_are_relative_to_the_recipe():
    tickets("data/tickets.csv")
    Path("recipes").mkdir()
    made = textclf.new_recipe("data/tickets.csv", "recipes/mine.yaml")
    assert "  train: ../data/tickets.csv\n" in made.path.read_text(encoding="utf-8")
    assert textclf.load_recipe(made.path).dataset.train == Path("data/tickets.csv").resolve()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("recipe.csv", r"a recipe's name ends in \.yaml; write for example recipe\.yaml"),
        ("none/recipe.yaml", "there is no folder none"),
        ("folder.yaml", "this is a folder"),
    ],
)
def test_an_output_that_cannot_be_a_recipe_is_refused(output, expected):
    tickets()
    Path("folder.yaml").mkdir()
    with pytest.raises(textclf.TextclfError, match=expected):
        textclf.new_recipe("tickets.csv", output)


@pytest.mark.parametrize(("path", "name"), [("con.csv", "con-classifier"), ("Моя таблица.csv", "classifier")])
def test_the_name_is_safe_on_every_system(path, name):
    made = textclf.new_recipe(tickets(path))
    assert (made.path.name, textclf.load_recipe(made.path).name) == (f"{name}.yaml", name)
