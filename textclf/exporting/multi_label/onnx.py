"""The ONNX file of a model with several labels per text: takes a finished run, and returns the file's bytes and how it
compares with the run."""

from __future__ import annotations

import numpy as np

from textclf.data.multi_label.dataset import load_label_sets
from textclf.encoders.kinds import kind_of
from textclf.exporting.multi_label.model_file import LabelSetVerification, model_settings, verify_label_sets
from textclf.exporting.multi_label.trained_run import TrainedLabelSets
from textclf.exporting.onnx import file_probabilities, without_runtimes
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


def compare_onnx_label_sets(content: bytes, trained: TrainedLabelSets) -> LabelSetVerification:
    """Compares an ONNX file with the trained model on the held-out rows.

    Raises VerificationError if the predicted labels differ too much.
    """
    run, export = trained.run, trained.recipe.export
    splits = run.dataset(load_label_sets).held_out
    texts = [text for split in splits for text in split.texts]
    return verify_label_sets(
        trained.probabilities(texts),
        file_probabilities(content, texts),
        np.concatenate([split.labels for split in splits]),
        trained.thresholds,
        export.quantization,
        max_changed_labels=export.max_changed_labels,
        max_lost_accuracy=export.max_lost_accuracy,
    )
