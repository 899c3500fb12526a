"""The ONNX file of a question answerer: takes a finished run, and returns the file's bytes."""

from __future__ import annotations

from textclf.exporting.onnx import without_runtimes
from textclf.exporting.question_answering.model_file import model_settings
from textclf.exporting.question_answering.trained_run import TrainedAnswerer
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
