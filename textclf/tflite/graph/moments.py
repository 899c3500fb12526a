"""Runs a graph on real rows and returns the means and covariances of the inputs of its products.

They are used to round 4-bit weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from textclf.data.tokens.encoded import Encoded, pad
from textclf.errors import ModelError
from textclf.terminal.native_log import start_litert

# Thousands of tokens, for inputs with at most 512 or 1,024 columns. Windows of questions are long, and the time grows with
# the tokens: the second bound is 256 rows of 128 tokens, the default length of text classification.
# Measured with a shortly trained 4-layer question answerer: with half as many tokens the logits are as exact (an error of
# 0.175 instead of 0.177, root mean square).
_ROWS, _TOKENS = 256, 256 * 128

_LENGTH_STEP = 8

_ROWS_A_PRODUCT = 1024

_THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Moments:
    """The moments of a tensor [rows, columns]: `mean` float64 [columns] and `covariance` float64 [columns, columns]."""

    mean: np.ndarray
    covariance: np.ndarray


class _Sums:
    """Sums up means and products of a tensor's rows, many rows at once: small products are slow on a busy machine.

    Every block is centred before it is multiplied, so that a large mean costs no precision (Chan et al., 1979).
    """

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.mean = np.zeros(columns)
        self.products = np.zeros((columns, columns))
        self._waiting: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        self._waiting.append(values)
        if sum(map(len, self._waiting)) >= _ROWS_A_PRODUCT:
            self._flush()

    def moments(self) -> Moments:
        self._flush()
        return Moments(self.mean, self.products / self.count)

    def _flush(self) -> None:
        if self._waiting:
            values = np.concatenate(self._waiting)
            mean = values.mean(axis=0, dtype=np.float64)
            centred = (values - mean).astype(np.float32)
            count, change = self.count + len(values), mean - self.mean
            self.products += centred.T @ centred + np.outer(change, change) * (self.count * len(values) / count)
            self.mean += change * (len(values) / count)
            self.count = count
            self._waiting = []


def _chosen_rows(lengths: np.ndarray) -> np.ndarray:
    """Returns the numbers of random rows, at most 256 with at most 32,768 tokens together, but at least one."""
    order = np.random.default_rng(0).permutation(len(lengths))[:_ROWS]
    within = int(np.searchsorted(np.cumsum(lengths[order]), _TOKENS, side="right"))
    return np.sort(order[: max(1, within)])


def measure_moments(graph: bytes, outputs: Mapping[str, str], rows: Encoded, max_length: int) -> dict[str, Moments]:
    """Runs some of the rows through a graph that takes ids, mask and segment_ids and can be resized.

    `outputs` says for each name which of the graph's outputs, float32 [tokens, columns], is measured. Raises ModelError
    if the graph computes NaN or infinity.
    """
    start_litert()
    interpreter = Interpreter(model_content=graph, num_threads=_THREADS)
    interpreter.allocate_tensors()
    inputs = [interpreter.get_input_details()[position]["index"] for position in range(3)]
    measured = {
        detail["name"]: (detail["index"], _Sums(int(detail["shape"][-1])))
        for detail in interpreter.get_output_details()
        if detail["name"] in outputs.values()
    }
    # Values that are not finite are reported at the end, with their place.
    with np.errstate(over="ignore", invalid="ignore"):
        chosen = _chosen_rows(rows.lengths)
        # As in classification, a [PAD] follows the last token if there is room.
        lengths = np.minimum(max_length, -(-(rows.lengths[chosen] + 1) // _LENGTH_STEP) * _LENGTH_STEP)
        current = max_length
        for row, length in sorted(zip(chosen.tolist(), lengths.tolist(), strict=True), key=lambda pair: pair[::-1]):
            if length != current:
                for tensor in inputs:
                    interpreter.resize_tensor_input(tensor, [1, length], strict=False)
                interpreter.allocate_tensors()
                current = length
            for tensor, values in zip(inputs, pad(rows, [row], length), strict=True):
                interpreter.set_tensor(tensor, values)
            interpreter.invoke()
            for tensor, sums in measured.values():
                sums.add(interpreter.get_tensor(tensor))
        moments = {name: sums.moments() for name, (_, sums) in measured.items()}
    for name, found in moments.items():
        if not (np.isfinite(found.mean).all() and np.isfinite(found.covariance).all()):
            raise ModelError(
                f"int4 weights cannot be chosen: on training rows the trained model computes NaN or infinity at `{name}`; "
                "export with another export.quantization, or train again with a lower training.learning_rate"
            )
    return {name: moments[output] for name, output in outputs.items()}
