"""The engines that can train a model: the interface of a finished training, and textclf's own engine."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.exporting.classification.model_file import export_classifier
from textclf.recipe.settings import Recipe
from textclf.runs.tasks.forms import forms_from
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.graph.weights import inference_weights
from textclf.training.classification.task import Classification
from textclf.training.loop import Fitted, SeedResult, fit
from textclf.training.saved.run_folder import RunFolder, save_state


# --- Training, by one engine or the other ----------------------------------------------------------------------------
class Training(Protocol):
    """A finished training by any engine, with everything that measuring, exporting and the run folder need."""

    results: list[SeedResult]
    winner: SeedResult
    precision: str
    vocabulary: Sequence[str]
    facts: dict[str, Any]
    """The section `engine` of `metrics.json`: the name and other facts."""

    def logits(self, split: str) -> np.ndarray:
        """The trained model's logits, float32 [rows, labels], in the order of the split."""

    forms: tuple[Quantization, ...]
    """The forms in which the model can be exported: that of the recipe, then the more exact ones."""

    def export(self, temperature: float, reject_below: float | None, form: Quantization) -> bytes:
        """The bytes of a `model.tflite` that divides its logits by `temperature`. The training is unchanged."""

    def comparable(self, predictor: Classifier) -> Classifier:
        """A classifier with the tokenizer that was used for `logits`."""

    def keep(self, folder: RunFolder, temperature: float) -> None:
        """Writes the trained weights and the log into the folder of the run."""

    def leave(self) -> None:
        """Removes the files that only the training needed."""


@dataclass
class _NativeTraining:
    """A training by textclf's own engine."""

    recipe: Recipe
    data: PreparedData
    checkpoint: AnyEncoder
    fitted: Fitted

    def __post_init__(self) -> None:
        self.results, self.winner = self.fitted.results, self.fitted.winner
        self.precision = self.fitted.precision
        self.vocabulary: Sequence[str] = self.checkpoint.vocabulary
        self.facts: dict[str, Any] = {"name": "native"}
        self.forms = forms_from(self.recipe.export.quantization)

    def logits(self, split: str) -> np.ndarray:
        return self.fitted.task.logits(split)

    def export(self, temperature: float, reject_below: float | None, form: Quantization) -> bytes:
        model = self.fitted.task.model
        trained = self.checkpoint.with_weights(model.encoder_weights())
        return export_classifier(
            self.recipe.model_copy(update={"export": self.recipe.export.model_copy(update={"quantization": form})}),
            inference_weights(trained, _cooled(model.head(), temperature)),
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
        pass  # The saved states are removed when the folder is complete.


def train_with_engine(
    recipe: Recipe,
    data: PreparedData,
    checkpoint: AnyEncoder,
    folder: RunFolder,
    progress: Progress,
    started: float,
) -> Training:
    if recipe.training.engine == "native":
        fitted = fit(recipe, data, checkpoint, folder, progress, started, task=Classification)
        training = _NativeTraining(recipe, data, checkpoint, fitted)
        # The optimiser's moments are in reference cycles with its compiled functions, and the export needs their memory.
        gc.collect()
        return training
    from textclf.model_maker.classification.engine import train_with_model_maker

    return train_with_model_maker(recipe, data, checkpoint, folder, progress)


def _keep_best(checkpoint: AnyEncoder, fitted: Fitted, folder: RunFolder, temperature: float) -> None:
    """Writes the weights that are exported: an encoder that other recipes can start from, and the head."""
    model = fitted.task.model
    best = folder.path / "checkpoints" / "best"
    checkpoint.with_weights(model.encoder_weights()).write(best)
    save_state(best / "head.safetensors", _cooled(model.head(), temperature), {})
    folder.keep_log_of(fitted.winner.seed, len(fitted.results))


def _cooled(head: Mapping[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """The head with its logits divided by a temperature."""
    factor = np.float32(1.0 / temperature)
    return {name: array * factor if name.startswith("head/") else array for name, array in head.items()}
