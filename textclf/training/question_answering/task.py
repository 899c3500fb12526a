"""Question answering in training: what its windows teach, and how an epoch is measured and compared.

`QuestionAnswering` is the `TrainingTask` of this task. Rows of the loop are windows; scores are those of questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np

from textclf.data.examples import Split
from textclf.data.findings.finding import counted
from textclf.data.question_answering.questions import place_of
from textclf.data.tokens.batching import Batch, evaluation_batches
from textclf.data.tokens.encoded import Tokens
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.encoders.prepare_questions import PreparedQuestions, require_question_head
from textclf.errors import EncoderError
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.question_answering.measures import PADDING_LOGIT, QuestionMeasures, span_loss
from textclf.training.question_answering.model import SpanModel

# Windows from which the feature standardisation is computed: enough first tokens, and thousands of others.
_MEASURED_WINDOWS = 256

# The temperatures that are tried for the logits of a head that came with the encoder.
_TEMPERATURES = np.geomspace(1.0, 30.0, 35)


class QuestionAnswering(QuestionMeasures):
    """The `TrainingTask` of question answering; the data are `PreparedQuestions`.

    Raises RecipeError for a training without epochs if the encoder has no head for questions, and EncoderError for an
    encoder or a head with weights that are not finite.
    """

    untrained = "no training, the encoder's own head"

    def __init__(self, data: PreparedData, checkpoint: AnyEncoder, settings: TrainingSettings, seed: int) -> None:
        questions = cast("PreparedQuestions", data)
        super().__init__(questions, settings.epoch_count)
        windows, train = questions.windows["train"], questions.split("train")
        self.model = SpanModel(checkpoint, seed)
        if not settings.epoch_count:
            require_question_head(checkpoint)
        # As in run_squad.py and in Model Maker, every window counts once, so a question counts as often as it has windows.
        # Published results and default settings belong to this weighting. Of a long context most windows have no answer; the
        # bound for "no answer" is chosen by question, so a model that leans to it is corrected there.
        self.row_weights = np.ones(len(windows), np.float32)
        self.summary = counted(len(train.rows), "question")

    # --- Before the first step ---------------------------------------------------------------------------------------

    def standardize(self, progress: Progress) -> None:
        """Sets the feature standardisation: that of the published head, or from the untrained encoder."""
        if self.model.published is not None:
            self.model.keep_standardisation(self.model.published)
            return
        first, others = [], []
        with self._measuring(progress) as batches:
            for windows, tokens in batches:
                states = self.model.token_states(tokens)
                self._check_finite(states[tokens.mask == 1], windows)
                first.append(states[:, 0])
                others.append(states[tokens.segments == 1])
        self.model.standardize(np.concatenate(first), np.concatenate(others))

    @contextmanager
    def _measuring(self, progress: Progress) -> Iterator[Iterator[tuple[np.ndarray, Tokens]]]:
        """Some training windows, spread evenly over all of them, in batches of their numbers and tokens."""
        encoded = self._data.encoded["train"]
        rows = np.unique(np.linspace(0, len(encoded) - 1, _MEASURED_WINDOWS).astype(np.int64))
        batches = evaluation_batches(encoded.lengths[rows], self.model.evaluation_batch, self._data.max_length)
        chosen = (Batch(rows[batch.rows], batch.length) for batch in batches)
        with progress.during(
            f"Computing the encoder's outputs for {counted(len(rows), 'window')} of the training questions"
        ):
            yield ((batch.rows, self._data.batch("train", batch)) for batch in chosen)

    def _check_finite(self, states: np.ndarray, windows: np.ndarray) -> None:
        if not np.isfinite(states).all():
            question = int(self._data.windows["train"].rows[windows[0]])
            raise EncoderError(
                f"{self.model.encoder.checkpoint.path}: the encoder returns NaN or infinity for training questions, among them "
                f"{place_of(self._data.split('train'), question)} or one of similar length, so it cannot learn to answer; check "
                "it with `textclf encoder SOURCE --golden`, or use another encoder"
            )

    def fit_first_head(self, progress: Progress) -> bool:
        """Returns whether the encoder came with a head, with which it can already answer.

        Before a training, the logits of such a head are divided by the temperature that suits the training questions best.
        Its answers stay the same. But a head that is too sure of them, because it learned from other texts, would begin with
        a loss far above guessing, and the first steps would undo what it knows.
        """
        if self.model.published is None:
            return False
        if self._epochs:
            logits: list[np.ndarray] = []
            targets: list[np.ndarray] = []
            with self._measuring(progress) as batches:
                for windows, tokens in batches:
                    logits.extend(self.model.predict_logits(tokens))
                    targets.extend(self.targets[windows])
            losses = [span_loss((one / temperature for one in logits), targets) for temperature in _TEMPERATURES]
            if np.isfinite(losses).all():
                self.model.cool_head(float(_TEMPERATURES[int(np.argmin(losses))]))
        return True

    # --- After an epoch ----------------------------------------------------------------------------------------------

    def logits(self, split: str) -> np.ndarray:
        """Returns logits float32 [windows, max_length, 2] of the model as it is now; padding has -1e9."""
        lengths = self._data.encoded[split].lengths
        logits = np.full((len(lengths), self._data.max_length, 2), PADDING_LOGIT, np.float32)
        for batch in evaluation_batches(lengths, self.model.evaluation_batch, self._data.max_length):
            logits[batch.rows, : batch.length] = self.model.predict_logits(self._data.batch(split, batch))
        return logits

    def scores(self, split: Split, logits: np.ndarray) -> dict[str, float]:
        """Returns exact_match, f1 and loss of a split, with the bound that is best for the validation questions."""
        validation = self.measure_validation(logits if split.name == "validation" else self.logits("validation"))
        return self.measured_scores(split.name, logits, validation)
