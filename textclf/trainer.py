"""Fine-tuning: a recipe in, a run folder with a checked, labelled `.tflite` model out."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from textclf.batching import Batch, evaluation_batches, training_batches
from textclf.classifier import PooledClassifier
from textclf.dataset import Dataset, Split, load_dataset, token_findings
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.encoders.mobilebert import Dropout
from textclf.encoders.source import load_checkpoint
from textclf.errors import EncoderError, RunError, TextclfError
from textclf.evaluation import evaluate, softmax
from textclf.export.model import export_classifier
from textclf.export.verification import verify_export
from textclf.optimizer import AdamW, scheduled_learning_rate
from textclf.predictor import Classifier
from textclf.progress import Progress
from textclf.recipe import Recipe, TrainingSettings, dump_recipe
from textclf.report import Mistake, worst_mistakes, write_model_card, write_report
from textclf.run_folder import (
    RunFolder,
    RunLog,
    load_state,
    open_run_folder,
    save_state,
    write_bytes,
    write_text,
)
from textclf.tokenizer import Encoded, Tokenizer, pad

# How much work a killed run loses at most.
_SECONDS_BETWEEN_SAVES = 60.0
_EVALUATION_BATCH = 64
# Rows from which the feature standardisation is measured: enough for 512 means and deviations.
_STANDARDIZATION_ROWS = 1024
_RECORDED_PACKAGES = ("textclf", "tensorflow", "ai-edge-litert", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the model in it, and everything that `metrics.json` holds."""

    dir: Path
    model_path: Path
    metrics: dict[str, Any]


@dataclass(frozen=True)
class PreparedData:
    """The dataset with its splits as token ids, for one tokenizer and length."""

    dataset: Dataset
    tokenizer: Tokenizer
    max_length: int
    encoded: dict[str, Encoded]

    def batch(self, split: str, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return pad(self.encoded[split], batch.rows, batch.length)


@dataclass
class TrainingProgress:
    """Where a run stands: what a saved state carries besides arrays."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    recipe: Recipe,
    run_dir: str | Path | None = None,
    *,
    force: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains, exports, verifies and measures what the recipe describes.

    `run_dir` is the folder to write, by default `runs/<name>`; one that exists is replaced only with `force`. With
    `resume` an interrupted run goes on from its last saved step and ends as if it had never stopped. Progress goes to
    standard error unless `quiet`. Raises a TextclfError for whatever in the recipe, the data, the encoder or the folder
    keeps the run from its end.
    """
    started = time.monotonic()
    progress = Progress(quiet=quiet)
    target = Path(run_dir) if run_dir is not None else Path("runs") / recipe.name
    with open_run_folder(target, force=force, resume=resume) as folder:
        dataset = load_dataset(recipe.dataset, recipe.training.seed)
        checkpoint = load_checkpoint(recipe.encoder.source)
        data = prepare_data(recipe, dataset, checkpoint)
        for finding in dataset.findings + token_findings(dataset, data.tokenizer, data.max_length):
            progress.say(str(finding))
        classifier, state = _fit(recipe, data, checkpoint, folder, progress, started)
        metrics, mistakes = _finish(recipe, data, checkpoint, classifier, state, folder, progress)
        metrics["seconds"] = round(time.monotonic() - started, 1)
        write_text(folder.path / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
        write_report(folder.path, metrics, mistakes)
        write_model_card(folder.path, metrics)
        folder.finish()
    return Run(target, target / "model.tflite", metrics)


def prepare_data(recipe: Recipe, dataset: Dataset, checkpoint: EncoderCheckpoint) -> PreparedData:
    """Every split as token ids; raises EncoderError when the recipe asks for more than the encoder can take."""
    config, max_length = checkpoint.config, recipe.encoder.max_length
    if max_length > config.max_position_embeddings:
        raise EncoderError(
            f"encoder.max_length is {max_length}, but {checkpoint.path} takes at most "
            f"{config.max_position_embeddings} tokens; lower encoder.max_length"
        )
    if len(recipe.dataset.text) == 2 and config.type_vocab_size < 2:
        raise EncoderError(f"{checkpoint.path}: knows one segment only, but dataset.text names a pair of columns")
    tokenizer = Tokenizer(checkpoint.vocabulary, recipe.encoder.tokenizer, checkpoint.do_lower_case)
    encoded = {split.name: tokenizer.encode(split.texts, max_length) for split in _splits(dataset)}
    return PreparedData(dataset, tokenizer, max_length, encoded)


def _splits(dataset: Dataset) -> list[Split]:
    return [split for split in (dataset.train, dataset.validation, dataset.test) if split is not None]


# --- The loop --------------------------------------------------------------------------------------------------------


def _fit(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: EncoderCheckpoint,
    folder: RunFolder,
    progress: Progress,
    started: float,
) -> tuple[PooledClassifier, TrainingProgress]:
    """Trains; returns the classifier with the weights of its best epoch."""
    tf.config.experimental.enable_op_determinism()
    settings, train_split = recipe.training, data.dataset.train
    lengths = data.encoded["train"].lengths
    classifier = PooledClassifier(checkpoint, len(data.dataset.labels), settings.seed)
    optimizer = AdamW(classifier.variables, settings.weight_decay, settings.clip_norm)
    step_function = _training_step(classifier, optimizer, settings)
    steps_an_epoch = len(training_batches(lengths, settings.batch_size, data.max_length, seed=settings.seed, epoch=0))
    total_steps = steps_an_epoch * settings.epochs

    fingerprint = _fingerprint(recipe, data, checkpoint)
    state = TrainingProgress()
    if folder.last_state.exists():
        state = _restore(folder, classifier, optimizer, fingerprint)
        progress.say(f"Resuming at step {state.step} of {total_steps}")
    else:
        classifier.standardize(_standardization_batches(data))
    progress.say(
        f"Training on {len(train_split.rows)} rows, {len(data.dataset.labels)} labels: {settings.epochs} epochs of "
        f"{steps_an_epoch} steps, {checkpoint.config.num_hidden_layers}-layer encoder ({checkpoint.format})"
    )

    log = RunLog(folder.log, keep_steps=state.step)
    saved = time.monotonic()
    while state.epoch < settings.epochs:
        batches = training_batches(lengths, settings.batch_size, data.max_length, seed=settings.seed, epoch=state.epoch)
        with progress.bar(f"Epoch {state.epoch + 1}/{settings.epochs}", len(batches), state.batch) as bar:
            for batch in batches[state.batch :]:
                begun = time.monotonic()
                rate = scheduled_learning_rate(state.step, total_steps, settings.learning_rate, settings.warmup)
                labels = train_split.labels[batch.rows]
                result = step_function(*data.batch("train", batch), labels, np.float32(rate), np.int32(state.step))
                loss, norm = (float(value) for value in result)
                if state.step == 0:
                    progress.say(f"First step after {time.monotonic() - started:.1f} s")
                state.step += 1
                state.batch += 1
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
                if not math.isfinite(loss):
                    raise TextclfError(
                        f"step {state.step}: the loss is {loss}, the training has diverged; "
                        f"lower training.learning_rate (now {settings.learning_rate})"
                    )
                bar.advance(f"loss {loss:.4f}")
                if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                    _save(folder, classifier, optimizer, state, fingerprint)
                    saved = time.monotonic()
        _end_epoch(classifier, data, state, folder, log, progress, settings.epochs)
        _save(folder, classifier, optimizer, state, fingerprint)
        saved = time.monotonic()
    log.close()
    best, _ = load_state(folder.best_state)
    classifier.load_state(best)
    return classifier, state


def _training_step(classifier: PooledClassifier, optimizer: AdamW, settings: TrainingSettings) -> Any:
    """One optimiser step as a graph for any number of rows and any length."""
    config = classifier.config

    def step(
        input_ids: tf.Tensor,
        input_mask: tf.Tensor,
        segment_ids: tf.Tensor,
        labels: tf.Tensor,
        learning_rate: tf.Tensor,
        number: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.stack([tf.constant(_signed(settings.seed), tf.int32), number * (config.num_hidden_layers + 1)])
        attention = Dropout(config.attention_probs_dropout_prob, seed) if config.attention_probs_dropout_prob else None
        head = Dropout(settings.dropout, seed) if settings.dropout else None
        with tf.GradientTape() as tape:
            logits = classifier.logits(input_ids, input_mask, segment_ids, attention, head)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        gradients = tape.gradient(loss, classifier.variables)
        used = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        return loss, optimizer.apply(used, learning_rate)

    matrix, vector = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
    rate, number = tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int32)
    return tf.function(step, input_signature=[matrix, matrix, matrix, vector, rate, number])


def _signed(seed: int) -> int:
    """A seed below 2**32 as the int32 of the same bits."""
    return seed - 2**32 if seed >= 2**31 else seed


def _standardization_batches(data: PreparedData) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Evenly chosen training rows."""
    lengths = data.encoded["train"].lengths
    chosen = np.unique(np.linspace(0, len(lengths) - 1, min(len(lengths), _STANDARDIZATION_ROWS)).astype(np.int64))
    for batch in evaluation_batches(lengths[chosen], _EVALUATION_BATCH, data.max_length):
        yield data.batch("train", Batch(chosen[batch.rows], batch.length))


def _end_epoch(
    classifier: PooledClassifier,
    data: PreparedData,
    state: TrainingProgress,
    folder: RunFolder,
    log: RunLog,
    progress: Progress,
    epochs: int,
) -> None:
    """Validates, records, and keeps the weights where no earlier epoch was better."""
    probabilities = predict_probabilities(classifier, data, "validation")
    metrics = evaluate(probabilities, data.dataset.validation.labels, data.dataset.labels)
    state.epoch += 1
    state.batch = 0
    entry = {
        "epoch": state.epoch,
        "validation_loss": metrics.loss,
        "validation_accuracy": metrics.accuracy,
        "validation_macro_f1": metrics.macro_f1,
    }
    state.history.append(entry)
    log.write("epoch", state.step, **entry)
    if _best(state.history) == state.epoch:
        state.best_epoch = state.epoch
        save_state(folder.best_state, classifier.state(), {"epoch": state.epoch})
    progress.say(
        f"Epoch {state.epoch}/{epochs}: validation loss {metrics.loss:.4f}, accuracy {metrics.accuracy:.1%}, "
        f"macro-F1 {metrics.macro_f1:.1%}"
    )


def _best(history: list[dict[str, Any]]) -> int:
    """The epoch of highest validation accuracy; among equals the one of lowest loss."""
    best = max(history, key=lambda entry: (entry["validation_accuracy"], -entry["validation_loss"]))
    return int(best["epoch"])


def predict_probabilities(classifier: PooledClassifier, data: PreparedData, split: str) -> np.ndarray:
    """Probabilities float32 [rows, labels] of the classifier that is being trained, in the order of the split."""
    lengths = data.encoded[split].lengths
    probabilities = np.zeros((len(lengths), len(data.dataset.labels)), np.float32)
    for batch in evaluation_batches(lengths, _EVALUATION_BATCH, data.max_length):
        probabilities[batch.rows] = softmax(classifier.predict_logits(data.batch(split, batch)))
    return probabilities


# --- Saving and resuming ---------------------------------------------------------------------------------------------


def _save(
    folder: RunFolder, classifier: PooledClassifier, optimizer: AdamW, state: TrainingProgress, fingerprint: str
) -> None:
    arrays = {f"model/{name}": array for name, array in classifier.state().items()}
    arrays.update({f"optimizer/{name}": array for name, array in optimizer.state().items()})
    save_state(folder.last_state, arrays, {"fingerprint": fingerprint, "progress": asdict(state)})


def _restore(folder: RunFolder, classifier: PooledClassifier, optimizer: AdamW, fingerprint: str) -> TrainingProgress:
    arrays, facts = load_state(folder.last_state)
    if facts["fingerprint"] != fingerprint:
        raise RunError(
            f"{folder.target}: the recipe, the data or the encoder changed since the run was interrupted, "
            "so it cannot go on as the same run; start it again with --force"
        )
    classifier.load_state(_without_prefix(arrays, "model/"))
    optimizer.load_state(_without_prefix(arrays, "optimizer/"))
    return TrainingProgress(**facts["progress"])


def _without_prefix(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _fingerprint(recipe: Recipe, data: PreparedData, checkpoint: EncoderCheckpoint) -> str:
    """A hash of all that decides how the training goes on."""
    facts = [dump_recipe(recipe), sorted(data.dataset.files.values()), _weights_hash(checkpoint)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _weights_hash(checkpoint: EncoderCheckpoint) -> str:
    """SHA-256 over the encoder's arrays in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(checkpoint.weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(checkpoint.weights[name]).data)
    return digest.hexdigest()


# --- What follows training -------------------------------------------------------------------------------------------


def _finish(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: EncoderCheckpoint,
    classifier: PooledClassifier,
    state: TrainingProgress,
    folder: RunFolder,
    progress: Progress,
) -> tuple[dict[str, Any], list[Mistake]]:
    """Exports and verifies the model, measures it as the device will run it, and writes the rest of the run folder."""
    dataset = data.dataset
    model_path = folder.path / "model.tflite"
    content = export_classifier(recipe, classifier.inference_weights(), dataset.labels, checkpoint.vocabulary)
    write_bytes(model_path, content)
    predictor = Classifier(model_path)
    measured_splits = [split for split in _splits(dataset) if split.name != "train"]
    exported = {split.name: predictor.probabilities(split.texts) for split in measured_splits}
    trained = {split.name: predict_probabilities(classifier, data, split.name) for split in measured_splits}
    verification = verify_export(
        np.concatenate(list(trained.values())),
        np.concatenate(list(exported.values())),
        np.concatenate([split.labels for split in measured_splits]),
        recipe.export.quantization,
    )
    progress.say(
        f"model.tflite: {len(content) / 1e6:.1f} MB, compared with the trained model on {verification.rows} rows: "
        f"{verification.changed_labels} labels differ, largest difference in a probability "
        f"{verification.largest_difference:.4f}"
    )
    measured = {split.name: evaluate(exported[split.name], split.labels, dataset.labels) for split in measured_splits}
    for name, values in measured.items():
        progress.say(
            f"model.tflite on the {name} split ({values.rows} rows): accuracy {values.accuracy:.1%}, "
            f"macro-F1 {values.macro_f1:.1%}"
        )
    write_text(folder.path / "labels.txt", "".join(f"{label}\n" for label in dataset.labels))
    write_text(folder.path / "vocab.txt", "".join(f"{piece}\n" for piece in checkpoint.vocabulary))
    write_text(folder.path / "recipe.yaml", dump_recipe(recipe))
    _keep_best(checkpoint, classifier, folder)
    metrics = {
        "name": recipe.name,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _RECORDED_PACKAGES},
        "seed": recipe.training.seed,
        "files": {str(path): digest for path, digest in dataset.files.items()},
        "encoder": {
            "source": recipe.encoder.source,
            "format": checkpoint.format,
            "weights_sha256": _weights_hash(checkpoint),
            **asdict(checkpoint.config),
        },
        "rows": {split.name: len(split.rows) for split in _splits(dataset)},
        "labels": list(dataset.labels),
        "findings": [str(finding) for finding in dataset.findings],
        "history": state.history,
        "best_epoch": state.best_epoch,
        "export": {"bytes": len(content), "quantization": recipe.export.quantization, **asdict(verification)},
        **{name: values.as_dict() for name, values in measured.items()},
        "recipe": recipe.model_dump(mode="json"),
    }
    reported = measured_splits[-1]
    return metrics, worst_mistakes(reported, exported[reported.name], dataset.labels)


def _keep_best(checkpoint: EncoderCheckpoint, classifier: PooledClassifier, folder: RunFolder) -> None:
    """What the exported file was made from, as an encoder that other recipes can start from, and its head beside it."""
    best = folder.path / "checkpoints" / "best"
    write_encoder(best, replace(checkpoint, weights=classifier.encoder_weights()))
    head = {name: array for name, array in classifier.state().items() if name.startswith(("head/", "features/"))}
    save_state(best / "head.safetensors", head, {})
    for path in (folder.last_state, folder.best_state):
        path.unlink()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
