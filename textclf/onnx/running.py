"""Runs an ONNX file on ONNX Runtime: takes token ids and returns the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from textclf import extras
from textclf.data.tokens.encoded import Tokens
from textclf.errors import ModelError


class OnnxModel:
    """An open ONNX file. `num_threads` are those of one call."""

    def __init__(self, content: bytes, num_threads: int = 1) -> None:
        extras.require("onnxruntime", "to run ONNX files")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors; they are raised too
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no public base class
            raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {error}") from error
        self._names = [tensor.name for tensor in self._session.get_inputs()]
        self.outputs = [tensor.name for tensor in self._session.get_outputs()]

    def run(self, tokens: Tokens) -> dict[str, np.ndarray]:
        """Takes ids, mask and segments [rows, length] and returns the outputs by name, float32 [rows, …]."""
        inputs = {name: np.asarray(array, np.int64) for name, array in zip(self._names, tokens, strict=False)}
        try:
            results = self._session.run(self.outputs, inputs)
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot run the model: {error}") from error
        return dict(zip(self.outputs, results, strict=True))
