"""The ONNX file of a text classifier: takes a finished run, and returns the file's bytes and how it compares with the run."""

from __future__ import annotations

import numpy as np

from textclf.encoders.kinds import kind_of
from textclf.errors import VerificationError
from textclf.exporting.classification.model_file import model_settings
from textclf.exporting.hard_texts import hard_texts
from textclf.exporting.onnx import file_probabilities, without_runtimes
from textclf.exporting.parity import Verification, verify_export
from textclf.exporting.trained_run import TrainedRun


def onnx_classifier(run: TrainedRun) -> bytes:
    """Returns the ONNX file of a finished run. Raises ModelError for weights that cannot be written."""
    from textclf.onnx.model_file import write_model

    recipe, vocabulary = run.recipe, run.checkpoint.vocabulary
    return write_model(
        run.weights(),
        recipe.encoder.fixed_length,
        recipe.export.quantization,
        name=recipe.name,
        vocabulary=vocabulary,
        labels=run.labels,
        settings=without_runtimes(model_settings(recipe, vocabulary, run.reject_below)),
        delimiter_pattern=kind_of(recipe).delimiter_pattern,
    )


def compare_onnx_classifier(content: bytes, run: TrainedRun) -> Verification:
    """Compares an ONNX file with the trained model, on the held-out rows and on 520 texts that are hard for tokenizers.

    Returns the comparison of the held-out rows. Raises VerificationError if the predictions differ too much.
    """
    export, held_out = run.recipe.export, run.dataset().held_out
    texts = [text for split in held_out for text in split.texts]
    hard = [(text,) * len(run.recipe.dataset.text) for text in hard_texts()]
    trained, exported = run.probabilities([*texts, *hard]), file_probabilities(content, [*texts, *hard])
    rows = len(texts)
    result = verify_export(
        trained[:rows],
        exported[:rows],
        np.concatenate([split.labels for split in held_out]),
        export.quantization,
        max_changed_labels=export.max_changed_labels,
        max_lost_accuracy=export.max_lost_accuracy,
    )
    labels = trained[rows:].argmax(axis=1)
    try:
        # The hard texts have no true labels, and the model is undecided about many; clear changes are what counts.
        verify_export(trained[rows:], exported[rows:], labels, export.quantization, max_lost_accuracy=1.0)
    except VerificationError as error:
        raise VerificationError(f"on {len(hard)} texts that are hard for tokenizers, {error}") from error
    return result
