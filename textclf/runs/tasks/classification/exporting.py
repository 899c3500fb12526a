"""The export at the end of a run: writes the first form of the model that passes its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.data.examples import Dataset
from textclf.exporting.parity import Verification, verify_export
from textclf.files.writing import write_bytes
from textclf.recipe.settings import Recipe
from textclf.runs.record.metrics_file import RefusedForm
from textclf.runs.tasks.classification.long_texts import LongTexts, measure_long_texts
from textclf.runs.tasks.classification.record import ClassificationExport
from textclf.runs.tasks.forms import first_passing_form, warnings_about
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.training.saved.run_folder import RunFolder

if TYPE_CHECKING:
    from textclf.runs.tasks.classification.engines import Training


@dataclass(frozen=True)
class ExportedFile:
    """A file that passed its checks: its form, its bytes, how it compares with the trained model, its probabilities
    by split, float32 [rows, labels], and what an app sees of long texts, if the model reads windows."""

    quantization: Quantization
    size: int
    verification: Verification
    probabilities: dict[str, np.ndarray]
    long_texts: LongTexts | None


@dataclass(frozen=True)
class ExportResult:
    """`file` is None if no form passed; `refused` are the forms that did not, in the order in which they were tried."""

    requested: Quantization
    file: ExportedFile | None
    refused: list[RefusedForm]

    def record(self) -> ClassificationExport:
        """The section `export` of `metrics.json`."""
        if self.file is None:
            return ClassificationExport(
                requested=self.requested,
                refused=self.refused,
                withheld=self.refused[0].reason,
                quantization=None,
                bytes=None,
            )
        return ClassificationExport(
            requested=self.requested,
            refused=self.refused,
            withheld=None,
            quantization=self.file.quantization,
            bytes=self.file.size,
            **asdict(self.file.verification),
        )

    @property
    def long_texts(self) -> LongTexts | None:
        """What an app sees of long texts; None without a file, and for a model that does not read windows."""
        return None if self.file is None else self.file.long_texts

    @property
    def warnings(self) -> list[str]:
        """What a person must know about the file before using it."""
        if self.file is None:
            return warnings_about(None, None, self.refused)
        return warnings_about(self.file.quantization, self.file.verification.doubt, self.refused)


def export_passing_form(
    recipe: Recipe,
    dataset: Dataset,
    training: Training,
    trained: Mapping[str, np.ndarray],
    temperature: float,
    threshold: float | None,
    folder: RunFolder,
    progress: Progress,
) -> ExportResult:
    """Writes `model.tflite` in the first form that passes its checks, or in none.

    `trained` are the trained model's probabilities by split, float32 [rows, labels].
    """
    path = folder.path / "model.tflite"

    def keep(content: bytes) -> None:
        if len(training.forms) == 1 and not (folder.path / "checkpoints" / "best").exists():
            # If Model Maker averages words, this file is all that it returns.
            write_bytes(folder.path / "checkpoints" / "withheld.tflite", content)

    file, refused = first_passing_form(
        training.forms,
        path,
        progress,
        export=lambda form: training.export(temperature, threshold, form),
        check=lambda form: _checked(recipe, dataset, training, trained, path, form, progress),
        keep=keep,
    )
    return ExportResult(recipe.export.quantization, file, refused)


def _checked(
    recipe: Recipe,
    dataset: Dataset,
    training: Training,
    trained: Mapping[str, np.ndarray],
    path: Path,
    form: Quantization,
    progress: Progress,
) -> ExportedFile:
    """Compares the file with the trained model. Raises VerificationError if they differ too much."""
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
        f"model.tflite: {form}, {size / 1e6:.1f} MB. Export check: {verification.changed_labels} of {verification.rows:,} "
        f"predictions changed (largest probability change {verification.largest_difference:.4f})"
    )
    if verification.doubt is not None:
        progress.warn(verification.doubt)
    return ExportedFile(form, size, verification, exported, measure_long_texts(predictor, splits, exported))
