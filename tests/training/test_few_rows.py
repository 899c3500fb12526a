"""Few rows: the default fits the last layer alone, says so, and reports an interval that holds the truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import textclf
from tests.command import run
from tests.fitting import fit_into
from tests.tiny import tiny_checkpoint, write_recipe
from textclf.classify.classifier import Classifier
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import RecipeError
from textclf.recipe.automatic import FEW_TRAINING_ROWS, reason_for_epochs, settle_epochs
from textclf.training.classification.folds import stratified_folds

DATA = Path(__file__).parents[1] / "fixtures" / "few_rows"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> textclf.Run:
    """A run with every default on 54 messages to a clinic: three labels, 18 messages each."""
    folder = tmp_path_factory.mktemp("clinic")
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"name: clinic\ndataset:\n  train: {DATA / 'train.csv'}\n  text: message\n  label: queue\n")
    return textclf.train(recipe, folder / "run", quiet=True)


def test_on_54_rows_the_reported_interval_holds_the_accuracy_on_unseen_rows(clinic: textclf.Run) -> None:
    from textclf.runs.tasks.classification.record import ClassificationMetrics

    estimate = ClassificationMetrics.read(clinic.dir).estimate
    assert estimate is not None
    assert estimate.rows == clinic.metrics["rows"]["train"]
    with (DATA / "unseen.csv").open(newline="") as file:
        unseen = list(csv.DictReader(file))
    predictions = Classifier(clinic.model_path).classify([row["message"] for row in unseen])
    truth = np.mean([found.label == row["queue"] for found, row in zip(predictions, unseen, strict=True)])
    low, high = estimate.interval
    assert low <= truth <= high
    assert truth > 0.8
    assert estimate.accuracy < 1, "the few validation rows alone would say that all is right"
    for page in ("report.html", "MODEL_CARD.md"):
        text = (clinic.dir / page).read_text(encoding="utf-8")
        assert f"{low:.1%}" in text
        assert f"{high:.1%}" in text
        assert "ross-validation" in text


def test_with_few_rows_the_encoder_stays_as_it_was(clinic: textclf.Run) -> None:
    assert clinic.metrics["best_epoch"] == 0
    assert [entry["epoch"] for entry in clinic.metrics["history"]] == [0]
    assert clinic.metrics["recipe"]["training"]["epochs"] == 0
    assert clinic.metrics["calibration"]["temperature"] == 1
    kept, source = load_checkpoint(str(clinic.dir / "checkpoints" / "best")), load_checkpoint("builtin")
    assert all(np.array_equal(kept.weights[name], array) for name, array in source.weights.items())


def test_the_choice_and_the_intervals_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, rows=60, epochs="auto")
    assert run("check", recipe) == 0
    reason = "48 training rows are too few to fine-tune the encoder (fewer than 300)"
    assert f"Note: {reason}" in capfd.readouterr().out
    assert run("train", recipe, "--run-dir", tmp_path / "run") == 0
    said = capfd.readouterr().err
    assert f"Note: {reason}" in said
    assert "set training.epochs=3" in said
    assert "Training: 48 rows, 2 labels, only the last layer" in said
    assert "on the validation split (12 rows): accuracy" in said
    assert said.count("(95 % confidence interval: ") >= 2
    assert "Estimated by cross-validation on" not in said, "the 60 test rows say more"


def test_recipes_that_set_epochs_train_as_before_and_the_fitted_head_competes(tmp_path: Path) -> None:
    recipe = textclf.load_recipe(write_recipe(tmp_path, rows=60, epochs=2))
    fitted = fit_into(tmp_path / "run", recipe)
    assert [entry["epoch"] for entry in fitted.winner.history] == [0, 1, 2]
    qualities = [fitted.task.quality(entry) for entry in fitted.winner.history]
    assert fitted.winner.best_epoch == max(range(3), key=qualities.__getitem__)
    assert fitted.winner.history[0]["training_loss"] is None


def test_a_training_that_only_harms_leaves_the_fitted_head_as_the_best_epoch(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, rows=160, epochs=1, learning_rate=0.02, warmup=0)
    fitted = fit_into(tmp_path / "run", textclf.load_recipe(recipe))
    assert fitted.winner.best_epoch == 0
    assert fitted.winner.scores["validation"]["accuracy"] == fitted.winner.history[0]["validation_accuracy"]
    original = tiny_checkpoint(num_hidden_layers=1).weights
    kept = fitted.task.model.encoder_weights()
    assert all(np.array_equal(kept[name], array) for name, array in original.items())


@pytest.mark.parametrize(
    ("rows", "overrides", "epochs"),
    [
        (FEW_TRAINING_ROWS - 1, (), 0),
        (FEW_TRAINING_ROWS, (), 3),
        (20, ("training.epochs=5",), 5),
        (5000, ("training.epochs=0",), 0),
        (20, ("training.head=fresh",), 3),
        (20, ("training.engine=model-maker",), 3),
        (20, ("encoder=average-words",), 30),
        (20, ("encoder=average-words", "training.epochs=auto"), 30),
    ],
)
def test_auto_epochs_depend_on_the_rows_and_on_what_can_learn(
    tmp_path: Path, rows: int, overrides: tuple[str, ...], epochs: int
) -> None:
    (tmp_path / "r.yaml").write_text("name: r\ndataset:\n  train: t.csv\n")
    asked = textclf.load_recipe(tmp_path / "r.yaml", overrides)
    settled = settle_epochs(asked, rows)
    assert settled.training.epoch_count == epochs
    assert (reason_for_epochs(asked, settled, rows) is None) == (epochs != 0 or "training.epochs=0" in overrides)


@pytest.mark.parametrize(
    ("override", "obstacle"),
    [
        ("training.head=fresh", "training.head is fresh"),
        ("training.engine=model-maker", "training.engine is model-maker"),
        ("encoder=average-words", "encoder.source is average-words"),
    ],
)
def test_no_epochs_need_a_head_that_can_be_fitted(tmp_path: Path, override: str, obstacle: str) -> None:
    (tmp_path / "r.yaml").write_text("name: r\ndataset:\n  train: t.csv\n")
    with pytest.raises(RecipeError, match=f"training.epochs is 0, but {obstacle}"):
        textclf.load_recipe(tmp_path / "r.yaml", ["training.epochs=0", override])


def test_folds_hold_every_label_alike_and_keep_copies_together() -> None:
    features = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    features[40:] = features[:20]
    labels = np.arange(60) % 20 % 2
    folds = stratified_folds(features, labels)
    assert np.array_equal(folds[40:], folds[:20])
    assert folds.max() == 9
    for label in (0, 1):
        distinct = np.bincount(folds[:40][labels[:40] == label], minlength=10)
        assert distinct.max() - distinct.min() <= 1


def test_metrics_of_the_first_head_are_kept_in_the_history(clinic: textclf.Run) -> None:
    [entry] = json.loads((clinic.dir / "metrics.json").read_text())["history"]
    assert entry["cross_validated_rows"] == clinic.metrics["rows"]["train"]
    assert 0.8 < entry["cross_validated_accuracy"] < 1
