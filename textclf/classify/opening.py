"""Opens the file of a model: a `.tflite`, which LiteRT runs, or an ONNX file of textclf, which ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from textclf.classify.interpreters import PROBABILITIES, Outputs, Runner, check_model_runs, is_question_answerer
from textclf.data.tokens.encoded import Tokens
from textclf.onnx import reading as onnx
from textclf.onnx.running import OnnxRunner
from textclf.tflite.metadata import ModelMetadata, load_model, read_metadata

CheckUnderstood: TypeAlias = Callable[[str, ModelMetadata], None]
"""Raises ModelError unless the metadata of the model of this name describe one of the task."""


class AnyRunner(Protocol):
    """A model on one core. `Runner` is that of LiteRT."""

    max_length: int

    @property
    def seconds(self) -> float:
        """The time spent inside the runtime so far."""

    def run(self, tokens: Tokens) -> np.ndarray:
        """Takes one row and returns its outputs: probabilities float32 [1, labels] of a text classifier."""


def content_of(path: Path) -> bytes:
    """Returns the bytes of a model, by the ending of its name. Raises ModelError for a file that cannot be read."""
    return onnx.read_file(path) if path.suffix == ".onnx" else load_model(path)[1]


def answers_questions(name: str, content: bytes) -> bool:
    """Returns whether a model answers questions, rather than classifies texts. Raises ModelError for any other file."""
    return is_question_answerer(
        onnx.metadata_of(content, name) if onnx.is_onnx(content) else read_metadata(content, name)
    )


def metadata_of_content(name: str, content: bytes, check_understood: CheckUnderstood) -> ModelMetadata:
    """Returns the metadata of a model. `name` is that of the model in messages.

    Raises ModelError for any other file, and for one that would harm this process.
    """
    is_onnx = onnx.is_onnx(content)
    metadata = onnx.metadata_of(content, name) if is_onnx else read_metadata(content, name)
    check_understood(name, metadata)
    if not is_onnx:
        check_model_runs(name, content, metadata)
    return metadata


def new_runner(name: str, content: bytes, metadata: ModelMetadata, outputs: Outputs = PROBABILITIES) -> AnyRunner:
    """Returns a new runner of a model whose metadata were checked. Raises ModelError for one that cannot run."""
    if onnx.is_onnx(content):
        return _OnnxOutputs(name, content, metadata, outputs)
    return Runner(name, content, metadata, outputs)


class _OnnxOutputs:
    """An ONNX model whose outputs are joined as those of LiteRT are."""

    def __init__(self, name: str, content: bytes, metadata: ModelMetadata, outputs: Outputs) -> None:
        names = [metadata.output_names[place] for place in outputs.positions(metadata)]
        self._runner = OnnxRunner(name, content, metadata, names)
        self._outputs = outputs
        self.max_length = self._runner.max_length

    @property
    def seconds(self) -> float:
        return self._runner.seconds

    def run(self, tokens: Tokens) -> np.ndarray:
        return self._outputs.joined(self._runner.run(tokens))
