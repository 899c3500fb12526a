"""A trained text classifier: just trained, it is exported, verified and measured; from a finished run, it is exported again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.metrics import result_warnings, softmax
from textclf.data.examples import Dataset, Split
from textclf.encoders.interface import AnyEncoder
from textclf.errors import RunError
from textclf.exporting.classification.model_file import export_classifier
from textclf.exporting.classification.onnx import compare_on_hard_texts, onnx_classifier
from textclf.exporting.classification.verify import compare_with_run
from textclf.exporting.parity import Verification
from textclf.exporting.report import VerificationReport
from textclf.exporting.trained_run import TrainedRun
from textclf.files.writing import write_text
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe
from textclf.runs.pages.mistakes import worst_mistakes
from textclf.runs.pages.model_card import write_model_card
from textclf.runs.pages.report import write_report
from textclf.runs.pages.rows import PREDICTIONS, classified_rows, write_predictions
from textclf.runs.pages.writing import Pages, write_pages
from textclf.runs.record.latency import latency_of
from textclf.runs.record.metrics_file import WITHHELD
from textclf.runs.tasks.classification.exporting import export_passing_form
from textclf.runs.tasks.classification.long_texts import measure_long_texts, say_long_texts
from textclf.runs.tasks.classification.measuring import (
    calibrate,
    choose_threshold,
    held_out_logits,
    measure,
    say_results,
)
from textclf.runs.tasks.classification.record import ClassificationMetrics, estimate_of
from textclf.runs.tasks.classification.recording import record_of
from textclf.runs.tasks.interface import Results
from textclf.terminal.progress import Progress
from textclf.training.saved.run_folder import METRICS, RunFolder

if TYPE_CHECKING:
    from textclf.runs.tasks.classification.engines import Training


@dataclass(frozen=True)
class TrainedClassifier:
    """The `TrainedModel` of text classification."""

    recipe: Recipe
    dataset: Dataset
    checkpoint: AnyEncoder
    training: Training

    def conclude(self, folder: RunFolder, progress: Progress) -> Results:
        recipe, training, dataset, splits = self.recipe, self.training, self.dataset, self.dataset.held_out
        logits = held_out_logits(training, splits)
        calibration = calibrate(recipe, logits, splits, progress)
        trained = {name: softmax(values / calibration.temperature) for name, values in logits.items()}
        threshold = choose_threshold(recipe, trained["validation"], dataset.validation, progress)
        # Before the export: whatever fails from here on, the trained weights can be exported later.
        self._keep(calibration.temperature, folder)
        result = export_passing_form(
            recipe, dataset, training, trained, calibration.temperature, threshold, folder, progress
        )
        is_exported = result.file is not None
        probabilities = result.file.probabilities if result.file is not None else trained
        measured = measure(probabilities, splits, dataset.labels, calibration, threshold, is_exported=is_exported)
        reported, winner = splits[-1], training.winner
        model = "model.tflite" if is_exported else "trained model (not exported)"
        estimate = estimate_of(winner.history, winner.best_epoch, len(reported.rows))
        say_results(measured.splits, model, progress, estimate)
        say_long_texts(result.long_texts, reported.name, progress)
        doubts = result_warnings(measured.splits, reported.name)
        for doubt in doubts:
            progress.warn(doubt)
        record = record_of(recipe, dataset, self.checkpoint, training, result, measured, doubts, progress)
        return Results(record, _pages(reported, probabilities[reported.name], dataset.labels))

    def leave(self) -> None:
        self.training.leave()

    def _keep(self, temperature: float, folder: RunFolder) -> None:
        """Writes everything that a later export reads."""
        write_text(folder.path / "labels.txt", "".join(f"{label}\n" for label in self.dataset.labels))
        write_text(folder.path / "vocab.txt", "".join(f"{token}\n" for token in self.training.vocabulary))
        write_text(folder.path / "recipe.yaml", dump_recipe(self.recipe, relative_to=folder.place))
        self.training.keep(folder, temperature)


@dataclass(frozen=True)
class FinishedClassifier:
    """The `FinishedRun` of text classification."""

    trained: TrainedRun

    @property
    def recipe(self) -> Recipe:
        return self.trained.recipe

    def content(self) -> bytes:
        run, rows = self.trained, None
        if run.recipe.export.quantization == "int4":
            rows = run.encode(run.dataset().train.texts)
        return export_classifier(
            run.recipe,
            run.weights(),
            run.labels,
            run.checkpoint.vocabulary,
            reject_below=run.reject_below,
            rows=rows,
        )

    def compare(self, model: Path, report: VerificationReport) -> None:
        compare_with_run(report, Classifier(model), self.trained, None)

    def onnx(self, report: VerificationReport) -> bytes:
        content = onnx_classifier(self.trained)
        with Classifier.of_content(content, report.model, Path(report.model)) as classifier:
            compare_with_run(report, classifier, self.trained, None)
            compare_on_hard_texts(report, classifier, self.trained)
        return content

    def record(self, model: Path, report: VerificationReport) -> None:
        run, verification = self.trained, report.parity
        if not isinstance(verification, Verification):
            return
        metrics = ClassificationMetrics.read(run.folder)
        if metrics.calibration is None:
            raise RunError(f"{run.folder / METRICS}: `calibration` is missing; train again")
        splits = run.dataset().held_out
        with Classifier(model) as classifier:
            probabilities = {split.name: classifier.probabilities(split.texts) for split in splits}
            long_texts = measure_long_texts(classifier, splits, probabilities)
        measured = measure(probabilities, splits, run.labels, metrics.calibration, run.reject_below, is_exported=True)
        export = {
            "withheld": None,
            "quantization": run.recipe.export.quantization,
            "bytes": model.stat().st_size,
            "latency": latency_of(model),
            **asdict(verification),
        }
        doubts = [verification.doubt] if verification.doubt is not None else []
        metrics = metrics.with_changes(
            **measured.splits,
            **({"long_texts": long_texts} if long_texts is not None else {}),
            calibration=measured.calibration,
            rejection=measured.rejection,
            export=metrics.export.model_copy(update=export),
            findings=[text for text in metrics.findings if not text.startswith(WITHHELD)],
            warnings=[*(text for text in metrics.warnings if not text.startswith(WITHHELD)), *doubts],
        )
        reported = splits[-1]
        write_pages(run.folder, metrics, _pages(reported, probabilities[reported.name], run.labels))


def _pages(split: Split, probabilities: np.ndarray, labels: Sequence[str]) -> Pages:
    """Returns what writes the pages of a run; `probabilities` are those of the reported split, float [rows, labels]."""
    mistakes, predicted = worst_mistakes(split, probabilities, labels), classified_rows(split, probabilities, labels)
    return {
        "report.html": partial(write_report, mistakes=mistakes, predicted=predicted),
        PREDICTIONS: partial(write_predictions, found=predicted),
        "MODEL_CARD.md": write_model_card,
    }
