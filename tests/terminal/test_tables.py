"""Tables: as wide as their cells, and within the terminal's width where there is one."""

from __future__ import annotations

import os

import pytest

from tests.on_terminal import on_terminal
from textclf.terminal.tables import text_table

HEADER = ("label", "precision", "recall", "F1", "rows")
ROWS = [
    ("a label of many words that is long", "91.25%", "88.10%", "89.60%", "1,024"),
    ("請求", "100.0%", "<0.1%", "0", "7"),
]

CODE = f"""
from textclf.terminal.door import write_report
from textclf.terminal.tables import text_table
write_report(text_table({HEADER!r}, {ROWS!r}))
"""


def test_without_a_terminal_nothing_is_wrapped():
    assert text_table(HEADER, ROWS).split("\n") == [
        "label                               precision  recall      F1   rows",
        "a label of many words that is long     91.25%  88.10%  89.60%  1,024",
        "請求                                   100.0%   <0.1%       0      7",
    ]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_a_narrow_terminal_wraps_texts_first_and_then_puts_columns_below_each_other():
    assert on_terminal([], code=CODE, width=60).lines[:4] == [
        "label                       precision  recall      F1   rows",
        "a label of many words that     91.25%  88.10%  89.60%  1,024",
        "is long",
        "請求                           100.0%   <0.1%       0      7",
    ]
    assert on_terminal([], code=CODE, width=40).lines[:11] == [
        "label         precision  recall      F1",
        "a label of       91.25%  88.10%  89.60%",
        "many words",
        "that is long",
        "請求             100.0%   <0.1%       0",
        "",
        "label          rows",
        "a label of    1,024",
        "many words",
        "that is long",
        "請求              7",
    ]
