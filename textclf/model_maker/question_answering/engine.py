"""The engine model-maker of question answering: trains a recipe with Model Maker's `question_answer` and the spec
MobileBertQaSpec.

`worker.py` does the work in Model Maker's environment. It gets a folder with a job, the questions and the encoder, and
writes a model, weights and logits there. Its progress is shown like that of the native engine.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.prepare_questions import PreparedQuestions
from textclf.errors import EngineError
from textclf.exporting.question_answering.model_file import model_settings
from textclf.model_maker.environment import require_environment
from textclf.model_maker.hub_module import VARIABLE_PREFIX
from textclf.model_maker.question_answering.data_checks import check_questions_for_model_maker
from textclf.model_maker.question_answering.job import prepare_job
from textclf.model_maker.running import SeedWork, train_seeds, work_folder
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.metadata import write_metadata
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.question_answering import QuestionAnswererMetadata
from textclf.training.loop import SeedResult
from textclf.training.question_answering.measures import PADDING_LOGIT, MeasuredQuestions, QuestionMeasures
from textclf.training.saved.run_folder import RunFolder, save_state
from textclf.training.watching.watchers import Trouble

_TENSORS = {"StatefulPartitionedCall:0": "end_logits", "StatefulPartitionedCall:1": "start_logits"}
"""What Model Maker's converter calls the two outputs (the default of its spec's `tflite_output_name`)."""


@dataclass
class ModelMakerAnswering:
    """A training that Model Maker has finished: a `textclf.runs.tasks.question_answering.engines.Training`.

    `split_logits` are the winner's, by split, float32 [windows, max_length, 2].
    """

    recipe: Recipe
    checkpoint: EncoderCheckpoint
    measures: QuestionMeasures
    results: list[SeedResult]
    winner: SeedResult
    split_logits: dict[str, np.ndarray]
    model: bytes
    weights: dict[str, np.ndarray]
    facts: dict[str, Any]
    work: Path
    precision: str = "float32"

    def __post_init__(self) -> None:
        # Model Maker has written the file already.
        self.forms: Sequence[Quantization] = (self.recipe.export.quantization,)

    def logits(self, split: str) -> np.ndarray:
        return self.split_logits[split]

    def measure_validation(self, logits: np.ndarray) -> MeasuredQuestions:
        return self.measures.measure_validation(logits)

    def export(self, null_bound: float | None, temperature: float, form: Quantization) -> bytes:
        vocabulary = self.checkpoint.vocabulary
        return write_metadata(
            self.model,
            name=self.recipe.name,
            vocabulary=vocabulary,
            task=QuestionAnswererMetadata.of(TfliteModel(self.model).outputs, _TENSORS),
            settings={
                "engine": "model-maker",
                # Shapes are constants in Model Maker's graphs.
                "fixed_length": True,
                **model_settings(self.recipe, vocabulary, null_bound, temperature),
            },
        )

    def keep(self, folder: RunFolder, null_bound: float | None, temperature: float) -> None:
        best, weights, width = folder.path / "checkpoints" / "best", self.weights, self.checkpoint.width
        encoder = {name: weights[VARIABLE_PREFIX + name] for name in self.checkpoint.weights}
        self.checkpoint.with_weights(encoder).write(best)
        head = {
            **_head(weights),
            "features/mean": np.zeros((2, width), np.float32),
            "features/scale": np.ones((2, width), np.float32),
        }
        save_state(best / "head.safetensors", head, {"null_bound": null_bound, "temperature": temperature})
        folder.keep_log_of(self.winner.seed, len(self.results))

    def leave(self) -> None:
        shutil.rmtree(self.work)


def train_with_model_maker(
    recipe: Recipe, data: PreparedQuestions, checkpoint: EncoderCheckpoint, folder: RunFolder, progress: Progress
) -> ModelMakerAnswering:
    """Trains once for each seed of the recipe. The last epoch of the seed with the best validation results is exported.

    Raises the errors of `check_questions_for_model_maker` and `train_seeds`.
    """
    require_environment()
    train, windows = data.split("train"), len(data.windows["train"])
    warnings = check_questions_for_model_maker(recipe, train, windows, checkpoint.vocabulary)
    if checkpoint.question_head:
        warnings.append(
            "the encoder has a head for question answering, which Model Maker's spec MobileBertQaSpec does not read: it "
            "trains a new one"
        )
    for warning in warnings:
        progress.warn(warning)
    measures = QuestionMeasures(data, recipe.training.epoch_count)
    trained = train_seeds(
        recipe,
        folder,
        progress,
        _Epochs(measures, data),
        layers=checkpoint.layers,
        warnings=warnings,
        write_job=lambda place, seed: prepare_job(place, recipe, data, checkpoint, seed),
        gather=lambda work: _gathered(recipe, data, checkpoint, measures, folder, work),
    )
    winner = max(trained, key=lambda one: measures.quality(one.winner.history[-1]))
    winner.results = [one.winner for one in trained]
    return winner


class _Epochs:
    """The `EpochMeasures` of question answering; outputs are logits [windows, max_length, 2]."""

    def __init__(self, measures: QuestionMeasures, data: PreparedQuestions) -> None:
        self._measures, self._data = measures, data
        self.guessing = measures.guessing
        self.line = measures.epoch_line
        self._read: np.ndarray = np.empty(0)

    def entry(self, epoch: int, training_loss: float, outputs: np.ndarray) -> dict[str, Any]:
        self._read = of_tokens(outputs, self._data, "validation")
        return self._measures.epoch_entry(epoch, training_loss, self._read)

    def troubles(self, history: Sequence[Mapping[str, Any]], outputs: np.ndarray) -> list[Trouble]:
        return self._measures.epoch_troubles(history, self._read)


def of_tokens(logits: np.ndarray, data: PreparedQuestions, split: str) -> np.ndarray:
    """Returns Model Maker's logits with `PADDING_LOGIT` at positions that hold no token."""
    is_token = np.arange(logits.shape[1]) < data.encoded[split].lengths[:, None]
    return np.where(is_token[:, :, None], logits, np.float32(PADDING_LOGIT))


def _gathered(
    recipe: Recipe,
    data: PreparedQuestions,
    checkpoint: EncoderCheckpoint,
    measures: QuestionMeasures,
    folder: RunFolder,
    work: SeedWork,
) -> ModelMakerAnswering:
    logits = {split.name: of_tokens(work.outputs(split.name), data, split.name) for split in data.dataset.held_out}
    validation = measures.measure_validation(logits["validation"])
    winner = work.seed_result({name: measures.measured_scores(name, own, validation) for name, own in logits.items()})
    return ModelMakerAnswering(
        recipe=recipe,
        checkpoint=checkpoint,
        measures=measures,
        results=[winner],
        winner=winner,
        split_logits=logits,
        model=(work.place / "model.tflite").read_bytes(),
        weights=work.weights(),
        facts=work.facts,
        work=work_folder(folder),
    )


def _head(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns head/kernel [width, 2] and head/bias [2], the start of an answer first."""
    own = {name.rpartition("/")[2]: array for name, array in weights.items() if not name.startswith(VARIABLE_PREFIX)}
    if sorted(own) != ["bias", "kernel"] or own["kernel"].shape[1:] != (2,):
        found = ", ".join(f"{name} {list(array.shape)}" for name, array in own.items())
        raise EngineError(
            f"Model Maker's model has the last layer {found or '(none)'}; expected kernel [width, 2] and bias [2]"
        )
    return {f"head/{part}": array.astype(np.float32) for part, array in own.items()}
