"""A run with several labels per row, from the recipe to the labels in a table."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import textclf
from tests.browser import needs_browser
from tests.command import run as command
from tests.label_sets import FOUR_COLUMNS, TOPICS, topic_rows, write_topic_recipe, write_topics
from tests.stores import Web, web_server
from tests.tiny import write_recipe
from textclf import Classifier, LabelSetMetrics, evaluate_file, evaluate_label_sets, export, list_runs, train, verify
from textclf.classify.multi_label.thresholds import thresholds_of
from textclf.errors import ArgumentError, DataError, ModelError, RecipeError, RunError, TextclfError
from textclf.exporting.apps import CONSUMERS, installed_consumers
from textclf.runs.tasks.multi_label.record import LabelSetRunMetrics
from textclf.tflite.metadata import read_metadata
from textclf.training.saved.run_folder import load_state, save_state


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A recipe with its finished run."""
    folder = tmp_path_factory.mktemp("topics")
    train(write_topic_recipe(folder, rows=400, epochs=6, learning_rate=3e-3), folder / "run", quiet=True)
    return folder


@pytest.fixture(scope="module")
def columns(tmp_path_factory, folder) -> Path:
    """A run of the fitted head on tables in memory, with a column for each label."""
    place = tmp_path_factory.mktemp("columns")
    recipe = write_topic_recipe(place, FOUR_COLUMNS, encoder=str(folder / "encoder"), epochs=0)
    frames = {
        name: [
            {"text": text, **{topic: topic in topics for topic in TOPICS}, "number": number}
            for number, (text, topics) in enumerate(topic_rows(rows, seed))
        ]
        for name, rows, seed in (("train", 120, 0), ("test", 40, 1))
    }
    train(recipe, place / "run", data=frames, quiet=True)
    return place


@pytest.fixture
def run(folder, tmp_path) -> Path:
    """A copy of the finished run, beside its data."""
    for name in ("train.csv", "test.csv"):
        shutil.copy(folder / name, tmp_path)
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


# --- The run ---------------------------------------------------------------------------------------------------------
def test_the_record_has_the_task_the_thresholds_and_the_metrics_of_each_label(folder):
    values = json.loads((folder / "run" / "metrics.json").read_text())
    [listed] = list_runs(folder / "run").runs
    assert listed.score is not None
    assert (listed.score.name, list(listed.score.interval)) == ("micro-F1", values["test"]["micro_f1_interval"])
    assert list(values)[:4] == ["format", "version", "task", "name"]
    assert values["task"] == "multi-label-classification"
    assert values["labels"] == sorted(TOPICS)
    assert set(values["history"][0]) >= {"validation_micro_f1", "validation_mean_average_precision"}
    assert values["best_epoch"] == min(values["history"], key=lambda entry: entry["validation_loss"])["epoch"]
    per_label = values["test"]["per_label"]
    assert [label["threshold"] for label in per_label] == values["thresholds"]["values"]
    assert len(values["calibration"]["factors"]) == 4
    assert json.loads(json.dumps(LabelSetRunMetrics.read(folder / "run").as_dict())) == values
    assert "task: multi-label-classification" in (folder / "run" / "recipe.yaml").read_text()


def test_the_easy_topics_are_learned_and_the_recorded_results_are_those_of_the_file(folder):
    recorded = LabelSetRunMetrics.read(folder / "run").test
    assert recorded is not None
    assert recorded.micro_f1 > 0.6
    measured = evaluate_label_sets(folder / "run", folder / "test.csv")
    assert isinstance(measured, LabelSetMetrics)
    assert measured == recorded


def test_the_pages_show_thresholds_confused_labels_and_mistakes(folder):
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "Micro-F1 (test)" in page
    assert "exactly the right labels" in page
    assert "Confused labels" in page
    assert page.count("<th>Threshold</th>") == page.count("Confusion matrix") == 0
    card = (folder / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "predicts any number of 4 labels" in card
    assert "print(prediction.labels, prediction.scores)" in card
    assert "multi-label-classification" in card


@needs_browser
def test_a_number_of_the_report_opens_the_rows_with_missing_and_wrong_labels(browser, folder):
    with (folder / "run" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "text", "true_labels", "predicted_labels"]
    sets = {row["row"]: (set(row["true_labels"].split("|")), set(row["predicted_labels"].split("|"))) for row in rows}
    recorded = LabelSetRunMetrics.read(folder / "run")
    labels, test = recorded.labels, recorded.test
    assert test is not None
    assert sum(true == given for true, given in sets.values()) == test.exact_rows
    browser.open((folder / "run" / "report.html").as_uri())
    browser.wait("document.readyState === 'complete' && document.querySelector('.found').textContent")
    visible = "[...document.querySelectorAll('#rows tbody tr')].filter(row => row.getClientRects().length)"
    for missing, wrong, count in test.confusions:
        browser.run(f"document.querySelector('#confusion a[href=\"#rows-{missing}-{wrong}\"]').click()")
        browser.wait(f"document.querySelector('.found').textContent.startsWith('{count} of ')")
        expected = [
            row
            for row, (true, given) in sets.items()
            if labels[missing] in true - given and labels[wrong] in given - true
        ]
        found = browser.run(f"{visible}.map(row => row.cells[0].textContent)")
        assert sorted(found) == sorted(expected)
    [label] = [label for label in test.per_label if label.label == labels[0]]
    browser.run("document.querySelector('#labels a[href=\"#rows-0-\"]').click()")
    browser.wait(f"document.querySelector('.found').textContent.startsWith('{label.support} of ')")
    assert browser.logged == []


def test_an_onnx_file_predicts_the_labels_of_the_run(folder, tmp_path):
    path, report = export(folder / "run", ["quantization=none"], tmp_path / "topics.onnx", to="onnx")
    assert report.problems == []
    assert report.parity is not None
    texts = [text for text, _ in topic_rows(20, seed=3)]
    with Classifier(path) as onnx, Classifier(folder / "run") as tflite:
        assert onnx.thresholds.tolist() == tflite.thresholds.tolist()
        np.testing.assert_allclose(
            onnx.probabilities([(text,) for text in texts]),
            tflite.probabilities([(text,) for text in texts]),
            atol=0.05,
        )


def test_a_resumed_training_ends_with_the_same_bytes(tmp_path):
    from tests.fitting import fit_into, interrupted_at
    from textclf.data.multi_label.dataset import load_label_sets
    from textclf.recipe.reading import load_recipe
    from textclf.training.multi_label.task import MultiLabel

    # Averaged words are compiled in a second.
    recipe = load_recipe(
        write_topic_recipe(tmp_path, encoder="average-words", rows=80, epochs=2, class_weights="balanced")
    )

    def stop() -> None:
        raise KeyboardInterrupt

    arguments = {"task": MultiLabel, "read": load_label_sets}
    whole = fit_into(tmp_path / "whole", recipe, **arguments).task.model.state()
    with pytest.raises(KeyboardInterrupt):
        fit_into(tmp_path / "again", recipe, seconds_between_saves=0.0, step_kind=interrupted_at(4, stop), **arguments)
    resumed = fit_into(tmp_path / "again", recipe, resume=True, **arguments).task.model.state()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_tables_in_memory_with_a_column_for_each_label_are_trained_on_and_kept(columns):
    metrics = LabelSetRunMetrics.read(columns / "run")
    assert list(metrics.labels) == list(TOPICS)
    assert metrics.best_epoch == 0
    kept = (columns / "run" / "data" / "train.csv").read_text().splitlines()[0]
    assert kept == '"text","broken","late","praise","refund","number"'
    assert "labels_from:" in (columns / "run" / "recipe.yaml").read_text()
    frame = [{"text": "slow bank", **dict.fromkeys(TOPICS, 0), "late": 1}]
    assert evaluate_label_sets(columns / "run", frame).rows == 1
    joined = [{"text": "slow bank", "tags": "late|refund"}]
    assert evaluate_label_sets(columns / "run", joined, label_column="tags").true_labels == 2


# --- Use -------------------------------------------------------------------------------------------------------------
def test_a_table_gets_the_labels_joined_by_the_separator(folder, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n1,the bank is slow 3\n2,\n3,the film\n")
    summary = textclf.classify_file(folder / "run", tmp_path / "in.csv", tmp_path / "out.csv", scores=True)
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert list(rows[0]) == ["id", "text", "predicted_labels", *(f"score:{topic}" for topic in sorted(TOPICS)), "error"]
    with Classifier(folder / "run") as classifier:
        first, second, third = classifier.classify(["the bank is slow 3", "", "the film"])
        thresholds = dict(zip(classifier.labels, classifier.thresholds, strict=True))
    assert first.labels == tuple(label for label in sorted(TOPICS) if first.scores[label] >= thresholds[label])
    assert [row["predicted_labels"] for row in rows] == [first.label, "", third.label]
    assert first.label == "|".join(first.labels)
    assert rows[1]["error"].startswith("empty: ")
    assert second.error
    assert (summary.rows, summary.classified, summary.errors) == (3, 2, {"empty": 1})
    assert sum(summary.labels.values()) == len(first.labels) + len(third.labels)
    assert summary.without_label == (not first.labels) + (not third.labels)


def test_the_predictions_of_a_run_have_the_separator_of_the_recipe(folder, tmp_path):
    dataset = {"label": "topics", "label_separator": '";"'}
    recipe = write_topic_recipe(tmp_path, dataset, encoder=str(folder / "encoder"), epochs=0)
    for name in ("train.csv", "test.csv"):
        rows = [row[:2] for row in csv.reader((tmp_path / name).open(newline=""))]
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows(
                [text, topics.replace("|", ";").replace("late", "late|slow")] for text, topics in rows
            )
    train(recipe, tmp_path / "run", quiet=True)
    true = dict(csv.reader((tmp_path / "test.csv").open(newline="")))
    with (tmp_path / "run" / "predictions.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    known = {"late|slow", *TOPICS} - {"late"}
    assert any("late|slow;" in row["true_labels"] for row in found)
    for row in found:
        assert set(row["true_labels"].split(";")) == set(true[row["text"]].split(";"))
        assert set(row["predicted_labels"].split(";")) <= {"", *known}


def test_a_frame_gets_labels_an_empty_text_none_and_a_text_without_topic_an_empty_string(folder):
    with Classifier(folder / "run") as classifier:
        rows = classifier.classify_frame([{"text": "slow"}, {"text": None}], reject_below=1.0)
        assert rows == [{"text": "slow", "predicted_labels": ""}, {"text": None, "predicted_labels": None}]
        [everything] = classifier.classify(["slow"], reject_below=0.0)
        assert everything.labels == tuple(sorted(TOPICS))


def test_options_for_one_label_are_refused(folder, tmp_path):
    write_topics(tmp_path / "in.csv", 3)
    with pytest.raises(ArgumentError, match=r"top_k \(--top-k\) is 2, but the model gives a row any number of labels"):
        textclf.classify_file(folder / "run", tmp_path / "in.csv", tmp_path / "out.csv", top_k=2)
    with pytest.raises(ModelError, match="measure it with evaluate_label_sets"):
        evaluate_file(folder / "run", tmp_path / "in.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_classified_table_is_compared_with_its_true_labels(folder, tmp_path):
    measured = evaluate_label_sets(folder / "run", folder / "test.csv")
    summary = textclf.classify_file(folder / "run", folder / "test.csv", tmp_path / "out.csv", where_label=True)
    assert (summary.compared_rows, summary.micro_f1, summary.exact_match) == (
        60,
        pytest.approx(measured.micro_f1),
        pytest.approx(measured.exact_match),
    )
    assert summary.macro_f1 == pytest.approx(measured.macro_f1)
    for label in measured.per_label:
        counts = summary.decisions[label.label]
        assert counts["right"] + counts["missed"] == label.support
        assert counts["right"] + counts["wrong"] == label.predicted
    assert f"micro-F1 {measured.micro_f1:.1%}, macro-F1" in summary.as_text()
    assert (summary.accuracy, summary.confusion, summary.unknown_truths) == (None, None, 0)
    # Several chunks of rows, each with its counts, are added up.
    many = write_topics(tmp_path / "many.csv", 300, seed=5)
    together = textclf.classify_file(folder / "run", many, tmp_path / "many-out.csv", where_label=True)
    assert together.micro_f1 == pytest.approx(evaluate_label_sets(folder / "run", many).micro_f1)


def test_true_labels_are_also_read_from_lists_and_from_a_column_for_each_label(folder, columns, tmp_path):
    rows = topic_rows(60, seed=1)
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"text": text, "topics": topics}) + "\n" for text, topics in rows)
    )
    of_lists = textclf.classify_file(folder / "run", tmp_path / "in.jsonl", tmp_path / "a.jsonl", where_label=True)
    of_text = textclf.classify_file(folder / "run", folder / "test.csv", tmp_path / "a.csv", where_label=True)
    assert of_lists.decisions == of_text.decisions
    model = columns / "run"
    of_flags = textclf.classify_file(model, folder / "test.csv", tmp_path / "b.csv", where_label=True)
    assert of_flags.micro_f1 == pytest.approx(evaluate_label_sets(model, folder / "test.csv").micro_f1)
    named = textclf.classify_file(model, folder / "test.csv", tmp_path / "c.csv", label_column="topics")
    assert named.decisions == of_flags.decisions
    assert (tmp_path / "c.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_rows_with_true_labels_that_the_model_does_not_know_are_not_compared(folder, columns, tmp_path, capsys):
    (tmp_path / "in.csv").write_text("text,topics\nslow,late|unknown\nlate,\nbank,refund\n,late\n")
    assert (
        command("classify", folder / "run", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--where-label", "--json")
        == 3  # one row has no text
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["compared_rows"], found["unknown_truths"]) == (2, 1)
    assert found["unknown_labels"].startswith("`unknown` (1 row, first ")
    (tmp_path / "in.csv").write_text("text,topics\nslow,other\n")
    with pytest.raises(
        DataError, match="there is no micro-F1: the model knows none of the true labels in column `topics`"
    ):
        textclf.classify_file(folder / "run", tmp_path / "in.csv", tmp_path / "x.csv", where_label=True)
    (tmp_path / "flags.csv").write_text("text,broken,late,praise,refund\nslow,maybe,1,0,0\n")
    with pytest.raises(DataError, match="none of the true labels in the columns of the labels: `maybe`"):
        textclf.classify_file(columns / "run", tmp_path / "flags.csv", tmp_path / "y.csv", where_label=True)


def test_rows_that_cannot_be_measured_are_errors_in_the_words_of_the_call(folder, tmp_path):
    (tmp_path / "bad.csv").write_text("text,topics\nslow,late|unknown\n")
    with pytest.raises(DataError, match=r"bad.csv: `unknown` in row 2, but the labels of the model are"):
        evaluate_label_sets(folder / "run", tmp_path / "bad.csv")
    with pytest.raises(DataError, match=r"there is no column `tags`"):
        evaluate_label_sets(folder / "run", tmp_path / "bad.csv", label_column="tags")


def test_the_commands_show_labels_thresholds_and_metrics(folder, capsys):
    assert command("evaluate", folder / "run", folder / "test.csv") == 0
    assert "exact match" in capsys.readouterr().out
    assert command("classify", folder / "run", "--text-input", "slow", "--scores") == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert command("classify", folder / "run", "--text-input", "slow", "--reject-below", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"labels": []}
    assert command("inspect", folder / "run") == 0
    assert "thresholds    broken 0." in capsys.readouterr().out
    assert command("check", folder / "recipe.yaml") == 0
    assert "Rows with two labels or more: " in capsys.readouterr().out


# --- Export and comparison -------------------------------------------------------------------------------------------
def test_a_run_is_exported_again_and_compared_with_the_trained_model(run):
    path, report = export(run, ["quantization=none"])
    assert report.problems == []
    assert report.parity is not None
    assert report.as_dict()["parity"]["changed_sets"] == 0
    assert report.as_dict()["parity"]["largest_difference"] < 1e-4
    again = verify(path, run.parent / "test.csv", run=run)
    assert again.problems == []
    measured = verify(path, run.parent / "test.csv")
    assert measured.rows is not None
    assert [name for name, _, _ in measured.rows.scores] == ["Micro-F1", "Macro-F1"]
    texts = verify(path, [{"text": "no labels here"}])
    assert "no labels to compare with" in texts.as_text()


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_real_consumer_returns_the_same_probability_of_every_label(name, run):
    if name not in installed_consumers():
        pytest.skip(f"{name} is not installed")
    path, _ = export(run, ["quantization=none", "compatibility=task-library"])
    report = verify(path, consumers=[name])
    assert report.problems == []
    [result] = report.consumers
    assert result.as_text().startswith(f"compared with {name}: 0 of ")


def test_verify_notices_other_weights_and_damaged_thresholds(run):
    head = run / "checkpoints" / "best" / "head.safetensors"
    arrays, facts = load_state(head)
    save_state(head, {**arrays, "head/kernel": -arrays["head/kernel"]}, facts)
    [problem] = verify(run / "model.tflite", run=run).problems
    assert "clearly other labels than the trained model" in problem
    save_state(head, arrays, {"thresholds": [0.1] * 4})
    [problem] = verify(run / "model.tflite", run=run).problems
    assert "the thresholds of the labels are not those of" in problem
    save_state(head, arrays, {"thresholds": [0.1, 2]})
    with pytest.raises(RunError, match="its thresholds are damaged"):
        verify(run / "model.tflite", run=run)


def test_runs_are_compared_on_the_same_rows(folder, columns, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder / "run", other)
    for name in ("train.csv", "test.csv"):
        shutil.copy(folder / name, tmp_path)
    comparison = textclf.compare([folder / "run", other], tmp_path / "compared", data=folder / "test.csv", quiet=True)
    values = comparison.as_dict()
    assert values["task"] == "multi-label-classification"
    assert values["pairs"][0]["micro_f1"] == 0
    assert values["disagreeing_rows"] == 0
    assert (tmp_path / "compared" / "comparison.md").read_text().count("micro-F1") >= 2
    write_recipe(tmp_path, encoder=folder / "encoder")
    with pytest.raises(TextclfError, match="compare models of one task"):
        textclf.compare([folder / "run", textclf.load_recipe(tmp_path / "recipe.yaml")], tmp_path / "c", quiet=True)


def test_rows_that_cannot_be_measured_are_told_before_a_recipe_is_trained(folder, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained before the data were checked")

    monkeypatch.setattr("textclf.runs.train.train", never)
    (tmp_path / "bad.csv").write_text("text,topics\nslow,late|unknown\n")
    with pytest.raises(DataError, match="`unknown` in row 2"):
        textclf.compare([folder / "run", folder / "recipe.yaml"], tmp_path / "c", data=tmp_path / "bad.csv", quiet=True)
    assert not (tmp_path / "c").exists()


def test_engines_cannot_be_compared(folder):
    with pytest.raises((RecipeError, ArgumentError), match="model-maker"):
        textclf.compare(folder / "recipe.yaml", quiet=True)


def test_tables_at_addresses_are_measured_and_their_signature_is_shown_nowhere(folder, tmp_path, caplog, capsys):
    pytest.importorskip("fsspec")
    token = "s3cr3t-signature"
    files = {"/test.csv": (folder / "test.csv").read_bytes(), "/train.csv": (folder / "train.csv").read_bytes()}
    files["/bad.csv"] = b"text,topics\nslow,late|unknown\n"
    model = folder / "run" / "model.tflite"
    with web_server(Web(files)) as server:
        address = f"{server.url}/test.csv?token={token}"
        assert evaluate_label_sets(model, address) == evaluate_label_sets(model, folder / "test.csv")
        assert command("evaluate", model, address, "--json") == 0
        assert verify(model, address).rows == replace(
            verify(model, folder / "test.csv").rows, data=f"{server.url}/test.csv?***"
        )
        compared = verify(model, address, run=folder / "run")
        assert (compared.problems, compared.parity.rows) == ([], 60)
        textclf.demo(model, tmp_path / "page.html", examples_from=address)
        evaluate_label_sets(model, f"{server.url}/train.csv?token={token}")
        assert f"{server.url}/train.csv?***: the model was trained on this file" in caplog.text
        for name in ("bad.csv", "none.csv"):
            with pytest.raises(DataError, match=rf"/{name}\?\*\*\*") as raised:
                evaluate_label_sets(model, f"{server.url}/{name}?token={token}")
            assert token not in str(raised.value)
    assert token not in "".join([*capsys.readouterr(), caplog.text, (tmp_path / "page.html").read_text()])


def test_what_cannot_be_read_with_such_arguments_is_told_by_name(folder, tmp_path):
    model, table = folder / "run" / "model.tflite", folder / "test.csv"
    with pytest.raises(ArgumentError, match=r"label_column \(--label\) is .*5.*, but must be plain text"):
        evaluate_label_sets(model, table, label_column=5)
    with pytest.raises(ArgumentError, match=r"data is .*, which is not UTF-8; rename the file or its folder"):
        evaluate_label_sets(model, tmp_path / os.fsdecode(b"\xff.csv"))


def test_a_damaged_record_is_an_error_that_names_the_key(run):
    values = json.loads((run / "metrics.json").read_text())
    values["test"] = {"micro_f1": 1}
    (run / "metrics.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"metrics\.json: the metrics are damaged: `test`"):
        LabelSetRunMetrics.read(run)


def test_a_model_without_a_threshold_for_each_label_is_refused(folder):
    metadata = read_metadata(folder / "run" / "model.tflite")
    settings = metadata.settings or {}
    for thresholds, problem in (([0.5] * 3, "has 3 thresholds for 4 labels"), (None, "has no thresholds")):
        changed = {**settings, "thresholds": thresholds}
        with pytest.raises(ModelError, match=f"m.tflite: textclf.json {problem}; expected one for each label"):
            thresholds_of("m.tflite", replace(metadata, settings=changed))
    assert thresholds_of("m.tflite", replace(metadata, settings={"task": "text-classification"})) is None
