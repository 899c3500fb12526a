"""textclf: train a checked TFLite model from a table and a short recipe, to classify texts or to answer questions."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textclf.classify.classifier import Classifier, Prediction
    from textclf.classify.multi_label.evaluation import evaluate_label_sets
    from textclf.classify.multi_label.metrics import LabelSetMetrics
    from textclf.classify.question_answering.evaluation import AnswerMetrics, evaluate_answers
    from textclf.classify.question_answering.job import AnswerSummary, answer_file
    from textclf.classify.question_answering.question_answerer import Answer, QuestionAnswerer
    from textclf.classify.tables.job import BatchSummary, FileMetrics, classify_file, evaluate_file
    from textclf.encoders.mobilebert import Encoder
    from textclf.errors import TextclfError
    from textclf.exporting.report import Check, VerificationReport
    from textclf.recipe.reading import load_recipe
    from textclf.recipe.settings import Recipe
    from textclf.runs.app.writing import App
    from textclf.runs.app.writing import write_app as app
    from textclf.runs.check import CheckReport, check
    from textclf.runs.compare import compare
    from textclf.runs.demo.writing import Demo
    from textclf.runs.demo.writing import write_demo as demo
    from textclf.runs.examples import Example, copy_example, list_examples
    from textclf.runs.export import export_run as export
    from textclf.runs.listing import RunEntry, RunList, list_runs
    from textclf.runs.new_recipe import NewRecipe, new_recipe
    from textclf.runs.train import Run, train
    from textclf.runs.verify import verify
    from textclf.serving.server import serve
    from textclf.tflite.inspection import Inspection
    from textclf.tflite.inspection import inspect_model as inspect
    from textclf.tflite.runtimes import RuntimeSupport

# The program that uses the library decides which log messages are shown.
logging.getLogger("textclf").addHandler(logging.NullHandler())

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "AnswerMetrics",
    "AnswerSummary",
    "App",
    "BatchSummary",
    "Check",
    "CheckReport",
    "Classifier",
    "Demo",
    "Encoder",
    "Example",
    "FileMetrics",
    "Inspection",
    "LabelSetMetrics",
    "NewRecipe",
    "Prediction",
    "QuestionAnswerer",
    "Recipe",
    "Run",
    "RunEntry",
    "RunList",
    "RuntimeSupport",
    "TextclfError",
    "VerificationReport",
    "answer_file",
    "app",
    "check",
    "classify_file",
    "compare",
    "copy_example",
    "demo",
    "evaluate_answers",
    "evaluate_file",
    "evaluate_label_sets",
    "export",
    "inspect",
    "list_examples",
    "list_runs",
    "load_encoder",
    "load_recipe",
    "new_recipe",
    "serve",
    "train",
    "verify",
]

# The module of each public name. Importing textclf loads none of them, so a command loads only what it uses.
_HOMES = {
    "Answer": "textclf.classify.question_answering.question_answerer",
    "AnswerMetrics": "textclf.classify.question_answering.evaluation",
    "AnswerSummary": "textclf.classify.question_answering.job",
    "BatchSummary": "textclf.classify.tables.job",
    "App": "textclf.runs.app.writing",
    "Check": "textclf.exporting.report",
    "CheckReport": "textclf.runs.check",
    "Classifier": "textclf.classify.classifier",
    "Demo": "textclf.runs.demo.writing",
    "Encoder": "textclf.encoders.mobilebert",
    "Example": "textclf.runs.examples",
    "FileMetrics": "textclf.classify.tables.job",
    "Inspection": "textclf.tflite.inspection",
    "LabelSetMetrics": "textclf.classify.multi_label.metrics",
    "NewRecipe": "textclf.runs.new_recipe",
    "Prediction": "textclf.classify.classifier",
    "QuestionAnswerer": "textclf.classify.question_answering.question_answerer",
    "Recipe": "textclf.recipe.settings",
    "Run": "textclf.runs.train",
    "RunEntry": "textclf.runs.listing",
    "RunList": "textclf.runs.listing",
    "RuntimeSupport": "textclf.tflite.runtimes",
    "TextclfError": "textclf.errors",
    "VerificationReport": "textclf.exporting.report",
    "answer_file": "textclf.classify.question_answering.job",
    "app": "textclf.runs.app.writing",
    "check": "textclf.runs.check",
    "classify_file": "textclf.classify.tables.job",
    "compare": "textclf.runs.compare",
    "copy_example": "textclf.runs.examples",
    "demo": "textclf.runs.demo.writing",
    "evaluate_answers": "textclf.classify.question_answering.evaluation",
    "evaluate_file": "textclf.classify.tables.job",
    "evaluate_label_sets": "textclf.classify.multi_label.evaluation",
    "export": "textclf.runs.export",
    "inspect": "textclf.tflite.inspection",
    "list_examples": "textclf.runs.examples",
    "list_runs": "textclf.runs.listing",
    "load_recipe": "textclf.recipe.reading",
    "new_recipe": "textclf.runs.new_recipe",
    "serve": "textclf.serving.server",
    "train": "textclf.runs.train",
    "verify": "textclf.runs.verify",
}

# Inside the package, these functions have longer names, which say what they work on.
_INNER_NAMES = {"app": "write_app", "demo": "write_demo", "export": "export_run", "inspect": "inspect_model"}

_TENSORFLOW = ("textclf.encoders.mobilebert", "textclf.runs.train")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        if _HOMES[name] in _TENSORFLOW:
            import_module("textclf.terminal.native_log").load_tensorflow()
        return getattr(import_module(_HOMES[name]), _INNER_NAMES.get(name, name))
    raise AttributeError(f"module 'textclf' has no attribute {name!r}")


def load_encoder(source: str | os.PathLike[str] = "builtin") -> Encoder:
    """Returns the encoder that `source` names, as in a recipe's `encoder.source`. Paths are relative to the current folder.

    Its `.encode(input_ids, input_mask, segment_ids)` takes integer arrays [batch, length] and returns numpy
    `sequence_output` [batch, length, hidden] and `pooled_output` [batch, hidden]. Raises EncoderError.
    """
    from textclf.terminal.native_log import load_tensorflow

    load_tensorflow()
    from textclf.encoders.mobilebert import Encoder
    from textclf.encoders.sources.locate import load_checkpoint

    return Encoder(load_checkpoint(os.fspath(source), Path.cwd()))
