"""Runs Model Maker's worker for each seed of a recipe, whatever its task: shows its progress, logs its steps, checks the
training for problems, and leaves no process and no large file behind.

A task writes the job's folder, says what an epoch's outputs mean (`EpochMeasures`), and collects the result.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from textclf.errors import EngineError, TextclfError
from textclf.model_maker.environment import Environment, require_environment, worker_command
from textclf.model_maker.process import LOG, how_it_ended, last_words, run_process, tail
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Bar, Progress
from textclf.training.loop import SeedResult, seeds_of
from textclf.training.saved.run_folder import RunFolder, RunLog
from textclf.training.watching.watchers import RECENT_STEPS, Trouble, after_step

# What is shown during each phase of the worker.
_PHASES = {
    "import": "Model Maker is starting",
    "load": "Model Maker reads the data",
    "train": "Model Maker builds its graph",
    "predict": "Model Maker predicts the validation and test rows",
    "export": "Model Maker converts the model",
}
_SLOW_PHASES = {"train": "the first step takes a minute or two", "export": "this takes about a minute"}
_MANY_LAYERS = 12
_LOG_NAME = "model-maker.log"


class EpochMeasures(Protocol):
    """What the outputs for the validation rows say about an epoch of a task."""

    @property
    def guessing(self) -> float:
        """The training loss, in nats, of the best model that does not read the text."""

    def entry(self, epoch: int, training_loss: float, outputs: np.ndarray) -> dict[str, Any]:
        """Returns what the history keeps of an epoch."""

    def line(self, entry: Mapping[str, Any]) -> str:
        """Returns the line that is shown at the end of an epoch."""

    def troubles(self, history: Sequence[Mapping[str, Any]], outputs: np.ndarray) -> list[Trouble]:
        """Returns what the watchers detect after an epoch."""


@dataclass(frozen=True)
class SeedWork:
    """What the worker left for one seed in the folder `place`, its `result.json`, and what was seen of the training."""

    seed: int
    place: Path
    result: dict[str, Any]
    history: list[dict[str, Any]]
    warnings: list[str]
    first_step: float | None

    @property
    def facts(self) -> dict[str, Any]:
        """The section `engine` of `metrics.json`."""
        return {
            "name": "model-maker",
            "versions": self.result["versions"],
            "seconds": {**self.result["seconds"], "first_step": self.first_step},
            "peak_mib": self.result["peak_mib"],
        }

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the trained weights, by the names of Model Maker's variables."""
        with np.load(self.place / "weights.npz") as file:
            return {name: file[name] for name in file.files}

    def outputs(self, split: str) -> np.ndarray:
        """Returns the trained model's outputs for a split that was not trained on."""
        outputs: np.ndarray = np.load(self.place / f"outputs-{split}.npy")
        return outputs

    def seed_result(self, scores: dict[str, dict[str, float]]) -> SeedResult:
        """Returns the result of the training. Model Maker exports the last epoch."""
        return SeedResult(self.seed, len(self.history), self.history, scores, self.warnings, stopped=None)


_Gathered = TypeVar("_Gathered")


def work_folder(folder: RunFolder) -> Path:
    """Returns the folder of all the worker's files, in the folder of the run."""
    return folder.path / "model-maker"


def train_seeds(
    recipe: Recipe,
    folder: RunFolder,
    progress: Progress,
    measures: EpochMeasures,
    *,
    layers: int,
    warnings: Sequence[str],
    write_job: Callable[[Path, int], None],
    gather: Callable[[SeedWork], _Gathered],
) -> list[_Gathered]:
    """Trains once for each seed. `write_job` fills an empty folder for a seed; `gather` reads what the worker wrote.

    Raises EngineError if Model Maker is not set up, and, with its last output, if it ends without a model. In every case no
    process and no large file is left, and the run folder can be written again.
    """
    environment, seeds = require_environment(), seeds_of(recipe)
    gathered = []
    for number, seed in enumerate(seeds, 1):
        if len(seeds) > 1:
            progress.say(f"Seed {seed} ({number} of {len(seeds)})")
        place = work_folder(folder) / str(seed)
        place.mkdir(parents=True)
        log = RunLog(folder.log_of(seed, len(seeds)), keep_steps=0)
        try:
            watch = _Watch(recipe, layers, measures, place, log, progress, seed)
            write_job(place, seed)
            result = _run_worker(place, environment, watch)
            told = [*warnings, *watch.warnings.values()]
            gathered.append(gather(SeedWork(seed, place, result, watch.history, told, watch.first_step)))
        except BaseException:
            _keep_log(place, folder)
            shutil.rmtree(work_folder(folder), ignore_errors=True)
            raise
        finally:
            log.close()
    return gathered


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


class _Watch:
    """Takes the worker's events: shows them, writes them to the run's log, and checks them for problems of the training."""

    def __init__(
        self,
        recipe: Recipe,
        layers: int,
        measures: EpochMeasures,
        place: Path,
        log: RunLog,
        progress: Progress,
        seed: int,
    ) -> None:
        self.settings, self.measures = recipe.training, measures
        self.place, self.log, self.progress = place, log, progress
        self.log_path = place.parent.parent / _LOG_NAME
        self.layers = layers
        self.steps_an_epoch = 1
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
        elif kind == "loaded":
            self.steps_an_epoch = max(1, event["rows"] // self.settings.batch_size)
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
        trouble = after_step(self.recent_losses, self.measures.guessing, self.settings.learning_rate)
        if trouble is not None:
            self._react(trouble, f"step {step}")

    def _see_epoch(self, event: dict[str, Any]) -> None:
        self.close()
        outputs = np.load(self.place / event["file"])
        epoch = event["epoch"]
        entry = self.measures.entry(epoch, event["training_loss"], outputs)
        self.history.append(entry)
        self.log.write("epoch", epoch * self.steps_an_epoch, **entry)
        self.progress.say(self.measures.line(entry))
        for trouble in self.measures.troubles(self.history, outputs):
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
