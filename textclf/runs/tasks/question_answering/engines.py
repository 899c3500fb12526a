"""The engines that can train a question answerer: the interface of a finished training, and textclf's own engine."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.prepare_questions import PreparedQuestions
from textclf.exporting.question_answering.model_file import export_question_answerer
from textclf.recipe.settings import Recipe
from textclf.runs.tasks.forms import forms_from
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.training.loop import Fitted, SeedResult, fit
from textclf.training.question_answering.measures import MeasuredQuestions
from textclf.training.question_answering.task import QuestionAnswering
from textclf.training.saved.run_folder import RunFolder, save_state


class Training(Protocol):
    """A finished training by any engine, with everything that measuring, exporting and the run folder need."""

    results: list[SeedResult]
    winner: SeedResult
    precision: str
    facts: dict[str, Any]
    """The section `engine` of `metrics.json`: the name and other facts."""

    forms: Sequence[Quantization]
    """The forms in which the model can be exported: that of the recipe, then the more exact ones."""

    def logits(self, split: str) -> np.ndarray:
        """The trained model's logits, float32 [windows, max_length, 2], in the order of the split."""

    def measure_validation(self, logits: np.ndarray) -> MeasuredQuestions:
        """The answers to the validation questions, with the bound that is best for them."""

    def export(self, null_bound: float | None, temperature: float, form: Quantization) -> bytes:
        """The bytes of a `model.tflite`, as `export_question_answerer` returns them. The training is unchanged."""

    def keep(self, folder: RunFolder, null_bound: float | None, temperature: float) -> None:
        """Writes the trained weights and the log into the folder of the run."""

    def leave(self) -> None:
        """Removes the files that only the training needed."""


@dataclass
class _NativeTraining:
    """A training by textclf's own engine."""

    recipe: Recipe
    data: PreparedQuestions
    checkpoint: EncoderCheckpoint
    fitted: Fitted

    def __post_init__(self) -> None:
        self.results, self.winner = self.fitted.results, self.fitted.winner
        self.precision = self.fitted.precision
        self.facts: dict[str, Any] = {"name": "native"}
        self.forms: Sequence[Quantization] = forms_from(self.recipe.export.quantization)
        self._task = cast("QuestionAnswering", self.fitted.task)

    def logits(self, split: str) -> np.ndarray:
        return self._task.logits(split)

    def measure_validation(self, logits: np.ndarray) -> MeasuredQuestions:
        return self._task.measure_validation(logits)

    def export(self, null_bound: float | None, temperature: float, form: Quantization) -> bytes:
        model, export = self._task.model, self.recipe.export
        return export_question_answerer(
            self.recipe.model_copy(update={"export": export.model_copy(update={"quantization": form})}),
            self.checkpoint.with_weights(model.encoder_weights()),
            model.head(),
            null_bound=null_bound,
            temperature=temperature,
            rows=self.data.encoded["train"],
        )

    def keep(self, folder: RunFolder, null_bound: float | None, temperature: float) -> None:
        model, best = self._task.model, folder.path / "checkpoints" / "best"
        self.checkpoint.with_weights(model.encoder_weights()).write(best)
        save_state(best / "head.safetensors", model.head(), {"null_bound": null_bound, "temperature": temperature})
        folder.keep_log_of(self.winner.seed, len(self.results))

    def leave(self) -> None:
        pass  # The saved states are removed when the folder is complete.


def train_with_engine(
    recipe: Recipe,
    data: PreparedQuestions,
    checkpoint: EncoderCheckpoint,
    folder: RunFolder,
    progress: Progress,
    started: float,
) -> Training:
    """Trains with the engine that the recipe names."""
    if recipe.training.engine == "native":
        fitted = fit(recipe, data, checkpoint, folder, progress, started, task=QuestionAnswering)
        training = _NativeTraining(recipe, data, checkpoint, fitted)
        # The optimiser's moments are in reference cycles with its compiled functions, and the export needs their memory.
        gc.collect()
        return training
    from textclf.model_maker.question_answering.engine import train_with_model_maker

    return train_with_model_maker(recipe, data, checkpoint, folder, progress)
