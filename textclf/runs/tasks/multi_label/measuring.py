"""Measures a model of several labels on the held-out rows: takes logits or probabilities by split, returns records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from textclf.classify.metrics import interval_text
from textclf.classify.multi_label.metrics import LabelSetMetrics, measure_label_sets, sigmoid
from textclf.data.examples import Dataset, Split
from textclf.data.findings.finding import counted
from textclf.recipe.settings import Recipe
from textclf.runs.record.facts import seeds_of
from textclf.runs.record.metrics_file import Seeds
from textclf.runs.tasks.multi_label.record import LabelSetCalibration, LabelSetCalibrationErrors, LabelSetThresholds
from textclf.terminal.progress import Progress
from textclf.training.loop import SeedResult
from textclf.training.multi_label.calibration import (
    LabelCalibration,
    calibrate_labels,
    calibration_text,
    label_calibration_error,
)
from textclf.training.multi_label.task import JudgedRows
from textclf.training.multi_label.thresholds import Thresholds, choose_thresholds


@dataclass(frozen=True)
class Decisions:
    """What turns the trained model's logits into labels: the calibration and the thresholds, with their records."""

    calibration: LabelCalibration
    thresholds: Thresholds
    calibration_record: LabelSetCalibration
    thresholds_record: LabelSetThresholds

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the calibrated probabilities of logits, float32 [rows, labels]."""
        return sigmoid(self.calibration.apply(logits)).astype(np.float32)


def decide(
    recipe: Recipe,
    logits: Mapping[str, np.ndarray],
    dataset: Dataset,
    progress: Progress,
    more: JudgedRows | None = None,
) -> Decisions:
    """Chooses the calibration and the thresholds on the validation rows; `logits` are the trained model's by split.

    `more` are training rows that were judged by cross-validation. They count like validation rows: of few rows, these alone
    would have a handful with each label.
    """
    truth = {split.name: split.labels for split in dataset.held_out}
    labels, training = dataset.labels, recipe.training
    judged = JudgedRows(logits["validation"], truth["validation"])
    if more is not None:
        judged = JudgedRows(*(np.concatenate(pair) for pair in zip(judged, more, strict=True)))
    chosen = LabelCalibration.none(len(labels))
    if training.calibrate:
        chosen = calibrate_labels(*judged)
    errors = {
        name: {
            "before": label_calibration_error(sigmoid(values), truth[name]),
            "after": label_calibration_error(sigmoid(chosen.apply(values)), truth[name]),
        }
        for name, values in logits.items()
    }
    if training.calibrate:
        progress.say(f"Calibration: {calibration_text(chosen, errors)}")
    wanted = training.reject_for_precision
    thresholds = choose_thresholds(sigmoid(chosen.apply(judged.logits)), judged.truth, wanted, training.calibrate)
    low, high = thresholds.values.min(), thresholds.values.max()
    aim = "the best F1" if wanted is None else f"a precision of {wanted:.1%}"
    rows = counted(len(truth["validation"]), "validation row")
    if more is not None:
        rows += f" and, by cross-validation, {counted(len(more.truth), 'training row')}"
    progress.say(f"Thresholds: {low:.3f} to {high:.3f}, for {aim} of each label on {rows}")
    return Decisions(
        chosen,
        thresholds,
        LabelSetCalibration(
            factors=chosen.factors.tolist(),
            offsets=chosen.offsets.tolist(),
            left=[labels[index] for index in chosen.left],
            reason=chosen.reason,
            expected_calibration_error={name: LabelSetCalibrationErrors(**values) for name, values in errors.items()},
        ),
        LabelSetThresholds(
            values=thresholds.values.tolist(),
            precision=wanted,
            few=[labels[index] for index in thresholds.few],
            unreached=[labels[index] for index in thresholds.unreached],
            cross_validated_rows=0 if more is None else len(more.truth),
        ),
    )


def with_errors_of_file(
    calibration: LabelSetCalibration, probabilities: Mapping[str, np.ndarray], splits: Sequence[Split]
) -> LabelSetCalibration:
    """Returns the record of a calibration with the errors of the exported file."""
    errors = dict(calibration.expected_calibration_error)
    for split in splits:
        error = label_calibration_error(probabilities[split.name], split.labels)
        errors[split.name] = errors[split.name].model_copy(update={"exported": error})
    return calibration.model_copy(update={"expected_calibration_error": errors})


def measure(
    probabilities: Mapping[str, np.ndarray], splits: Sequence[Split], labels: Sequence[str], thresholds: np.ndarray
) -> dict[str, LabelSetMetrics]:
    """Returns the results of a model with these probabilities, float [rows, labels] by split."""
    return {
        split.name: measure_label_sets(probabilities[split.name], split.labels, thresholds, labels) for split in splits
    }


def say_results(splits: Mapping[str, LabelSetMetrics], model: str, progress: Progress) -> None:
    """Prints one line for each split; `model` says which model was measured."""
    for name, metrics in splits.items():
        progress.say(
            f"{model} on the {name} split ({counted(metrics.rows, 'row')}): micro-F1 {metrics.micro_f1:.1%} "
            f"({interval_text(metrics.micro_f1_interval)}), macro-F1 {metrics.macro_f1:.1%}, exactly the right labels "
            f"{metrics.exact_match:.1%}"
        )


def over_seeds(results: Sequence[SeedResult], progress: Progress) -> Seeds | None:
    """The scores of every training, and the mean and the standard deviation of each score; None for a single seed."""
    seeds = seeds_of(results)
    for split in results[0].scores if seeds is not None else ():
        assert seeds is not None
        micro, macro = seeds[split]["micro_f1"], seeds[split]["macro_f1"]
        progress.say(
            f"{len(results)} seeds, {split} split: micro-F1 {micro.mean:.1%} ± {micro.deviation:.1%}, macro-F1 "
            f"{macro.mean:.1%} ± {macro.deviation:.1%}"
        )
    return seeds
