"""Fine-tuning: a recipe in, a run folder with a checked, labelled `.tflite` model out."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from textclf import __version__
from textclf.classify.metrics import evaluate, result_warnings, softmax
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import PreparedData, load_recipe_data, prepare, prepare_data
from textclf.errors import RunError, VerificationError
from textclf.files.writing import write_text
from textclf.model_maker.environment import require_environment
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe
from textclf.runs.engines import Training, train_with_engine
from textclf.runs.exporting import export_facts, export_passing_form, export_warnings
from textclf.runs.pages import WITHHELD, write_pages
from textclf.runs.report import Mistake, worst_mistakes
from textclf.terminal.progress import Progress
from textclf.training.calibration import (
    ChosenTemperature,
    calibration_error,
    calibration_text,
    choose_temperature,
    measure_rejection,
    rejection_threshold,
    require_finite,
)
from textclf.training.hardware import use_tensorflow
from textclf.training.loop import SeedResult
from textclf.training.memory import memory_errors
from textclf.training.run_folder import METRICS_FORMAT, METRICS_VERSION, RunFolder, open_run_folder

_RECORDED_PACKAGES = ("tensorflow", "ai-edge-litert", "numpy")

# How often a run's disk holds the weights at most: two states with both moments of the optimiser, while one replaces the
# other, the best epoch, what is kept of it, and the exported file.
_COPIES_ON_DISK = 9


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the model in it, and everything that `metrics.json` holds."""

    dir: Path
    model_path: Path
    metrics: dict[str, Any]


def train(
    recipe: Recipe | str | Path,
    run_dir: str | Path | None = None,
    *,
    force: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains, exports, verifies and measures what the recipe describes: a Recipe, or the path of one.

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
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
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
        checkpoint = kind_of(recipe).load(recipe.encoder, dataset)
        _check_space(folder, checkpoint)
        tokenizer = prepare(recipe, dataset, checkpoint).tokenizer
        with progress.during("Splitting the texts into tokens"):
            data = prepare_data(recipe, dataset, tokenizer)
        for finding in data.dataset.findings:
            progress.say(str(finding))
        with memory_errors(recipe, folder, "the model was trained"):
            training = train_with_engine(recipe, data, checkpoint, folder, progress, started)
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
    exported_file, refused = export_passing_form(
        recipe, dataset, training, trained, temperature, threshold, folder, progress
    )
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
    warnings = [*winner.warnings, *export_warnings(exported_file, refused), *doubts]
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
            "sha256": checkpoint.fingerprint(),
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
        "export": export_facts(recipe, exported_file, refused),
        **{name: values.as_dict() for name, values in measured.items()},
        "recipe": _without_folders(recipe.model_dump(mode="json")),
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
