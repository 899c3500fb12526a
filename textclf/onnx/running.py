"""Runs an ONNX file on ONNX Runtime: takes token ids and returns the outputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    """An ONNX model of textclf on one core. `outputs` are the names of those that its task needs, in their order."""

    def __init__(self, name: str, content: bytes, metadata: ModelMetadata, outputs: Sequence[str]) -> None:
        self._model = OnnxModel(content, name)
        length = (metadata.settings or {}).get("max_length")
        if length is None or not set(outputs) <= set(self._model.outputs):
            raise ModelError(
                f"{name}: has the outputs {', '.join(self._model.outputs)} and the length {length}; expected a length and the "
                f"outputs {', '.join(outputs)}"
            )
        self.max_length: int = length
        self._outputs = outputs
        self._labels = len(metadata.labels)
        self.seconds = 0.0

    def run(self, tokens: Tokens) -> list[np.ndarray]:
        """Takes one row and returns its outputs: float32 [1, labels], or [1, length] if the model has no labels."""
        begun = time.perf_counter()
        found = self._model.run(tokens)
        results = [found[name] for name in self._outputs]
        shape = (1, self._labels or tokens.ids.shape[1])
        for result in results:
            if result.shape != shape or result.dtype != np.float32:
                raise ModelError(
                    f"{self._model.name}: an output is {result.dtype} {list(result.shape)}, expected float32 {list(shape)}"
                )
        self.seconds += time.perf_counter() - begun
        return results


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
