"""What the page needs to know of a model: takes a `.tflite` and returns its graph and the facts for models.js."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textclf.classify.classifier import Classifier
from textclf.classify.question_answering.question_answerer import SPAN_LOGITS, QuestionAnswerer
from textclf.classify.workers import LENGTH_STEP
from textclf.data.tokens.text_windows import WindowPlan
from textclf.data.tokens.wordpiece import device_delimiters, ideographs
from textclf.data.tokens.words import DELIMITER_PATTERN
from textclf.errors import ModelError
from textclf.recipe.values import QUESTION_ANSWERING
from textclf.runs.demo.graph import PageGraph, page_graph
from textclf.runs.tasks.table import task_of_model
from textclf.tflite.metadata import load_model
from textclf.tflite.model_file import TfliteModel

# The patterns of RE2 that mean the same in JavaScript: textclf's own, and that of Model Maker.
_KNOWN_PATTERNS = (DELIMITER_PATTERN, r"[^\w\']+", r"[^\w']+")


@dataclass(frozen=True)
class OpenedModel:
    """An open model, the bytes of its file, the positions of the outputs that are needed, and what models.js reads of it
    except for its tokenizer."""

    opened: Classifier | QuestionAnswerer
    content: bytes
    outputs: list[int]
    facts: dict[str, Any]

    def close(self) -> None:
        self.opened.close()


def open_model(path: Path, use: str) -> OpenedModel:
    """Opens a `.tflite`. `use` says in messages who needs it: `the demo computes`. Raises ModelError for a file that textclf
    cannot use, and for an ONNX file."""
    if path.suffix == ".onnx":
        raise ModelError(f"{path}: is an ONNX file, but {use} a .tflite; name the .tflite of the same run")
    content = load_model(path)[1]
    if task_of_model(path).name == QUESTION_ANSWERING:
        answerer = QuestionAnswerer.of_content(content, str(path), path, num_threads=1)
        outputs = SPAN_LOGITS.positions(answerer.metadata)
        return _opened_model(answerer, content, outputs, _answering_facts(answerer))
    classifier = Classifier.of_content(content, str(path), path)
    names = classifier.metadata.output_names
    outputs = [names.index("probability") if "probability" in names else 0]
    return _opened_model(classifier, content, outputs, _labelling_facts(classifier))


def graph_of(model: OpenedModel) -> PageGraph:
    """Returns the graph for the interpreter in a page. Raises ModelError for a graph that it cannot compute."""
    opened = model.opened
    return page_graph(TfliteModel(model.content, opened.name), opened.metadata.input_names, model.outputs)


def _opened_model(
    opened: Classifier | QuestionAnswerer, content: bytes, outputs: list[int], facts: dict[str, Any]
) -> OpenedModel:
    metadata = opened.metadata
    settings = metadata.settings or {}
    common = {
        "name": metadata.name or opened.path.stem,
        "bytes": len(content),
        "quantization": settings.get("quantization"),
        "maxLength": opened.max_length,
        "resizable": metadata.resizable,
        "lengthStep": LENGTH_STEP,
    }
    return OpenedModel(opened, content, outputs, {**common, **facts})


def _labelling_facts(classifier: Classifier) -> dict[str, Any]:
    plan = classifier.long_texts
    windows = {"stride": plan.stride, "most": plan.most} if isinstance(plan, WindowPlan) else None
    return {
        "task": "labels" if classifier.thresholds is None else "label-sets",
        "labels": classifier.labels,
        "thresholds": None if classifier.thresholds is None else classifier.thresholds.tolist(),
        "rejectBelow": classifier.reject_below,
        "rejectLabel": classifier.reject_label,
        "columns": list(classifier.text_columns) or ["text"],
        "overflow": "head" if isinstance(plan, WindowPlan) else plan,
        "windows": windows,
    }


def _answering_facts(answerer: QuestionAnswerer) -> dict[str, Any]:
    return {
        "task": "answers",
        "columns": [answerer.question_column, answerer.context_column],
        "stride": answerer.stride,
        "questionLength": answerer.question_length,
        "nullBound": answerer.null_bound,
        "temperature": answerer.temperature,
        "fitsPhones": answerer.fits_phones,
    }


def tokenizer_facts(model: OpenedModel) -> dict[str, Any]:
    """Returns what tokenizers.js reads of a model's tokenizer. Raises ModelError for one that it does not know."""
    name, metadata = model.opened.name, model.opened.metadata
    vocabulary = list(metadata.vocabulary)
    if metadata.tokenizer == "regex":
        pattern = metadata.delimiter_pattern or ""
        if pattern not in _KNOWN_PATTERNS:
            raise ModelError(
                f"{name}: its tokenizer splits words at {pattern!r}, but pages and apps know only the pattern of textclf "
                "and that of Model Maker; train the model with textclf"
            )
        # \x{26} of RE2 is \u{26} in JavaScript.
        return {
            "kind": "regex",
            "vocabulary": vocabulary,
            "pattern": re.sub(r"\\x\{", r"\\u{", pattern).replace(r"\'", "'"),
        }
    return {
        "kind": (metadata.settings or {}).get("tokenizer", "device"),
        "vocabulary": vocabulary,
        "delimiters": device_delimiters(),
        "ideographs": ideographs(),
    }
