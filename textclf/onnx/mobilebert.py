"""Writes the graph of a MobileBERT for ONNX runtimes: takes a trained model's weights and returns an ONNX model.

The inputs are int64 [batch, length]: `input_ids`, `attention_mask` and `token_type_ids`, as in other BERTs. Any number of
texts of any length up to the model's is computed at once. A NoNorm is folded into the product before it.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from textclf.encoders.formats.arrays import dominant_diagonal
from textclf.onnx.builder import OnnxBuilder
from textclf.onnx.outputs import add_outputs
from textclf.onnx.products import OnnxForm, Products
from textclf.tflite.graph.mobilebert import ClassifierWeights
from textclf.tflite.graph.rounding import balance_encoder

# The end of every axis, as Slice writes it.
_END = 2**31 - 1

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def mobilebert_graph(weights: ClassifierWeights, max_length: int, form: OnnxForm) -> onnx.ModelProto:
    """Returns the model for texts of up to `max_length` tokens. Raises ModelError for weights that cannot be written."""
    # The check of the result reports a product that overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        return _MobileBertGraph(weights, max_length, form).build()


class _MobileBertGraph:
    """The state of the construction."""

    def __init__(self, weights: ClassifierWeights, max_length: int, form: OnnxForm) -> None:
        self.graph = OnnxBuilder()
        self.products = Products(self.graph, form)
        self.weights, self.config, self.max_length = weights, weights.config, max_length
        self.first_rows: dict[str, str] = {}
        self.arrays = balance_encoder(self.config, weights.encoder) if form == "dynamic" else weights.encoder

    def build(self) -> onnx.ModelProto:
        graph, outputs = self.graph, self.weights.outputs
        ids, mask, segments = (graph.input(name) for name in INPUTS)
        offset, factor = self._mask(mask)
        states = self._embed(ids, segments)
        last = self.config.num_hidden_layers - 1
        for layer in range(self.config.num_hidden_layers):
            only_first = layer == last and not outputs.every_token
            states = self._layer(f"encoder/layer_{layer}", states, offset, factor, only_first=only_first)
        logits = self._token_logits(states) if outputs.every_token else self._text_logits(states)
        shapes = add_outputs(graph, outputs, logits, len(self.weights.head_bias))
        return graph.finish(shapes, f"MobileBERT {outputs.kind}")

    def _text_logits(self, states: str) -> str:
        """[batch, 1, hidden] → [batch, columns of the head]."""
        pooled = str(self.graph.op("pooled", "Squeeze", [states, self.graph.small([1])]))
        if self.config.classifier_activation:
            pooled = str(self.graph.op("pooler/tanh", "Tanh", [self._dense("pooler", pooled, "pooler/dense")]))
        return self._head("head", pooled, self.weights.head_kernel, self.weights.head_bias)

    def _token_logits(self, states: str) -> str:
        """[batch, length, hidden] → [batch, length, columns of the head]."""
        graph, weights = self.graph, self.weights
        logits = self._head("head", states, weights.head_kernel, weights.head_bias)
        if weights.first_token_head is None:
            return logits
        first = self._head("head/first", self._first(states), *weights.first_token_head)
        return str(graph.op("head/all", "Concat", [first, graph.between("head/rest", logits, 1, _END, 1)], axis=1))

    def _head(self, name: str, states: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Adds the head. It has a few thousand numbers and decides every prediction, so it stays float32."""
        return self.products.dense(name, states, kernel, bias, exact=True)

    def _first(self, states: str) -> str:
        """[batch, length, width] → [batch, 1, width]."""
        if states not in self.first_rows:
            self.first_rows[states] = self.graph.between(f"{states}/first", states, 0, 1, axis=1)
        return self.first_rows[states]

    # --- Weights -----------------------------------------------------------------------------------------------------
    def _weights(self, dense: str, norm: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of a dense layer, with the NoNorm after it: gamma·(x W + b) + beta."""
        kernel, bias = self.arrays[f"{dense}/kernel"], self.arrays[f"{dense}/bias"]
        if norm is None:
            return kernel, bias
        gamma, beta = self._norm(norm)
        return kernel * gamma, bias * gamma + beta

    def _norm(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self.arrays[f"{name}/FakeLayerNorm/gamma"], self.arrays[f"{name}/FakeLayerNorm/beta"]

    def _dense(self, name: str, rows: str, dense: str, norm: str | None = None, *, relu: bool = False) -> str:
        return self._product(name, rows, *self._weights(dense, norm), relu=relu)

    def _product(self, name: str, rows: str, kernel: np.ndarray, bias: np.ndarray, *, relu: bool = False) -> str:
        """Adds a product. With 8 bits, a diagonal far above the other weights is multiplied separately."""
        diagonal = dominant_diagonal(kernel) if self.products.form == "dynamic" and not relu else None
        if diagonal is None:
            return self.products.dense(name, rows, kernel, bias, relu=relu)
        rest = self.products.dense(f"{name}/rest", rows, kernel - np.diag(diagonal), bias)
        scale = self.graph.constant(f"{name}/diagonal", np.asarray(diagonal, np.float32))
        return str(self.graph.op(name, "Add", [rest, self.graph.op(f"{name}/scaled", "Mul", [rows, scale])]))

    # --- Embeddings --------------------------------------------------------------------------------------------------
    def _mask(self, mask: str) -> tuple[str, str | None]:
        """[batch, length] of ones and zeros → what is added to scores, and what they are multiplied by,
        [batch, 1, 1, length]."""
        graph, additive = self.graph, self.weights.mask_convention == "additive"
        factor = graph.op("mask/factor", "Unsqueeze", [graph.cast("mask/float", mask, "float32"), graph.small([1, 2])])
        amount = graph.small([10000.0 if additive else 6.0], np.float32)
        offset = graph.op("mask/offset", "Sub", [graph.op("mask/scaled", "Mul", [factor, amount]), amount])
        return str(offset), None if additive else str(factor)

    def _embed(self, ids: str, segments: str) -> str:
        """[batch, length] → states [batch, length, hidden]. Each token is read with the one after and the one before it,
        which are zeros beyond the ends."""
        graph, name = self.graph, "embeddings"
        words = self.products.table(f"{name}/words", self.arrays[f"{name}/word_embeddings"], ids)
        padded = graph.op(f"{name}/padded", "Pad", [words, graph.small([0, 1, 0, 0, 1, 0])])
        following = graph.between(f"{name}/following", padded, 2, _END, axis=1)
        previous = graph.between(f"{name}/previous", padded, 0, -2, axis=1)
        trigrams = graph.op(f"{name}/trigrams", "Concat", [following, words, previous], axis=2)
        states = self._dense(f"{name}/transformation", trigrams, f"{name}/embedding_transformation", name)
        gamma, _ = self._norm(name)
        table = graph.constant(f"{name}/segment_table", self.arrays[f"{name}/token_type_embeddings"] * gamma)
        of_segments = graph.op(f"{name}/segments", "Gather", [table, segments])
        states = graph.op(f"{name}/with_segments", "Add", [states, of_segments])
        positions = graph.constant(
            f"{name}/position_table", self.arrays[f"{name}/position_embeddings"][: self.max_length] * gamma
        )
        length = graph.op(f"{name}/length", "Shape", [ids], start=1, end=2)
        of_positions = graph.between(f"{name}/positions", positions, 0, length, axis=0)
        return str(graph.op(f"{name}/states", "Add", [states, of_positions]))

    # --- Layers ------------------------------------------------------------------------------------------------------
    def _layer(self, prefix: str, states: str, offset: str, factor: str | None, *, only_first: bool) -> str:
        """[batch, length, hidden] → the same, or with `only_first` [batch, 1, hidden]."""
        stream = self._first(states) if only_first else states
        layer_input, query, key, value = self._attention_inputs(prefix, states, stream)
        context = self._attention(prefix, query, key, value, offset, factor)
        output = f"{prefix}/attention/output"
        narrow = self._residual(output, context, f"{output}/dense", layer_input)
        networks = [f"{prefix}/ffn_layer_{number}" for number in range(self.config.num_feedforward_networks - 1)]
        for network in [*networks, prefix]:
            inner = self._dense(f"{network}/intermediate", narrow, f"{network}/intermediate/dense", relu=True)
            narrow = self._residual(f"{network}/output", inner, f"{network}/output/dense", narrow)
        name = f"{prefix}/output/bottleneck"
        return self._residual(name, narrow, f"{name}/dense", stream)

    def _residual(self, name: str, rows: str, dense: str, residual: str) -> str:
        """gamma·(rows W + b + residual) + beta."""
        gamma, _ = self._norm(name)
        scale = self.graph.constant(f"{name}/gamma", np.asarray(gamma, np.float32))
        scaled = self.graph.op(f"{name}/scaled_residual", "Mul", [residual, scale])
        return str(self.graph.op(f"{name}/sum", "Add", [self._dense(name, rows, dense, name), scaled]))

    def _attention_inputs(self, prefix: str, states: str, stream: str) -> tuple[str, str, str, str]:
        """Returns the bottleneck's layer input, and query, key and value, each [batch, …, intra_bottleneck_size].

        The score's factor 1/√head_size is folded into the query.
        """
        config, attention, bottleneck = self.config, f"{prefix}/attention/self", f"{prefix}/bottleneck"
        scale = 1.0 / math.sqrt(config.intra_bottleneck_size / config.num_attention_heads)
        query_weights = [array * scale for array in self._weights(f"{attention}/query")]
        if config.use_bottleneck_attention:
            narrow = self._dense(f"{bottleneck}/input", states, f"{bottleneck}/input/dense", f"{bottleneck}/input")
            of_query = of_key = of_value = narrow
            layer_input = narrow if states == stream else self._first(narrow)
        else:
            layer_input = self._dense(f"{bottleneck}/input", stream, f"{bottleneck}/input/dense", f"{bottleneck}/input")
            of_query = of_key = of_value = states
            if config.key_query_shared_bottleneck:
                name = f"{bottleneck}/attention"
                of_query = of_key = self._dense(name, states, f"{name}/dense", name)
        if states != stream:
            of_query = self._first(of_query)
        query = self._product(f"{attention}/query", of_query, query_weights[0], query_weights[1])
        key = self._dense(f"{attention}/key", of_key, f"{attention}/key")
        return layer_input, query, key, self._dense(f"{attention}/value", of_value, f"{attention}/value")

    def _attention(self, prefix: str, query: str, key: str, value: str, offset: str, factor: str | None) -> str:
        graph, heads, width = self.graph, self.config.num_attention_heads, self.config.intra_bottleneck_size

        def by_heads(rows: str, order: list[int]) -> str:
            split = graph.reshape(f"{rows}/split", rows, [0, 0, heads, width // heads])
            return str(graph.op(f"{rows}/heads", "Transpose", [split], perm=order))

        queries, keys, values = (
            by_heads(query, [0, 2, 1, 3]),
            by_heads(key, [0, 2, 3, 1]),
            by_heads(value, [0, 2, 1, 3]),
        )
        scores = graph.op(f"{prefix}/scores", "MatMul", [queries, keys])
        if factor is not None:
            scores = graph.op(f"{prefix}/scores/factor", "Mul", [scores, factor])
        scores = graph.op(f"{prefix}/scores/masked", "Add", [scores, offset])
        weights = graph.op(f"{prefix}/attention/weights", "Softmax", [scores], axis=-1)
        context = graph.op(f"{prefix}/context", "MatMul", [weights, values])
        rows = graph.op(f"{prefix}/context/rows", "Transpose", [context], perm=[0, 2, 1, 3])
        return graph.reshape(f"{prefix}/context/merged", rows, [0, 0, width])
