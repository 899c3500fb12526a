"""Writes the graph of averaged words for ONNX runtimes: takes trained vectors and a head, and returns an ONNX model."""

from __future__ import annotations

import numpy as np
import onnx

from textclf.onnx.builder import OnnxBuilder
from textclf.onnx.outputs import add_outputs
from textclf.onnx.products import OnnxForm, Products
from textclf.tflite.graph.average_words import AverageWordsWeights
from textclf.tflite.graph.rounding import require_finite_weights

INPUTS = ("input_ids",)


def average_words_graph(weights: AverageWordsWeights, form: OnnxForm) -> onnx.ModelProto:
    """Returns a model whose input is int64 [batch, length]: word ids, padded with 0. The head is float32."""
    require_finite_weights({"word_vectors": weights.vectors})
    graph = OnnxBuilder()
    products = Products(graph, form)
    ids = graph.input(INPUTS[0])
    rows = graph.op("words/rows", "Gather", [graph.constant("words/row_of_id", weights.rows.astype(np.int64)), ids])
    # <PAD> adds nothing to the sum.
    table = np.concatenate([np.zeros_like(weights.vectors[:1]), weights.vectors[1:]])
    vectors = products.table("words/vectors", table, rows)
    total = graph.op("words/sum", "ReduceSum", [vectors, graph.small([1])], keepdims=0)
    # 0 for <PAD>, 1 for everything else.
    counted = graph.cast("words/counted", graph.op("words/some", "Min", [ids, graph.small([1])]), "float32")
    count = graph.op("words/count", "ReduceSum", [counted, graph.small([1])], keepdims=1)
    mean = str(graph.op("words/mean", "Div", [total, count]))
    logits = products.dense("head", mean, weights.head_kernel, weights.head_bias, exact=True)
    outputs = weights.outputs
    shapes = add_outputs(graph, outputs, logits, len(weights.head_bias))
    return graph.finish(shapes, f"{outputs.kind[:1].upper()}{outputs.kind[1:]} of averaged word vectors")
