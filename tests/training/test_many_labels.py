"""With very many labels, the cost before the first step and the size of the results stay bounded."""

from __future__ import annotations

import json

import numpy as np

from tests.predicted_rows import predicted_rows
from tests.runs.test_report import metrics_json as run_metrics
from tests.runs.test_report import record_of
from textclf.classify.metrics import Metrics, evaluate, metrics_json
from textclf.runs.pages.report import write_report
from textclf.training.classification.head import fit_head
from textclf.training.classification.measured_rows import measured_rows

MANY = 1500


def many_labels_metrics(rows: int) -> Metrics:
    """Of every three rows, one is wrong."""
    random = np.random.default_rng(1)
    truth = random.integers(0, MANY, rows)
    given = np.where(np.arange(rows) % 3 == 0, random.integers(0, MANY, rows), truth)
    probabilities = np.full((rows, MANY), 1e-4, np.float32)
    probabilities[np.arange(rows), given] = 0.9
    return evaluate(probabilities, truth, [f"label {number}" for number in range(MANY)])


def test_metrics_of_fifteen_hundred_labels_take_less_than_a_megabyte():
    metrics = many_labels_metrics(4500)
    text = metrics_json({"validation": metrics.as_dict()})
    assert len(text.encode()) < 1_000_000
    assert Metrics.from_dict(json.loads(text)["validation"]) == metrics


def test_cells_of_a_confusion_matrix_stand_on_one_line_each_and_texts_stay_as_they_are():
    values = {"label": "[ 1, 2, 3 ]", "confusion_cells": [[0, 1, 2], [1, 1, 30]]}
    text = metrics_json(values)
    assert "    [0, 1, 2],\n    [1, 1, 30]\n" in text
    assert json.loads(text) == values


def test_the_matrix_holds_every_cell_and_its_diagonal_the_right_rows():
    metrics = many_labels_metrics(600)
    matrix = metrics.confusion_matrix()
    assert matrix.shape == (MANY, MANY)
    assert (matrix.sum(), np.trace(matrix)) == (600, metrics.right_rows)
    assert metrics.accuracy == metrics.right_rows / 600
    assert matrix.sum(axis=1).tolist() == [label.support for label in metrics.per_label]


def test_metrics_with_the_whole_matrix_of_earlier_versions_are_still_read():
    metrics = evaluate(np.eye(3)[[0, 1, 1, 0]], np.array([0, 1, 2, 0]), ["a", "b", "c"])
    earlier = metrics.as_dict()
    del earlier["confusion_cells"]
    earlier["confusion"] = [[2, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert Metrics.from_dict(earlier) == metrics


def test_many_labels_are_measured_on_equally_many_rows_each():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(MANY), 3))
    rows = measured_rows(labels, MANY)
    assert (np.diff(rows) > 0).all()
    assert np.bincount(labels[rows], minlength=MANY).tolist() == [2] * MANY
    # More labels than rows can be afforded: fewer rows, still each of another label.
    scarce = measured_rows(np.arange(10_000), 10_000)
    assert len(scarce) == 3072
    assert measured_rows(np.array([0, 1] * 20), 200).tolist() == list(range(30))


def test_few_labels_are_measured_on_rows_spread_over_the_data():
    assert measured_rows(np.zeros(10, np.int64), 2).tolist() == list(range(10))
    spread = measured_rows(np.zeros(100_000, np.int64), 150)
    assert (len(spread), spread[0], spread[-1]) == (4096, 0, 99_999)


def test_the_quick_head_of_many_labels_tells_them_apart():
    random = np.random.default_rng(2)
    centres = random.standard_normal((400, 24))
    labels = np.tile(np.arange(400), 5)
    features = (centres[labels] + 0.3 * random.standard_normal((2000, 24))).astype(np.float32)
    kernel, bias = fit_head(features, labels, np.ones(2000), 400)
    assert ((features @ kernel + bias).argmax(axis=1) == labels).mean() > 0.9


def test_the_page_of_many_labels_stays_small(tmp_path):
    metrics = many_labels_metrics(4500)
    labels = [label.label for label in metrics.per_label]
    write_report(tmp_path, record_of(run_metrics(labels, metrics)), [], predicted_rows(metrics))
    assert (tmp_path / "report.html").stat().st_size < 1_500_000
