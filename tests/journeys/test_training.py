"""Options of the training through the front door: each changes what it should."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import textclf
from tests.command import run
from tests.tiny import tiny_checkpoint, write_recipe, write_reviews
from textclf.classify.classifier import Classifier
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import RecipeError, TextclfError
from textclf.tflite.metadata import read_metadata


@pytest.fixture
def train(tmp_path):
    """Trains a small recipe with overrides and returns the finished run."""

    def run(*overrides: str, folder: str = "run", **settings: Any) -> textclf.Run:
        path = write_recipe(tmp_path, **{"rows": 80, "epochs": 1, **settings})
        return textclf.train(textclf.load_recipe(path, overrides), tmp_path / folder, quiet=True)

    return run


def events(run: textclf.Run, event: str) -> list[dict[str, Any]]:
    lines = (run.dir / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def test_several_seeds_are_summed_up_and_the_best_one_is_exported(train, tmp_path):
    run = train("training.seeds=[4, 5]", epochs=3)
    seeds = run.metrics["seeds"]
    accuracies = [result["scores"]["validation"]["accuracy"] for result in seeds["trainings"]]
    assert [result["seed"] for result in seeds["trainings"]] == [4, 5]
    assert seeds["validation"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert seeds["validation"]["accuracy"]["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert "accuracy" in seeds["test"]
    winner = seeds["trainings"][[4, 5].index(run.metrics["seed"])]
    assert winner["scores"]["validation"]["accuracy"] == max(accuracies)
    assert winner["history"] == run.metrics["history"]
    logs = [(run.dir / f"log-seed-{seed}.jsonl").read_bytes() for seed in (4, 5)]
    assert logs[0] != logs[1]
    assert (run.dir / "log.jsonl").read_bytes() == logs[[4, 5].index(run.metrics["seed"])]
    # The second training is what it would have been alone, on the same splits.
    alone = train("training.seeds=[5, 6]", epochs=3, folder="alone")
    assert alone.metrics["seeds"]["trainings"][0] == seeds["trainings"][1]


def test_a_training_that_learns_nothing_is_said_and_stopped_early(train, tmp_path):
    settings = ("training.early_stopping=2", "training.learning_rate=1e-12", "training.freeze=1", "training.head=fresh")
    run = train(*settings, epochs=6)
    assert len(run.metrics["history"]) == 3
    assert run.metrics["best_epoch"] == 1
    assert "no better validation result for 2 epochs" in run.metrics["stopped"]
    assert any("not clearly below" in warning for warning in run.metrics["warnings"])
    assert run.metrics["warnings"][0] in (run.dir / "report.html").read_text()
    kept = load_checkpoint(str(run.dir / "checkpoints" / "best"))
    source = load_checkpoint(str(tmp_path / "encoder"))
    assert all(np.array_equal(kept.weights[name], array) for name, array in source.weights.items())
    with pytest.raises(TextclfError, match=r"not clearly below.*training.watchers.stuck is fail"):
        train("training.watchers.stuck=fail", "training.learning_rate=1e-12", "training.head=fresh", folder="other")


def test_class_weights_pull_predictions_towards_the_heavy_label(train, tmp_path):
    texts = [(row["review"],) for row in csv.DictReader(write_reviews(tmp_path / "new.csv", 40, seed=9).open())]

    def mean_good(weights: str) -> float:
        settings = (f"training.class_weights={weights}", "training.calibrate=false", "training.freeze=1")
        settings += ("training.learning_rate=0.03", "export.quantization=none")
        run = train(*settings, epochs=3, folder=f"run{len(weights)}")
        return float(Classifier(run.model_path).probabilities(texts)[:, 1].mean())

    assert mean_good("{good: 30}") > mean_good("{bad: 8}") + 0.1
    with pytest.raises(RecipeError, match="did you mean `good`"):
        train("training.class_weights={goood: 2}", folder="misspelt")


def test_the_threshold_for_a_precision_is_in_the_model(train):
    run = train("training.reject_for_precision=0.8", epochs=10, rows=160)
    rejection = run.metrics["rejection"]
    threshold = rejection["validation"]["threshold"]
    assert read_metadata(run.model_path).settings.get("reject_below", 0.0) == threshold
    assert rejection["validation"]["precision"] >= 0.8
    assert 0.5 < rejection["test"]["coverage"] <= 1.0
    errors = run.metrics["calibration"]["expected_calibration_error"]
    assert errors["test"].keys() == {"before", "after", "exported"}
    # Labels stay and the file carries the temperature: its probabilities are those of the calibrated model.
    assert errors["validation"]["exported"] == pytest.approx(errors["validation"]["after"], abs=0.05)


def test_an_encoder_of_enormous_outputs_starts_at_the_loss_of_guessing(tmp_path):
    checkpoint = tiny_checkpoint()
    norm = "encoder/layer_1/output/bottleneck/FakeLayerNorm"
    huge = {f"{norm}/{part}": checkpoint.weights[f"{norm}/{part}"] * np.float32(1e6) for part in ("gamma", "beta")}
    write_encoder(tmp_path / "huge", replace(checkpoint, weights={**checkpoint.weights, **huge}))
    path = write_recipe(tmp_path, rows=80, epochs=1, encoder=tmp_path / "huge")
    run = textclf.train(textclf.load_recipe(path, ["export.quantization=none"]), tmp_path / "run", quiet=True)
    assert events(run, "step")[0]["loss"] == pytest.approx(np.log(2), abs=0.1)
    assert run.metrics["export"]["largest_difference"] < 1e-3
    assert run.metrics["export"]["changed_labels"] == 0


def test_overflow_is_the_same_in_training_and_classification(train):
    run = train("encoder.overflow=tail", "encoder.max_length=8", "export.quantization=none", "training.freeze=1")
    assert run.metrics["export"]["largest_difference"] < 1e-3
    classifier = Classifier(run.model_path)
    long, tail = "great " * 9 + "the film was bad again", "great the film was bad again"
    [of_long, of_tail] = classifier.probabilities([(long,), (tail,)])
    np.testing.assert_array_equal(of_long, of_tail)


def test_float16_is_refused_with_the_reason(train):
    with pytest.raises(RecipeError, match=r"(?s)precision.*65504"):
        train("training.precision=float16")


def test_check_finds_a_misspelt_label_in_the_class_weights(tmp_path, capfd):
    recipe = write_recipe(tmp_path, rows=80)
    assert run("check", recipe, "training.class_weights={goood: 2}") == 2
    assert "did you mean `good`" in capfd.readouterr().err
    assert run("check", recipe, "training.class_weights={good: 2}") == 0


def test_a_fitted_head_begins_below_the_loss_of_guessing_and_a_fresh_one_at_it(train):
    settings = ("training.dropout=0", "training.freeze=1")
    first = {
        head: events(train(f"training.head={head}", *settings, folder=head), "step")[0]["loss"]
        for head in ("fitted", "fresh")
    }
    assert first["fresh"] == pytest.approx(np.log(2), abs=0.05)
    assert first["fitted"] < first["fresh"] - 0.005
