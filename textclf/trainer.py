"""Fine-tuning: a recipe in, a run folder with a checked, labelled `.tflite` model out."""

from __future__ import annotations

import gc
import logging
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from textclf.errors import RunError, TextclfError, VerificationError
from textclf.evaluation import evaluate, result_warnings, softmax
from textclf.export.inference_graph import Quantization
from textclf.export.model import export_classifier, inference_weights
from textclf.export.verification import Verification, verify_export
from textclf.files import write_bytes, write_text
from textclf.fitting import Fitted, PreparedData, SeedResult, fit, predict_logits
from textclf.memory import memory_errors
from textclf.model_maker.environment import require_environment
from textclf.predictor import Classifier
from textclf.progress import Progress
from textclf.recipe import Recipe, dump_recipe
from textclf.recipe_data import load_recipe_data
from textclf.recipe_encoder import encoder_of, prepare
from textclf.report import Mistake, worst_mistakes
from textclf.run_folder import METRICS_FORMAT, METRICS_VERSION, RunFolder, open_run_folder, save_state
from textclf.run_pages import WITHHELD, write_pages
from textclf.tensorflow_process import use_tensorflow
from textclf.tokenizer import TextTokenizer

_RECORDED_PACKAGES = ("tensorflow", "ai-edge-litert", "numpy", "pandas")
# From the smallest form of a model to the one that is nearest to the trained model.
_FORMS: tuple[Quantization, ...] = ("int4", "dynamic", "float16", "none")
# How often a run's disk holds the weights at most: two states with both moments of the optimiser, while one replaces the
# other, the best epoch, what is kept of it, and the exported file.
_COPIES_ON_DISK = 9
_LOG = logging.getLogger(__name__)


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

    `run_dir` is the folder to write, by default `runs/<name>`; one that exists is replaced only with `force`, and only
    where textclf wrote all that it holds. With `resume` an interrupted run goes on from its last saved step and ends as
    if it had never stopped; it replaces an existing run if it was started with `force`. Progress goes to standard error
    unless `quiet`.

    A model that departs too far from the trained one in the form that the recipe asks for (export.quantization) is
    written in the nearest form that passes, int4 → dynamic → float16 → none: `metrics["export"]["quantization"]` is the
    form written, and `metrics["export"]["refused"]` lists the others with the reasons; the command `textclf train` then
    ends with exit code 3. Where no form passes, the run folder is complete but for `model.tflite`, and VerificationError
    says so: `textclf export` works on this run.

    Raises a TextclfError for whatever in the recipe, the data, the encoder or the folder keeps the run from its end.
    """
    started = time.monotonic()
    progress = Progress(quiet=quiet)
    if recipe.training.engine == "model-maker":
        # Said before anything is read, fetched or written.
        require_environment()
    else:
        use_tensorflow("train")
    target = Path(run_dir) if run_dir is not None else Path("runs") / recipe.name
    with open_run_folder(target, force=force, resume=resume, inputs=_inputs(recipe), say=progress.say) as folder:
        if folder.finished is not None:
            return _finished_run(target, folder.finished)
        with progress.during("Reading the data"):
            recipe, dataset = load_recipe_data(recipe)
        checkpoint = encoder_of(recipe, dataset)
        _check_space(folder, checkpoint)
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
        write_pages(folder.path, metrics, mistakes)
        training.leave()
        folder.finish()
    return _finished_run(target, metrics)


def _finished_run(target: Path, metrics: dict[str, Any]) -> Run:
    """The run as `train` returns it; raises VerificationError for one that is complete but for its model."""
    reason = metrics["export"].get("withheld")
    if reason is not None:
        raise VerificationError(
            f"{target}: the training is complete, but {WITHHELD}: {reason}. The trained weights are kept: "
            f"export them in another form or within wider bounds, for example `textclf export {target} quantization=none`"
        )
    return Run(target, target / "model.tflite", metrics)


def _inputs(recipe: Recipe) -> list[Path]:
    """The files and folders that a run of this recipe reads."""
    settings = recipe.dataset
    named = [settings.train, settings.validation, settings.test, recipe.encoder.source]
    return [Path(path) for path in named if isinstance(path, Path) or (isinstance(path, str) and os.path.isabs(path))]


def _check_space(folder: RunFolder, checkpoint: AnyEncoder) -> None:
    needed = _COPIES_ON_DISK * sum(array.nbytes for array in checkpoint.weights.values())
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise RunError(
            f"{folder.target}: {free / 1e6:,.0f} MB are free on this disk, but the training writes up to "
            f"{needed / 1e6:,.0f} MB; free some space, or choose another {folder.kind.argument}"
        )


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

    forms: tuple[Quantization, ...]
    """The forms in which the model can be exported: the recipe's, then ever nearer ones to the trained model."""

    def export(self, temperature: float, reject_below: float | None, form: Quantization) -> bytes:
        """The bytes of `model.tflite`, of which the logits are divided by `temperature`. Nothing else changes by it."""

    def comparable(self, predictor: Classifier) -> Classifier:
        """One that splits texts as it was done for `logits`."""

    def keep(self, folder: RunFolder, temperature: float) -> None:
        """Writes the trained weights and the log into the folder, as a finished run has them."""

    def leave(self) -> None:
        """Removes what only the training needed."""


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
        self.forms = _FORMS[_FORMS.index(self.recipe.export.quantization) :]

    def logits(self, split: str) -> np.ndarray:
        return predict_logits(self.fitted.classifier, self.data, split)

    def export(self, temperature: float, reject_below: float | None, form: Quantization) -> bytes:
        classifier = self.fitted.classifier
        trained = replace(self.checkpoint, weights=classifier.encoder_weights())
        return export_classifier(
            self.recipe.model_copy(update={"export": self.recipe.export.model_copy(update={"quantization": form})}),
            inference_weights(trained, _cooled(classifier.head(), temperature)),
            self.data.dataset.labels,
            self.checkpoint.vocabulary,
            reject_below=reject_below,
            rows=self.data.encoded["train"],
        )

    def comparable(self, predictor: Classifier) -> Classifier:
        return predictor

    def keep(self, folder: RunFolder, temperature: float) -> None:
        _keep_best(self.checkpoint, self.fitted, folder, temperature)

    def leave(self) -> None:
        pass  # The saved states go when the folder is complete.


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

    # First what a later export needs: whatever fails after this, the trained weights can be reached.
    write_text(folder.path / "labels.txt", "".join(f"{label}\n" for label in dataset.labels))
    write_text(folder.path / "vocab.txt", "".join(f"{piece}\n" for piece in training.vocabulary))
    write_text(folder.path / "recipe.yaml", dump_recipe(recipe, relative_to=folder.place))
    training.keep(folder, temperature)
    exported_file, refused = _exported(recipe, dataset, training, trained, temperature, threshold, folder, progress)
    exported = exported_file.probabilities if exported_file is not None else trained
    for name, errors in calibration["expected_calibration_error"].items():
        if exported_file is not None:
            errors["exported"] = calibration_error(exported[name], truth[name])
    measured_model = "model.tflite" if exported_file is not None else "trained model, not exported,"
    measured = {split.name: evaluate(exported[split.name], split.labels, dataset.labels) for split in measured_splits}
    for name, values in measured.items():
        progress.say(
            f"{measured_model} on the {name} split ({values.rows} rows): accuracy {values.accuracy:.1%}, "
            f"macro-F1 {values.macro_f1:.1%}"
        )
    reported = measured_splits[-1]
    doubts = result_warnings(measured, reported.name)
    for warning in doubts:
        progress.say(f"Warning: {warning}")
    if threshold is not None:
        rejection = {name: asdict(measure_rejection(exported[name], truth[name], threshold)) for name in measured}
    else:
        rejection = None
    names = _short_names(dataset.files)
    warnings = [*winner.warnings, *_export_warnings(exported_file, refused), *doubts]
    metrics = {
        "format": METRICS_FORMAT,
        "version": METRICS_VERSION,
        "name": recipe.name,
        "versions": {
            "python": platform.python_version(),
            "textclf": __version__,
            **{name: _version(name) for name in _RECORDED_PACKAGES},
        },
        "engine": training.facts,
        "seed": winner.seed,
        "files": {names[path]: digest for path, digest in dataset.files.items()},
        "encoder": {
            "source": _without_folders(recipe.encoder.source),
            "format": checkpoint.format,
            "sha256": fingerprint(checkpoint),
            **asdict(checkpoint.config),
        },
        "rows": {split.name: len(split.rows) for split in dataset.splits},
        "labels": list(dataset.labels),
        "findings": [*(_with_short_names(str(finding), names) for finding in dataset.findings), *warnings],
        "warnings": warnings,
        "stopped": winner.stopped,
        "precision": training.precision,
        "history": winner.history,
        "best_epoch": winner.best_epoch,
        "seeds": _over_seeds(training.results, progress) if len(training.results) > 1 else None,
        "calibration": calibration,
        "rejection": rejection,
        "export": _export_facts(recipe, exported_file, refused),
        **{name: values.as_dict() for name, values in measured.items()},
        "recipe": _without_folders(recipe.model_dump(mode="json")),
    }
    return metrics, worst_mistakes(reported, exported[reported.name], dataset.labels)


@dataclass(frozen=True)
class _Exported:
    """A file that was written and passed: its form and size, how it was verified, its probabilities by split."""

    quantization: Quantization
    size: int
    verification: Verification
    probabilities: dict[str, np.ndarray]


def _exported(
    recipe: Recipe,
    dataset: Dataset,
    training: Training,
    trained: Mapping[str, np.ndarray],
    temperature: float,
    threshold: float | None,
    folder: RunFolder,
    progress: Progress,
) -> tuple[_Exported | None, list[dict[str, str]]]:
    """Writes the model in the first form that passes. Returns None where none does, and the reasons against the others."""
    path = folder.path / "model.tflite"
    refused: list[dict[str, str]] = []
    for form in training.forms:
        content = b""
        try:
            content = training.export(temperature, threshold, form)
            write_bytes(path, content)
            return _checked(recipe, dataset, training, trained, path, form, progress), refused
        except (OSError, MemoryError):
            raise
        except Exception as error:
            # Also what a runtime raises: no failure of one form may cost the training.
            path.unlink(missing_ok=True)
            expected = isinstance(error, TextclfError)
            reason = str(error).replace(str(path), "model.tflite")
            refused.append(
                {"quantization": form, "reason": reason if expected else f"{type(error).__name__}: {reason}"}
            )
            _LOG.debug("the export as %s failed", form, exc_info=error)
            progress.say(f"Warning: export.quantization {form}: {refused[-1]['reason']}")
            if content and len(training.forms) == 1 and not (folder.path / "checkpoints" / "best").exists():
                # Of averaged words, Model Maker leaves nothing but the file.
                write_bytes(folder.path / "checkpoints" / "withheld.tflite", content)
    return None, refused


def _checked(
    recipe: Recipe,
    dataset: Dataset,
    training: Training,
    trained: Mapping[str, np.ndarray],
    path: Path,
    form: Quantization,
    progress: Progress,
) -> _Exported:
    """The file, compared with the trained model; raises VerificationError where it departs too far from it."""
    splits = dataset.held_out
    predictor = Classifier(path)
    exported = {split.name: predictor.probabilities(split.texts) for split in splits}
    comparable = training.comparable(predictor)
    compared = {
        split.name: exported[split.name] if comparable is predictor else comparable.probabilities(split.texts)
        for split in splits
    }
    verification = verify_export(
        np.concatenate(list(trained.values())),
        np.concatenate(list(compared.values())),
        np.concatenate([split.labels for split in splits]),
        form,
        max_changed_labels=recipe.export.max_changed_labels,
        max_lost_accuracy=recipe.export.max_lost_accuracy,
    )
    size = path.stat().st_size
    progress.say(
        f"model.tflite: {form}, {size / 1e6:.1f} MB, compared with the trained model on {verification.rows} rows: "
        f"{verification.changed_labels} labels differ, largest difference in a probability "
        f"{verification.largest_difference:.4f}"
    )
    if verification.doubt is not None:
        progress.say(f"Warning: {verification.doubt}")
    return _Exported(form, size, verification, exported)


def _export_facts(recipe: Recipe, exported: _Exported | None, refused: list[dict[str, str]]) -> dict[str, Any]:
    """What `metrics.json` says of the export; `withheld` is why there is no file, None where there is one."""
    facts: dict[str, Any] = {"requested": recipe.export.quantization, "refused": refused}
    if exported is None:
        return {**facts, "withheld": refused[0]["reason"], "quantization": None, "bytes": None}
    return {
        **facts,
        "withheld": None,
        "quantization": exported.quantization,
        "bytes": exported.size,
        **asdict(exported.verification),
    }


def _export_warnings(exported: _Exported | None, refused: Sequence[Mapping[str, str]]) -> list[str]:
    reasons = "; ".join(f"{one['quantization']}: {one['reason']}" for one in refused)
    if exported is None:
        return [f"{WITHHELD}, because no form of it passed the checks ({reasons})"]
    warnings = [exported.verification.doubt] if exported.verification.doubt is not None else []
    if refused:
        warnings.append(
            f"model.tflite is written as {exported.quantization}, not as {refused[0]['quantization']}, which the recipe asks "
            f"for ({reasons})"
        )
    return warnings


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


def _keep_best(checkpoint: AnyEncoder, fitted: Fitted, folder: RunFolder, temperature: float) -> None:
    """What the exported file is made from, as an encoder that other recipes can start from, and its head beside it."""
    classifier = fitted.classifier
    best = folder.path / "checkpoints" / "best"
    if isinstance(checkpoint, WordVectors):
        write_word_vectors(best, replace(checkpoint, weights=classifier.encoder_weights()))
    else:
        write_encoder(best, replace(checkpoint, weights=classifier.encoder_weights()))
    save_state(best / "head.safetensors", _cooled(classifier.head(), temperature), {})
    folder.keep_log_of(fitted.winner.seed, len(fitted.results))


def _cooled(head: Mapping[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """The head with its logits divided by a temperature."""
    factor = np.float32(1.0 / temperature)
    return {name: array * factor if name.startswith("head/") else array for name, array in head.items()}


# --- What may leave the machine --------------------------------------------------------------------------------------


def _short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Paths → file names, with the folder where two would be the same, and a number where these are."""
    paths = list(paths)
    names = Counter(path.name for path in paths)
    shown = {path: "/".join(path.parts[-2:]) if names[path.name] > 1 else path.name for path in paths}
    repeated = Counter(shown.values())
    return {
        path: f"{number}/{name}" if repeated[name] > 1 else name for number, (path, name) in enumerate(shown.items(), 1)
    }


def _with_short_names(text: str, names: Mapping[Path, str]) -> str:
    """A finding's words without the folders of the machine."""
    for path, name in names.items():
        text = text.replace(str(path), name)
    return text


def _without_folders(value: Any) -> Any:
    """Values of a recipe with file names in place of absolute paths."""
    if isinstance(value, Mapping):
        return {key: _without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(part) for part in value]
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
