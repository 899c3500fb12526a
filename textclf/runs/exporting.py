"""The export at the end of a run: the first form that passes its checks, or the reasons against each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.data.examples import Dataset
from textclf.errors import TextclfError
from textclf.exporting.parity import Verification, verify_export
from textclf.files.writing import write_bytes
from textclf.recipe.settings import Recipe
from textclf.runs.engines import Training
from textclf.runs.pages import WITHHELD
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Exported:
    """A file that was written and passed: its form and size, how it was verified, its probabilities by split."""

    quantization: Quantization
    size: int
    verification: Verification
    probabilities: dict[str, np.ndarray]


def export_passing_form(
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


def export_facts(recipe: Recipe, exported: _Exported | None, refused: list[dict[str, str]]) -> dict[str, Any]:
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


def export_warnings(exported: _Exported | None, refused: Sequence[Mapping[str, str]]) -> list[str]:
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
