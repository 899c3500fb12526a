"""The trainings that a run can consist of: what every engine returns, and our own engine."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.exporting.classification import export_classifier
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.graph.weights import inference_weights
from textclf.training.classification import Classification
from textclf.training.loop import Fitted, SeedResult, fit
from textclf.training.run_folder import RunFolder, save_state

# From the smallest form of a model to the one that is nearest to the trained model.
_FORMS: tuple[Quantization, ...] = ("int4", "dynamic", "float16", "none")


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
        pass  # The saved states go when the folder is complete.


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
        # The optimiser's moments hang in cycles with its compiled functions; what follows needs their memory.
        gc.collect()
        return training
    from textclf.model_maker.engine import train_with_model_maker

    return train_with_model_maker(recipe, data, checkpoint, folder, progress)


def _keep_best(checkpoint: AnyEncoder, fitted: Fitted, folder: RunFolder, temperature: float) -> None:
    """What the exported file is made from, as an encoder that other recipes can start from, and its head beside it."""
    model = fitted.task.model
    best = folder.path / "checkpoints" / "best"
    checkpoint.with_weights(model.encoder_weights()).write(best)
    save_state(best / "head.safetensors", _cooled(model.head(), temperature), {})
    folder.keep_log_of(fitted.winner.seed, len(fitted.results))


def _cooled(head: Mapping[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """The head with its logits divided by a temperature."""
    factor = np.float32(1.0 / temperature)
    return {name: array * factor if name.startswith("head/") else array for name, array in head.items()}
