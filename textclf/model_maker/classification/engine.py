"""The engine model-maker of text classification: trains a recipe with the real Model Maker.

`worker.py` does the work in Model Maker's environment. It gets a folder with a job, the rows and the encoder, and writes
a model, weights and probabilities there. Its progress is shown like that of the native engine.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.metrics import evaluate
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.errors import EngineError
from textclf.exporting.classification.model_file import model_settings
from textclf.model_maker.classification.data_checks import check_data
from textclf.model_maker.classification.encoders import at_model_maker
from textclf.model_maker.classification.job import prepare_job
from textclf.model_maker.environment import require_environment
from textclf.model_maker.running import SeedWork, train_seeds, work_folder
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.metadata import write_metadata
from textclf.tflite.model_file import TfliteModel
from textclf.training.classification.task import epoch_entry, epoch_line, quality
from textclf.training.loop import SeedResult
from textclf.training.saved.run_folder import RunFolder
from textclf.training.watching.watchers import Trouble, after_epoch, guessing_loss

_SMALLEST = np.finfo(np.float32).tiny


@dataclass
class ModelMakerTraining:
    """A training that Model Maker has finished: a `textclf.runs.tasks.classification.engines.Training`.

    `probabilities` are the winner's, by split.
    """

    recipe: Recipe
    data: PreparedData
    checkpoint: AnyEncoder
    results: list[SeedResult]
    winner: SeedResult
    probabilities: dict[str, np.ndarray]
    vocabulary: Sequence[str]
    model: bytes
    weights: dict[str, np.ndarray]
    facts: dict[str, Any]
    work: Path
    precision: str = "float32"

    def __post_init__(self) -> None:
        # Model Maker has written the file already.
        self.forms: tuple[Quantization, ...] = (self.recipe.export.quantization,)

    def logits(self, split: str) -> np.ndarray:
        # The model ends in a softmax, so its logits are known up to a constant, which does not change the softmax.
        logits: np.ndarray = np.log(np.maximum(self.probabilities[split], _SMALLEST))
        return logits

    def export(self, temperature: float, reject_below: float | None, form: Quantization) -> bytes:
        return write_metadata(
            with_temperature(self.model, temperature),
            name=self.recipe.name,
            labels=self.data.dataset.labels,
            vocabulary=self.vocabulary,
            delimiter_pattern=at_model_maker(self.recipe).delimiter_pattern,
            settings={
                "engine": "model-maker",
                # Shapes are constants in Model Maker's graphs.
                "fixed_length": True,
                **model_settings(self.recipe, self.vocabulary, reject_below),
            },
        )

    def comparable(self, predictor: Classifier) -> Classifier:
        if self.recipe.encoder.tokenizer == "bert":
            return predictor
        twin = Classifier(predictor.path)
        twin.tokenizer = at_model_maker(self.recipe).tokenizer(self.vocabulary, self.checkpoint)
        return twin

    def keep(self, folder: RunFolder, temperature: float) -> None:
        best = folder.path / "checkpoints" / "best"
        at_model_maker(self.recipe).keep(best, self.checkpoint, self.weights, temperature)
        folder.keep_log_of(self.winner.seed, len(self.results))

    def leave(self) -> None:
        shutil.rmtree(self.work)


def train_with_model_maker(
    recipe: Recipe, data: PreparedData, checkpoint: AnyEncoder, folder: RunFolder, progress: Progress
) -> ModelMakerTraining:
    """Trains once for each seed of the recipe. The last epoch of the seed with the best validation results is exported.

    Raises the errors of `check_data` and `train_seeds`.
    """
    require_environment()
    warnings = check_data(recipe, data.dataset, checkpoint.vocabulary)
    for warning in warnings:
        progress.warn(warning)
    trained = train_seeds(
        recipe,
        folder,
        progress,
        _Measures(recipe, data),
        layers=checkpoint.layers,
        warnings=warnings,
        write_job=lambda place, seed: prepare_job(place, recipe, data.dataset, checkpoint, seed),
        gather=lambda work: _gathered(recipe, data, checkpoint, folder, work),
    )
    winner = max(trained, key=lambda one: quality(one.winner.history[-1]))
    winner.results = [one.winner for one in trained]
    return winner


def with_temperature(model: bytes, temperature: float) -> bytes:
    """Returns the model with its logits divided by `temperature`, by means of the factor of its last softmax.

    Raises EngineError for a model that does not end in a softmax.
    """
    if temperature == 1:
        return model
    last = TfliteModel(model).operators[-1:]
    # The factor is the table's first field. A field with its default value may be missing.
    place = last[0].options.place(0, "f") if last and last[0].name == "SOFTMAX" and last[0].options else None
    if place is None:
        raise EngineError("the model that Model Maker made does not end in a softmax; set training.calibrate to false")
    changed = bytearray(model)
    (factor,) = struct.unpack_from("<f", changed, place)
    struct.pack_into("<f", changed, place, factor / temperature)
    return bytes(changed)


class _Measures:
    """The `EpochMeasures` of text classification; outputs are probabilities [rows, labels]."""

    def __init__(self, recipe: Recipe, data: PreparedData) -> None:
        self._epochs, self._dataset = recipe.training.epoch_count, data.dataset
        rows = np.bincount(data.dataset.train.labels, minlength=len(data.dataset.labels))
        self.guessing = guessing_loss(rows, np.ones(len(rows)), 0.0)

    def entry(self, epoch: int, training_loss: float, outputs: np.ndarray) -> dict[str, Any]:
        metrics = evaluate(outputs, self._dataset.validation.labels, self._dataset.labels)
        return epoch_entry(epoch, training_loss, metrics)

    def line(self, entry: Mapping[str, Any]) -> str:
        return epoch_line(entry, self._epochs)

    def troubles(self, history: Sequence[Mapping[str, Any]], outputs: np.ndarray) -> list[Trouble]:
        predicted = [self._dataset.labels[index] for index in np.unique(outputs.argmax(axis=1))]
        return after_epoch(history, predicted, len(np.unique(self._dataset.validation.labels)), self.guessing)


def _gathered(
    recipe: Recipe, data: PreparedData, checkpoint: AnyEncoder, folder: RunFolder, work: SeedWork
) -> ModelMakerTraining:
    probabilities = {split.name: work.outputs(split.name) for split in data.dataset.held_out}
    scores = {
        split.name: evaluate(probabilities[split.name], split.labels, data.dataset.labels).scores()
        for split in data.dataset.held_out
    }
    winner = work.seed_result(scores)
    return ModelMakerTraining(
        recipe=recipe,
        data=data,
        checkpoint=checkpoint,
        results=[winner],
        winner=winner,
        probabilities=probabilities,
        vocabulary=at_model_maker(recipe).vocabulary(work.place, checkpoint),
        model=(work.place / "model.tflite").read_bytes(),
        weights=work.weights(),
        facts=work.facts,
        work=work_folder(folder),
    )
