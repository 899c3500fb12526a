"""The rows of a report: every one is in the table or in `predictions.csv`, links and filters find them, and no text is markup."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.browser import Page, needs_browser
from tests.predicted_rows import predicted_rows
from tests.runs.test_report import EVIL, LABELS, THREE, measured, metrics_json, record_of
from textclf.classify.metrics import evaluate
from textclf.data.examples import Split
from textclf.data.tables.formats.records import FileRow
from textclf.runs.pages.report import write_report
from textclf.runs.pages.rows import classified_rows, row_table, write_predictions

TEXTS = [
    "where is my parcel",
    "the bill is wrong",
    "Straße und Größe",
    EVIL,
    "</td></tr></table><img src=x onerror=alert(1)>",
    "مرحبا",
]


def small_report(folder: Path, *, script: bool = True) -> str:
    """A report of six rows, two of them wrong, and its address."""
    truth, given = np.array([1, 0, 2, 0, 0, 1], np.int32), np.array([1, 0, 2, 1, 0, 0])
    split = Split("test", [(text,) for text in TEXTS], truth, [2, 3, 5, 8, 13, 21], folder / "held_out.csv")
    probabilities = np.full((6, 3), 0.1, np.float32)
    probabilities[np.arange(6), given] = (0.5, 0.6, 0.7, 0.8, 0.4, 0.9)
    labels = ["billing", "delivery", "<i>other</i>"]
    metrics = metrics_json(labels, evaluate(probabilities, truth, labels))
    write_report(folder, record_of(metrics), [], classified_rows(split, probabilities, labels))
    page = folder / "report.html"
    if not script:
        page.write_text(re.sub("<script>.*?</script>", "", page.read_text("utf-8"), flags=re.DOTALL), "utf-8")
    return page.as_uri()


def shown(page: Page) -> list[list[str]]:
    """The cells of the visible rows of the table, as a person sees them."""
    script = """[...document.querySelectorAll("#rows tbody tr")].filter(row => row.getClientRects().length)
        .map(row => [...row.cells].map(cell => cell.innerText))"""
    return [list(row) for row in page.run(script)]


def row_numbers(page: Page) -> list[str]:
    return [row[0] for row in shown(page)]


def opened(page: Page, address: str) -> Page:
    page.open(address)
    page.wait(f"document.readyState === 'complete' && location.href === {json.dumps(address)}")
    return page


def set_field(page: Page, name: str, value: object) -> None:
    key = "checked" if isinstance(value, bool) else "value"
    page.run(
        f"(field => {{ field.{key} = {json.dumps(value)}; field.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        f"(document.querySelector('#rows [name={name}]'))"
    )


# --- What is on the page ---------------------------------------------------------------------------------------------
def test_mistakes_come_first_and_the_least_certain_of_the_correct_rows_before_others():
    order = classified_rows(
        Split("test", [("t",)] * 4, np.array([0, 0, 1, 1]), [2, 3, 4, 5], Path("a.csv")),
        np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]]),
        ["a", "b"],
    ).order
    assert order.tolist() == [2, 1, 3, 0]


def test_the_table_has_a_group_for_each_pair_of_labels():
    table = row_table(predicted_rows(THREE))
    assert [(*group.true, *group.predicted, group.is_right, len(group.cells)) for group in table.groups] == [
        (0, 0, True, 6),
        (0, 1, False, 3),
        (1, 0, False, 1),
        (1, 1, True, 8),
        (2, 0, False, 1),
        (2, 2, True, 1),
    ]
    assert table.shown == table.rows == 20


def test_a_bounded_table_has_rows_of_each_pair_then_the_wrong_rows():
    table = row_table(
        predicted_rows(measured(LABELS, {(0, 0): 500, (1, 1): 500, (2, 2): 10, (0, 1): 90, (1, 2): 3})), 150
    )
    found = {(*group.true, *group.predicted): (len(group.cells), group.left_out) for group in table.groups}
    assert found == {(0, 0): (27, 473), (0, 1): (90, 0), (1, 1): (20, 480), (1, 2): (3, 0), (2, 2): (10, 0)}
    assert (table.shown, table.rows) == (150, 1103)


def test_a_page_of_fifty_thousand_long_texts_stays_small_and_says_where_the_others_are(tmp_path):
    metrics = measured(LABELS, {(0, 0): 20_000, (1, 1): 20_000, (2, 2): 7000, (0, 1): 3000})
    predicted = predicted_rows(metrics, text="word " * 200 + "{}")
    write_report(tmp_path, record_of(metrics_json(test=metrics)), [], predicted)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert len(page) < 4_000_000
    assert page.partition('<section id="rows"')[2].partition("</section>")[0].count("<tr><td>") == 5000
    assert "This table has 5,000 of 50,000 rows of the test split" in " ".join(page.split())
    assert re.findall(r"[\d,]+ more of this kind", page) == [
        "18,040 more of this kind",
        "19,980 more of this kind",
        "6,980 more of this kind",
    ]
    assert "quotes 5,000 texts" in page


def test_every_link_leads_to_something_on_the_page(tmp_path):
    small_report(tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    links = re.findall(r'href="#([^"]*)"', page)
    assert len(links) > 10
    assert {link for link in links if f'id="{link}"' not in page} == set()
    assert len(re.findall(r'id="(rows-[^"]*)"', page)) == len(set(re.findall(r'id="(rows-[^"]*)"', page)))


def test_predictions_csv_has_every_row_with_its_whole_text(tmp_path):
    texts = [("long " * 500, "second"), ('a "quoted", text\nof two lines', "x\u202ey")]
    rows = [FileRow.of(2, "2 of a.csv"), FileRow.of(2, "2 of b.csv")]
    split = Split("test", texts, np.array([0, 1], np.int32), rows, tmp_path / "a.csv")
    write_predictions(tmp_path, None, classified_rows(split, np.array([[0.75, 0.25], [0.5, 0.5]]), ["=1+1", "b"]))
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["row", "text", "second_text", "true_label", "predicted_label", "predicted_score"],
            ["2 of a.csv", *texts[0], "=1+1", "=1+1", "0.750000"],
            ["2 of b.csv", *texts[1], "b", "=1+1", "0.500000"],
        ]


# --- In a browser ----------------------------------------------------------------------------------------------------
@needs_browser
def test_a_cell_of_the_matrix_opens_its_rows_and_the_back_button_closes_them(browser, tmp_path):
    page = opened(browser, small_report(tmp_path))
    assert len(shown(page)) == 6
    page.run("document.querySelector('.grid a[href=\"#rows-0-1\"]').click()")
    page.wait("location.hash === '#rows-0-1' && document.querySelector('.found').textContent.startsWith('1 of 6')")
    assert shown(page) == [["8", EVIL, "delivery", "billing", "80.0%"]]
    assert page.run("document.querySelector('#rows').getBoundingClientRect().top") < 10
    page.run("document.querySelector('#labels a[href=\"#rows--0\"]').click()")
    page.wait("document.querySelector('.found').textContent.startsWith('3 of 6')")
    assert sorted(row_numbers(page)) == ["13", "21", "3"]
    page.run("history.back()")
    page.wait("document.querySelector('.found').textContent.startsWith('1 of 6')")
    assert row_numbers(page) == ["8"]
    assert page.logged == []


@needs_browser
def test_rows_are_filtered_by_text_number_labels_and_correctness(browser, tmp_path):
    page = opened(browser, small_report(tmp_path))
    set_field(page, "wanted", "STRASSE")
    assert row_numbers(page) == []
    set_field(page, "wanted", "STRAßE")
    assert row_numbers(page) == ["5"]
    set_field(page, "wanted", "13")
    assert row_numbers(page) == ["13"]
    set_field(page, "wanted", "alert")
    assert row_numbers(page) == ["13", "8"], "in the order of the labels"
    set_field(page, "wrong", True)
    assert row_numbers(page) == ["8"]
    assert page.run("document.querySelector('.found').textContent") == "1 of 6 shown"
    page.run("document.querySelector('#rows button').click()")
    page.wait("document.querySelector('.found').textContent.startsWith('6 of 6')")
    set_field(page, "true", "1")
    assert row_numbers(page) == ["21", "2"]
    set_field(page, "predicted", "1")
    assert row_numbers(page) == ["2"]
    assert page.run("[...document.querySelector('[name=predicted]').options].map(one => one.text)") == [
        "any label",
        "billing",
        "delivery",
        "<i>other</i>",
    ]


@needs_browser
def test_a_link_with_labels_opens_the_page_at_their_rows(browser, tmp_path):
    page = opened(browser, small_report(tmp_path) + "#rows-1-0")
    assert row_numbers(page) == ["21"]
    set_field(page, "wanted", "no such text")
    assert row_numbers(page) == []
    assert page.run("location.hash") == "#rows"


@needs_browser
def test_without_a_script_all_rows_are_readable_and_a_cell_still_opens_its_rows(browser, tmp_path):
    page = opened(browser, small_report(tmp_path, script=False))
    assert len(shown(page)) == 6
    assert page.run("document.querySelector('#rows form').getClientRects().length") == 0
    page.run("document.querySelector('.grid a[href=\"#rows-0-1\"]').click()")
    page.wait("location.hash === '#rows-0-1'")
    assert row_numbers(page) == ["8"]
    page.run("document.querySelector('.unfilter a').click()")
    page.wait("location.hash === '#rows'")
    assert len(shown(page)) == 6
    page.run("document.querySelector('#labels a[href=\"#rows--0\"]').click()")
    page.wait("location.hash === '#rows--0'")
    assert len(shown(page)) == 6


@needs_browser
def test_hostile_texts_are_only_texts_and_the_page_asks_nobody(browser, tmp_path):
    address = small_report(tmp_path)
    page = opened(browser, address)
    page.run("document.querySelector('.grid a[href=\"#rows-0-0\"]').click()")
    page.wait("location.hash === '#rows-0-0'")
    assert [row[1] for row in shown(page)] == [TEXTS[4], TEXTS[1]]
    assert page.run(
        "[document.scripts.length, document.images.length, document.querySelectorAll('#rows b').length]"
    ) == [
        1,
        0,
        0,
    ]
    assert page.logged == []
    assert page.requested == [address]


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_not_wider_than_the_screen(width, browser, tmp_path):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    page = opened(browser, small_report(tmp_path))
    assert page.run("document.documentElement.scrollWidth") <= width
    browser.call("Emulation.clearDeviceMetricsOverride")
