"""Writes the graph of averaged words for devices: takes trained vectors and a head, and returns a `.tflite` without
metadata.

It uses old operations only, so it also runs in the Task Library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from textclf.data.tokens.encoded import Encoded
from textclf.encoders.average_words import VECTORS, WordVectors
from textclf.errors import ModelError
from textclf.tflite.graph.builder import GraphBuilder
from textclf.tflite.graph.classification import PROBABILITIES
from textclf.tflite.graph.outputs import GraphOutputs
from textclf.tflite.graph.rounding import quantize_rows, require_finite_weights
from textclf.tflite.runtimes import Compatibility

WordQuantization = Literal["none", "float16", "dynamic"]


@dataclass(frozen=True)
class AverageWordsWeights:
    """A trained model: `vectors` float32 [words, width], `rows` int32 [spellings] (which vector a word id has), the head,
    and what is made of its logits, mean @ head_kernel + head_bias."""

    vectors: np.ndarray
    rows: np.ndarray
    head_kernel: np.ndarray
    head_bias: np.ndarray
    outputs: GraphOutputs = PROBABILITIES

    @classmethod
    def of(
        cls, encoder: WordVectors, head_kernel: np.ndarray, head_bias: np.ndarray, outputs: GraphOutputs
    ) -> AverageWordsWeights:
        return cls(encoder.weights[VECTORS], encoder.rows, head_kernel, head_bias, outputs)

    def graph(self, max_length: int, quantization: str, compatibility: Compatibility, rows: Encoded | None) -> bytes:
        """The same for every runtime. A recipe of averaged words cannot ask for int4."""
        return build_average_words_graph(self, max_length, cast(WordQuantization, quantization))


def build_average_words_graph(weights: AverageWordsWeights, max_length: int, quantization: WordQuantization) -> bytes:
    """`input_text` (int32 [1, max_length], word ids, padded with 0) → the task's outputs, `probability` (float32
    [1, classes]) of text classification.

    The vectors are stored as float32, as float16, or as int8 with a scale for each word; the head is float32. The file
    stays correct when a runtime resizes the input. Raises ModelError for weights that are NaN or infinite.
    """
    require_finite_weights(
        {"word_vectors": weights.vectors, "head/kernel": weights.head_kernel, "head/bias": weights.head_bias}
    )
    graph = GraphBuilder()
    ids = graph.reshape("words/ids", graph.input("input_text", [1, max_length]), [-1])
    rows = graph.gather("words/rows", graph.constant("words/row_of_id", weights.rows), ids)
    # <PAD> adds nothing to the sum.
    table = np.concatenate([np.zeros_like(weights.vectors[:1]), weights.vectors[1:]])
    total = _sum(graph, "words/sum", _vectors(graph, table, rows, quantization))
    # 0 for <PAD>, 1 for everything else.
    counted = graph.binary("words/counted", "MINIMUM", ids, graph.small_constant([1]))
    column = graph.reshape("words/counted_column", graph.cast("words/counted_float", counted), [-1, 1])
    mean = graph.binary("words/mean", "DIV", total, _sum(graph, "words/count", column))
    inputs = [
        mean,
        graph.constant("head/kernel", np.ascontiguousarray(weights.head_kernel.T, np.float32)),
        graph.constant("head/bias", np.asarray(weights.head_bias, np.float32)),
    ]
    shape = [1, len(weights.head_bias)]
    logits = graph.op("head", "FULLY_CONNECTED", inputs, shape, options={})
    kind = weights.outputs.kind
    return graph.finish(weights.outputs.add(graph, logits), f"{kind[:1].upper()}{kind[1:]} of averaged word vectors")


def _sum(graph: GraphBuilder, name: str, tensor: int) -> int:
    """[rows, columns] → [1, columns]."""
    inputs = [tensor, graph.small_constant([0])]
    return graph.op(name, "SUM", inputs, [1, graph.shape(tensor)[1]], options={"keepDims": True})


def _vectors(graph: GraphBuilder, table: np.ndarray, rows: int, quantization: WordQuantization) -> int:
    """Vectors of the rows, float32 [length, width]."""
    if quantization == "none":
        return graph.gather("words/vectors", graph.constant("words/table", table), rows)
    if quantization == "float16":
        if not float(np.abs(table).max()) <= float(np.finfo(np.float16).max):
            raise ModelError("a word vector is beyond the range of float16; export with quantization dynamic or none")
        stored = graph.constant("words/table", table.astype(np.float16))
        return graph.gather("words/vectors", graph.dequantized("words/table_float", stored), rows)
    values, scales = quantize_rows(table)
    gathered = graph.gather("words/values", graph.constant("words/table", values, scale=1.0), rows)
    scale_rows = graph.gather("words/scale_rows", graph.constant("words/scales", scales[:, None]), rows)
    return graph.binary("words/vectors", "MUL", graph.dequantized("words/floats", gathered), scale_rows)
