"""What a column contains is judged by its cells alone."""

from __future__ import annotations

import pytest

from textclf.data.column_kinds import describe_column

TEXTS = [f"the parcel number {number} did not arrive in time" for number in range(40)]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (TEXTS, "text"),
        (["parcel lost", "no refund", "wrong size", "late again", "broken lamp"], "text"),
        (["这个手机非常好用1", "送货太慢了我很不满意2", "请问怎么重置密码3"], "text"),
        (["billing", "shipping", "billing", "account"] * 5, "label"),
        (["0", "1", "1", "0", "1"], "label"),
        (["1.0", "0.0"] * 5, "label"),
        (["5", "1", "3", "4", "2"] * 4, "label"),
        ([str(number) for number in range(50)], "id"),
        ([f"T-{number:05}" for number in range(50)], "id"),
        ([f"{number}.5" for number in range(30)], "number"),
        (["12,50 €", "1.200,00 €", "3 €", "4 €"], "number"),
        (["2024-03-01", "2024-03-02T10:00:00Z", "2024-03-05 11:12"], "date"),
        (["03.04.2024", "4.4.24", "11/12/2023"], "date"),
        (["Mon Apr 06 22:19:45 PDT 2009", "3. März 2024", "Tue, 02 Jan 2024 10:00:00 +0000"], "date"),
        (["https://a.org/x", "http://b.org", "www.c.org/1"], "link"),
        (["same", "same", "same"], "constant"),
        (["", " ", ""], "empty"),
    ],
)
def test_the_kind_follows_from_the_cells(cells, kind):
    assert describe_column("anything", 0, cells).kind == kind


def test_empty_cells_do_not_count():
    column = describe_column("queue", 3, ["a", "", "b", "a", "  ", "b"])
    assert (column.kind, column.rows, column.distinct, column.index) == ("label", 4, 2, 3)


def test_a_sentence_about_a_month_is_a_text():
    cells = [f"In March {2000 + number} we moved, and it rained for weeks on end" for number in range(20)]
    assert describe_column("text", 0, cells).kind == "text"
