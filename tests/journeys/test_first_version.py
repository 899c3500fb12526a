"""What the first textclf wrote still works: a finished run, an interrupted training and an interrupted job.

The files are in tests/fixtures/first_version and were made in the folder MADE_IN. Each test copies them, and replaces the
folder's name where the first textclf wrote it, as if they had been made at the new place.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import textclf
from tests.command import run
from tests.predicted_rows import predicted_rows
from textclf.classify.tables.job import classify_file
from textclf.encoders.sources.builtin import EARLIER
from textclf.errors import RunError
from textclf.recipe.reading import load_recipe
from textclf.runs.pages.report import write_report
from textclf.runs.tasks.classification.record import ClassificationMetrics
from textclf.training.saved.run_folder import read_metrics

FIXTURE = Path(__file__).parent.parent / "fixtures" / "first_version"
MADE_IN = "/tmp/reviews"
STATE = Path("runs") / ".interrupted.unfinished" / "checkpoints" / "last.safetensors"
# SHA-256 over configuration, weights and vocabulary of the encoder.
ENCODER = json.loads((FIXTURE / "runs" / "reviews" / "metrics.json").read_text())["encoder"]["sha256"]


def first_fingerprint(folder: str) -> str:
    """What the first textclf saved in the state of this training: its formula on the recipe's text of that time."""
    recipe = (FIXTURE / "runs" / "reviews" / "recipe.yaml").read_text().replace(MADE_IN, folder)
    files = sorted(hashlib.sha256((FIXTURE / name).read_bytes()).hexdigest() for name in ("train.csv", "test.csv"))
    return hashlib.sha256(json.dumps([recipe, files, ENCODER]).encode()).hexdigest()


def saved_fingerprint(file: Path) -> str:
    return str(json.loads(header_of(file)["__metadata__"]["facts"])["fingerprint"])


def header_of(file: Path) -> dict[str, dict[str, str]]:
    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return dict(json.loads(content[8 : 8 + size]))


def replace_in(file: Path, old: str, new: str) -> None:
    """Replaces a text that occurs once, by one of the same length where the file is binary."""
    content = file.read_bytes()
    assert content.count(old.encode()) == 1
    file.write_bytes(content.replace(old.encode(), new.encode()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All files of the fixture as if they had been made here, which is the current folder."""
    copy = Path(shutil.copytree(FIXTURE, tmp_path / "reviews"))
    recipe = copy / "runs" / "reviews" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(MADE_IN, str(copy)))
    replace_in(copy / STATE, first_fingerprint(MADE_IN), first_fingerprint(str(copy)))
    monkeypatch.chdir(copy)
    return copy


def rows_of(file: str) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def test_the_saved_fingerprint_is_the_one_that_these_tests_compute():
    assert saved_fingerprint(FIXTURE / STATE) == first_fingerprint(MADE_IN)


# --- A finished run ---------------------------------------------------------------------------------------------------
def test_the_model_of_a_first_run_classifies_as_its_metrics_say(folder, capsys):
    assert run("evaluate", "runs/reviews/model.tflite", "test.csv", "--json") == 0
    recorded = read_metrics(Path("runs/reviews"))["test"]
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == pytest.approx(recorded["accuracy"]) == pytest.approx(59 / 60)
    assert measured["loss"] == pytest.approx(recorded["loss"], abs=0.01)
    with textclf.Classifier("runs/reviews") as classifier:
        assert classifier.labels == ["bad", "good"]
        assert classifier.classify(["a great film", "the food was awful"])[0].label == "good"
        assert classifier.classify(["a great film", "the food was awful"])[1].label == "bad"


def test_a_first_run_can_be_inspected_and_verified(folder, capsys):
    assert run("inspect", "runs/reviews", "--json") == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["bad", "good"]
    assert run("verify", "runs/reviews/model.tflite", "--run", "runs/reviews", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert report["parity"]["rows"] == 92
    assert report["parity"]["changed_labels"] == 0
    assert report["parity"]["accuracy_trained"] == pytest.approx(90 / 92)


@pytest.mark.parametrize("form", ["float16", "int4", "none"])
def test_a_first_run_is_exported_in_other_forms(folder, form):
    assert run("export", "runs/reviews", f"quantization={form}", "export.max_lost_accuracy=0.1") == 0
    assert run("verify", f"runs/reviews/model-{form}.tflite", "--run", "runs/reviews") == 0


def test_a_first_run_is_exported_from_its_own_weights_although_the_built_in_encoder_changed(folder, capsys):
    """As if the run had begun with the built-in encoder of its version."""
    assert run("export", "runs/reviews", "quantization=float16", "-o", "before.tflite") == 0
    assert "the built-in encoder changed" not in capsys.readouterr().err
    first_small = next(iter(EARLIER))
    replace_in(Path("runs/reviews/recipe.yaml"), f"source: {folder}/encoder", "source: builtin")
    replace_in(Path("runs/reviews/metrics.json"), ENCODER, first_small)
    assert run("export", "runs/reviews", "quantization=float16", "-o", "after.tflite") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "runs/reviews: the built-in encoder changed: it was mobilebert-small of textclf 0.1 (SHA-256 63fc8013…), and "
        in said
    )
    assert "the run's own weights are exported" in said
    assert Path("after.tflite").read_bytes() == Path("before.tflite").read_bytes()


def test_the_report_of_a_first_run_is_drawn_again_from_its_metrics(folder):
    assert "version" not in read_metrics(Path("runs/reviews"))
    metrics = ClassificationMetrics.read(Path("runs/reviews"))
    assert metrics.best_epoch == 7
    write_report(folder, metrics, [], predicted_rows(next(iter(metrics.measured.values()))))
    report = (folder / "report.html").read_text()
    assert "98.3" in report
    assert "96.9" in report


def test_the_checkpoint_of_a_first_run_is_the_encoder_of_another_recipe(folder):
    recipe = load_recipe(folder / "recipe.yaml", ["encoder.source=runs/reviews/checkpoints/best", "training.epochs=1"])
    assert Path(recipe.encoder.source) == folder / "runs" / "reviews" / "checkpoints" / "best"
    trained = textclf.train(recipe, folder / "runs" / "next", quiet=True)
    # It starts from an encoder that has learned these texts.
    assert trained.metrics["history"][0]["validation_accuracy"] > 0.9


# --- An interrupted training ------------------------------------------------------------------------------------------
def test_an_interrupted_training_of_the_first_textclf_is_continued(folder, capsys):
    assert run("train", "recipe.yaml", "--run-dir", "runs/interrupted", "--resume") == 0
    assert "Resuming at step 80 of 128" in capsys.readouterr().err
    continued, undisturbed = read_metrics(Path("runs/interrupted")), read_metrics(Path("runs/reviews"))
    assert continued["history"][:5] == undisturbed["history"][:5]
    assert len(continued["history"]) == 8
    # Equal to the bit on the machine that made the files; other processors round otherwise.
    for ours, theirs in zip(continued["history"], undisturbed["history"], strict=True):
        assert ours["training_loss"] == pytest.approx(theirs["training_loss"], abs=0.02)
    if continued["best_epoch"] == undisturbed["best_epoch"]:
        best = Path("checkpoints/best/encoder.safetensors")
        theirs_arrays = load_file(Path("runs/reviews") / best)
        for name, array in load_file(Path("runs/interrupted") / best).items():
            assert np.abs(array - theirs_arrays[name]).max() < 0.01, name


def test_a_first_training_is_not_continued_with_another_recipe_or_other_data(folder, tmp_path):
    def resume(*overrides: str) -> None:
        recipe = load_recipe(folder / "recipe.yaml", list(overrides))
        textclf.train(recipe, folder / "runs" / "interrupted", resume=True, quiet=True)

    with pytest.raises(
        RunError, match=r"saved by an older textclf, for another recipe.*; undo the change, or start it"
    ):
        resume("training.epochs=9")
    train = folder / "train.csv"
    train.write_text(train.read_text().replace("good", "fine", 1))
    with pytest.raises(RunError, match="saved by an older textclf, for another recipe, other data"):
        resume()
    assert (folder / STATE).is_file()


def test_a_first_training_whose_rows_would_be_split_differently_is_not_continued(folder):
    """Texts that differ in capitals alone were different texts for the first textclf, and may be in two splits."""
    train = folder / "train.csv"
    content = train.read_bytes()
    with train.open("a", encoding="utf-8", newline="") as table:
        for row in rows_of("train.csv"):
            csv.writer(table).writerow([row["id"], row["review"].upper(), row["mood"]])
    old, new = hashlib.sha256(content).hexdigest(), hashlib.sha256(train.read_bytes()).hexdigest()
    recipe = (folder / "runs" / "reviews" / "recipe.yaml").read_text()
    test = hashlib.sha256((folder / "test.csv").read_bytes()).hexdigest()
    before, after = (
        hashlib.sha256(json.dumps([recipe, sorted([digest, test]), ENCODER]).encode()).hexdigest()
        for digest in (old, new)
    )
    replace_in(folder / STATE, before, after)
    with pytest.raises(RunError, match="saved by an older textclf, which split these rows differently"):
        textclf.train(load_recipe(folder / "recipe.yaml"), folder / "runs" / "interrupted", resume=True, quiet=True)


# --- An interrupted job -----------------------------------------------------------------------------------------------
def test_an_interrupted_job_of_the_first_textclf_is_continued(folder):
    kept = Path(".out.csv.unfinished").read_bytes()
    entry = json.loads(Path(".out.csv.journal").read_text())
    assert "version" not in entry
    assert entry["settings"]["text_wanted_by"]
    job = ("classify", "runs/reviews/model.tflite", "big.csv", "-o")
    assert run(*job, "out.csv") == 2
    assert run(*job, "out.csv", "--resume") == 0
    assert run(*job, "undisturbed.csv") == 0
    written, undisturbed = Path("out.csv").read_bytes(), Path("undisturbed.csv").read_bytes()
    assert written.startswith(kept[: entry["size"]])
    assert written[entry["size"] :] == undisturbed[-len(written[entry["size"] :]) :]
    rows, expected = rows_of("out.csv"), rows_of("undisturbed.csv")
    assert [row["predicted_label"] for row in rows] == [row["predicted_label"] for row in expected]
    assert len(rows) == 1200
    for row, other in zip(rows[:64], expected[:64], strict=True):
        assert float(row["predicted_score"]) == pytest.approx(float(other["predicted_score"]), abs=0.01)
    assert not list(folder.glob(".out.csv*"))


def test_an_interrupted_job_of_the_first_textclf_is_not_continued_with_other_settings(folder):
    with pytest.raises(RunError, match=r"started with other settings \(top_k\)"):
        classify_file("runs/reviews/model.tflite", "big.csv", "out.csv", top_k=2, resume=True)


def test_a_changed_input_of_a_first_job_is_noticed(folder):
    content = Path("big.csv").read_text()
    Path("big.csv").write_text(content.replace("\n1,", "\n1,great ", 1))
    with pytest.raises(RunError, match="first 64 rows are not those that the interrupted job has classified"):
        classify_file("runs/reviews/model.tflite", "big.csv", "out.csv", resume=True)
