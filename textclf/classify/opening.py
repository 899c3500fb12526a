"""Opens the file of a text classifier: a `.tflite`, which LiteRT runs, or an ONNX file of textclf, which ONNX Runtime runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from textclf.classify.interpreters import Runner, check_model_runs, check_understood
from textclf.data.tokens.encoded import Tokens
from textclf.onnx import reading as onnx
from textclf.onnx.running import OnnxRunner
from textclf.tflite.metadata import ModelMetadata, load_model, read_metadata


class AnyRunner(Protocol):
    """A model on one core. `Runner` is that of LiteRT."""

    seconds: float
    max_length: int

    def run(self, tokens: Tokens) -> np.ndarray:
        """Takes one row and returns its outputs: probabilities float32 [1, labels] of a text classifier."""


def content_of(path: Path) -> bytes:
    """Returns the bytes of a model, by the ending of its name. Raises ModelError for a file that cannot be read."""
    return onnx.read_file(path) if path.suffix == ".onnx" else load_model(path)[1]


def metadata_of_content(name: str, content: bytes) -> ModelMetadata:
    """Returns the metadata of a text classifier. `name` is that of the model in messages.

    Raises ModelError for any other file, and for one that would harm this process.
    """
    is_onnx = onnx.is_onnx(content)
    metadata = onnx.metadata_of(content, name) if is_onnx else read_metadata(content, name)
    check_understood(name, metadata)
    if not is_onnx:
        check_model_runs(name, content, metadata)
    return metadata


def new_runner(name: str, content: bytes, metadata: ModelMetadata) -> AnyRunner:
    """Returns a new runner of a model whose metadata were checked. Raises ModelError for one that cannot run."""
    if onnx.is_onnx(content):
        return OnnxRunner(name, content, metadata)
    return Runner(name, content, metadata)
