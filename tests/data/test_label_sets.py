"""Rows with several labels: reading, splitting and findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding
from textclf.data.findings.label_lists import separator_of
from textclf.data.multi_label.dataset import load_label_sets
from textclf.data.multi_label.label_sets import set_text, strata_of
from textclf.errors import DataError
from textclf.recipe.settings import DatasetSettings


@pytest.fixture
def load(tmp_path: Path):
    """Loads a training table, by default with the labels in the column `tags`."""

    def loaded(content: str, **settings: object) -> Dataset:
        (tmp_path / "train.csv").write_text(content, encoding="utf-8")
        if "labels_from" not in settings:
            settings = {"label": "tags", "label_separator": "|", **settings}
        if "test_rows" in settings:
            (tmp_path / "test.csv").write_text(str(settings.pop("test_rows")), encoding="utf-8")
            settings["test"] = tmp_path / "test.csv"
        return load_label_sets(DatasetSettings(train=tmp_path / "train.csv", **{"validation": 0.2, **settings}), seed=1)

    return loaded


def table(cells: list[str], copies: int = 12) -> str:
    """Every cell in some rows with different texts."""
    rows = [f'text number {number} of {place},"{cell}"' for number in range(copies) for place, cell in enumerate(cells)]
    return "text,tags\n" + "\n".join(rows) + "\n"


def found(dataset: Dataset, kind: str) -> Finding:
    [finding] = [finding for finding in dataset.findings if finding.kind == kind]
    return finding


def sets_of(dataset: Dataset) -> list[set[str]]:
    rows = [row for split in dataset.splits for row in split.labels]
    return [{dataset.labels[index] for index in np.flatnonzero(row)} for row in rows]


def test_a_cell_holds_any_number_of_labels_in_any_order(load):
    dataset = load(table(["a|b", "b | a", "", "c"]))
    assert dataset.labels == ["a", "b", "c"]
    assert [sets_of(dataset).count(labels) for labels in ({"a", "b"}, set(), {"c"})] == [24, 12, 12]
    assert dataset.train.labels.dtype == bool
    assert "12 of 48 rows (25.0%) have no label" in found(dataset, "no_labels").message


@pytest.mark.parametrize("words", [("1", "0"), ("yes", "no"), ("TRUE", "false"), ("1.0", "0.0")])
def test_a_column_for_each_label_says_whether_it_applies(load, words):
    yes, no = words
    rows = "".join(f"text {n},{yes if n % 2 else no},{yes if n % 3 else no}\n" for n in range(30))
    dataset = load("text,urgent,angry\n" + rows, labels_from=("urgent", "angry"))
    assert dataset.labels == ["urgent", "angry"]
    assert sum(split.labels.sum() for split in dataset.splits) == 15 + 20


def test_cells_that_are_neither_zero_nor_one_are_errors_with_row_and_column(load):
    with pytest.raises(DataError) as caught:
        load("text,a,b\none,1,0\ntwo,2,1\nthree,,1\nfour,1,maybe\n", labels_from=("a", "b"))
    first, second, third = str(caught.value).splitlines()
    assert "the column `a` holds `2` in row 3, but a column of dataset.labels_from holds 0 or 1" in first
    assert "the column `b` holds `maybe` in row 5" in second
    assert "the column `a` is empty in row 4, so nothing says whether the label applies; write 0" in third


def test_labels_that_the_recipe_does_not_list_are_errors_with_their_rows(load):
    with pytest.raises(DataError, match=r"`C` in row 3, but dataset.labels are `a`, `b` and `c`; `C` is perhaps `c`"):
        load("text,tags\none,a|b\ntwo,a|C\nthree,c\n", labels=("a", "b", "c"))
    with pytest.raises(DataError, match=r"test.csv: `d` in row 2, but the labels in the training file are"):
        load(table(["a|b", "c"]), test_rows="text,tags\nnew,a|d\n")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["", ""], "no row has a label in `tags`"),
        (["a", "a"], "the only label is `a`, but two or more are needed"),
        (["a|b", "b|a"], "every row has the same labels, `a`, `b`, so nothing can be learned"),
    ],
)
def test_data_that_teach_nothing_are_refused(load, cells, expected):
    with pytest.raises(DataError, match=expected):
        load(table(cells))


def test_odd_cells_are_reported_with_their_rows(load):
    dataset = load(table(["a|b", "c"]) + "once,a|a|b\nagain,a||b\n")
    assert found(dataset, "repeated_label").rows == (26,)
    assert found(dataset, "empty_label").rows == (27,)
    assert "names a label twice" in found(dataset, "repeated_label").message


def test_labels_that_cannot_be_learned_or_told_apart_are_reported(load):
    always = found(load(table(["x|a", "x|b", "x"])), "label_of_every_row")
    assert "every row has the label `x`" in always.message
    together = found(load(table(["a|b", "c", "a|b|c"])), "labels_together")
    assert "`a` and `b` (24 rows)" in together.message
    rare = found(load(table(["a|b", "c"]) + "one more,a|rare\n"), "rare_labels")
    assert (rare.count, rare.rows) == (1, (26,))
    never = found(load(table(["a|b", "c", "b"]), labels=("a", "b", "c", "d")), "label_without_rows")
    assert "no row has the label `d`" in never.message


def test_the_same_text_with_other_labels_is_a_contradiction_and_in_another_file_a_leak(load):
    dataset = load(table(["a|b", "c"]) + "same,a|b\nsame,b|a\nsame,c\n", test_rows="text,tags\nsame,c\nother,a\n")
    assert "1 text has different labels in different rows" in found(dataset, "contradiction").message
    assert found(dataset, "duplicate").rows == (27,)
    assert "1 of 2 rows (50.0%) are in" in found(dataset, "leak").message


def test_another_separator_and_an_unused_one_are_noticed(load):
    assert "such as `a;b` may be several labels" in found(load(table(["a", "b", "a;b"])), "list_of_labels").message
    assert "no cell of `tags` contains the separator `|`" in found(load(table(["a", "b"])), "separator_unused").message


def test_frequent_sets_are_split_in_proportion_and_rare_ones_by_their_rarest_label():
    texts = [set_text(labels) for labels in (["a"],) * 30 + (["b"],) * 10 + (["a", "c"],) * 4 + (["b", "c"],) * 4]
    strata = strata_of(texts)
    assert len(set(strata[:30])) == len(set(strata[30:40])) == len(set(strata[40:])) == 1
    assert len(set(strata)) == 3


def test_each_label_keeps_its_share_in_every_split(load):
    dataset = load(table(["a|b", "b|c", "c|d", "d|a", "a"], copies=20), test=0.2)
    shares = [split.labels.mean(axis=0) for split in dataset.splits]
    assert all(np.abs(share - shares[0]).max() < 0.06 for share in shares)


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (["a|b", "b|c", "a", "c"], "|"),
        (["a; b", "b", "a; c", "c; b"], ";"),
        (["a, b", "b, c", "a, c"], ","),
        (["Paris, France", "Lyon, France"], None),
        (["very good", "good", "bad"], None),
    ],
)
def test_the_separator_of_labels_is_detected(labels, separator):
    assert separator_of(labels) == separator
