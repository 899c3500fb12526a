"""The seam between the training loop and a task: a task that textclf does not have, trained by the loop as it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.tiny import write_recipe
from textclf.data.examples import Split
from textclf.data.tokens.batching import evaluation_batches
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import PreparedData, load_recipe_data, prepare_data
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.loop import Fitted, fit
from textclf.training.model import TOKENS_SIGNATURE, Part, TaskModel
from textclf.training.saved.run_folder import open_run_folder
from textclf.training.task import TrainingTask
from textclf.training.watching.watchers import Trouble

SIGNS = ("love", "hate", "phone")


class Flagger(TaskModel):
    """A probability of its own for each sign that a text may hold: several targets a row, and a sigmoid."""

    targets_signature = tf.TensorSpec([None, len(SIGNS)], tf.float32)

    def __init__(self, checkpoint: AnyEncoder, seed: int) -> None:
        super().__init__(checkpoint, seed)
        self.predict = tf.function(self._logits, input_signature=[TOKENS_SIGNATURE])

    def fresh_head(self, seed: int) -> dict[str, np.ndarray]:
        kernel = np.random.default_rng(seed).normal(0, 0.02, (self.width, len(SIGNS)))
        return {"head/kernel": kernel, "head/bias": np.zeros(len(SIGNS))}

    def _logits(self, tokens: Any, *arguments: Any) -> tf.Tensor:
        features = self.pooled(tokens, *arguments)
        return tf.matmul(features, self.variables["head/kernel"]) + self.variables["head/bias"]

    def row_losses(self, part: Part, settings: TrainingSettings, dropout: Any, _: Any, dtype: Any) -> tf.Tensor:
        logits = self._logits(part.tokens, dropout, dtype, settings.frozen_layers)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=part.targets, logits=logits)
        return tf.reduce_mean(losses, axis=1)


class Flagging:
    """Which signs does a text hold? Its epochs are compared by the rows in which every sign is right."""

    def __init__(self, data: PreparedData, checkpoint: AnyEncoder, settings: TrainingSettings, seed: int) -> None:
        self.data = data
        self.model = Flagger(checkpoint, seed)
        self.summary, self.untrained = f"{len(SIGNS)} signs", "no training"
        self.targets = flags_of(data.dataset.train)
        self.row_weights = np.ones(len(self.targets), np.float32)
        self.guessing = float(np.log(2))

    def standardize(self, progress: Progress) -> None:
        pass

    def fit_first_head(self, progress: Progress) -> bool:
        return False

    def logits(self, split: str) -> np.ndarray:
        lengths = self.data.encoded[split].lengths
        logits = np.zeros((len(lengths), len(SIGNS)), np.float32)
        for batch in evaluation_batches(lengths, 16, self.data.max_length):
            logits[batch.rows] = self.model.predict(self.data.batch(split, batch)).numpy()
        return logits

    def epoch_entry(self, epoch: int, training_loss: float | None, logits: np.ndarray) -> dict[str, Any]:
        scores = self.scores(self.data.dataset.validation, logits)
        losses = {"training_loss": training_loss, "validation_loss": 1 - scores["all_right"]}
        return {"epoch": epoch, **losses, "validation_all_right": scores["all_right"]}

    def epoch_troubles(self, history: Sequence[Mapping[str, Any]], logits: np.ndarray) -> list[Trouble]:
        return []

    def epoch_line(self, entry: Mapping[str, Any]) -> str:
        return f"Epoch {entry['epoch']}: every sign is right in {entry['validation_all_right']:.0%} of the rows"

    def quality(self, entry: Mapping[str, Any]) -> tuple[float, ...]:
        return (entry["validation_all_right"],)

    def scores(self, split: Split, logits: np.ndarray) -> dict[str, float]:
        return {"all_right": float(((logits > 0) == (flags_of(split) > 0)).all(axis=1).mean())}


def flags_of(split: Split) -> np.ndarray:
    return np.array([[sign in " ".join(texts) for sign in SIGNS] for texts in split.texts], np.float32)


def trained(folder: Path) -> Fitted:
    recipe = load_recipe(folder / "recipe.yaml")
    with open_run_folder(folder / "run", force=False, resume=False) as run_folder:
        recipe, dataset = load_recipe_data(recipe)
        checkpoint = kind_of(recipe).load(recipe.encoder, dataset)
        data = prepare_data(recipe, dataset, checkpoint.tokenizer(recipe.encoder))
        return fit(recipe, data, checkpoint, run_folder, Progress(), time.monotonic(), task=Flagging)


def test_the_loop_trains_a_task_of_another_kind_with_two_seeds(tmp_path, capsys):
    write_recipe(tmp_path, rows=160, epochs=12, seeds="[1, 2]")
    fitted = trained(tmp_path)
    said = capsys.readouterr().err
    assert "Training: 128 rows, 3 signs, 12 epochs" in said
    assert "every sign is right in" in said
    task: TrainingTask = fitted.task
    assert task.model.head()["head/kernel"].shape == (32, 3)
    for result in fitted.results:
        shares = [entry["validation_all_right"] for entry in result.history]
        assert shares[result.best_epoch - 1] == max(shares)
        assert result.history[-1]["training_loss"] < 0.5 * result.history[0]["training_loss"]
        assert set(result.scores) == {"validation", "test"}
    test = fitted.winner.scores["test"]["all_right"]
    split = task.data.dataset.test
    _, rows = np.unique(flags_of(split), axis=0, return_counts=True)
    assert test > rows.max() / rows.sum() + 0.2, "more than the commonest answer for all rows"
    assert task.scores(split, task.logits("test")) == {"all_right": test}
