"""Runs an ONNX file on ONNX Runtime: takes token ids and returns the outputs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from textclf import extras
from textclf.data.tokens.encoded import Tokens
from textclf.errors import ModelError
from textclf.tflite.metadata import ModelMetadata


class OnnxModel:
    """An open ONNX file, which runs on one thread. `name` is its name in messages."""

    def __init__(self, content: bytes, name: str = "the model") -> None:
        extras.require("onnxruntime", "to run ONNX files")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors; they are raised too
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no public base class
            raise ModelError(
                f"{name}: ONNX Runtime {onnxruntime.__version__} cannot load it: {_short(error)}"
            ) from error
        self.name = name
        self.inputs = [tensor.name for tensor in self._session.get_inputs()]
        self.outputs = [tensor.name for tensor in self._session.get_outputs()]

    def run(self, tokens: Tokens) -> dict[str, np.ndarray]:
        """Takes ids, mask and segments [rows, length] and returns the outputs by name, float32 [rows, …]."""
        inputs = {name: np.asarray(array, np.int64) for name, array in zip(self.inputs, tokens, strict=False)}
        try:
            results = self._session.run(self.outputs, inputs)
        except Exception as error:
            raise ModelError(f"{self.name}: ONNX Runtime cannot run it: {_short(error)}") from error
        return dict(zip(self.outputs, results, strict=True))


class OnnxRunner:
    """An ONNX text classifier on one core."""

    def __init__(self, name: str, content: bytes, metadata: ModelMetadata) -> None:
        self._model = OnnxModel(content, name)
        length = (metadata.settings or {}).get("max_length")
        if length is None or "probability" not in self._model.outputs:
            raise ModelError(f"{name}: is not an ONNX text classifier of textclf: it has no length or no probabilities")
        self.max_length: int = length
        self._labels = len(metadata.labels)
        self.seconds = 0.0

    def run(self, tokens: Tokens) -> np.ndarray:
        """Takes one row and returns its probabilities, float32 [1, labels]."""
        begun = time.perf_counter()
        result = self._model.run(tokens)["probability"]
        if result.shape != (1, self._labels) or result.dtype != np.float32:
            raise ModelError(
                f"{self._model.name}: its output is {result.dtype} {list(result.shape)}, expected float32 [1, {self._labels}]"
            )
        self.seconds += time.perf_counter() - begun
        return result


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
