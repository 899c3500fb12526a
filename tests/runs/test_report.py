"""The report, the model card and the terminal's tables: right numbers, nothing fetched, no text taken for markup."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.predicted_rows import predicted_rows
from textclf.classify.metrics import Metrics, accuracy_interval, evaluate
from textclf.data.examples import Split
from textclf.runs.pages.metrics_text import metrics_text
from textclf.runs.pages.mistakes import Mistake, most_confused, worst_mistakes
from textclf.runs.pages.model_card import write_model_card
from textclf.runs.pages.report import write_report
from textclf.runs.tasks.classification.record import ClassificationMetrics

LABELS = ["billing", "delivery", "other"]
EVIL = "<script>alert('x')</script> & <b>bold</b>"


def measured(labels: list[str], counts: dict[tuple[int, int], int]) -> Metrics:
    """Metrics of so many rows for each pair of true and given label."""
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    truth, given = np.array(pairs).T
    return evaluate(np.eye(len(labels))[given] * 0.8 + 0.2 / len(labels), truth, labels)


THREE = measured(LABELS, {(0, 0): 6, (0, 1): 3, (1, 1): 8, (1, 0): 1, (2, 2): 1, (2, 0): 1})


def metrics_json(labels: list[str] | None = None, test: Metrics | None = THREE, **changes: Any) -> dict[str, Any]:
    """What a run of two epochs with four steps each writes."""
    values = {
        "name": "tickets",
        "versions": {"python": "3.11.9", "textclf": "0.1.0", "pandas": None},
        "seed": 7,
        "files": {"/home/anna/tickets.csv": "ab" * 32, "/home/anna/held_out.csv": "cd" * 32},
        "encoder": {"source": "builtin", "format": "textclf", "sha256": "ef" * 32, "num_hidden_layers": 4},
        "rows": {"train": 1200, "validation": 20},
        "labels": labels or LABELS,
        "findings": ["3 rows are empty"],
        "history": [
            {"epoch": 1, "validation_loss": 0.9, "validation_accuracy": 0.5, "validation_macro_f1": 0.4},
            {"epoch": 2, "validation_loss": 0.7, "validation_accuracy": 0.7, "validation_macro_f1": 0.6},
        ],
        "best_epoch": 2,
        "export": {
            "bytes": 10_240_000,
            "quantization": "dynamic",
            "rows": 40,
            "largest_difference": 0.0123,
            "changed_labels": 1,
            "accuracy_trained": 0.775,
            "accuracy_exported": 0.75,
        },
        "validation": (test or THREE).as_dict(),
        **({"test": test.as_dict()} if test else {}),
        "recipe": {
            "name": "tickets",
            "dataset": {
                "train": "/home/anna/tickets.csv",
                "validation": 0.1,
                "test": "/home/anna/held_out.csv" if test else None,
                "text": ["message"],
            },
            "encoder": {"source": "builtin", "max_length": 96, "tokenizer": "device"},
            "training": {"epochs": 2, "watchers": {"stuck": "warn"}, "class_weights": None},
            "export": {"quantization": "dynamic", "compatibility": "litert"},
        },
    }
    return {**values, **changes}


def record_of(metrics: dict[str, Any]) -> ClassificationMetrics:
    return ClassificationMetrics.from_dict(metrics, Path("metrics.json"))


def write_log(folder: Path, losses: list[float]) -> None:
    lines = [{"event": "start", "step": 0, "seed": 7}]
    for number, loss in enumerate(losses, 1):
        step = {"event": "step", "step": number, "epoch": (number + 3) // 4, "loss": loss, "learning_rate": 1e-4}
        lines.append({**step, "rows": 16, "seconds": 0.1})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class Page(HTMLParser):
    """The elements of a page with their attributes, and the words a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.source = path.read_text(encoding="utf-8")
        self._words: list[str] = []
        self._hidden = False
        self.feed(self.source)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._words.append(data)

    def count(self, tag: str, css_class: str = "") -> int:
        return sum(
            name == tag and css_class in (values.get("class") or "").split(" ") for name, values in self.elements
        )


def report(folder: Path, metrics: dict[str, Any], mistakes: list[Mistake] | None = None) -> Page:
    record = record_of(metrics)
    predicted = predicted_rows(next(iter(record.measured.values())))
    write_report(folder, record, mistakes or [], predicted)
    return Page(folder / "report.html")


def card(folder: Path, metrics: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The front matter and the Markdown behind it."""
    write_model_card(folder, record_of(metrics))
    _, front, body = (folder / "MODEL_CARD.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


# --- Mistakes --------------------------------------------------------------------------------------------------------


def test_the_worst_mistakes_are_the_wrong_rows_with_the_most_confident_first(tmp_path):
    split = Split(
        "test", [("a",), ("b",), ("c",), ("d", "e")], np.array([0, 0, 1, 2], np.int32), [2, 5, 6, 9], tmp_path
    )
    probabilities = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.1, 0.8, 0.1], [0.95, 0, 0.05]], np.float32)
    mistakes = worst_mistakes(split, probabilities, LABELS)
    assert [(one.row, one.text, one.label, one.predicted) for one in mistakes] == [
        (9, "d\ne", "other", "billing"),
        (5, "b", "billing", "delivery"),
    ]
    assert mistakes[0].score == pytest.approx(0.95)
    assert mistakes[0].split == "test"
    assert worst_mistakes(split, probabilities, LABELS, limit=1) == mistakes[:1]


def test_a_mistake_can_be_written_as_json(tmp_path):
    split = Split("test", [("a",)], np.array([0], np.int32), [2], tmp_path)
    [mistake] = worst_mistakes(split, np.array([[0.25, 0.75]], np.float32), LABELS[:2])
    assert json.loads(json.dumps(mistake.__dict__)) == {
        "split": "test",
        "row": 2,
        "text": "a",
        "label": "billing",
        "predicted": "delivery",
        "score": 0.75,
    }


def test_the_most_confused_pairs_leave_out_the_right_rows():
    pairs = [(pair.label, pair.predicted, pair.rows, pair.share) for pair in most_confused(THREE)]
    assert pairs == [
        ("billing", "delivery", 3, pytest.approx(1 / 3)),
        ("delivery", "billing", 1, pytest.approx(1 / 9)),
        ("other", "billing", 1, 0.5),
    ]


def test_the_accuracy_interval_is_wilsons():
    # 15 of 20: the values of scipy.stats.binomtest(15, 20).proportion_ci(method="wilson").
    assert accuracy_interval(THREE) == pytest.approx((0.531299, 0.888138), abs=1e-5)
    assert accuracy_interval(measured(LABELS, {(0, 0): 4}))[1] == pytest.approx(1.0)


# --- The terminal ----------------------------------------------------------------------------------------------------


def test_the_terminal_shows_the_numbers_in_aligned_columns():
    assert metrics_text(THREE).splitlines() == [
        "accuracy  75.0%   15 of 20 rows; 95% confidence interval: 53.1% to 88.8%",
        "macro-F1  72.4%   the mean of the labels' F1",
        f"loss      {THREE.loss:.4f}",
        "",
        "label     precision  recall     F1  rows",
        "billing       75.0%   66.7%  70.6%     9",
        "delivery      72.7%   88.9%  80.0%     9",
        "other        100.0%   50.0%  66.7%     2",
        "",
        "Confusion matrix: true labels in rows, predicted labels in columns",
        "            1  2  3",
        "1 billing   6  3  0",
        "2 delivery  1  8  0",
        "3 other     1  0  1",
    ]


def test_with_many_labels_the_terminal_shows_the_most_confused_pairs():
    labels = [f"label {number}" for number in range(13)]
    right = {(index, index): 3 for index in range(13)}
    text = metrics_text(measured(labels, {**right, (4, 11): 2}))
    assert "Confusion matrix" not in text
    assert text.splitlines()[-2:] == [
        "true label  predicted label  rows  share",
        "label 4     label 11            2  40.0%",
    ]
    assert "confused" not in metrics_text(measured(labels, right))


def test_wide_letters_and_control_characters_keep_the_columns_straight():
    text = metrics_text(measured(["請求", "\x1b[31mred"], {(0, 0): 1, (1, 1): 2}))
    assert "\x1b" not in text
    assert "請求            100.0%  100.0%  100.0%     1" in text
    assert r"\x1b[31mred     100.0%  100.0%  100.0%     2" in text


# --- The report ------------------------------------------------------------------------------------------------------


def test_the_report_tells_the_headline_numbers_in_words(tmp_path):
    page = report(tmp_path, metrics_json())
    assert "predicts the correct label for 15 of 20 rows of the test split" in page.text
    assert "Accuracy (test) 75.0%" in page.text
    assert "53.1% – 88.8%" in page.text
    assert "“ billing ”, would have 45.0%" in page.text
    assert "Macro-F1 (test) 72.4%" in page.text
    assert "10.2 MB" in page.text
    assert "39 of 40" in page.text
    assert "There is no test split" not in page.text


def test_without_a_test_split_the_report_speaks_of_validation_and_says_so(tmp_path):
    page = report(tmp_path, metrics_json(test=None))
    assert "Accuracy (validation) 75.0%" in page.text
    assert "There is no test split" in page.text
    assert "(test)" not in page.text


def test_the_report_loads_nothing_and_runs_only_its_script(tmp_path):
    write_log(tmp_path, [1.0] * 8)
    page = report(tmp_path, metrics_json())
    assert page.count("link") == page.count("img") == page.count("iframe") == 0
    [script] = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(values["content"] for _, values in page.elements if "http-equiv" in values)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    references = [
        value for _, values in page.elements for name, value in values.items() if name in ("src", "href", "xlink:href")
    ]
    assert all(value is not None and value.startswith("#") for value in references)
    assert not re.search(r"url\((?!#)|@import", page.source)
    addresses = set(re.findall(r"https?://[^\"' <]+", page.source))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, never fetched


def test_texts_labels_and_findings_are_shown_and_never_taken_for_markup(tmp_path):
    labels = ["billing", EVIL]
    metrics = metrics_json(labels, measured(labels, {(0, 0): 2, (1, 0): 1, (1, 1): 1}), findings=[EVIL], name="a-name")
    page = report(tmp_path, metrics, [Mistake("test", 4, EVIL, EVIL, "billing", 0.9)])
    assert page.count("script") == 1
    assert page.count("b") == 0
    assert html.escape("<script>", quote=False) in page.source
    assert page.text.count(EVIL) >= 5


def test_mistakes_are_listed_with_row_labels_and_probability(tmp_path):
    long_text = "word " * 500
    mistakes = [
        Mistake("test", 12, "where is it", "delivery", "billing", 0.987),
        Mistake("test", 3, long_text, "a", "b", 0.5),
    ]
    page = report(tmp_path, metrics_json(), mistakes)
    assert "12 where is it billing delivery 98.7%" in page.text
    assert "These are 2 of 5 wrong rows" in page.text
    assert "held_out.csv (the header is row 1)" in page.text
    assert long_text not in page.source
    assert "word … b a 50.0%" in page.text
    assert "It quotes 20 texts" in page.text


def test_rows_of_a_split_that_was_cut_off_are_those_of_the_training_file(tmp_path):
    assert "tickets.csv (the header is row 1)" in report(tmp_path, metrics_json(test=None)).text


def test_a_model_without_mistakes_is_reported_as_such(tmp_path):
    page = report(tmp_path, metrics_json(test=measured(LABELS, {(0, 0): 3, (1, 1): 3, (2, 2): 3})))
    assert "No mistakes: all predictions on the test split are correct" in page.text


def test_mistakes_that_are_not_given_are_not_denied(tmp_path):
    page = report(tmp_path, metrics_json())
    assert "The predictions for 5 rows of the test split are wrong. Their texts were left out" in page.text


def test_few_labels_get_a_confusion_matrix_with_the_diagonal_marked(tmp_path):
    page = report(tmp_path, metrics_json())
    cells = [values for tag, values in page.elements if tag == "td" and "--heat" in (values.get("style") or "")]
    assert len(cells) == 9
    assert [index for index, cell in enumerate(cells) if "right" in cell["class"].split()] == [0, 4, 8]
    assert cells[1]["style"] == "--heat: 0.333"


def test_many_labels_get_the_most_confused_pairs_and_the_weakest_labels(tmp_path):
    labels = [f"intent_{number:03}" for number in range(150)]
    counts = {(index, index): 10 for index in range(150)} | {(149, 7): 15}
    page = report(tmp_path, metrics_json(labels, measured(labels, counts)))
    assert page.count("table", "grid") == 0
    assert "intent_149 intent_007 15 60.0%" in page.text
    assert "The 20 weakest of 150 labels" in page.text
    assert page.text.index("intent_149 100.0% 40.0% 57.1%") < page.text.index("All 150 labels")
    assert len(page.source) < 300_000


def test_a_label_that_no_measured_row_carries_has_no_numbers(tmp_path):
    page = report(tmp_path, metrics_json(test=measured(LABELS, {(0, 0): 3, (1, 1): 3})))
    assert "other – – – 0" in page.text


def test_the_curves_come_from_the_history_and_the_log(tmp_path):
    assert report(tmp_path, metrics_json()).count("svg") == 2
    write_log(tmp_path, [1.1, 1.0, 0.9, 0.8, 0.8, 0.7, 0.6, 0.5])
    page = report(tmp_path, metrics_json())
    assert page.count("svg") == 3
    assert "training, smoothed" in page.text
    assert "var(--accent)" in page.source
    assert "#040404" not in page.source


def test_a_training_that_diverged_is_still_drawn(tmp_path):
    write_log(tmp_path, [1.0, 0.9, 0.8, 0.7, 3.0, float("inf")])
    history = metrics_json()["history"][:1]
    metrics = metrics_json(
        history=history, best_epoch=1, stopped="step 6: the loss is nan", warnings=["step 6: the loss is nan"]
    )
    page = report(tmp_path, metrics)
    assert page.count("svg") == 3
    assert "The training ended early: step 6: the loss is nan" in page.text
    assert "nan" not in "".join(re.findall(r' d="([^"]*)"', page.source))


def first_head(**changes: Any) -> dict[str, Any]:
    """The history's entry of epoch 0."""
    scores = {"validation_loss": 0.8, "validation_accuracy": 0.9, "validation_macro_f1": 0.9}
    return {"epoch": 0, "training_loss": None, **scores, **changes}


def test_the_first_head_is_an_epoch_of_the_report_and_the_card(tmp_path):
    trained = [{**entry, "training_loss": 0.5} for entry in metrics_json()["history"]]
    metrics = metrics_json(history=[first_head(), *trained], best_epoch=0)
    page = report(tmp_path, metrics)
    assert "Epoch 0 was the best on the validation split and was exported. Epoch 0 is the last layer" in page.text
    assert "0 (best) – 0.8000 90.0%" in page.text
    assert "Epoch 0 of 2 was the best on the validation split" in card(tmp_path, metrics)[1]


def test_a_model_without_epochs_is_reported_with_the_estimate_in_the_place_of_few_rows(tmp_path):
    history = [first_head(cross_validated_rows=48, cross_validated_accuracy=0.9375)]
    metrics = metrics_json(history=history, best_epoch=0)
    page, text = report(tmp_path, metrics), card(tmp_path, metrics)[1]
    assert "Accuracy (estimated) 93.8%" in page.text
    assert "Only the last layer was fitted" in page.text
    assert "Only the last layer was fitted" in text
    assert "Estimated by cross-validation on 48 training rows, the accuracy is 93.8%" in text
    assert page.count("svg") == 2
    fine_tuned = metrics_json(history=[*history, *metrics_json()["history"]], best_epoch=2)
    assert "estimated" not in report(tmp_path, fine_tuned).text, "the layer's estimate is not that of epoch 2"


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    write_log(tmp_path, [1.0, 0.5] * 4)
    first = report(tmp_path, metrics_json()).source
    assert report(tmp_path, metrics_json()).source == first


def test_folders_of_the_machine_stay_out_of_report_and_card(tmp_path):
    encoder = {**metrics_json()["encoder"], "source": "/home/anna/encoders/mine"}
    metrics = metrics_json(
        encoder=encoder, files={"/home/anna/a/data.csv": "1" * 64, "/home/anna/b/data.csv": "2" * 64}
    )
    page = report(tmp_path, metrics)
    _, body = card(tmp_path, metrics)
    assert "/home/anna" not in page.source + body
    assert "a/data.csv" in page.text
    assert "mine (4 layers" in page.text


def test_what_a_run_adds_is_reported(tmp_path):
    scores = {"accuracy": 0.75, "macro_f1": 0.7, "loss": 0.6}
    spread = {"accuracy": {"mean": 0.75, "deviation": 0.012}, "macro_f1": {"mean": 0.7, "deviation": 0.02}}
    both = ("validation", "test")
    metrics = metrics_json(
        warnings=["epoch 2: stuck"],
        findings=["3 rows are empty", "epoch 2: stuck"],
        calibration={
            "temperature": 1.3,
            "expected_calibration_error": {
                split: {"before": 0.062, "after": 0.02, "exported": 0.021} for split in both
            },
        },
        rejection={split: {"threshold": 0.42, "precision": 0.95, "coverage": 0.83} for split in both},
        seeds={
            "trainings": [
                {
                    "seed": seed,
                    "best_epoch": 1,
                    "history": [],
                    "scores": dict.fromkeys(both, scores),
                    "warnings": [],
                    "stopped": None,
                }
                for seed in (7, 8)
            ],
            **dict.fromkeys(both, spread),
        },
        seconds=754.2,
    )
    page = report(tmp_path, metrics)
    assert "Warning: epoch 2: stuck" in page.text
    assert page.text.count("epoch 2: stuck") == 1
    assert "test 6.2 points 2.1 points" in page.text
    assert "if the probability is below 42.0%, use no label" in page.text
    assert "75.0% ± 1.2%" in page.text
    assert "12 min 34 s" in page.text
    _, body = card(tmp_path, metrics)
    assert "Warning: epoch 2: stuck" in body
    assert "expected calibration error is\n  2.1 points" in body
    assert "75.0% ± 1.2%" in body
    assert "It always gives one of its labels" not in body


# --- The model card --------------------------------------------------------------------------------------------------


def test_the_model_card_begins_with_what_hubs_read(tmp_path):
    front, _ = card(tmp_path, metrics_json())
    assert front["pipeline_tag"] == "text-classification"
    assert "language" not in front, "nobody knows the language of the texts"
    [model] = front["model-index"]
    [result] = model["results"]
    assert result["dataset"]["split"] == "test"
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [("accuracy", 0.75), ("f1", 0.7242)]


def test_the_model_card_names_the_hub_encoder_it_is_based_on(tmp_path):
    encoder = {**metrics_json()["encoder"], "source": "hf:google/mobilebert-uncased"}
    front, body = card(tmp_path, metrics_json(encoder=encoder))
    assert front["base_model"] == "google/mobilebert-uncased"
    assert "language" not in front
    assert "**English only.**" not in body


def test_the_model_card_says_what_is_in_it_and_what_it_cannot_do(tmp_path):
    _, body = card(tmp_path, metrics_json())
    assert "| test | 20 | 75.0% | 53.1% – 88.8% | 72.4% |" in body
    assert "| billing | 75.0% | 66.7% | 70.6% | 9 |" in body
    assert f"| tickets.csv | `{'ab' * 32}` |" in body
    assert "- 3 rows are empty" in body
    assert "| watchers.stuck | warn |" in body
    assert "on 40 rows:\n1 prediction changed" in body
    assert "**English only.**" in body
    assert "after 96 tokens" in body
    assert "fewer than 10 rows in the test split, so their results are uncertain: billing, delivery, other." in body
    assert "textclf classify model.tflite" in body
    assert "TextClassifier.create_from_options" in body


def test_weak_labels_are_admitted(tmp_path):
    weak = measured(LABELS, {(0, 0): 20, (1, 0): 15, (1, 1): 5, (2, 2): 12})
    _, body = card(tmp_path, metrics_json(test=weak))
    assert "Their F1 is below 50%: delivery (40.0%)." in body
    assert "Labels with few measured rows" not in body


def test_a_card_of_sentence_pairs_does_not_promise_what_phones_cannot_do(tmp_path):
    metrics = metrics_json()
    metrics["recipe"]["dataset"]["text"] = ["question", "answer"]
    _, body = card(tmp_path, metrics)
    assert "create_from_options" not in body
    assert "segment_ids" in body
    assert '("the first text", "the second text")' in body


def test_the_card_tells_when_it_speaks_of_validation(tmp_path):
    front, body = card(tmp_path, metrics_json(test=None))
    assert "There was no test split." in body
    assert front["model-index"][0]["results"][0]["dataset"]["split"] == "validation"


def test_labels_do_not_break_the_cards_tables(tmp_path):
    labels = ["a|b", "<i>*c*</i>"]
    _, body = card(tmp_path, metrics_json(labels, measured(labels, {(0, 0): 1, (1, 1): 1})))
    assert r"| a\|b | 100.0% |" in body
    assert r"| \<i\>\*c\*\</i\> | 100.0% |" in body


def test_hidden_characters_and_entities_of_the_data_are_shown_in_both_files(tmp_path):
    labels = ["&lt;b&gt;", "\x1b[31mred\u202e", "- item", "1. first"]
    counts = {(index, index): 12 for index in range(4)} | {(1, 0): 1}
    metrics = metrics_json(labels, measured(labels, counts), findings=["the label \x07"])
    page = report(tmp_path, metrics, [Mistake("test", 4, "a\x00\x1b[2J\u200bb", labels[1], labels[0], 0.9)])
    front, body = card(tmp_path, metrics)
    for text in (page.source, body):
        assert [character for character in text if not character.isprintable() and character not in "\n\xa0"] == []
    assert r"\x1b[31mred\u202e" in page.text
    assert r"a\x00\x1b[2J\u200bb" in page.text
    assert "&lt;b&gt;" in page.text, "shown as the data has it"
    assert r"| \&lt;b\&gt; | " in body
    assert r"2. \\x1b\[31mred\\u202e" in body
    assert r"3. \- item" in body
    assert r"4. 1\. first" in body
    assert front["model-index"][0]["name"] == "tickets"


def test_the_front_matter_names_the_base_model_without_its_revision(tmp_path):
    encoder = {**metrics_json()["encoder"], "source": "hf:google/mobilebert-uncased@main"}
    front, _ = card(tmp_path, metrics_json(encoder=encoder))
    assert front["base_model"] == "google/mobilebert-uncased"


def test_both_files_can_be_written_without_the_recipe(tmp_path):
    metrics = metrics_json()
    del metrics["recipe"]
    assert "Recipe, with every default" not in report(tmp_path, metrics).text
    _, body = card(tmp_path, metrics)
    assert "Seed 7." in body
