"""The file of a question answerer: takes trained weights and vocabulary, and returns the bytes of `model.tflite`.

`compare_answers` decides whether the answers of the file are those of the trained model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textclf.classify.question_answering.metrics import normalized, token_f1
from textclf.classify.question_answering.probability import candidate_scores
from textclf.classify.question_answering.selection import Selected
from textclf.data.findings.finding import counted
from textclf.data.tokens.encoded import Encoded
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.errors import VerificationError
from textclf.exporting.parity import NEARER, UNDECIDED_MARGIN
from textclf.exporting.writing import common_settings, export_model
from textclf.recipe.settings import Recipe
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.graph.question_answering import SPAN_LOGITS
from textclf.tflite.graph.weights import token_weights
from textclf.tflite.question_answering import QuestionAnswererMetadata, output_problems

# The allowed losses, as fractions of the questions, for 8 or 16 bits and for 4 bits. A float32 file may differ only by
# rounding, which grows with the logits. Measured on shortly trained models: with 8 bits, a 4-layer encoder (384 tokens, 99
# questions) changed 9 answers for the Task Library and 5 for LiteRT, 1 and 0 of them clearly, and a 2-layer one (64 tokens, F1
# 97 %, 64 questions) changed 3, none clearly; 16 bits changed none. Undecided answers change often, so only clear ones count.
MAX_CHANGED_ANSWERS, MAX_CHANGED_ANSWERS_OF_4_BITS = 0.02, 0.06

MAX_LOST_F1, MAX_LOST_F1_OF_4_BITS = 0.005, 0.01

MAX_FLOAT_DIFFERENCE = 1e-3


def model_settings(
    recipe: Recipe, vocabulary: Sequence[str], null_bound: float | None, temperature: float
) -> dict[str, Any]:
    """Returns how the file is to be used: `common_settings`, the columns, the windows, and what becomes of the scores."""
    encoder, dataset = recipe.encoder, recipe.dataset
    return {
        **common_settings(recipe, vocabulary),
        "question": dataset.question,
        "context": dataset.context,
        "answer": dataset.answer,
        "stride": encoder.stride,
        "question_length": encoder.question_length,
        "temperature": temperature,
        **({"null_bound": null_bound} if null_bound is not None else {}),
    }


def export_question_answerer(
    recipe: Recipe,
    trained: EncoderCheckpoint,
    head: Mapping[str, np.ndarray],
    *,
    null_bound: float | None = None,
    temperature: float = 1.0,
    rows: Encoded | None = None,
) -> bytes:
    """Returns a TFLite model that contains everything that a device, or textclf's QuestionAnswerer, needs to answer.

    `head` has head/kernel [width, 2], head/bias [2], features/mean and features/scale [2, width]. A question gets no answer
    if that is better than the best one by more than `null_bound` (None: it always gets one); `temperature` divides the
    scores of candidates. `rows`, windows of training questions, and errors are those of `export_model`.
    """
    return export_model(
        recipe,
        token_weights(trained, head, SPAN_LOGITS),
        trained.vocabulary,
        model_settings(recipe, trained.vocabulary, null_bound, temperature),
        QuestionAnswererMetadata(),
        output_problems,
        rows,
    )


@dataclass(frozen=True)
class AnswerVerification:
    """The exported file compared with the trained model: the number of questions, the largest difference of a logit, the
    questions whose answer changed (and those of them on which the trained model was not undecided), and both mean F1 (0
    to 1).

    `doubt` is set if a bound is exceeded, but not by more than chance explains on this few questions. Then there is no
    verdict.
    """

    questions: int
    largest_difference: float
    changed_answers: int
    changed_decided_answers: int
    f1_trained: float
    f1_exported: float
    doubt: str | None = None

    @property
    def changed(self) -> str:
        """How much the export changed, for a terminal."""
        return f"{self.changed_answers:,} of {self.questions:,} answers"

    @property
    def scores(self) -> list[tuple[str, float, float]]:
        """The F1 of the trained model and of the file."""
        return [("F1", self.f1_trained, self.f1_exported)]

    def as_text(self) -> str:
        """Returns one line for a terminal."""
        return (
            f"compared with the trained model: {self.changed_answers:,} of {counted(self.questions, 'answer')} changed "
            f"({self.changed_decided_answers:,} clearly), largest logit change {self.largest_difference:.4f}, F1 "
            f"{self.f1_trained:.1%} → {self.f1_exported:.1%}"
        )


@dataclass(frozen=True)
class Answers:
    """The answers of one of the two models: logits float32 [windows, length, 2], and the answers selected from them."""

    logits: np.ndarray
    selected: Sequence[Selected]


def compare_answers(
    trained: Answers,
    exported: Answers,
    golds: Sequence[Sequence[str]],
    quantization: Quantization,
    *,
    null_bound: float | None = None,
    temperature: float = 1.0,
    max_changed_answers: float | None = None,
    max_lost_f1: float | None = None,
) -> AnswerVerification:
    """Compares the answers of both models to the same questions; `golds` are the correct ones.

    The bounds are fractions of the questions (default: those for the form). A single question of few exceeds any fraction,
    so one answer may always change. The lost F1 may exceed its bound by two standard deviations of the sum of the changes,
    as if each raised the F1 as often as it lowers it. Raises VerificationError, with the exceeded bounds, if the file
    differs more from the trained model.
    """
    few_bits = quantization == "int4"
    if max_changed_answers is None:
        max_changed_answers = MAX_CHANGED_ANSWERS_OF_4_BITS if few_bits else MAX_CHANGED_ANSWERS
    if max_lost_f1 is None:
        max_lost_f1 = MAX_LOST_F1_OF_4_BITS if few_bits else MAX_LOST_F1
    _check_numbers("trained", trained)
    _check_numbers("exported", exported)
    found, changes = _compare(trained, exported, golds, null_bound, temperature)
    questions = found.questions
    scale = max(1.0, float(np.abs(_of_tokens(trained.logits)).max(initial=0)))
    if quantization == "none" and not found.largest_difference <= MAX_FLOAT_DIFFERENCE * scale:
        raise VerificationError(
            f"the exported model's logits differ from the trained model's by up to {found.largest_difference:.4f}; expected at "
            f"most {MAX_FLOAT_DIFFERENCE * scale:.4f} without quantisation"
        )
    broken = []
    # One answer may always change. More than one must be within the bound.
    if not found.changed_decided_answers <= max(1, max_changed_answers * questions):
        broken.append(
            f"the exported model gives clearly another answer than the trained model to {found.changed_decided_answers} of "
            f"{counted(questions, 'question')} (at most {max_changed_answers:.1%} may change)"
        )
    lost = -float(changes.sum())
    lost_too_much = not lost <= max_lost_f1 * questions
    if lost_too_much and not lost <= 2 * math.sqrt(float(np.square(changes).sum())):
        broken.append(
            f"the F1 is {found.f1_exported:.1%} after the export and {found.f1_trained:.1%} before, on "
            f"{counted(questions, 'question')} (at most {max_lost_f1:.1%} may be lost)"
        )
    if broken:
        nearer = NEARER.get(quantization)
        remedy = f"; export in a more exact form: set export.quantization to {nearer}" if nearer else ""
        raise VerificationError(f"{', and '.join(broken)}{remedy}")
    if not lost_too_much:
        return found
    return replace(
        found,
        doubt=f"the F1 is {found.f1_exported:.1%} after the export and {found.f1_trained:.1%} before (at most {max_lost_f1:.1%} "
        f"may be lost), but {counted(questions, 'question')} are too few to distinguish this from chance; compare on more "
        "questions: `textclf verify MODEL DATA --run RUN`",
    )


def _compare(
    trained: Answers,
    exported: Answers,
    golds: Sequence[Sequence[str]],
    null_bound: float | None,
    temperature: float,
) -> tuple[AnswerVerification, np.ndarray]:
    """Returns the comparison, and by how much the export changes the F1 of each question."""
    bound = math.inf if null_bound is None else null_bound
    before, after = (
        [answer.text if (answer := one.answer(bound)) else "" for one in model.selected]
        for model in (trained, exported)
    )
    changed = [row for row, pair in enumerate(zip(before, after, strict=True)) if len(set(map(normalized, pair))) > 1]
    scores = candidate_scores(trained.selected, null_bound)
    shares = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    decided = [
        row
        for row in changed
        if _share_of(before[row], trained.selected[row], shares[row])
        > _share_of(after[row], trained.selected[row], shares[row]) + UNDECIDED_MARGIN
    ]
    f1_before, f1_after = (
        np.array([token_f1(answer, own) for answer, own in zip(answers, golds, strict=True)])
        for answers in (before, after)
    )
    difference = np.abs(_of_tokens(trained.logits) - _of_tokens(exported.logits)).max(initial=0)
    found = AnswerVerification(
        questions=len(golds),
        largest_difference=float(difference),
        changed_answers=len(changed),
        changed_decided_answers=len(decided),
        f1_trained=float(f1_before.mean()),
        f1_exported=float(f1_after.mean()),
    )
    return found, f1_after - f1_before


def _share_of(answer: str, selected: Selected, shares: np.ndarray) -> float:
    """The probability that the trained model gives to an answer; those of equal ones add up, and 0 for an unknown one."""
    if not answer:
        return float(shares[0])
    same = [
        number
        for number, candidate in enumerate(selected.candidates, 1)
        if normalized(candidate.text) == normalized(answer)
    ]
    return float(shares[same].sum())


# Positions beyond a window have lower logits.
_LOWEST_OF_A_TOKEN = -1e8


def _of_tokens(logits: np.ndarray) -> np.ndarray:
    """The logits with zeros at positions that hold no token."""
    return np.where(logits > _LOWEST_OF_A_TOKEN, logits, 0.0)


def _check_numbers(model: str, answers: Answers) -> None:
    """Raises VerificationError for NaN and infinity."""
    bad = int(np.count_nonzero(~np.isfinite(answers.logits).all(axis=(1, 2))))
    if bad:
        raise VerificationError(
            f"the {model} model returns logits that are not numbers for {bad} of {counted(len(answers.logits), 'window')}"
        )
