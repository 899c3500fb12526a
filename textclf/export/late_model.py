"""A run that was completed without a model gets one later: its numbers and pages then tell of this file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from textclf.calibration import calibration_error, measure_rejection
from textclf.evaluation import evaluate
from textclf.export.trained_run import TrainedRun
from textclf.export.verification import Verification
from textclf.predictor import Classifier
from textclf.report import worst_mistakes
from textclf.run_folder import read_metrics
from textclf.run_pages import WITHHELD, write_pages


def tell_of_model(run: TrainedRun, model: Path, verification: Verification) -> None:
    """Measures the run's new `model` and writes the run's metrics, report and model card anew."""
    metrics = read_metrics(run.folder)
    dataset = run.dataset()
    classifier = Classifier(model)
    for split in dataset.held_out:
        probabilities = classifier.probabilities(split.texts)
        metrics[split.name] = evaluate(probabilities, split.labels, run.labels).as_dict()
        errors = metrics["calibration"]["expected_calibration_error"][split.name]
        errors["exported"] = calibration_error(probabilities, split.labels)
        if run.reject_below is not None:
            rejection = measure_rejection(probabilities, split.labels, run.reject_below)
            metrics["rejection"][split.name] = asdict(rejection)
    metrics["export"] = {
        **metrics["export"],
        "withheld": None,
        "quantization": run.recipe.export.quantization,
        "bytes": model.stat().st_size,
        **asdict(verification),
    }
    for name in ("findings", "warnings"):
        metrics[name] = [text for text in metrics[name] if not text.startswith(WITHHELD)]
    if verification.doubt is not None:
        metrics["warnings"].append(verification.doubt)
    write_pages(run.folder, metrics, worst_mistakes(split, probabilities, run.labels))
