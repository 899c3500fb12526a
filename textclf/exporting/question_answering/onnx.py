"""The ONNX file of a question answerer: takes a finished run, and returns the file's bytes and how it compares with it."""

from __future__ import annotations

import numpy as np

from textclf.classify.question_answering.evaluation import golds_of
from textclf.classify.question_answering.selection import select_answers
from textclf.data.question_answering.questions import QuestionSplit
from textclf.exporting.onnx import outputs_of, without_runtimes
from textclf.exporting.question_answering.model_file import Answers, AnswerVerification, compare_answers, model_settings
from textclf.exporting.question_answering.trained_run import TrainedAnswerer
from textclf.exporting.question_answering.verify import joined_answers
from textclf.tflite.graph.question_answering import SPAN_LOGITS
from textclf.tflite.graph.weights import token_weights


def onnx_answerer(run: TrainedAnswerer) -> bytes:
    """Returns the ONNX file of a finished run. Raises ModelError for weights that cannot be written."""
    from textclf.onnx.model_file import write_model

    recipe, vocabulary = run.recipe, run.checkpoint.vocabulary
    return write_model(
        token_weights(run.checkpoint, run.head, SPAN_LOGITS),
        recipe.encoder.fixed_length,
        recipe.export.quantization,
        name=recipe.name,
        vocabulary=vocabulary,
        labels=(),
        settings=without_runtimes(model_settings(recipe, vocabulary, run.null_bound, run.temperature)),
    )


def compare_onnx_answerer(content: bytes, run: TrainedAnswerer) -> AnswerVerification:
    """Compares an ONNX file with the trained model on the held-out questions.

    Raises VerificationError if the answers differ too much.
    """
    splits, export = run.held_out(), run.recipe.export
    return compare_answers(
        joined_answers([run.answers(split) for split in splits]),
        joined_answers([_answers(content, run, split) for split in splits]),
        [gold for split in splits for gold in golds_of(split)],
        export.quantization,
        null_bound=run.null_bound,
        temperature=run.temperature,
        max_changed_answers=export.max_changed_labels,
        max_lost_f1=export.max_lost_accuracy,
    )


def _answers(content: bytes, run: TrainedAnswerer, split: QuestionSplit) -> Answers:
    from textclf.training.question_answering.measures import PADDING_LOGIT

    windows, length = run.windows(split), run.recipe.encoder.fixed_length
    logits = np.full((len(windows), length, 2), PADDING_LOGIT, np.float32)
    for rows, outputs in outputs_of(content, windows.encoded, length):
        found = np.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)
        mask = np.arange(found.shape[1])[None, :, None] < windows.encoded.lengths[rows][:, None, None]
        logits[rows, : found.shape[1]] = np.where(mask, found, PADDING_LOGIT)
    return Answers(logits, select_answers(windows, logits, split.contexts))
