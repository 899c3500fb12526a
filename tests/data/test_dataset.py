"""Labelled data: what stops, what is counted and said, and how rows are set aside."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding
from textclf.data.findings.of_tokens import token_findings
from textclf.data.splits import set_aside
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.errors import DataError
from textclf.recipe.settings import DatasetSettings

TWENTY_ROWS = "text,label\n" + "".join(f"message {number},{'ham' if number % 2 else 'spam'}\n" for number in range(20))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes train.csv, and others by name, into the current directory and loads them."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(train: str | bytes, seed: int = 1, **options) -> Dataset:
        for name in ("validation", "test"):
            if isinstance(options.get(name), str | bytes):
                _write(tmp_path / f"{name}.csv", options[name])
                options[name] = f"{name}.csv"
        _write(tmp_path / "train.csv", train)
        return load_dataset(DatasetSettings(train="train.csv", **options), seed)

    return write_and_load


@pytest.fixture
def errors(load):
    def collect(train: str | bytes, **options) -> list[str]:
        with pytest.raises(DataError) as caught:
            load(train, **options)
        return str(caught.value).splitlines()

    return collect


def _write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def found(dataset: Dataset, kind: str) -> Finding:
    return next(finding for finding in dataset.findings if finding.kind == kind)


def kinds(dataset: Dataset) -> list[str]:
    return [finding.kind for finding in dataset.findings]


# --- What comes out --------------------------------------------------------------------------------------------------


def test_rows_keep_their_texts_labels_and_spreadsheet_numbers(load, tmp_path):
    dataset = load(
        'text,label\n"two\nlines",b\n\n NA ,a\n007,b\n',
        validation="text,label\nx,a\n",
        test="text,label\ny,b\nz,a\n",
    )
    assert dataset.labels == ["a", "b"]
    assert dataset.train.texts == [("two\nlines",), (" NA ",), ("007",)]
    assert dataset.train.labels.tolist() == [1, 0, 1]
    assert dataset.train.labels.dtype == np.int32
    assert dataset.train.rows == [2, 4, 5]
    assert (dataset.validation.name, dataset.validation.rows) == ("validation", [2])
    assert dataset.test is not None
    assert (dataset.test.file, dataset.test.labels.tolist()) == (tmp_path / "test.csv", [1, 0])


def test_every_file_that_was_read_is_recorded_with_its_sha256(load, tmp_path):
    dataset = load(TWENTY_ROWS, test="text,label\ny,ham\nz,spam\n")
    assert dataset.files == {
        tmp_path / "train.csv": hashlib.sha256(TWENTY_ROWS.encode()).hexdigest(),
        tmp_path / "test.csv": hashlib.sha256(b"text,label\ny,ham\nz,spam\n").hexdigest(),
    }


def test_labels_are_strings_in_plain_order_or_in_the_order_of_the_recipe(load):
    rows = "text,label\n" + "".join(f"t{index},{index % 11}\n" for index in range(44))
    assert load(rows).labels == ["0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]
    order = tuple(str(label) for label in range(11))
    dataset = load(rows, labels=order, validation="text,label\nx,10\n")
    assert dataset.labels == list(order)
    assert dataset.validation.labels.tolist() == [10]


def test_two_columns_make_a_sentence_pair(load):
    rows = "question,other,answer,label\nq1,x,a1,yes\nq2,x,a2,no\n"
    dataset = load(rows, text=("answer", "question"), validation=rows)
    assert dataset.train.texts == [("a1", "q1"), ("a2", "q2")]


# --- What stops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("", "train.csv: the file is empty; it needs a header row with the names of the columns, and rows"),
        ("text,label\n", "train.csv: no rows below the header; add rows with a text and a label"),
        ("text,label\n,\n ,a\n", "train.csv: no row has a text; add rows with a text and a label"),
        (
            "text,label\na,x\nb,x\n",
            "train.csv: every row has the label `x`, but a classifier needs two labels or more; "
            "add rows with another label, or set dataset.label to another column",
        ),
        (
            TWENTY_ROWS + "a,\nb,ham\nc, \n",
            "train.csv: no label in rows 22 and 24, and rows without a label cannot be used; fill in the labels, "
            "or set dataset.unlabelled to skip to leave these rows out",
        ),
        (
            TWENTY_ROWS + 'a,"x\ny"\n',
            "train.csv: the label `x\\x0ay` in row 22 contains a line break, but a model's label file holds one label "
            "on each line; remove the character from the label",
        ),
        (
            TWENTY_ROWS + "a,b,c\nd,e,f\n",
            "train.csv: row 22 has 3 fields, but the header has 2 columns (the same kind of fault in row 23); 2 of 22 rows "
            "are so: put fields that hold the delimiter in quotation marks, or write the table with another delimiter, "
            "such as a tab (spreadsheets and pandas add the quotation marks when they write CSV)",
        ),
        (
            TWENTY_ROWS.replace("message 3", '"message\n3"') + '"x,ham\n',
            "train.csv: row 22 (line 23) has a quotation mark that is not closed properly; put the field in quotation "
            'marks and write each quotation mark inside it twice ("")',
        ),
        (
            TWENTY_ROWS.encode() + b"gr\xf6\xdfe,ham\n",
            f"train.csv: row 22 holds the byte 0xf6 (offset {len(TWENTY_ROWS) + 2}), which is not utf-8; all rows beyond "
            "ASCII are cp1252 (`größe`): set `dataset.encoding: cp1252`, or save the file as CSV with UTF-8",
        ),
        (
            "text,label\nsame,a\nsame,a\nother,b\n",
            "train.csv: no label has two texts that the model reads differently, so none can be set aside for validation; "
            "add rows, or set dataset.validation to a file",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_unusable_training_data_stop_with_the_rows_and_a_remedy(errors, train, expected):
    assert errors(train) == [expected]


def test_a_missing_column_names_the_key_of_the_recipe_and_the_nearest_column(errors):
    lines = errors("message,lable\na,x\nb,y\n", text="massage")
    assert lines == [
        "train.csv: there is no column `massage` (dataset.text); the columns are `message`, `lable`; "
        "did you mean `message`?",
        "train.csv: there is no column `label` (dataset.label); the columns are `message`, `lable`; "
        "did you mean `lable`?",
    ]


def test_a_wrong_delimiter_is_named(errors):
    assert errors(TWENTY_ROWS, delimiter=";")[0].endswith(
        "the columns are `text,label`; the delimiter ';' does not separate them: name the right one, or none"
    )


def test_problems_of_all_files_are_reported_at_once(errors):
    lines = errors(
        TWENTY_ROWS + "a,b,c\nd,\n",
        validation="text,lable\nx,ham\n",
        test="",
    )
    assert [line.partition(";")[0] for line in lines] == [
        "train.csv: row 22 has 3 fields, but the header has 2 columns",
        "train.csv: no label in row 23, and rows without a label cannot be used",
        "validation.csv: there is no column `label` (dataset.label)",
        "test.csv: the file is empty",
    ]


def test_labels_that_the_training_file_does_not_have_stop(errors):
    lines = errors(TWENTY_ROWS, test="text,label\nx,ham\ny,Spam\nz,eggs\n")
    assert lines == [
        "test.csv: `Spam` and `eggs` in rows 3 and 4, but the labels in the training file are `ham` and `spam`; "
        "`Spam` is perhaps `spam`: write each label alike in all files"
    ]


def test_labels_that_the_recipe_does_not_have_stop(errors):
    lines = errors(TWENTY_ROWS + "x,eggs\n", labels=("spam", "ham"))
    assert lines == [
        "train.csv: `eggs` in row 22, but dataset.labels are `spam` and `ham`; correct the rows, or add the label there"
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: not a regular file, but it is read more than once; save it to a file"):
        load_dataset(DatasetSettings(train=tmp_path / "pipe"), 1)


# --- What is counted and said ----------------------------------------------------------------------------------------


MANY_ROWS = "text,label\n" + "".join(f"note {number},{'ham' if number % 2 else 'spam'}\n" for number in range(60))


def test_clean_data_without_a_test_split_say_only_that(load):
    dataset = load(TWENTY_ROWS, validation=MANY_ROWS)
    assert kinds(dataset) == ["no_test"]
    assert dataset.test is None
    assert dataset.findings[0].message == (
        "No test data. Results are measured on the validation rows, which also choose the best epoch, so they are slightly "
        "optimistic. Set dataset.test to a file or to a fraction such as 0.2"
    )
    assert dataset.findings[0].severity == "note"


def test_clean_data_with_all_splits_say_nothing(load):
    dataset = load(TWENTY_ROWS, validation=MANY_ROWS, test=MANY_ROWS.replace("note", "word"))
    assert dataset.findings == []


def test_a_held_out_split_of_fewer_than_fifty_rows_is_warned_of(load):
    dataset = load(TWENTY_ROWS, validation=0.1, test=MANY_ROWS)
    assert [(one.kind, one.message, one.count) for one in dataset.findings] == [
        (
            "few_rows",
            "validation: 2 rows only, so the best epoch and the calibration depend on chance; add rows, or set "
            "dataset.validation to more of them (50 or more)",
            2,
        )
    ]


def test_rows_without_text_are_left_out_and_counted(load):
    dataset = load(TWENTY_ROWS + ",ham\n  ,\n,\n\n")
    finding = found(dataset, "empty_text")
    assert (finding.count, finding.rows) == (3, (22, 23, 24))
    assert finding.message == "train.csv: 3 rows without text left out (rows 22, 23 and 24)"
    assert len(dataset.train.rows) + len(dataset.validation.rows) == 20


def test_a_pair_with_one_empty_text_is_a_row_and_only_one_with_none_is_left_out(load):
    rows = "q,a,label\nx,y,1\nz,w,2\n,b,1\nc, ,2\n , ,1\n"
    dataset = load(rows, text=("q", "a"), validation="q,a,label\nm,n,1\no,p,2\n")
    assert found(dataset, "empty_text").rows == (6,)
    assert dataset.train.texts[2:] == [("", "b"), ("c", " ")]
    finding = found(dataset, "half_empty_pair")
    assert finding.message == (
        "train.csv: 2 rows with one text of the pair empty, `q` (1) and `a` (1), kept (rows 4 and 5)"
    )
    assert (finding.count, finding.severity) == (2, "note")


def test_repeated_rows_are_kept_and_counted(load):
    dataset = load(TWENTY_ROWS + "again,ham\nagain,ham\nagain,ham\n")
    finding = found(dataset, "duplicate")
    assert finding.message == (
        "train.csv: 2 rows repeat the text and label of an earlier row; all are kept (rows 23 and 24)"
    )
    assert finding.count == 2
    assert len(dataset.train.rows) + len(dataset.validation.rows) == 23


def test_texts_with_two_labels_are_listed_with_all_their_rows(load):
    finding = found(load(TWENTY_ROWS + "odd,ham\nfine,ham\nodd,spam\n"), "contradiction")
    assert finding.message == (
        "train.csv: 1 text has more than one label; correct the rows that are wrong (rows 22 and 24)"
    )


def test_rows_that_stand_in_two_files_are_counted(load):
    dataset = load(TWENTY_ROWS, test="text,label\nnew,ham\nmessage 3,ham\nmessage 4,spam\nnewer,spam\n")
    finding = found(dataset, "leak")
    assert finding.message == (
        "test.csv: the texts of 2 of 4 rows (50.0%) are in train.csv too, so results on them are too good; "
        "remove them from one of the files (rows 3 and 4)"
    )
    assert (finding.count, finding.rows) == (2, (3, 4))


def test_a_label_with_one_row_stays_in_train_and_is_said(load):
    dataset = load(TWENTY_ROWS + "rare,eggs\n")
    assert found(dataset, "single_row").message == (
        "train.csv: `eggs` has one row only, kept for training; add rows (row 22)"
    )
    assert 22 in dataset.train.rows
    assert found(dataset, "validation_without_label").message == (
        "validation: no row has the label `eggs`, so it is not measured"
    )


def test_labels_of_the_recipe_without_rows_are_said(load):
    finding = found(load(TWENTY_ROWS, labels=("ham", "eggs", "spam")), "label_without_rows")
    assert (finding.message, finding.count) == (
        "train.csv: no row has the label `eggs` of dataset.labels, so it cannot be learned",
        1,
    )


def test_labels_that_differ_in_capitals_or_blanks_are_reported(load):
    rows = "text,label\n" + "".join(f"t{index},{['Spam', 'spam', 'spam ', 'ham'][index % 4]}\n" for index in range(40))
    assert found(load(rows), "similar_labels").message == (
        "train.csv: the labels `Spam`, `spam` and `spam ` differ only in capitals or blanks; are they the same label? "
        "If so, write them alike in the file"
    )


def test_imbalanced_labels_are_reported_with_their_shares(load):
    rows = "text,label\n" + "".join(f"t{index},{'rare' if index < 10 else 'common'}\n" for index in range(100))
    assert found(load(rows), "imbalanced").message == (
        "train.csv: imbalanced labels, from 10 rows (10.0%, `rare`) to 90 (90.0%, `common`); compare macro-F1 as well as "
        "the accuracy"
    )
    assert "imbalanced" not in kinds(load(TWENTY_ROWS))


def test_a_label_column_with_a_label_for_nearly_every_row_is_doubted(load):
    rows = "text,label\n" + "".join(f"t{index},{index // 2 if index > 20 else index}\n" for index in range(40))
    assert found(load(rows, validation="text,label\nx,5\n"), "many_labels").count == 21


def test_long_lists_of_rows_are_cut(load):
    finding = found(load(TWENTY_ROWS + ",ham\n" * 1000), "empty_text")
    assert finding.message == ("train.csv: 1,000 rows without text left out (rows 22, 23, 24, 25, 26 and 995 more)")
    assert (finding.count, len(finding.rows)) == (1000, 20)


# --- Splits ----------------------------------------------------------------------------------------------------------


def test_shares_are_stratified_and_together_hold_every_row_once(load):
    rows = "text,label\n" + "".join(f"t{index},{'abbcccc'[index % 7]}\n" for index in range(700))
    dataset = load(rows, validation=0.1, test=0.2)
    assert dataset.test is not None
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [np.bincount(split.labels).tolist() for split in splits] == [[70, 140, 280], [10, 20, 40], [20, 40, 80]]
    assert sorted(row for split in splits for row in split.rows) == list(range(2, 702))
    assert all(split.rows == sorted(split.rows) for split in splits)
    assert [split.name for split in splits] == ["train", "validation", "test"]


def test_the_same_seed_gives_the_same_split_and_another_seed_another(load):
    assert load(TWENTY_ROWS, validation=0.3).validation.rows == load(TWENTY_ROWS, validation=0.3).validation.rows
    assert len({tuple(load(TWENTY_ROWS, seed=seed, validation=0.3).validation.rows) for seed in range(5)}) == 5


def test_the_split_is_the_same_on_every_machine_and_version(load):
    assert load(TWENTY_ROWS, seed=1, validation=0.3).validation.rows == [2, 5, 7, 9, 10, 18]


def test_reordering_the_file_does_not_change_which_texts_are_set_aside(load):
    header, *rows = TWENTY_ROWS.splitlines(keepends=True)
    forwards = load(TWENTY_ROWS, validation=0.3)
    backwards = load(header + "".join(reversed(rows)), validation=0.3)
    assert set(forwards.validation.texts) == set(backwards.validation.texts)


def test_identical_texts_are_never_on_two_sides():
    texts = [(f"text {index % 40}",) for index in range(200)]
    side = set_aside(texts, [index % 2 for index in range(200)], {"test": 0.2, "validation": 0.2}, seed=3)
    sides = {text: {own for own, other in zip(side, texts, strict=True) if other == text} for text in set(texts)}
    assert all(len(own) == 1 for own in sides.values())
    assert Counter(side) == {"train": 120, "test": 40, "validation": 40}


@pytest.mark.parametrize(
    ("different_texts", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "validation": 1}),
        (3, {"train": 1, "validation": 1, "test": 1}),
        (30, {"train": 24, "validation": 3, "test": 3}),
    ],
)
def test_every_label_is_measured_where_enough_texts_allow_it(different_texts, expected):
    texts = [(f"{index}",) for index in range(different_texts)]
    assert Counter(set_aside(texts, [0] * different_texts, {"test": 0.1, "validation": 0.1}, seed=1)) == expected


def test_a_share_of_many_small_labels_adds_up_to_the_share_of_all_rows():
    texts = [(f"{index}",) for index in range(1500)]
    side = set_aside(texts, [index % 100 for index in range(1500)], {"validation": 0.1}, seed=1)
    assert Counter(side)["validation"] == 150


# --- Tokens ----------------------------------------------------------------------------------------------------------

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "message", "cafe", *"0123456789", *(f"##{d}" for d in range(10))]


def test_truncated_rows_are_counted_with_the_length_that_would_do(load):
    dataset = load(TWENTY_ROWS + f"{'message ' * 30},ham\n", validation=TWENTY_ROWS)
    findings = token_findings(dataset, Tokenizer(VOCABULARY), 8)
    assert [finding.kind for finding in findings] == ["truncated"]
    assert findings[0].message == (
        "train.csv: 1 of 21 texts (4.8%) is longer than 8 tokens (encoder.max_length) and will be truncated; 99% need 32 or "
        "fewer, the longest needs 32 (row 22)"
    )
    assert token_findings(dataset, Tokenizer(VOCABULARY), 32) == []


def test_a_pair_counts_its_third_special_token(load):
    rows = "q,a,label\nmessage 1,message 2,x\nmessage 3,message,y\n"
    dataset = load(rows, text=("q", "a"), validation=rows)
    assert token_findings(dataset, Tokenizer(VOCABULARY), 7) == []
    assert token_findings(dataset, Tokenizer(VOCABULARY), 6)[0].rows == (2,)


def test_unknown_tokens_are_counted_with_the_most_frequent_words(load):
    dataset = load(
        "text,label\nmessage Zebra zebra,a\nmessage 1,b\nmessage zebra 😀,b\n",
        validation=TWENTY_ROWS.replace("ham", "a").replace("spam", "b"),
    )
    findings = token_findings(dataset, Tokenizer(VOCABULARY), 32)
    assert findings[0].message == (
        "train.csv: 4 of 8 tokens (50.0%) are unknown to the encoder ([UNK]), most often `zebra`, `Zebra` and `😀` "
        "(rows 2 and 4)"
    )
    assert (findings[0].kind, findings[0].count) == ("unknown_tokens", 2)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("device", "Phones will split them as in training, but words with accents may be unknown to the encoder"),
        (
            "bert",
            "Phones will not split them as in training; set encoder.tokenizer to device to train on what phones read",
        ),
    ],
)
def test_a_difference_between_the_tokenizers_is_said(load, kind, remedy):
    dataset = load(TWENTY_ROWS + "café,ham\n", validation=TWENTY_ROWS)
    finding = token_findings(dataset, Tokenizer(VOCABULARY, kind), 32)[-1]
    assert finding.kind == "tokenizers_differ"
    assert finding.message == (
        "train.csv: 4.8% of the texts are split differently by device tokenizers and by BERT's own, "
        f"which removes accents and lower-cases all letters. {remedy}"
    )


def test_a_small_difference_between_the_tokenizers_is_not_worth_a_word(load):
    rows = "text,label\n" + "".join(f"message {index},{index % 2}\n" for index in range(200))
    dataset = load(rows + "café,1\n", validation=rows)
    assert "tokenizers_differ" not in {one.kind for one in token_findings(dataset, Tokenizer(VOCABULARY, "bert"), 32)}


# --- Real data -------------------------------------------------------------------------------------------------------


def test_known_faults_of_a_real_dataset_are_found(shared):
    folder = shared / "data" / "tweet_hate"
    settings = DatasetSettings(train=folder / "train.csv", validation=folder / "dev.csv", test=folder / "test.csv")
    dataset = load_dataset(settings, 1)
    assert [(finding.kind, finding.count) for finding in dataset.findings] == [
        ("empty_text", 7),
        ("markup", 278),
        ("mojibake", 187),
        ("control_characters", 83),
        ("duplicate", 6),
        ("contradiction", 3),
        ("empty_text", 1),
        ("markup", 30),
        ("mojibake", 14),
        ("control_characters", 4),
        ("markup", 1),
        ("duplicate", 4),
        ("leak", 2),
        ("leak", 233),
    ]
    assert (len(dataset.train.rows), len(dataset.validation.rows)) == (8993, 999)


@pytest.mark.parametrize(
    "name", ["banking77", "clinc150_small", "germeval2018", "mrpc", "sms_spam", "sst2", "umsab_french"]
)
def test_real_datasets_are_read_whole(shared, name):
    folder = shared / "data" / name
    text = ("text_a", "text_b") if name == "mrpc" else ("text",)
    settings = DatasetSettings(
        train=folder / "train.csv", validation=folder / "dev.csv", test=folder / "test.csv", text=text
    )
    dataset = load_dataset(settings, 1)
    rows = {
        "banking77": 8999,
        "clinc150_small": 7500,
        "germeval2018": 4508,
        "mrpc": 3669,
        "sms_spam": 3612,
        "sst2": 6920,
    }
    assert len(dataset.train.rows) == rows.get(name, 1839)
