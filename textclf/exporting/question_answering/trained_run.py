"""Reads the trained weights of a finished run of question answering, to export them again or to compare with them.

`checkpoints/best` contains the encoder in textclf's format, and the head with the bound for "no answer" and the
temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from textclf.classify.question_answering.selection import select_answers
from textclf.data.examples import Dataset
from textclf.data.question_answering.dataset import load_questions
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tokens.encoded import pad
from textclf.data.tokens.spans import Windows, make_windows
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import load_recipe_data
from textclf.errors import RunError
from textclf.exporting.question_answering.model_file import Answers
from textclf.exporting.trained_run import check_run_files, export_setting
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.terminal.native_log import load_tensorflow
from textclf.training.saved.run_folder import load_state

if TYPE_CHECKING:
    from typing import TypeGuard

_BATCH = 16


@dataclass(frozen=True)
class TrainedAnswerer:
    """The trained weights of a run. `head` has head/kernel, head/bias, features/mean and features/scale.

    A question gets no answer if that is better than the best one by more than `null_bound` (None: it always gets one);
    `temperature` divides the scores of candidates.
    """

    folder: Path
    recipe: Recipe
    checkpoint: EncoderCheckpoint
    head: dict[str, np.ndarray]
    null_bound: float | None
    temperature: float

    def dataset(self) -> Dataset:
        """Returns the questions that it was trained and measured on, in the same splits."""
        tokenizer = self.checkpoint.tokenizer(self.recipe.encoder)
        _, dataset = load_recipe_data(self.recipe, tokenizer, read=load_questions)
        return dataset

    def held_out(self) -> list[QuestionSplit]:
        """Returns the splits that were not used for training."""
        return cast("list[QuestionSplit]", self.dataset().held_out)

    def windows(self, split: QuestionSplit) -> Windows:
        """Returns the questions of a split as the model reads them."""
        encoder = self.recipe.encoder
        assert encoder.stride is not None
        assert encoder.question_length is not None
        return make_windows(
            self.checkpoint.tokenizer(encoder),
            split.questions,
            split.contexts,
            max_length=encoder.fixed_length,
            stride=encoder.stride,
            question_length=encoder.question_length,
        )

    def answers(self, split: QuestionSplit) -> Answers:
        """Returns the trained model's answers to a split, computed by TensorFlow from the unfolded weights."""
        load_tensorflow()
        from textclf.data.tokens.batching import evaluation_batches
        from textclf.training.machine.hardware import use_tensorflow
        from textclf.training.question_answering.measures import PADDING_LOGIT
        from textclf.training.question_answering.model import SpanModel

        use_tensorflow("compute the trained model's answers")
        model = SpanModel(self.checkpoint, seed=0)
        model.load_state({**model.state(), **self.head})
        windows, length = self.windows(split), self.recipe.encoder.fixed_length
        logits = np.full((len(windows), length, 2), PADDING_LOGIT, np.float32)
        for batch in evaluation_batches(windows.encoded.lengths, _BATCH, length):
            tokens = pad(windows.encoded, batch.rows, batch.length)
            logits[batch.rows, : batch.length] = model.predict_logits(tokens)
        return Answers(logits, select_answers(windows, logits, split.contexts))


def load_trained_answerer(folder: Path, overrides: Sequence[str] = ()) -> TrainedAnswerer:
    """Reads a finished run. `overrides` such as `quantization=float16` change the section export of its recipe.

    Raises RunError for a folder that is not a finished run, and RecipeError for overrides of other settings.
    """
    best = folder / "checkpoints" / "best"
    check_run_files(folder, [folder / "recipe.yaml", best / "head.safetensors"])
    recipe = load_recipe(folder / "recipe.yaml", [export_setting(override) for override in overrides])
    head, facts = load_state(best / "head.safetensors")
    checkpoint = cast(EncoderCheckpoint, kind_of(recipe).read(best))  # the rules refuse other encoders
    _check_head(best / "head.safetensors", head, checkpoint.width)
    null_bound, temperature = _calibration(best / "head.safetensors", facts)
    return TrainedAnswerer(folder, recipe, checkpoint, head, null_bound, temperature)


def _check_head(path: Path, head: dict[str, np.ndarray], width: int) -> None:
    """Raises RunError if the head's arrays do not match the encoder, or contain NaN."""
    shapes = {
        "head/kernel": (width, 2), "head/bias": (2,), "features/mean": (2, width), "features/scale": (2, width)
    }  # fmt: skip
    for name, shape in shapes.items():
        array = head.get(name)
        if array is None or array.shape != shape or not np.isfinite(array).all():
            found = "missing" if array is None else f"{list(array.shape)}" if array.shape != shape else "not finite"
            raise RunError(f"{path}: `{name}` is {found}, expected {list(shape)} finite numbers; train again")


def _calibration(path: Path, facts: dict[str, Any]) -> tuple[float | None, float]:
    """Returns the bound and the temperature that the training chose. Raises RunError if they are missing or damaged."""
    bound, temperature = facts.get("null_bound"), facts.get("temperature")
    if not (bound is None or _is_number(bound)) or not (_is_number(temperature) and temperature > 0):
        raise RunError(
            f"{path}: its bound for no answer is {bound!r} and its temperature {temperature!r}, expected a number or nothing, "
            "and a number above 0; train again"
        )
    return None if bound is None else float(bound), float(temperature)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
