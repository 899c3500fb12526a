"""Fine-tuning: a recipe in, a run folder with a checked, labelled `.tflite` model out."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from textclf import __version__
from textclf.calibration import (
    ChosenTemperature,
    calibration_error,
    calibration_text,
    choose_temperature,
    measure_rejection,
    rejection_threshold,
    require_finite,
)
from textclf.dataset import Dataset, token_findings
from textclf.encoders.average_words import WordVectors, write_word_vectors
from textclf.encoders.description import fingerprint
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.encoders.trainable import AnyEncoder
from textclf.evaluation import evaluate, metrics_json, result_warnings, softmax
from textclf.export.model import export_classifier
from textclf.export.verification import verify_export
from textclf.files import write_bytes, write_text
from textclf.fitting import Fitted, PreparedData, SeedResult, fit, predict_logits
from textclf.memory import memory_errors
from textclf.model_maker.environment import require_environment
from textclf.predictor import Classifier
from textclf.progress import Progress
from textclf.recipe import Recipe, dump_recipe
from textclf.recipe_data import load_recipe_data
from textclf.recipe_encoder import encoder_of, prepare
from textclf.report import Mistake, worst_mistakes, write_model_card, write_report
from textclf.run_folder import RunFolder, open_run_folder, save_state
from textclf.tokenizer import TextTokenizer

_RECORDED_PACKAGES = ("tensorflow", "ai-edge-litert", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the model in it, and everything that `metrics.json` holds."""

    dir: Path
    model_path: Path
    metrics: dict[str, Any]


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
    if recipe.training.engine == "model-maker":
        # Said before anything is read, fetched or written.
        require_environment()
    target = Path(run_dir) if run_dir is not None else Path("runs") / recipe.name
    with open_run_folder(target, force=force, resume=resume) as folder:
        with progress.during("Reading the data"):
            recipe, dataset = load_recipe_data(recipe)
        checkpoint = encoder_of(recipe, dataset)
        tokenizer = prepare(recipe, dataset, checkpoint).tokenizer
        with progress.during("Splitting the texts into tokens"):
            data = prepare_data(recipe, dataset, tokenizer)
        for finding in data.dataset.findings:
            progress.say(str(finding))
        with memory_errors(recipe, folder, "the model was trained"):
            training = _trained(recipe, data, checkpoint, folder, progress, started)
        with memory_errors(recipe, folder, "the trained model was exported and measured"):
            metrics, mistakes = _finish(recipe, data, checkpoint, training, folder, progress)
        metrics["seconds"] = round(time.monotonic() - started, 1)
        write_text(folder.path / "metrics.json", metrics_json(metrics))
        write_report(folder.path, metrics, mistakes)
        write_model_card(folder.path, metrics)
        folder.finish()
    return Run(target, target / "model.tflite", metrics)


def prepare_data(recipe: Recipe, dataset: Dataset, tokenizer: TextTokenizer) -> PreparedData:
    """Every split as token ids."""
    max_length = recipe.encoder.fixed_length
    encoded = {
        split.name: tokenizer.encode(split.texts, max_length, recipe.encoder.overflow) for split in dataset.splits
    }
    findings = [*dataset.findings, *token_findings(dataset, tokenizer, max_length, recipe.encoder.source)]
    return PreparedData(replace(dataset, findings=findings), tokenizer, max_length, encoded)


# --- Training, by one engine or the other ----------------------------------------------------------------------------


class Training(Protocol):
    """A finished training, whatever engine did it: what is needed to measure the model and to fill the run folder."""

    results: list[SeedResult]
    winner: SeedResult
    precision: str
    vocabulary: Sequence[str]
    facts: dict[str, Any]
    """What `metrics.json` says of the engine: its name and whatever else it tells."""

    def logits(self, split: str) -> np.ndarray:
        """float32 [rows, labels] of the trained model, in the order of the split."""

    def export(self, temperature: float, reject_below: float | None) -> bytes:
        """The bytes of `model.tflite`, of which the logits are divided by `temperature`."""

    def comparable(self, predictor: Classifier) -> Classifier:
        """One that splits texts as it was done for `logits`."""

    def keep(self, folder: RunFolder) -> None:
        """Leaves in the folder what a finished run has, and nothing else."""


@dataclass
class _NativeTraining:
    """Our own engine's."""

    recipe: Recipe
    data: PreparedData
    checkpoint: AnyEncoder
    fitted: Fitted

    def __post_init__(self) -> None:
        self.results, self.winner = self.fitted.results, self.fitted.winner
        self.precision = self.fitted.precision
        self.vocabulary: Sequence[str] = self.checkpoint.vocabulary
        self.facts: dict[str, Any] = {"name": "native"}

    def logits(self, split: str) -> np.ndarray:
        return predict_logits(self.fitted.classifier, self.data, split)

    def export(self, temperature: float, reject_below: float | None) -> bytes:
        classifier = self.fitted.classifier
        classifier.scale_logits(1.0 / temperature)
        labels, vocabulary = self.data.dataset.labels, self.checkpoint.vocabulary
        return export_classifier(
            self.recipe,
            classifier.inference_weights(),
            labels,
            vocabulary,
            reject_below=reject_below,
            rows=self.data.encoded["train"],
        )

    def comparable(self, predictor: Classifier) -> Classifier:
        return predictor

    def keep(self, folder: RunFolder) -> None:
        _keep_best(self.checkpoint, self.fitted, folder)


def _trained(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: AnyEncoder,
    folder: RunFolder,
    progress: Progress,
    started: float,
) -> Training:
    if recipe.training.engine == "native":
        training = _NativeTraining(recipe, data, checkpoint, fit(recipe, data, checkpoint, folder, progress, started))
        # The optimiser's moments hang in cycles with its compiled functions; what follows needs their memory.
        gc.collect()
        return training
    from textclf.model_maker.engine import train_with_model_maker

    return train_with_model_maker(recipe, data, checkpoint, folder, progress)


# --- What follows training -------------------------------------------------------------------------------------------


def _finish(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: AnyEncoder,
    training: Training,
    folder: RunFolder,
    progress: Progress,
) -> tuple[dict[str, Any], list[Mistake]]:
    """Exports and verifies the model, measures it as the device will run it, and writes the rest of the run folder."""
    dataset, winner = data.dataset, training.winner
    measured_splits = dataset.held_out
    logits = {split.name: training.logits(split.name) for split in measured_splits}
    truth = {split.name: split.labels for split in measured_splits}
    for split_name, split_logits in logits.items():
        require_finite(split_logits, split_name)
    calibration, temperature = _calibrate(recipe, logits, truth, progress)
    trained = {name: softmax(values / temperature) for name, values in logits.items()}
    threshold = _choose_threshold(recipe, trained["validation"], truth["validation"], progress)

    model_path = folder.path / "model.tflite"
    content = training.export(temperature, threshold)
    write_bytes(model_path, content)
    predictor = Classifier(model_path)
    exported = {split.name: predictor.probabilities(split.texts) for split in measured_splits}
    comparable = training.comparable(predictor)
    compared = {
        split.name: exported[split.name] if comparable is predictor else comparable.probabilities(split.texts)
        for split in measured_splits
    }
    verification = verify_export(
        np.concatenate(list(trained.values())),
        np.concatenate(list(compared.values())),
        np.concatenate([split.labels for split in measured_splits]),
        recipe.export.quantization,
        max_changed_labels=recipe.export.max_changed_labels,
        max_lost_accuracy=recipe.export.max_lost_accuracy,
    )
    progress.say(
        f"model.tflite: {len(content) / 1e6:.1f} MB, compared with the trained model on {verification.rows} rows: "
        f"{verification.changed_labels} labels differ, largest difference in a probability "
        f"{verification.largest_difference:.4f}"
    )
    for name, errors in calibration["expected_calibration_error"].items():
        errors["exported"] = calibration_error(exported[name], truth[name])
    measured = {split.name: evaluate(exported[split.name], split.labels, dataset.labels) for split in measured_splits}
    for name, values in measured.items():
        progress.say(
            f"model.tflite on the {name} split ({values.rows} rows): accuracy {values.accuracy:.1%}, "
            f"macro-F1 {values.macro_f1:.1%}"
        )
    reported = measured_splits[-1]
    warnings = [*winner.warnings, *result_warnings(measured, reported.name)]
    for warning in warnings[len(winner.warnings) :]:
        progress.say(f"Warning: {warning}")
    if threshold is not None:
        rejection = {name: asdict(measure_rejection(exported[name], truth[name], threshold)) for name in measured}
    else:
        rejection = None
    write_text(folder.path / "labels.txt", "".join(f"{label}\n" for label in dataset.labels))
    write_text(folder.path / "vocab.txt", "".join(f"{piece}\n" for piece in training.vocabulary))
    write_text(folder.path / "recipe.yaml", dump_recipe(recipe))
    training.keep(folder)
    metrics = {
        "name": recipe.name,
        "versions": {
            "python": platform.python_version(),
            "textclf": __version__,
            **{name: _version(name) for name in _RECORDED_PACKAGES},
        },
        "engine": training.facts,
        "seed": winner.seed,
        "files": {str(path): digest for path, digest in dataset.files.items()},
        "encoder": {
            "source": recipe.encoder.source,
            "format": checkpoint.format,
            "sha256": fingerprint(checkpoint),
            **asdict(checkpoint.config),
        },
        "rows": {split.name: len(split.rows) for split in dataset.splits},
        "labels": list(dataset.labels),
        "findings": [*map(str, dataset.findings), *warnings],
        "warnings": warnings,
        "stopped": winner.stopped,
        "precision": training.precision,
        "history": winner.history,
        "best_epoch": winner.best_epoch,
        "seeds": _over_seeds(training.results, progress) if len(training.results) > 1 else None,
        "calibration": calibration,
        "rejection": rejection,
        "export": {"bytes": len(content), "quantization": recipe.export.quantization, **asdict(verification)},
        **{name: values.as_dict() for name, values in measured.items()},
        "recipe": recipe.model_dump(mode="json"),
    }
    return metrics, worst_mistakes(reported, exported[reported.name], dataset.labels)


def _calibrate(
    recipe: Recipe, logits: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], progress: Progress
) -> tuple[dict[str, Any], float]:
    """What `metrics.json` says of it (errors before and after, by split), and the temperature: 1 where none is wanted."""
    wanted = recipe.training.calibrate
    chosen = choose_temperature(logits["validation"], truth["validation"]) if wanted else ChosenTemperature(1.0)
    errors = {
        name: {
            "before": calibration_error(softmax(values), truth[name]),
            "after": calibration_error(softmax(values / chosen.value), truth[name]),
        }
        for name, values in logits.items()
    }
    if wanted:
        progress.say(f"Calibration: {calibration_text(chosen, errors)}")
    return {"temperature": chosen.value, "reason": chosen.reason, "expected_calibration_error": errors}, chosen.value


def _choose_threshold(recipe: Recipe, probabilities: np.ndarray, truth: np.ndarray, progress: Progress) -> float | None:
    """The probability below which the model gives no label; None where none is wanted or reaches the precision."""
    wanted = recipe.training.reject_for_precision
    if wanted is None:
        return None
    rejection = rejection_threshold(probabilities, truth, wanted)
    if rejection is None:
        progress.say(
            f"Warning: no threshold makes {wanted:.1%} of the given labels right on validation "
            "(training.reject_for_precision), so the model gives every row a label"
        )
        return None
    progress.say(
        f"Below a probability of {rejection.threshold:.3f} no label is given: of the validation rows "
        f"{rejection.coverage:.1%} get one, and {rejection.precision:.1%} of these are right"
    )
    return rejection.threshold


def _over_seeds(results: Sequence[SeedResult], progress: Progress) -> dict[str, Any]:
    """Every training's scores, and of each score the mean and the standard deviation (of a sample)."""
    summary: dict[str, Any] = {"trainings": [asdict(result) for result in results]}
    for split in results[0].scores:
        scores = {
            score: np.array([result.scores[split][score] for result in results]) for score in results[0].scores[split]
        }
        summary[split] = {
            score: {"mean": float(values.mean()), "deviation": float(values.std(ddof=1))}
            for score, values in scores.items()
        }
        accuracy, macro_f1 = summary[split]["accuracy"], summary[split]["macro_f1"]
        progress.say(
            f"{len(results)} seeds on the {split} split: accuracy {accuracy['mean']:.1%} ± {accuracy['deviation']:.1%}, "
            f"macro-F1 {macro_f1['mean']:.1%} ± {macro_f1['deviation']:.1%}"
        )
    return summary


def _keep_best(checkpoint: AnyEncoder, fitted: Fitted, folder: RunFolder) -> None:
    """What the exported file was made from, as an encoder that other recipes can start from, and its head beside it."""
    classifier = fitted.classifier
    best = folder.path / "checkpoints" / "best"
    if isinstance(checkpoint, WordVectors):
        write_word_vectors(best, replace(checkpoint, weights=classifier.encoder_weights()))
    else:
        write_encoder(best, replace(checkpoint, weights=classifier.encoder_weights()))
    save_state(best / "head.safetensors", classifier.head(), {})
    folder.keep_log_of(fitted.winner.seed, len(fitted.results))
    folder.last_state.unlink()
    for result in fitted.results:
        folder.best_state(result.seed).unlink()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
