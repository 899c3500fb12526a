"""The ONNX file of a text classifier: takes a finished run, and returns the file's bytes."""

from __future__ import annotations

from textclf.classify.classifier import Classifier
from textclf.encoders.kinds import kind_of
from textclf.errors import VerificationError
from textclf.exporting.classification.model_file import model_settings
from textclf.exporting.hard_texts import hard_texts
from textclf.exporting.onnx import without_runtimes
from textclf.exporting.parity import verify_export
from textclf.exporting.report import VerificationReport
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


def compare_on_hard_texts(report: VerificationReport, classifier: Classifier, run: TrainedRun) -> None:
    """Compares a file with the trained model on 520 texts that are hard for tokenizers; a problem goes into the report."""
    texts = [(text,) * len(run.recipe.dataset.text) for text in hard_texts()]
    trained = run.probabilities(texts)
    try:
        # They have no true labels, and the model is undecided about many; clear changes are what counts.
        verify_export(
            trained,
            classifier.probabilities(texts),
            trained.argmax(axis=1),
            run.recipe.export.quantization,
            max_lost_accuracy=1.0,
        )
    except VerificationError as error:
        report.problems.append(f"on {len(texts)} texts that are hard for tokenizers, {error}")
