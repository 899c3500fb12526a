"""Measures a trained text classifier on the held-out rows.

Takes its logits or the probabilities of its exported file, by split; returns records of `metrics.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from textclf.classify.metrics import Metrics, accuracy_interval, evaluate, interval_text, softmax
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.recipe.settings import Recipe
from textclf.runs.record.facts import seeds_of
from textclf.runs.record.metrics_file import Seeds
from textclf.runs.tasks.classification.record import Calibration, CalibrationErrors, Estimate
from textclf.terminal.progress import Progress
from textclf.training.classification.calibration import (
    ChosenTemperature,
    Rejection,
    calibration_error,
    calibration_text,
    choose_temperature,
    measure_rejection,
    rejection_threshold,
)
from textclf.training.watching.watchers import require_finite

if TYPE_CHECKING:
    from textclf.runs.tasks.classification.engines import Training
    from textclf.training.loop import SeedResult


@dataclass(frozen=True)
class Measured:
    """The results on the held-out splits, by split. `rejection` is None if the model has no threshold."""

    splits: dict[str, Metrics]
    calibration: Calibration
    rejection: dict[str, Rejection] | None


# --- The trained model -----------------------------------------------------------------------------------------------
def held_out_logits(training: Training, splits: Sequence[Split]) -> dict[str, np.ndarray]:
    """The trained model's logits by split, float32 [rows, labels]. Raises TrainingError for NaN and infinity."""
    logits = {split.name: training.logits(split.name) for split in splits}
    for name, values in logits.items():
        require_finite(values, name)
    return logits


def calibrate(
    recipe: Recipe, logits: Mapping[str, np.ndarray], splits: Sequence[Split], progress: Progress
) -> Calibration:
    """The temperature, 1 if the recipe asks for none, and the calibration errors without and with it."""
    truth = {split.name: split.labels for split in splits}
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
    return Calibration(
        temperature=chosen.value,
        reason=chosen.reason,
        expected_calibration_error={name: CalibrationErrors(**values) for name, values in errors.items()},
    )


def choose_threshold(recipe: Recipe, probabilities: np.ndarray, validation: Split, progress: Progress) -> float | None:
    """The probability below which the model predicts no label; None if the recipe asks for none, or none is enough."""
    wanted = recipe.training.reject_for_precision
    if wanted is None:
        return None
    rejection = rejection_threshold(probabilities, validation.labels, wanted)
    if rejection is None:
        progress.say(
            f"Warning: no threshold reaches a precision of {wanted:.1%} on the validation rows "
            "(training.reject_for_precision), so the model predicts a label for every row"
        )
        return None
    progress.say(
        f"Rejection: no label below a probability of {rejection.threshold:.3f}; {rejection.coverage:.1%} of the validation "
        f"rows get a label, and {rejection.precision:.1%} of these labels are correct"
    )
    return rejection.threshold


def over_seeds(results: Sequence[SeedResult], progress: Progress) -> Seeds | None:
    """The scores of every training, and the mean and the standard deviation of each score; None for a single seed."""
    seeds = seeds_of(results)
    if seeds is None:
        return None
    for split in results[0].scores:
        accuracy, macro_f1 = seeds[split]["accuracy"], seeds[split]["macro_f1"]
        progress.say(
            f"{len(results)} seeds, {split} split: accuracy {accuracy.mean:.1%} ± {accuracy.deviation:.1%}, "
            f"macro-F1 {macro_f1.mean:.1%} ± {macro_f1.deviation:.1%}"
        )
    return seeds


# --- The model that is reported --------------------------------------------------------------------------------------
def measure(
    probabilities: Mapping[str, np.ndarray],
    splits: Sequence[Split],
    labels: Sequence[str],
    calibration: Calibration,
    threshold: float | None,
    *,
    is_exported: bool,
) -> Measured:
    """The results of a model with these probabilities, float [rows, labels] by split.

    `calibration` is that of the trained model. If the probabilities are those of the exported file, its calibration
    errors are added.
    """
    errors = dict(calibration.expected_calibration_error)
    if is_exported:
        for split in splits:
            exported = calibration_error(probabilities[split.name], split.labels)
            errors[split.name] = errors[split.name].model_copy(update={"exported": exported})
    return Measured(
        splits={split.name: evaluate(probabilities[split.name], split.labels, labels) for split in splits},
        calibration=calibration.model_copy(update={"expected_calibration_error": errors}),
        rejection=None
        if threshold is None
        else {split.name: measure_rejection(probabilities[split.name], split.labels, threshold) for split in splits},
    )


def say_results(
    splits: Mapping[str, Metrics], model: str, progress: Progress, estimate: Estimate | None = None
) -> None:
    """Prints one line for each split, then the estimate; `model` says which model was measured."""
    for name, metrics in splits.items():
        progress.say(
            f"{model} on the {name} split ({counted(metrics.rows, 'row')}): accuracy {metrics.accuracy:.1%} "
            f"({interval_text(accuracy_interval(metrics))}), macro-F1 {metrics.macro_f1:.1%}"
        )
    if estimate is not None:
        progress.say(
            f"Estimated by cross-validation on {counted(estimate.rows, 'training row')}: accuracy {estimate.accuracy:.1%} "
            f"({interval_text(estimate.interval)})"
        )
