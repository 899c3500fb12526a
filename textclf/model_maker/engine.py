"""The engine model-maker: trains a recipe with the real Model Maker.

`worker.py` does the work in Model Maker's environment. It gets a folder with a job, the rows and the encoder, and writes
a model, weights and probabilities there. Its progress is shown like that of the native engine.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.metrics import evaluate
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.errors import EngineError, TextclfError
from textclf.exporting.classification import model_settings
from textclf.model_maker.data_checks import check_data
from textclf.model_maker.encoders import at_model_maker
from textclf.model_maker.environment import Environment, require_environment, worker_command
from textclf.model_maker.job import prepare_job
from textclf.model_maker.process import LOG, how_it_ended, last_words, run_process, tail
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Bar, Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.metadata import write_metadata
from textclf.tflite.model_file import TfliteModel
from textclf.training.classification.task import epoch_entry, epoch_line, quality
from textclf.training.loop import SeedResult, seeds_of
from textclf.training.saved.run_folder import RunFolder, RunLog
from textclf.training.watching.watchers import RECENT_STEPS, Trouble, after_epoch, after_step, guessing_loss

# What is shown during each phase of the worker.
_PHASES = {
    "import": "Model Maker is starting",
    "load": "Model Maker reads the rows",
    "train": "Model Maker builds its graph",
    "predict": "Model Maker predicts the validation and test rows",
    "export": "Model Maker converts the model",
}
_SLOW_PHASES = {"train": "the first step takes a minute or two", "export": "this takes about a minute"}
_MANY_LAYERS = 12
_LOG_NAME = "model-maker.log"
_SMALLEST = np.finfo(np.float32).tiny


@dataclass
class ModelMakerTraining:
    """A training that Model Maker has finished: a `textclf.runs.classification.engines.Training`.

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

    Raises EngineError if Model Maker is not set up, and, with its last output, if it ends without a model. Also raises the
    errors of `check_data`. In every case no process and no large file is left, and the run folder can be written again.
    """
    environment = require_environment()
    warnings = check_data(recipe, data.dataset, checkpoint.vocabulary)
    for warning in warnings:
        progress.warn(warning)
    work = folder.path / "model-maker"
    trained = []
    for number, seed in enumerate(seeds_of(recipe), 1):
        if len(seeds_of(recipe)) > 1:
            progress.say(f"Seed {seed} ({number} of {len(seeds_of(recipe))})")
        trained.append(_train_seed(recipe, data, checkpoint, folder, work, environment, progress, seed, warnings))
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


def _train_seed(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: AnyEncoder,
    folder: RunFolder,
    work: Path,
    environment: Environment,
    progress: Progress,
    seed: int,
    warnings: list[str],
) -> ModelMakerTraining:
    seed_count = len(seeds_of(recipe))
    work.mkdir(exist_ok=True)
    place = work / str(seed)
    place.mkdir()
    log = RunLog(folder.log_of(seed, seed_count), keep_steps=0)
    try:
        watch = _Watch(recipe, data, checkpoint.layers, place, log, progress, seed)
        prepare_job(place, recipe, data.dataset, checkpoint, seed)
        result = _run_worker(place, environment, watch)
        return _gather(recipe, data, checkpoint, work, place, result, watch, warnings, seed)
    except BaseException:
        _keep_log(place, folder)
        shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        log.close()


def _run_worker(place: Path, environment: Environment, watch: _Watch) -> dict[str, Any]:
    """Returns the worker's `result.json`. Raises EngineError with its last output if there is none."""
    events = tail(place / "events.jsonl")

    def look() -> None:
        for event in next(events):
            watch.see(event)

    command = worker_command(environment.python, str(place.absolute()))
    try:
        returned = run_process(command, place, on_look=look, environment=_variables(place))
    finally:
        watch.close()
    try:
        return dict(json.loads((place / "result.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise EngineError(_failure(place, returned, watch)) from None


def _variables(place: Path) -> Mapping[str, str]:
    """Returns environment variables. Temporary files (about 300 MB per run) go to a folder that is removed afterwards."""
    temporary = str((place / "temporary").absolute())
    quieter = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    return {**quieter, "TMPDIR": temporary, "TFHUB_CACHE_DIR": temporary, "MPLCONFIGDIR": temporary}


def _failure(place: Path, returned: int, watch: _Watch) -> str:
    where = f" in the phase `{watch.phase}`" if watch.phase else ""
    words = last_words(place)
    lines = [f"Model Maker ended without a model: {how_it_ended(returned)}{where}"]
    if watch.failed:
        lines.append(watch.failed)
    elif words:
        lines.append("its last output:\n" + "\n".join(f"  {line}" for line in words.splitlines()))
    if how_it_ended(returned) == "killed by SIGKILL":
        lines.append(
            f"this is how the system kills a process that runs out of memory (it used {watch.peak_mib:,.0f} MiB); "
            "lower training.batch_size or encoder.max_length"
        )
    lines.append(f"its log is {watch.log_path}; nothing else was kept, so you can run the command again")
    return "\n".join(lines)


def _keep_log(place: Path, folder: RunFolder) -> None:
    if (place / LOG).exists():
        os.replace(place / LOG, folder.path / _LOG_NAME)


def _gather(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: AnyEncoder,
    work: Path,
    place: Path,
    result: dict[str, Any],
    watch: _Watch,
    warnings: list[str],
    seed: int,
) -> ModelMakerTraining:
    labels = data.dataset.labels
    probabilities, scores = {}, {}
    for split in data.dataset.held_out:
        probabilities[split.name] = np.load(place / f"probabilities-{split.name}.npy")
        scores[split.name] = evaluate(probabilities[split.name], split.labels, labels).scores()
    with np.load(place / "weights.npz") as file:
        weights = {name: file[name] for name in file.files}
    winner = SeedResult(
        seed, len(watch.history), watch.history, scores, [*warnings, *watch.warnings.values()], stopped=None
    )
    return ModelMakerTraining(
        recipe=recipe,
        data=data,
        checkpoint=checkpoint,
        results=[winner],
        winner=winner,
        probabilities=probabilities,
        vocabulary=at_model_maker(recipe).vocabulary(place, checkpoint),
        model=(place / "model.tflite").read_bytes(),
        weights=weights,
        facts={
            "name": "model-maker",
            "versions": result["versions"],
            "seconds": {**result["seconds"], "first_step": watch.first_step},
            "peak_mib": result["peak_mib"],
        },
        work=work,
    )


class _Watch:
    """Takes the worker's events: shows them, writes them to the run's log, and checks them for problems of the training."""

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        layers: int,
        place: Path,
        log: RunLog,
        progress: Progress,
        seed: int,
    ) -> None:
        self.settings, self.dataset = recipe.training, data.dataset
        self.place, self.log, self.progress = place, log, progress
        self.log_path = place.parent.parent / _LOG_NAME
        rows = np.bincount(data.dataset.train.labels, minlength=len(data.dataset.labels))
        self.guessing = guessing_loss(rows, np.ones(len(rows)), 0.0)
        self.layers = layers
        self.steps_an_epoch = len(data.dataset.train.rows) // recipe.training.batch_size
        self.phase = ""
        self.failed = ""
        self.peak_mib = 0.0
        self.first_step: float | None = None
        self.history: list[dict[str, Any]] = []
        self.warnings: dict[str, str] = {}
        self.recent_losses: list[float] = []
        self._bar: Bar | None = None
        self._shown = ExitStack()
        log.write("start", 0, seed=seed, precision="float32", device="Model Maker")

    def see(self, event: dict[str, Any]) -> None:
        self.peak_mib = event["peak_mib"]
        kind = event["event"]
        if kind == "phase":
            self.phase = event["name"]
            if self.phase in _PHASES:
                slow = _SLOW_PHASES.get(self.phase) if self.layers >= _MANY_LAYERS else None
                self.progress.say(_PHASES[self.phase] + (f"; with {self.layers} layers {slow}" if slow else ""))
        elif kind == "failed":
            self.failed = event["message"]
        elif kind == "step":
            self._see_step(event)
        elif kind == "epoch":
            self._see_epoch(event)

    def close(self) -> None:
        """Removes the progress bar."""
        self._shown.close()
        self._bar = None

    def _see_step(self, event: dict[str, Any]) -> None:
        step, loss = event["step"], event["loss"]
        epoch = (step - 1) // self.steps_an_epoch + 1
        if self.first_step is None:
            self.first_step = event["after"]
            self.progress.say(f"First step after {event['after']:.1f} s")
        if self._bar is None:
            bar = self.progress.bar(f"Epoch {epoch}/{self.settings.epoch_count}", self.steps_an_epoch)
            self._bar = self._shown.enter_context(bar)
        self._bar.advance(f"loss {loss:.4f}")
        values = {name: event[name] for name in ("loss", "learning_rate", "rows", "seconds")}
        self.log.write("step", step, epoch=epoch, **values)
        self.recent_losses = [*self.recent_losses, loss][-RECENT_STEPS:]
        trouble = after_step(self.recent_losses, self.guessing, self.settings.learning_rate)
        if trouble is not None:
            self._react(trouble, f"step {step}")

    def _see_epoch(self, event: dict[str, Any]) -> None:
        self.close()
        validation = self.dataset.validation
        probabilities = np.load(self.place / event["file"])
        metrics = evaluate(probabilities, validation.labels, self.dataset.labels)
        epoch = event["epoch"]
        entry = epoch_entry(epoch, event["training_loss"], metrics)
        self.history.append(entry)
        self.log.write("epoch", epoch * self.steps_an_epoch, **entry)
        self.progress.say(epoch_line(entry, self.settings.epoch_count))
        predicted = [self.dataset.labels[index] for index in np.unique(probabilities.argmax(axis=1))]
        for trouble in after_epoch(self.history, predicted, len(np.unique(validation.labels)), self.guessing):
            self._react(trouble, f"epoch {epoch}")

    def _react(self, trouble: Trouble, where: str) -> None:
        """Does what `training.watchers` requests. A loss that is not a number always ends the training, because there is no
        earlier epoch to export."""
        action = getattr(self.settings.watchers, trouble.watcher)
        message = f"{where}: {trouble.message}"
        if action == "fail" or trouble.watcher == "not_finite":
            raise TextclfError(f"{message} (training.watchers.{trouble.watcher} is {action})")
        if action == "warn" and trouble.watcher not in self.warnings:
            self.warnings[trouble.watcher] = message
            self.log.write("warning", 0, watcher=trouble.watcher, message=message)
            self.progress.warn(message)
