"""Products of rows with weights, in the three forms of weights that ONNX files have.

With 8-bit weights, the rows are rounded to 8 bits too, each with a scale of its own, as LiteRT does it. ONNX's
DynamicQuantizeLinear has one scale for the whole tensor; measured on MobileBERTs, that changes several times as many
labels. Both factors are stored as uint8 with the zero point 128: with int8 weights, processors without instructions for
8-bit products saturate sums of two products, and their results differ silently.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from textclf.errors import ModelError
from textclf.onnx.builder import OnnxBuilder
from textclf.tflite.graph.rounding import quantize_rows, require_finite_weights

OnnxForm = Literal["none", "float16", "dynamic"]
"""The weights: float32, float16, or 8 bits with a scale for each output."""

_ZERO = 128

_SMALLEST_SCALE = 1e-30


class _Rounded(NamedTuple):
    """Rows as values · scales + least: tensors uint8 […, width], float32 […, 1] and, unless it is 0, float32 […, 1]."""

    values: str
    scales: str
    least: str | None


class Products:
    """Adds products to a graph. A tensor that several products read is rounded once."""

    def __init__(self, graph: OnnxBuilder, form: OnnxForm) -> None:
        self.form = form
        self._graph = graph
        self._rounded: dict[str, _Rounded] = {}
        self._not_negative: set[str] = set()

    def dense(
        self, name: str, rows: str, kernel: np.ndarray, bias: np.ndarray, *, relu: bool = False, exact: bool = False
    ) -> str:
        """[…, inputs] → […, outputs] for a kernel [inputs, outputs]; with `exact`, the weights stay float32."""
        kernel, bias = np.ascontiguousarray(kernel, np.float32), np.asarray(bias, np.float32)
        # The folded product of two finite numbers may not be finite.
        require_finite_weights({f"{name}/kernel": kernel, f"{name}/bias": bias})
        product = self._product(name, rows, kernel, "none" if exact else self.form)
        biased = self._graph.op(f"{name}/biased", "Add", [product, self._graph.constant(f"{name}/bias", bias)])
        if not relu:
            return str(biased)
        result = str(self._graph.op(f"{name}/relu", "Relu", [biased]))
        self._not_negative.add(result)
        return result

    def table(self, name: str, values: np.ndarray, ids: str) -> str:
        """Adds the rows of a table [entries, width] that the ids name: ids […] → float32 […, width]."""
        graph = self._graph
        if self.form == "none":
            return str(graph.op(name, "Gather", [graph.constant(f"{name}/table", values), ids]))
        if self.form == "float16":
            stored = graph.constant(f"{name}/table", _as_float16(name, values))
            return graph.cast(name, graph.op(f"{name}/float16", "Gather", [stored, ids]), "float32")
        rounded, scales = quantize_rows(values)
        found = graph.op(f"{name}/values", "Gather", [graph.constant(f"{name}/table", rounded), ids])
        scale_rows = graph.op(f"{name}/scale_rows", "Gather", [graph.constant(f"{name}/scales", scales[:, None]), ids])
        return str(graph.op(name, "Mul", [graph.cast(f"{name}/floats", found, "float32"), scale_rows]))

    def _product(self, name: str, rows: str, kernel: np.ndarray, form: OnnxForm) -> str:
        graph = self._graph
        if form == "none":
            return str(graph.op(name, "MatMul", [rows, graph.constant(f"{name}/kernel", kernel)]))
        if form == "float16":
            stored = graph.constant(f"{name}/kernel", _as_float16(name, kernel))
            return str(graph.op(name, "MatMul", [rows, graph.cast(f"{name}/kernel_float", stored, "float32")]))
        values, scales = quantize_rows(np.ascontiguousarray(kernel.T))
        shifted = (np.ascontiguousarray(values.T).astype(np.int16) + _ZERO).astype(np.uint8)
        weights, zero = graph.constant(f"{name}/kernel", shifted), graph.small(_ZERO, np.uint8)
        rounded = self._rounded_rows(rows)
        sums = graph.op(f"{name}/sums", "MatMulInteger", [rounded.values, weights, graph.small(0, np.uint8), zero])
        scaled = graph.op(f"{name}/scaled", "Mul", [graph.cast(f"{name}/float_sums", sums, "float32"), rounded.scales])
        if rounded.least is not None:
            totals = graph.constant(f"{name}/totals", values.sum(axis=1, dtype=np.float32))
            scaled = graph.op(
                f"{name}/moved", "Add", [scaled, graph.op(f"{name}/least", "Mul", [rounded.least, totals])]
            )
        return str(graph.op(name, "Mul", [scaled, graph.constant(f"{name}/scales", scales)]))

    def _rounded_rows(self, rows: str) -> _Rounded:
        """Rounds float32 […, width] to 255 steps between the least and the largest number of each row."""
        graph = self._graph
        if rows not in self._rounded:
            least = None
            moved = rows
            if rows not in self._not_negative:
                least = str(graph.op(f"{rows}/least", "ReduceMin", [rows, graph.small([-1])], keepdims=1))
                moved = graph.op(f"{rows}/moved", "Sub", [rows, least])
            largest = graph.op(f"{rows}/largest", "ReduceMax", [moved, graph.small([-1])], keepdims=1)
            share = graph.op(f"{rows}/share", "Mul", [largest, graph.small([1 / 255], np.float32)])
            scale = graph.op(f"{rows}/scale", "Max", [share, graph.small([_SMALLEST_SCALE], np.float32)])
            steps = graph.op(f"{rows}/steps", "Round", [graph.op(f"{rows}/ratio", "Div", [moved, scale])])
            self._rounded[rows] = _Rounded(graph.cast(f"{rows}/rounded", steps, "uint8"), str(scale), least)
        return self._rounded[rows]


def _as_float16(name: str, values: np.ndarray) -> np.ndarray:
    largest = float(np.abs(values).max())
    if not largest <= float(np.finfo(np.float16).max):
        raise ModelError(f"{name} holds {largest:.3g}, which float16 cannot; export with quantization dynamic or none")
    return values.astype(np.float16)
