"""The whole ONNX file of a model: the graph of its encoder, and labels, vocabulary and settings as the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from textclf.errors import ModelError
from textclf.onnx.average_words import average_words_graph
from textclf.onnx.mobilebert import mobilebert_graph
from textclf.onnx.products import OnnxForm
from textclf.onnx.reading import DELIMITERS, LABELS, LARGEST_FILE, VOCABULARY, read_metadata
from textclf.tflite.graph.average_words import AverageWordsWeights
from textclf.tflite.graph.mobilebert import ClassifierWeights
from textclf.tflite.graph.weights import InferenceWeights
from textclf.tflite.settings import SETTINGS_FILE

FORMS = ("none", "float16", "dynamic")

"""The forms of weights, as `export.quantization` names them."""


def write_model(
    weights: InferenceWeights,
    max_length: int,
    quantization: str,
    *,
    name: str,
    vocabulary: Sequence[str],
    labels: Sequence[str],
    settings: Mapping[str, Any],
    delimiter_pattern: str | None = None,
) -> bytes:
    """Returns the ONNX file of a trained model for texts of up to `max_length` tokens, the same bytes for the same model.

    `settings` say how textclf uses it; `delimiter_pattern` separates the words of averaged words. Raises ModelError for what
    cannot be written: 4-bit weights, weights beyond the range of float16, weights that are NaN or infinite.
    """
    if quantization not in FORMS:
        raise ModelError(f"ONNX files have no {quantization} weights; export with quantization={', '.join(FORMS)}")
    model = _graph(weights, max_length, quantization)  # type: ignore[arg-type]
    model.graph.name = name
    facts = {
        SETTINGS_FILE: json.dumps({**settings, "max_length": max_length}, ensure_ascii=False, sort_keys=True),
        LABELS: json.dumps(list(labels), ensure_ascii=False),
        VOCABULARY: "".join(f"{entry}\n" for entry in vocabulary),
    }
    if delimiter_pattern is not None:
        facts[DELIMITERS] = delimiter_pattern
    onnx.helper.set_model_props(model, facts)
    if (size := model.ByteSize()) > LARGEST_FILE:
        raise ModelError(
            f"the ONNX file would have {size:,} bytes, more than ONNX allows; export with quantization=dynamic"
        )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _graph(weights: InferenceWeights, max_length: int, form: OnnxForm) -> onnx.ModelProto:
    if isinstance(weights, ClassifierWeights):
        return mobilebert_graph(weights, max_length, form)
    assert isinstance(weights, AverageWordsWeights)
    return average_words_graph(weights, form)


def is_ours(path: Path) -> bool:
    """Returns whether a file is an ONNX model that textclf wrote."""
    try:
        return bool(read_metadata(path))
    except ModelError:
        return False
