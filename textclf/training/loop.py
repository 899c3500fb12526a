"""The training loop: prepared data and an encoder in, the classifier with the weights of its best epoch out.

It saves as it goes, so that a run stopped at any moment goes on from there and ends with the same weights to the bit.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf

from textclf.classify.metrics import Metrics, evaluate, softmax
from textclf.data.tokens.batching import Batch, evaluation_batches, padded_length, part_count, training_batches
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.errors import EncoderError, RunError, TrainingError
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Progress
from textclf.training.calibration import require_finite
from textclf.training.class_weights import label_weights
from textclf.training.first_states import first_fingerprint, is_split_as_first
from textclf.training.hardware import chosen_precision, distribution_strategy, matrix_product
from textclf.training.memory import prepare_linear_algebra, shortage, training_bytes
from textclf.training.model import PooledClassifier
from textclf.training.optimizer import AdamW, scheduled_learning_rate
from textclf.training.run_folder import RunFolder, RunLog, load_state, save_state
from textclf.training.step import Part, TrainingStep
from textclf.training.watchers import RECENT_STEPS, Trouble, after_epoch, after_step, diverged, guessing_loss

# How much work a killed run loses at most.
_SECONDS_BETWEEN_SAVES = 60.0

_EVALUATION_BATCH = 64

# Training rows from which the feature standardisation and the first head are measured: enough for 512 means and deviations,
# and for every label, but no more than take some seconds.
_MEASURED_ROWS, _MEASURED_ROWS_A_LABEL, _MOST_MEASURED_ROWS = 1024, 32, 4096

# With more labels than this, the cost of the head decides: equally many rows of each label, and fewer in all.
_MANY_LABELS, _MOST_ROWS_OF_MANY_LABELS = 150, 3072


@dataclass
class SeedResult:
    """One finished training: `history` by epoch, `scores` of its best epoch by split (accuracy, macro_f1, loss)."""

    seed: int
    best_epoch: int
    history: list[dict[str, Any]]
    scores: dict[str, dict[str, float]]
    warnings: list[str]
    stopped: str | None


@dataclass
class Fitted:
    """The trained classifier, holding the weights that are to be exported, and how all trainings went."""

    classifier: PooledClassifier
    results: list[SeedResult]
    winner: SeedResult
    precision: str


@dataclass
class TrainingProgress:
    """Where a run stands: what a saved state carries besides arrays. All but the first two belong to one seed."""

    seed_index: int = 0
    finished: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_epoch: int = 0
    epoch_loss: float = 0.0
    recent_losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    warnings: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None


def fit(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: AnyEncoder,
    folder: RunFolder,
    progress: Progress,
    started: float,
) -> Fitted:
    """Trains once for each seed of the recipe; the classifier comes back with the best epoch of the best seed.

    `started` is the time.monotonic() of the command. Raises RecipeError, EncoderError and RunError for settings that do
    not fit the data, the encoder or the saved state, TextclfError where a watcher says so, and KeyboardInterrupt, with
    the state saved, after Ctrl-C.
    """
    tf.config.experimental.enable_op_determinism()
    prepare_linear_algebra()
    fitting = _Fitting(recipe, data, checkpoint, folder, progress, started)
    with _Interruption.watched() as interruption:
        return fitting.run(interruption)


def seeds_of(recipe: Recipe) -> tuple[int, ...]:
    """The seeds to train with, one or more."""
    return recipe.training.seeds or (recipe.training.seed,)


def measured_rows(labels: np.ndarray, label_count: int) -> np.ndarray:
    """Numbers of the training rows, ascending, from which the standardisation and the first head are measured.

    `labels` are label indices by row. Few labels: rows spread evenly over the data. Many: of each label the same number
    where it has so many, for of labels with a row or two each, any other choice favours some by chance.
    """
    rows = len(labels)
    if label_count <= _MANY_LABELS:
        wanted = max(_MEASURED_ROWS, min(_MEASURED_ROWS_A_LABEL * label_count, _MOST_MEASURED_ROWS))
        return _spread(rows, wanted)
    rows_a_label = max(1, _MOST_ROWS_OF_MANY_LABELS // label_count)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=label_count)
    place = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.sort(order[place < rows_a_label])
    measured: np.ndarray = chosen[_spread(len(chosen), max(_MEASURED_ROWS, _MOST_ROWS_OF_MANY_LABELS))]
    return measured


def _spread(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` of the numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


class _Fitting:
    """What the loop carries along: the classifier, its optimiser, the compiled step and where the run stands."""

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        checkpoint: AnyEncoder,
        folder: RunFolder,
        progress: Progress,
        started: float,
    ) -> None:
        self.recipe, self.settings, self.data, self.checkpoint = recipe, recipe.training, data, checkpoint
        self.folder, self.progress, self.started = folder, progress, started
        self.seeds = seeds_of(recipe)
        self.train, self.labels = data.dataset.train, data.dataset.labels
        self.lengths = data.encoded["train"].lengths
        frozen = self.settings.frozen_layers
        row_counts = np.bincount(self.train.labels, minlength=len(self.labels))
        self.weights = label_weights(self.settings.class_weights, self.labels, row_counts)
        self.guessing = guessing_loss(row_counts, self.weights, self.settings.label_smoothing)
        self.precision = chosen_precision(self.settings.precision)

        self.strategy = distribution_strategy()
        with self.strategy.scope():
            self.classifier = PooledClassifier(checkpoint, len(self.labels), self.seeds[0])
            layers = checkpoint.layers
            if frozen is not None and frozen > layers:
                raise EncoderError(f"training.freeze is {frozen}, but {checkpoint.path} has {layers} layers; lower it")
            self.optimizer = AdamW(
                self.classifier.variables, self.settings.weight_decay, self.settings.clip_norm, decayed_from=frozen or 0
            )
            product = matrix_product(self.precision)
            self.training_step = TrainingStep(self.classifier, self.optimizer, self.settings, product)
        self.measured_rows = measured_rows(self.train.labels, len(self.labels))
        self._measured: np.ndarray | None = None
        self.stepped = False
        self.steps_an_epoch = len(self._batches(self.seeds[0], 0))
        self.total_steps = self.steps_an_epoch * self.settings.epochs
        self.fingerprint = _fingerprint(recipe, data, checkpoint)
        self.state = TrainingProgress()
        self.saved = time.monotonic()
        self._describe(checkpoint)
        if (warning := self._shortage(checkpoint)) is not None:
            self.progress.say(f"Warning: {warning}")

    def _shortage(self, checkpoint: AnyEncoder) -> str | None:
        """The warning where memory will probably not last; a step is as large as the longest texts make it."""
        batches = self._batches(self.seeds[0], 0)
        largest = max(batches, key=lambda batch: len(batch.rows) * batch.length)
        tokens = max(len(part.labels) * part.tokens.ids.shape[1] for part in self._parts(largest))
        weights = sum(array.size for array in checkpoint.weights.values())
        if tf.config.list_physical_devices("GPU"):
            return None  # Steps and measurements take the GPU's memory, of which TensorFlow tells in time.
        rows = min(_EVALUATION_BATCH, max(len(encoded.lengths) for encoded in self.data.encoded.values()))
        length = max(int(encoded.lengths.max(initial=0)) for encoded in self.data.encoded.values())
        activations = self.classifier.encoder.activation_bytes(tokens, rows * length, length)
        return None if activations is None else shortage(training_bytes(weights, activations), self.recipe)

    def _describe(self, checkpoint: AnyEncoder) -> None:
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        replicas = self.strategy.num_replicas_in_sync
        self.device = kind if replicas == 1 else f"{replicas} {kind}s"
        self.progress.say(
            f"Training on {len(self.train.rows)} rows, {len(self.labels)} labels: {self.settings.epochs} epochs of "
            f"{self.steps_an_epoch} steps, {checkpoint.summary}, "
            f"{self.precision} products on {self.device}"
        )

    def run(self, interruption: _Interruption) -> Fitted:
        if self.folder.last_state.exists():
            self._restore()
        else:
            self.classifier.standardize(self._pooled_outputs())
        while self.state.seed_index < len(self.seeds):
            self._train_seed(interruption)
            self._finish_seed()
        results = [SeedResult(**values) for values in self.state.finished]
        winner = max(results, key=lambda result: quality(result.history[result.best_epoch - 1]))
        best, _ = load_state(self.folder.best_state(winner.seed))
        self.classifier.load_state(best)
        return Fitted(self.classifier, results, winner, self.precision)

    @property
    def seed(self) -> int:
        return self.seeds[self.state.seed_index]

    def _batches(self, seed: int, epoch: int) -> list[Batch]:
        return training_batches(self.lengths, self.settings.batch_size, self.data.max_length, seed=seed, epoch=epoch)

    # --- One training ------------------------------------------------------------------------------------------------

    def _train_seed(self, interruption: _Interruption) -> None:
        state = self.state
        if len(self.seeds) > 1:
            self.progress.say(f"Seed {self.seed} ({state.seed_index + 1} of {len(self.seeds)})")
        log = RunLog(self.folder.log_of(self.seed, len(self.seeds)), keep_steps=state.step)
        log.write("start", state.step, seed=self.seed, precision=self.precision, device=self.device)
        if state.step == 0 and self.settings.head == "fitted" and self.classifier.layers:
            self._fit_head()
        try:
            while state.epoch < self.settings.epochs and state.stopped is None:
                self._train_epoch(log, interruption)
                if state.stopped is None:
                    self._end_epoch(log)
                    self._save()
                    self._leave_if_asked(interruption)
        finally:
            log.close()

    def _fit_head(self) -> None:
        labels = self.train.labels[self.measured_rows]
        pooled = self._pooled_outputs()
        with self.progress.during(f"Fitting the first head: {len(labels):,} rows, {len(self.labels):,} labels"):
            self.classifier.fit_head(pooled, labels, self.weights[labels])

    def _train_epoch(self, log: RunLog, interruption: _Interruption) -> None:
        state, settings = self.state, self.settings
        batches = self._batches(self.seed, state.epoch)
        with self.progress.bar(f"Epoch {state.epoch + 1}/{settings.epochs}", len(batches), state.batch) as bar:
            for batch in batches[state.batch :]:
                begun = time.monotonic()
                rate = scheduled_learning_rate(state.step, self.total_steps, settings.learning_rate, settings.warmup)
                loss, norm = self._step(batch, rate)
                if state.step == 0 and state.seed_index == 0:
                    self.progress.say(f"First step after {time.monotonic() - self.started:.1f} s")
                state.step += 1
                state.batch += 1
                state.epoch_loss += loss * len(batch.rows)
                state.recent_losses = [*state.recent_losses, loss][-RECENT_STEPS:]
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
                trouble = after_step(state.recent_losses, self.guessing, settings.learning_rate, norm)
                if trouble is not None:
                    self._react(trouble, log)
                    if state.stopped is not None:
                        return
                bar.advance(f"loss {loss:.4f}")
                self._leave_if_asked(interruption)
                if time.monotonic() - self.saved > _SECONDS_BETWEEN_SAVES:
                    self._save()

    def _step(self, batch: Batch, rate: float) -> tuple[float, float]:
        parts = list(self._parts(batch))
        if self.stepped:
            return self.training_step(parts, rate, self.seed, self.state.step)
        with self.progress.during("Compiling the training step"):
            result = self.training_step(parts, rate, self.seed, self.state.step)
        self.stepped = True
        return result

    def _leave_if_asked(self, interruption: _Interruption) -> None:
        if interruption.requested:
            self._save()
            self.progress.say(f"Stopped at step {self.state.step} of {self.total_steps}; go on with --resume")
            raise KeyboardInterrupt

    def _parts(self, batch: Batch) -> Iterator[Part]:
        """The rows of a step in parts, each padded no further than its own rows need."""
        parts = self.settings.accumulate
        # What averaged words need of memory is little.
        if self.classifier.layers and not tf.config.list_physical_devices("GPU"):
            parts = max(parts, part_count(batch))
        for rows in np.array_split(batch.rows, min(parts, len(batch.rows))):
            length = padded_length(int(self.lengths[rows].max()), self.data.max_length)
            labels = self.train.labels[rows]
            yield Part(self.data.batch("train", Batch(rows, length)), labels, self.weights[labels])

    def _pooled_outputs(self) -> np.ndarray:
        """What the encoder, before it is trained, makes of `measured_rows`: float32 [rows, width]."""
        if self._measured is None:
            rows = self.measured_rows
            pooled = np.zeros((len(rows), self.classifier.width), np.float32)
            with self.progress.during(f"Computing what the encoder makes of {len(rows):,} training rows"):
                for batch in evaluation_batches(self.lengths[rows], _EVALUATION_BATCH, self.data.max_length):
                    tokens = self.data.batch("train", Batch(rows[batch.rows], batch.length))
                    pooled[batch.rows] = self.classifier.pooled_outputs(tokens)
            bad = np.flatnonzero(~np.isfinite(pooled).all(axis=1))
            if len(bad):
                raise EncoderError(
                    f"{self.classifier.encoder.checkpoint.path}: the encoder returns NaN or infinity for {len(bad):,} of "
                    f"{len(rows):,} training rows, first for row {self.train.rows[rows[bad[0]]]}, so no classifier can be "
                    "trained on it; check it with `textclf encoder SOURCE --golden`, or use another encoder"
                )
            self._measured = pooled
        return self._measured

    def _end_epoch(self, log: RunLog) -> None:
        """Validates, records, and keeps the weights where no earlier epoch was better."""
        state = self.state
        training_loss = state.epoch_loss / len(self.train.rows)
        logits = predict_logits(self.classifier, self.data, "validation")
        trouble = diverged(training_loss, logits, self.classifier.not_finite(), self.settings.learning_rate)
        if trouble is not None:
            self._react(trouble, log)
            return
        probabilities = softmax(logits)
        truth = self.data.dataset.validation.labels
        metrics = evaluate(probabilities, truth, self.labels)
        state.epoch += 1
        state.batch = 0
        entry = epoch_entry(state.epoch, training_loss, metrics)
        state.epoch_loss = 0.0
        state.history.append(entry)
        log.write("epoch", state.step, **entry)
        best = max(state.history, key=quality)
        if best is entry:
            state.best_epoch = state.epoch
            save_state(self.folder.best_state(self.seed), self.classifier.state(), {"epoch": state.epoch})
        self.progress.say(epoch_line(state.epoch, self.settings.epochs, metrics))
        self._watch_epoch(probabilities, truth, log)

    def _watch_epoch(self, probabilities: np.ndarray, truth: np.ndarray, log: RunLog) -> None:
        state, settings = self.state, self.settings
        warm = (state.epoch - 1) * self.steps_an_epoch >= round(self.total_steps * settings.warmup)
        if warm or state.epoch == settings.epochs:
            predicted = [self.labels[index] for index in np.unique(probabilities.argmax(axis=1))]
            for trouble in after_epoch(state.history, predicted, len(np.unique(truth)), self.guessing):
                self._react(trouble, log)
        waited = state.epoch - state.best_epoch
        if settings.early_stopping is not None and waited >= settings.early_stopping and state.epoch < settings.epochs:
            self._stop(f"no better validation result for {waited} epochs (training.early_stopping)", log)

    # --- Troubles ----------------------------------------------------------------------------------------------------

    def _react(self, trouble: Trouble, log: RunLog) -> None:
        """Does what `training.watchers` says."""
        state = self.state
        action = getattr(self.settings.watchers, trouble.watcher)
        if action == "ignore" or (action == "warn" and trouble.watcher in state.warnings):
            return
        where = f"step {state.step}" if trouble.watcher in ("not_finite", "learning_rate") else f"epoch {state.epoch}"
        message = f"{where}: {trouble.message}"
        state.warnings[trouble.watcher] = message
        log.write("warning", state.step, watcher=trouble.watcher, message=message)
        if action == "fail":
            raise TrainingError(f"{message} (training.watchers.{trouble.watcher} is fail)")
        if action == "warn":
            self.progress.say(f"Warning: {message}")
        elif not state.history:
            raise TrainingError(f"{message}. No epoch was complete before, so there is no model to export")
        else:
            self._stop(message, log)

    def _stop(self, reason: str, log: RunLog) -> None:
        state = self.state
        state.stopped = reason
        log.write("stopped", state.step, reason=reason)
        self.progress.say(f"Training ends here: {reason}. The best epoch, {state.best_epoch}, is kept")

    # --- Seeds -------------------------------------------------------------------------------------------------------

    def _finish_seed(self) -> None:
        """Measures the best epoch of this seed and goes over to the next one."""
        state = self.state
        best, _ = load_state(self.folder.best_state(self.seed))
        self.classifier.load_state(best)
        scores = {}
        for split in self.data.dataset.held_out:
            logits = predict_logits(self.classifier, self.data, split.name)
            require_finite(logits, split.name)
            probabilities = softmax(logits)
            scores[split.name] = evaluate(probabilities, split.labels, self.labels).scores()
        warnings = list(state.warnings.values())
        result = SeedResult(self.seed, state.best_epoch, state.history, scores, warnings, state.stopped)
        self.state = TrainingProgress(state.seed_index + 1, [*state.finished, asdict(result)])
        if self.state.seed_index < len(self.seeds):
            self.classifier.start_again(self.seed)
            self.optimizer.reset()
            self._save()

    # --- Saving and resuming -----------------------------------------------------------------------------------------

    def _save(self) -> None:
        facts = {"training": self.fingerprint, "progress": asdict(self.state)}
        save_state(self.folder.last_state, self._arrays(), facts)
        self.saved = time.monotonic()

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {f"model/{name}": array for name, array in self.classifier.state().items()}
        arrays.update({f"optimizer/{name}": array for name, array in self.optimizer.state().items()})
        return arrays

    def _check_first_state(self, facts: Mapping[str, Any], again: str) -> None:
        """A state of the first textclf is continued where its recipe, data, encoder and splits are those of now."""
        older = f"{self.folder.target}: the interrupted run was saved by an older textclf"
        if facts.get("fingerprint") != first_fingerprint(self.recipe, self.data, self.checkpoint):
            raise RunError(
                f"{older}, for another recipe, other data, another encoder or files in another folder (it compared their "
                f"paths and all settings), so it cannot go on as the same run; undo the change, or {again}"
            )
        if not is_split_as_first(self.recipe, self.data):
            raise RunError(
                f"{older}, which split these rows differently (texts that the model reads as equal now stay together), so "
                f"it cannot go on as the same run; resume it with that version, or {again}"
            )

    def _restore(self) -> None:
        arrays, facts = load_state(self.folder.last_state)
        target, again = self.folder.target, "start it again with force=True (--force)"
        if "training" not in facts:
            self._check_first_state(facts, again)
        elif facts["training"] != self.fingerprint:
            raise RunError(
                f"{target}: the recipe, the data or the encoder changed since the run was interrupted, in what training "
                f"depends on, so it cannot go on as the same run; undo the change, or {again}"
            )
        shapes = {name: array.shape for name, array in self._arrays().items()}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise RunError(f"{self.folder.last_state}: its arrays are not those of this training; {again}")
        try:
            self.state = TrainingProgress(**facts["progress"])
        except (KeyError, TypeError) as error:
            raise RunError(f"{self.folder.last_state}: its facts are damaged ({error}); {again}") from error
        self.classifier.load_state(_without_prefix(arrays, "model/"))
        self.optimizer.load_state(_without_prefix(arrays, "optimizer/"))
        self.progress.say(f"Resuming at step {self.state.step} of {self.total_steps}")


def epoch_entry(epoch: int, training_loss: float, metrics: Metrics) -> dict[str, Any]:
    """What the history keeps of an epoch; `metrics` are those of validation."""
    return {
        "epoch": epoch,
        "training_loss": training_loss,
        "validation_loss": metrics.loss,
        "validation_accuracy": metrics.accuracy,
        "validation_macro_f1": metrics.macro_f1,
    }


def epoch_line(epoch: int, epochs: int, metrics: Metrics) -> str:
    """What is said at the end of an epoch."""
    return (
        f"Epoch {epoch}/{epochs}: validation loss {metrics.loss:.4f}, accuracy "
        f"{metrics.accuracy:.1%}, macro-F1 {metrics.macro_f1:.1%}"
    )


def quality(entry: Mapping[str, Any]) -> tuple[float, float]:
    """What makes an epoch the best: the highest validation accuracy; among equals the lowest loss."""
    return entry["validation_accuracy"], -entry["validation_loss"]


def predict_logits(classifier: PooledClassifier, data: PreparedData, split: str) -> np.ndarray:
    """Logits float32 [rows, labels] of the classifier that is being trained, in the order of the split."""
    lengths = data.encoded[split].lengths
    logits = np.zeros((len(lengths), len(data.dataset.labels)), np.float32)
    for batch in evaluation_batches(lengths, _EVALUATION_BATCH, data.max_length):
        logits[batch.rows] = classifier.predict_logits(data.batch(split, batch))
    return logits


def _without_prefix(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


# What a resumed run may change: these settings decide only what is made of the trained weights, or when to stop.
_NOT_TRAINING = {"calibrate", "reject_for_precision", "watchers"}


def _fingerprint(recipe: Recipe, data: PreparedData, checkpoint: AnyEncoder) -> str:
    """A hash of all that decides how the training goes on.

    That is what the model reads, token ids and labels, not the files, columns and paths from which they come. Test rows
    count only with several seeds, whose scores on them are recorded as the seeds end.
    """
    splits = [data.dataset.train, data.dataset.validation]
    if data.dataset.test is not None and recipe.training.seeds is not None:
        splits.append(data.dataset.test)
    settings = recipe.training.model_dump(mode="json", exclude=_NOT_TRAINING)
    digest = hashlib.sha256()
    facts = [settings, data.max_length, list(data.dataset.labels), checkpoint.fingerprint()]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for split in splits:
        encoded = data.encoded[split.name]
        for array in (encoded.flat_ids, encoded.offsets, encoded.first_lengths, split.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class _Interruption:
    """Ctrl-C waits for the end of the step, so that what is saved is a whole step; a second one ends at once."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @classmethod
    @contextmanager
    def watched(cls) -> Iterator[_Interruption]:
        interruption = cls()
        if threading.current_thread() is not threading.main_thread():
            yield interruption  # Only the main thread may handle signals.
            return
        earlier = {number: signal.signal(number, interruption._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield interruption
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
