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
from textclf.tflite.metadata import ModelMetadata, load_model
from textclf.tflite.model_file import TfliteModel

# The patterns of RE2 that mean the same in JavaScript: textclf's own, and that of Model Maker.
_KNOWN_PATTERNS = (DELIMITER_PATTERN, r"[^\w\']+", r"[^\w']+")


@dataclass(frozen=True)
class DemoModel:
    """An open model, its graph for the page, and the facts that models.js and page.js read."""

    opened: Classifier | QuestionAnswerer
    graph: PageGraph
    facts: dict[str, Any]

    @property
    def answers_questions(self) -> bool:
        return isinstance(self.opened, QuestionAnswerer)

    def close(self) -> None:
        self.opened.close()


def open_demo_model(path: Path) -> DemoModel:
    """Opens the model of a page. Raises ModelError for a file that textclf cannot use, and for one that the page cannot
    compute."""
    if path.suffix == ".onnx":
        raise ModelError(f"{path}: is an ONNX file, but the demo computes a .tflite; name the .tflite of the same run")
    content = load_model(path)[1]
    if task_of_model(path).name == QUESTION_ANSWERING:
        answerer = QuestionAnswerer.of_content(content, str(path), path, num_threads=1)
        outputs = SPAN_LOGITS.positions(answerer.metadata)
        return _demo_model(answerer, content, outputs, _answering_facts(answerer))
    classifier = Classifier.of_content(content, str(path), path)
    names = classifier.metadata.output_names
    outputs = [names.index("probability") if "probability" in names else 0]
    return _demo_model(classifier, content, outputs, _labelling_facts(classifier))


def _demo_model(
    opened: Classifier | QuestionAnswerer, content: bytes, outputs: list[int], facts: dict[str, Any]
) -> DemoModel:
    metadata = opened.metadata
    settings = metadata.settings or {}
    common = {
        "name": metadata.name or opened.path.stem,
        "bytes": len(content),
        "quantization": settings.get("quantization"),
        "maxLength": opened.max_length,
        "resizable": metadata.resizable,
        "lengthStep": LENGTH_STEP,
        "tokenizer": _tokenizer_facts(opened.name, metadata),
    }
    graph = page_graph(TfliteModel(content, opened.name), metadata.input_names, outputs)
    return DemoModel(opened, graph, {**common, **facts})


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


def _tokenizer_facts(name: str, metadata: ModelMetadata) -> dict[str, Any]:
    vocabulary = list(metadata.vocabulary)
    if metadata.tokenizer == "regex":
        pattern = metadata.delimiter_pattern or ""
        if pattern not in _KNOWN_PATTERNS:
            raise ModelError(
                f"{name}: its tokenizer splits words at {pattern!r}, but the demo knows only the pattern of textclf and "
                "that of Model Maker; train the model with textclf"
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
