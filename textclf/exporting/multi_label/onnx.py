"""The ONNX file of a model with several labels per text: takes a finished run, and returns the file's bytes."""

from __future__ import annotations

from textclf.encoders.kinds import kind_of
from textclf.exporting.multi_label.model_file import model_settings
from textclf.exporting.multi_label.trained_run import TrainedLabelSets
from textclf.exporting.onnx import without_runtimes
from textclf.tflite.graph.multi_label import INDEPENDENT_PROBABILITIES
from textclf.tflite.graph.weights import inference_weights


def onnx_label_sets(trained: TrainedLabelSets) -> bytes:
    """Returns the ONNX file of a finished run. Raises ModelError for weights that cannot be written."""
    from textclf.onnx.model_file import write_model

    run, recipe, vocabulary = trained.run, trained.recipe, trained.run.checkpoint.vocabulary
    return write_model(
        inference_weights(run.checkpoint, run.head, INDEPENDENT_PROBABILITIES),
        recipe.encoder.fixed_length,
        recipe.export.quantization,
        name=recipe.name,
        vocabulary=vocabulary,
        labels=run.labels,
        settings=without_runtimes(model_settings(recipe, vocabulary, trained.thresholds.tolist())),
        delimiter_pattern=kind_of(recipe).delimiter_pattern,
    )
