"""Question answering in training: what its windows teach, and how an epoch is measured and compared.

`QuestionAnswering` is the `TrainingTask` of this task. Rows of the loop are windows; scores are those of questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from textclf.classify.question_answering.metrics import QuestionMetrics, evaluate
from textclf.classify.question_answering.selection import Candidate, Selected, select_answers
from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.question_answering.questions import QuestionSplit, place_of
from textclf.data.tokens.batching import Batch, evaluation_batches
from textclf.data.tokens.spans import span_targets
from textclf.encoders.formats.question_head import HEADS_UNDERSTOOD
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.encoders.prepare_questions import PreparedQuestions
from textclf.errors import EncoderError, RecipeError
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.question_answering.calibration import choose_null_bound
from textclf.training.question_answering.model import PADDING_LOGIT, SpanModel
from textclf.training.watching.watchers import Trouble, overfitting

# Windows from which the feature standardisation is computed: enough first tokens, and thousands of others.
_MEASURED_WINDOWS = 256

_STUCK_SHARE = 0.98


@dataclass(frozen=True)
class MeasuredQuestions:
    """The selected answers of a split's questions, the bound that was applied, and how good they are."""

    selected: list[Selected]
    null_bound: float | None
    metrics: QuestionMetrics

    @property
    def answers(self) -> list[Candidate | None]:
        """The answer to each question; None for no answer."""
        return [one.answer(np.inf if self.null_bound is None else self.null_bound) for one in self.selected]


class QuestionAnswering:
    """The `TrainingTask` of question answering; the data are `PreparedQuestions`.

    Raises RecipeError for a training without epochs if the encoder has no head for questions, and EncoderError for an
    encoder or a head with weights that are not finite.
    """

    untrained = "no training, the encoder's own head"

    def __init__(self, data: PreparedData, checkpoint: AnyEncoder, settings: TrainingSettings, seed: int) -> None:
        self._data, self._settings = cast("PreparedQuestions", data), settings
        windows, train = self._data.windows["train"], self._data.split("train")
        self.model = SpanModel(checkpoint, seed)
        if not settings.epoch_count and self.model.published is None:
            raise RecipeError(
                f"training.epochs is 0, but {checkpoint.path} has no head for question answering, so nothing could answer; set "
                f"training.epochs to 1 or more, or use an encoder with such a head ({HEADS_UNDERSTOOD})"
            )
        self.targets = span_targets(windows, train.labels)
        self.row_weights = np.ones(len(windows), np.float32)
        self.summary = counted(len(train.rows), "question")
        self.guessing = float(np.log(windows.encoded.lengths).mean())
        self._validation: tuple[np.ndarray, MeasuredQuestions] | None = None
        self._guessing_without_reading = _loss_without_reading(self.targets, windows.encoded.lengths)

    # --- Before the first step ---------------------------------------------------------------------------------------

    def standardize(self, progress: Progress) -> None:
        """Sets the feature standardisation: that of the published head, or from the untrained encoder."""
        if self.model.published is not None:
            self.model.keep_standardisation(self.model.published)
            return
        encoded = self._data.encoded["train"]
        rows = np.unique(np.linspace(0, len(encoded) - 1, _MEASURED_WINDOWS).astype(np.int64))
        first, others = [], []
        with progress.during(
            f"Computing the encoder's outputs for {counted(len(rows), 'window')} of the training questions"
        ):
            for batch in evaluation_batches(encoded.lengths[rows], self.model.evaluation_batch, self._data.max_length):
                tokens = self._data.batch("train", Batch(rows[batch.rows], batch.length))
                states = self.model.token_states(tokens)
                self._check_finite(states[tokens.mask == 1], rows[batch.rows])
                first.append(states[:, 0])
                others.append(states[tokens.segments == 1])
        self.model.standardize(np.concatenate(first), np.concatenate(others))

    def _check_finite(self, states: np.ndarray, windows: np.ndarray) -> None:
        if not np.isfinite(states).all():
            question = int(self._data.windows["train"].rows[windows[0]])
            raise EncoderError(
                f"{self.model.encoder.checkpoint.path}: the encoder returns NaN or infinity for training questions, among them "
                f"{place_of(self._data.split('train'), question)} or one of similar length, so it cannot learn to answer; check "
                "it with `textclf encoder SOURCE --golden`, or use another encoder"
            )

    def fit_first_head(self, progress: Progress) -> bool:
        """Returns whether the encoder came with a head, with which it can already answer."""
        return self.model.published is not None

    # --- After an epoch ----------------------------------------------------------------------------------------------

    def logits(self, split: str) -> np.ndarray:
        """Returns logits float32 [windows, max_length, 2] of the model as it is now; padding has -1e9."""
        lengths = self._data.encoded[split].lengths
        logits = np.full((len(lengths), self._data.max_length, 2), PADDING_LOGIT, np.float32)
        for batch in evaluation_batches(lengths, self.model.evaluation_batch, self._data.max_length):
            logits[batch.rows, : batch.length] = self.model.predict_logits(self._data.batch(split, batch))
        return logits

    def measure(self, split: str, logits: np.ndarray, null_bound: float | None) -> MeasuredQuestions:
        """Returns the answers to a split's questions and how good they are, with this bound (None: always answer)."""
        questions = self._data.split(split)
        selected = select_answers(self._data.windows[split], logits, questions.contexts)
        return _measured(selected, questions, null_bound)

    def measure_validation(self, logits: np.ndarray) -> MeasuredQuestions:
        """Does the same for the validation questions, with the bound that is best for them."""
        if self._validation is None or self._validation[0] is not logits:
            questions = self._data.split("validation")
            selected = select_answers(self._data.windows["validation"], logits, questions.contexts)
            measured = _measured(selected, questions, choose_null_bound(selected, golds_of(questions)))
            self._validation = logits, measured
        return self._validation[1]

    def epoch_entry(self, epoch: int, training_loss: float | None, logits: np.ndarray) -> dict[str, Any]:
        """Returns what the history keeps of an epoch; `logits` are those of the validation windows."""
        metrics = self.measure_validation(logits).metrics
        return {
            "epoch": epoch,
            "training_loss": training_loss,
            "validation_loss": self._loss("validation", logits),
            "validation_exact_match": metrics.exact_match,
            "validation_f1": metrics.f1,
        }

    def epoch_troubles(self, history: Sequence[Mapping[str, Any]], logits: np.ndarray) -> list[Trouble]:
        """Returns what the watchers detect after an epoch; `logits` are those of the validation windows."""
        troubles, trained = [], [entry for entry in history if entry["epoch"] > 0]
        measured = self.measure_validation(logits)
        if measured.metrics.has_answer is not None and not any(measured.answers):
            troubles.append(
                Trouble(
                    "one_class",
                    "the model answers none of the validation questions; train for more epochs or with a higher "
                    "training.learning_rate, or add questions that have an answer",
                )
            )
        latest, guessing = trained[-1], self._guessing_without_reading
        if latest["training_loss"] >= _STUCK_SHARE * guessing:
            troubles.append(
                Trouble(
                    "stuck",
                    f"the training loss is {latest['training_loss']:.3g} after epoch {latest['epoch']}, not clearly below the "
                    f"{guessing:.3g} of guessing: the model learned nothing from the questions; check that dataset.question, "
                    "dataset.context and dataset.answer name the right columns, raise training.learning_rate, or train for "
                    "more epochs",
                )
            )
        if (found := overfitting(trained)) is not None:
            troubles.append(found)
        return troubles

    def epoch_line(self, entry: Mapping[str, Any]) -> str:
        """Returns the line that is shown at the end of an epoch."""
        which = f"Epoch {entry['epoch']}/{self._settings.epoch_count}" if entry["epoch"] else "The encoder's own head"
        return (
            f"{which}: validation loss {entry['validation_loss']:.4f}, exact match {entry['validation_exact_match']:.1%}, "
            f"F1 {entry['validation_f1']:.1%}"
        )

    def quality(self, entry: Mapping[str, Any]) -> tuple[float, float, float]:
        """Returns what makes an epoch the best: the highest F1, then exact match, then the lowest loss."""
        return entry["validation_f1"], entry["validation_exact_match"], -entry["validation_loss"]

    def scores(self, split: Split, logits: np.ndarray) -> dict[str, float]:
        """Returns exact_match, f1 and loss of a split, with the bound that is best for the validation questions."""
        validation = self.measure_validation(logits if split.name == "validation" else self.logits("validation"))
        metrics = validation.metrics
        if split.name != "validation":
            metrics = self.measure(split.name, logits, validation.null_bound).metrics
        return {"exact_match": metrics.exact_match, "f1": metrics.f1, "loss": self._loss(split.name, logits)}

    def _loss(self, split: str, logits: np.ndarray) -> float:
        """The mean cross-entropy of start and end over the windows, in nats."""
        targets = span_targets(self._data.windows[split], self._data.split(split).labels)
        total = 0.0
        for row, values in enumerate(logits.astype(np.float64, copy=False)):
            shifted = values - values.max(axis=0)
            chosen = shifted[targets[row], [0, 1]]
            total += float((np.log(np.exp(shifted).sum(axis=0)) - chosen).mean())
        return total / len(logits)


def golds_of(questions: QuestionSplit) -> list[list[str]]:
    """Returns the texts of the correct answers to each question."""
    return [[answer.text for answer in answers] for answers in questions.answers]


def _measured(selected: list[Selected], questions: QuestionSplit, null_bound: float | None) -> MeasuredQuestions:
    answers = [one.answer(np.inf if null_bound is None else null_bound) for one in selected]
    metrics = evaluate([answer.text if answer else "" for answer in answers], golds_of(questions))
    return MeasuredQuestions(selected, null_bound, metrics)


def _loss_without_reading(targets: np.ndarray, lengths: np.ndarray) -> float:
    """Returns the training loss of the best model that knows only how long windows are and how many have no answer."""
    without = float((targets[:, 1] == 0).mean())
    inside = float(np.log(np.maximum(lengths[targets[:, 1] > 0] - 1, 1)).mean()) if without < 1 else 0.0
    shares = np.array([share for share in (without, 1 - without) if share > 0])
    return float(-(shares * np.log(shares)).sum()) + (1 - without) * inside
