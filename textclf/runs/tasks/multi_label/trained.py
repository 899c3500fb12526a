"""A trained model of several labels: just trained, it is exported, verified and measured; from a finished run, it is
exported again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.multi_label.metrics import result_warnings
from textclf.data.multi_label.dataset import load_label_sets
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.exporting.multi_label.model_file import LabelSetVerification, export_label_sets, verify_label_sets
from textclf.exporting.multi_label.onnx import onnx_label_sets
from textclf.exporting.multi_label.trained_run import TrainedLabelSets
from textclf.exporting.multi_label.verify import compare_with_run
from textclf.exporting.report import VerificationReport
from textclf.files.writing import write_text
from textclf.recipe.settings import Recipe
from textclf.recipe.values import USUAL_SEPARATOR
from textclf.recipe.writing import dump_recipe
from textclf.runs.pages.writing import write_pages
from textclf.runs.record.facts import facts_of_run
from textclf.runs.record.latency import latency_of
from textclf.runs.record.metrics_file import WITHHELD, RefusedForm
from textclf.runs.tasks.forms import first_passing_form, forms_from, warnings_about
from textclf.runs.tasks.interface import Results
from textclf.runs.tasks.multi_label.long_texts import LabelSetLongTexts, measure_long_texts, say_long_texts
from textclf.runs.tasks.multi_label.measuring import (
    Decisions,
    decide,
    measure,
    over_seeds,
    say_results,
    with_errors_of_file,
)
from textclf.runs.tasks.multi_label.pages import pages_of
from textclf.runs.tasks.multi_label.record import LabelSetExport, LabelSetRunMetrics
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.graph.multi_label import INDEPENDENT_PROBABILITIES
from textclf.tflite.graph.weights import inference_weights
from textclf.training.loop import Fitted
from textclf.training.multi_label.task import MultiLabel
from textclf.training.saved.run_folder import RunFolder, save_state
from textclf.training.watching.watchers import require_finite


@dataclass(frozen=True)
class _File:
    """A file that passed its checks: its form, its size in bytes, how it compares with the trained model, its
    probabilities by split, float32 [rows, labels], and what an app sees of long texts, if the model reads windows."""

    quantization: Quantization
    size: int
    verification: LabelSetVerification
    probabilities: dict[str, np.ndarray]
    long_texts: LabelSetLongTexts | None


@dataclass(frozen=True)
class JustTrained:
    """The `TrainedModel` of several labels."""

    recipe: Recipe
    data: PreparedData
    checkpoint: AnyEncoder
    fitted: Fitted

    def conclude(self, folder: RunFolder, progress: Progress) -> Results:
        dataset, splits = self.data.dataset, self.data.dataset.held_out
        logits = {split.name: self.fitted.task.logits(split.name) for split in splits}
        for name, values in logits.items():
            require_finite(values, name)
        more = cast("MultiLabel", self.fitted.task).cross_validated
        chosen = decide(self.recipe, logits, dataset, progress, more)
        # Before the export: whatever fails from here on, the trained weights can be exported later.
        self._keep(chosen, folder)
        trained = {name: chosen.probabilities(values) for name, values in logits.items()}
        path = folder.path / "model.tflite"
        file, refused = first_passing_form(
            forms_from(self.recipe.export.quantization),
            path,
            progress,
            export=partial(self._export, chosen),
            check=lambda form: self._checked(path, form, trained, chosen, progress),
        )
        probabilities = trained if file is None else file.probabilities
        measured = measure(probabilities, splits, dataset.labels, chosen.thresholds.values)
        say_results(measured, "trained model (not exported)" if file is None else "model.tflite", progress)
        reported = splits[-1]
        long_texts = None if file is None else file.long_texts
        say_long_texts(long_texts, reported.name, progress)
        doubts = chosen.thresholds.notes(dataset.labels, self.recipe.training.reject_for_precision)
        doubts += result_warnings(measured, reported.name)
        for doubt in doubts:
            progress.warn(doubt)
        calibration = chosen.calibration_record
        if file is not None:
            calibration = with_errors_of_file(calibration, probabilities, splits)
        winner, fitted = self.fitted.winner, self.fitted
        written = None if file is None else file.quantization
        unsure = None if file is None else file.verification.doubt
        record = LabelSetRunMetrics.model_validate(
            {
                "task": "multi-label-classification",
                **facts_of_run(
                    self.recipe,
                    dataset,
                    self.checkpoint,
                    engine={"name": "native"},
                    winner=winner,
                    precision=fitted.precision,
                    warnings=[*winner.warnings, *warnings_about(written, unsure, refused), *doubts],
                ),
                "labels": list(dataset.labels),
                "seeds": over_seeds(fitted.results, progress),
                "calibration": calibration,
                "thresholds": chosen.thresholds_record,
                "export": _export_record(self.recipe, file, refused),
                **({} if long_texts is None else {"long_texts": long_texts}),
                **measured,
            }
        )
        separator = self.recipe.dataset.label_separator or USUAL_SEPARATOR
        pages = pages_of(reported, probabilities[reported.name], chosen.thresholds.values, dataset.labels, separator)
        return Results(record, pages)

    def leave(self) -> None:
        pass  # The saved states are removed when the folder is complete.

    def _head(self, chosen: Decisions) -> dict[str, np.ndarray]:
        """The trained head with the calibration in it."""
        head = self.fitted.task.model.head()
        factors, offsets = (
            values.astype(np.float32) for values in (chosen.calibration.factors, chosen.calibration.offsets)
        )
        return {
            **head,
            "head/kernel": head["head/kernel"] * factors,
            "head/bias": head["head/bias"] * factors + offsets,
        }

    def _keep(self, chosen: Decisions, folder: RunFolder) -> None:
        """Writes everything that a later export reads."""
        write_text(folder.path / "labels.txt", "".join(f"{label}\n" for label in self.data.dataset.labels))
        write_text(folder.path / "vocab.txt", "".join(f"{token}\n" for token in self.checkpoint.vocabulary))
        write_text(folder.path / "recipe.yaml", dump_recipe(self.recipe, relative_to=folder.place))
        best = folder.path / "checkpoints" / "best"
        self.checkpoint.with_weights(self.fitted.task.model.encoder_weights()).write(best)
        facts = {"thresholds": chosen.thresholds.values.tolist()}
        save_state(best / "head.safetensors", self._head(chosen), facts)
        folder.keep_log_of(self.fitted.winner.seed, len(self.fitted.results))

    def _export(self, chosen: Decisions, form: Quantization) -> bytes:
        trained = self.checkpoint.with_weights(self.fitted.task.model.encoder_weights())
        return export_label_sets(
            with_form(self.recipe, form),
            inference_weights(trained, self._head(chosen), INDEPENDENT_PROBABILITIES),
            self.data.dataset.labels,
            self.checkpoint.vocabulary,
            thresholds=chosen.thresholds.values.tolist(),
            rows=self.data.encoded["train"],
        )

    def _checked(
        self,
        path: Path,
        form: Quantization,
        trained: Mapping[str, np.ndarray],
        chosen: Decisions,
        progress: Progress,
    ) -> _File:
        """Compares the file with the trained model. Raises VerificationError if they differ too much."""
        splits, export = self.data.dataset.held_out, self.recipe.export
        with Classifier(path) as classifier:
            exported = {split.name: classifier.probabilities(split.texts) for split in splits}
            long_texts = measure_long_texts(classifier, splits, exported)
        verification = verify_label_sets(
            np.concatenate(list(trained.values())),
            np.concatenate(list(exported.values())),
            np.concatenate([split.labels for split in splits]),
            chosen.thresholds.values,
            form,
            max_changed_labels=export.max_changed_labels,
            max_lost_accuracy=export.max_lost_accuracy,
        )
        size = path.stat().st_size
        progress.say(
            f"model.tflite: {form}, {size / 1e6:.1f} MB. Export check: {verification.changed} changed (largest probability "
            f"change {verification.largest_difference:.4f})"
        )
        if verification.doubt is not None:
            progress.warn(verification.doubt)
        return _File(form, size, verification, exported, long_texts)


def _export_record(recipe: Recipe, file: _File | None, refused: Sequence[RefusedForm]) -> LabelSetExport:
    return LabelSetExport.model_validate(
        {
            "requested": recipe.export.quantization,
            "refused": list(refused),
            "withheld": refused[0].reason if file is None else None,
            "quantization": None if file is None else file.quantization,
            "bytes": None if file is None else file.size,
            **({} if file is None else asdict(file.verification)),
        }
    )


def with_form(recipe: Recipe, form: Quantization) -> Recipe:
    return recipe.model_copy(update={"export": recipe.export.model_copy(update={"quantization": form})})


@dataclass(frozen=True)
class FinishedLabelSets:
    """The `FinishedRun` of several labels."""

    trained: TrainedLabelSets

    @property
    def recipe(self) -> Recipe:
        return self.trained.recipe

    def content(self) -> bytes:
        run, rows = self.trained.run, None
        if run.recipe.export.quantization == "int4":
            rows = run.encode(run.dataset(load_label_sets).train.texts)
        return export_label_sets(
            run.recipe,
            inference_weights(run.checkpoint, run.head, INDEPENDENT_PROBABILITIES),
            run.labels,
            run.checkpoint.vocabulary,
            thresholds=self.trained.thresholds.tolist(),
            rows=rows,
        )

    def compare(self, model: Path, report: VerificationReport) -> None:
        with Classifier(model) as classifier:
            compare_with_run(report, classifier, self.trained, None)

    def onnx(self, report: VerificationReport) -> bytes:
        content = onnx_label_sets(self.trained)
        with Classifier.of_content(content, report.model, Path(report.model)) as classifier:
            compare_with_run(report, classifier, self.trained, None)
        return content

    def record(self, model: Path, report: VerificationReport) -> None:
        run, verification = self.trained.run, report.parity
        if not isinstance(verification, LabelSetVerification):
            return
        metrics = LabelSetRunMetrics.read(run.folder)
        splits = run.dataset(load_label_sets).held_out
        with Classifier(model) as classifier:
            probabilities = {split.name: classifier.probabilities(split.texts) for split in splits}
            long_texts = measure_long_texts(classifier, splits, probabilities)
        export = {
            "withheld": None,
            "quantization": run.recipe.export.quantization,
            "bytes": model.stat().st_size,
            "latency": latency_of(model),
            **asdict(verification),
        }
        doubts = [verification.doubt] if verification.doubt is not None else []
        metrics = metrics.with_changes(
            **measure(probabilities, splits, run.labels, self.trained.thresholds),
            **({} if long_texts is None else {"long_texts": long_texts}),
            calibration=with_errors_of_file(metrics.calibration, probabilities, splits),
            export=metrics.export.model_copy(update=export),
            findings=[text for text in metrics.findings if not text.startswith(WITHHELD)],
            warnings=[*(text for text in metrics.warnings if not text.startswith(WITHHELD)), *doubts],
        )
        reported = splits[-1]
        separator = run.recipe.dataset.label_separator or USUAL_SEPARATOR
        pages = pages_of(reported, probabilities[reported.name], self.trained.thresholds, run.labels, separator)
        write_pages(run.folder, metrics, pages)
