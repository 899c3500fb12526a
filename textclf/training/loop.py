"""The training loop: takes prepared data and an encoder, returns the model with the weights of its best epoch.

It saves as it goes: a run that is stopped at any moment can be resumed and ends with the same weights to the bit.
"""

from __future__ import annotations

import time
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from textclf.data.findings.finding import counted
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Progress
from textclf.training.learning_rate import scheduled_learning_rate
from textclf.training.machine.hardware import chosen_precision, device_name, distribution_strategy
from textclf.training.machine.interruption import Interruption
from textclf.training.machine.memory import expected_shortage, prepare_linear_algebra
from textclf.training.optimizer import AdamW
from textclf.training.rows import TrainingRows
from textclf.training.saved.run_folder import RunFolder, RunLog, load_state, save_state
from textclf.training.saved.saving import SECONDS_BETWEEN_SAVES, Saving, TrainingProgress
from textclf.training.step import TrainingStep
from textclf.training.task import MakeTask, TrainingTask
from textclf.training.watching.reactions import Reactions
from textclf.training.watching.watchers import after_step, diverged, require_finite


@dataclass
class SeedResult:
    """One finished training: `history` by epoch, the task's `scores` of its best epoch by split."""

    seed: int
    best_epoch: int
    history: list[dict[str, Any]]
    scores: dict[str, dict[str, float]]
    warnings: list[str]
    stopped: str | None

    @property
    def best_entry(self) -> dict[str, Any]:
        """The best epoch's entry of `history`, which begins with epoch 0 if the first head was measured."""
        return next(entry for entry in self.history if entry["epoch"] == self.best_epoch)


@dataclass
class Fitted:
    """The trained task, whose model has the weights to export, and the results of all trainings."""

    task: TrainingTask
    results: list[SeedResult]
    winner: SeedResult
    precision: str


def fit(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: AnyEncoder,
    folder: RunFolder,
    progress: Progress,
    started: float,
    *,
    task: MakeTask,
    seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
    step_kind: type[TrainingStep] = TrainingStep,
) -> Fitted:
    """Trains the `task` once for each seed of the recipe and returns the best epoch of the best seed.

    `started` is the time.monotonic() at the start of the command. Raises RecipeError, EncoderError and RunError for
    settings that do not fit the data, the encoder or the saved state, TrainingError if a watcher says so, and
    KeyboardInterrupt after Ctrl-C, with the state saved.
    """
    tf.config.experimental.enable_op_determinism()
    prepare_linear_algebra()
    training = _Training(recipe, data, checkpoint, folder, progress, started, task, seconds_between_saves, step_kind)
    with Interruption.watched() as interruption:
        return training.run(interruption)


def _rows_text(data: PreparedData, examples: int) -> str:
    """`200 rows`, or `200 rows in 640 windows` if the examples are windows of texts."""
    if "train" not in data.texts:
        return counted(examples, "row")
    return f"{counted(len(data.dataset.train.rows), 'row')} in {counted(examples, 'window')}"


def seeds_of(recipe: Recipe) -> tuple[int, ...]:
    """Returns the seeds to train with, one or more."""
    return recipe.training.seeds or (recipe.training.seed,)


class _Training:
    """Set up once in `__init__`; `run` goes through the seeds, `_train` through epochs and batches."""

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        checkpoint: AnyEncoder,
        folder: RunFolder,
        progress: Progress,
        started: float,
        task: MakeTask,
        seconds_between_saves: float,
        step_kind: type[TrainingStep],
    ) -> None:
        self.settings, self.seeds = recipe.training, seeds_of(recipe)
        self.data, self.folder, self.progress, self.started = data, folder, progress, started
        self.precision = chosen_precision(self.settings.precision)
        strategy, frozen = distribution_strategy(), self.settings.frozen_layers or 0
        with strategy.scope():
            self.task = task(data, checkpoint, self.settings, self.seeds[0])
            self.model = self.task.model
            self.optimizer = AdamW(
                self.model.variables, self.settings.weight_decay, self.settings.clip_norm, decayed_from=frozen
            )
            self.step = step_kind(self.model, self.optimizer, self.settings, tf.as_dtype(self.precision))
        self.stepped = False
        # Averaged words need little memory.
        self.rows = TrainingRows(
            data, self.settings, self.task.targets, self.task.row_weights, spare_memory=checkpoint.layers > 0
        )
        self.steps_an_epoch = len(self.rows.batches(self.seeds[0], 0))
        self.total_steps = self.steps_an_epoch * self.settings.epoch_count
        self.saving = Saving(recipe, data, checkpoint, folder, self.model, self.optimizer, seconds_between_saves)
        self.device = device_name(strategy)
        epochs = f"{counted(self.settings.epoch_count, 'epoch')} × {counted(self.steps_an_epoch, 'step')}"
        progress.say(
            f"Training: {_rows_text(data, len(self.rows))}, {self.task.summary}, "
            f"{epochs if self.total_steps else self.task.untrained}; {checkpoint.summary}; {self.device}, {self.precision}"
        )
        if (warning := expected_shortage(recipe, data, self.model, self.rows, self.seeds[0])) is not None:
            progress.warn(warning)

    def run(self, interruption: Interruption) -> Fitted:
        if self.saving.exists:
            state = self.saving.restore()
            self.progress.say(f"Resuming at step {state.step} of {self.total_steps}")
        else:
            state = TrainingProgress()
            if self.total_steps:
                self.step.trace_meanwhile()
            self.task.standardize(self.progress)
        while state.seed_index < len(self.seeds):
            seed = self.seeds[state.seed_index]
            if len(self.seeds) > 1:
                self.progress.say(f"Seed {seed} ({state.seed_index + 1} of {len(self.seeds)})")
            with closing(RunLog(self.folder.log_of(seed, len(self.seeds)), keep_steps=state.step)) as log:
                log.write("start", state.step, seed=seed, precision=self.precision, device=self.device)
                self._train(seed, state, log, interruption)
            state = TrainingProgress(state.seed_index + 1, [*state.finished, asdict(self._result(seed, state))])
            if state.seed_index < len(self.seeds):
                self.model.start_again(self.seeds[state.seed_index])
                self.optimizer.reset()
                self.saving.save(state)
        results = [SeedResult(**values) for values in state.finished]
        winner = max(results, key=lambda result: self.task.quality(result.best_entry))
        self.model.load_state(load_state(self.folder.best_state(winner.seed))[0])
        return Fitted(self.task, results, winner, self.precision)

    def _train(self, seed: int, state: TrainingProgress, log: RunLog, interruption: Interruption) -> None:
        """Trains with one seed. Epochs, batches and steps are those that `state` does not count yet."""
        settings = self.settings
        reactions = Reactions(settings, state, log, self.progress)
        if state.step == 0 and self.task.fit_first_head(self.progress):
            self._measure_first_head(seed, state, log)
        while state.epoch < settings.epoch_count and state.stopped is None:
            batches = self.rows.batches(seed, state.epoch)
            with self.progress.bar(f"Epoch {state.epoch + 1}/{settings.epoch_count}", len(batches), state.batch) as bar:
                for batch in batches[state.batch :]:
                    begun = time.monotonic()
                    rate = scheduled_learning_rate(
                        state.step, self.total_steps, settings.learning_rate, settings.warmup
                    )
                    parts = self.rows.parts(batch)
                    with nullcontext() if self.stepped else self.progress.during("Compiling the training step"):
                        loss, norm = self.step(parts, rate, seed, state.step)
                    self.stepped = True
                    state.count_step(loss, len(batch.rows))
                    if state.step == 1 and state.seed_index == 0:
                        self.progress.say(f"First step after {time.monotonic() - self.started:.1f} s")
                    log.write(
                        "step",
                        state.step,
                        epoch=state.epoch + 1,
                        loss=loss,
                        learning_rate=rate,
                        gradient_norm=norm,
                        rows=len(batch.rows),
                        length=batch.length,
                        seconds=round(time.monotonic() - begun, 4),
                    )
                    trouble = after_step(state.recent_losses, self.task.guessing, settings.learning_rate, norm)
                    if trouble is not None:
                        reactions.react(trouble)
                        if state.stopped is not None:
                            return
                    bar.advance(f"loss {loss:.4f}")
                    self._leave_if_asked(state, interruption)
                    self.saving.save_if_due(state)
            self._validate(seed, state, log, reactions)
            self.saving.save(state)
            self._leave_if_asked(state, interruption)

    def _measure_first_head(self, seed: int, state: TrainingProgress, log: RunLog) -> None:
        """Measures the fitted head on the untrained encoder: epoch 0, the first candidate for the best epoch."""
        logits = self.task.logits("validation")
        if not self.total_steps:
            require_finite(logits, "validation")
        if np.isfinite(logits).all():
            self._keep_if_best(seed, state, log, self.task.epoch_entry(0, None, logits))

    def _keep_if_best(self, seed: int, state: TrainingProgress, log: RunLog, entry: dict[str, Any]) -> None:
        """Adds an epoch's entry to the history, and keeps the weights if no earlier epoch was better."""
        state.history.append(entry)
        log.write("epoch", state.step, **entry)
        if max(state.history, key=self.task.quality) is entry:
            state.best_epoch = entry["epoch"]
            save_state(self.folder.best_state(seed), self.model.state(), {"epoch": state.best_epoch})
        self.progress.say(self.task.epoch_line(entry))

    def _validate(self, seed: int, state: TrainingProgress, log: RunLog, reactions: Reactions) -> None:
        """Measures an epoch of training on the validation rows, and says what looks wrong."""
        settings, task = self.settings, self.task
        training_loss = state.epoch_loss / len(self.rows)
        logits = task.logits("validation")
        trouble = diverged(training_loss, logits, self.model.not_finite(), settings.learning_rate)
        if trouble is not None:
            reactions.react(trouble)
            return
        state.count_epoch()
        self._keep_if_best(seed, state, log, task.epoch_entry(state.epoch, training_loss, logits))
        warm = (state.epoch - 1) * self.steps_an_epoch >= round(self.total_steps * settings.warmup)
        if warm or state.epoch == settings.epoch_count:
            for trouble in task.epoch_troubles(state.history, logits):
                reactions.react(trouble)
        reactions.stop_early()

    def _result(self, seed: int, state: TrainingProgress) -> SeedResult:
        """Measures the best epoch of a seed on every split that was not trained on."""
        self.model.load_state(load_state(self.folder.best_state(seed))[0])
        scores = {}
        for split in self.data.dataset.held_out:
            logits = self.task.logits(split.name)
            require_finite(logits, split.name)
            scores[split.name] = self.task.scores(split, logits)
        warnings = list(state.warnings.values())
        return SeedResult(seed, state.best_epoch, state.history, scores, warnings, state.stopped)

    def _leave_if_asked(self, state: TrainingProgress, interruption: Interruption) -> None:
        if interruption.requested:
            self.saving.save(state)
            self.progress.say(f"Stopped at step {state.step} of {self.total_steps}; continue with --resume")
            raise KeyboardInterrupt
