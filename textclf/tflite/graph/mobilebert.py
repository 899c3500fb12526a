"""Writes the graph for devices: takes a trained classifier's weights and returns a `.tflite` model without metadata.

Every product has rank 2, so that it becomes FULLY_CONNECTED. A NoNorm is folded into the product before it. Products
that read the same tensor are merged. The graph is written for one text of `max_length` tokens and stays correct when a
runtime resizes the three inputs to a shorter length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from textclf.data.tokens.encoded import Encoded
from textclf.encoders.checkpoint import EncoderCheckpoint, MaskConvention, MobileBertConfig
from textclf.encoders.formats.arrays import dominant_diagonal
from textclf.errors import ModelError
from textclf.tflite.graph.builder import GraphBuilder
from textclf.tflite.graph.classification import PROBABILITIES
from textclf.tflite.graph.moments import Moments, measure_moments
from textclf.tflite.graph.outputs import GraphOutputs
from textclf.tflite.graph.rounding import (
    balance_encoder,
    quantize_rows,
    quantize_rows_for_inputs,
    quantize_rows_to_4_bits,
    require_finite_weights,
)
from textclf.tflite.runtimes import Compatibility

# The largest ratio of the scales of a tensor's columns. A row shares eight bits, and a column that is stored larger
# than its influence takes bits from the others.
_LARGEST_SPREAD = 4.0

# These few weights are used for every token: 4 bits would save little and cost much accuracy.
_EIGHT_BITS_ALWAYS = ("embeddings/", "pooler")

# The number of tokens whose vectors get another 4 bits, 68 bytes each. They cover at least three of four tokens of a
# text.
_REFINED_PIECES = 1024

Quantization = Literal["none", "float16", "dynamic", "int4"]
"""The weights of products and the word vectors: float32, float16, int8, or int4. In every form a runtime
computes with floats between products. For int8 and int4 weights it rounds the input of each product to 8 bits."""

# FULLY_CONNECTED with 8-bit weights: with a scale for each output, and the last version with one scale that rounds its
# inputs asymmetrically (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc).
_VERSION_SCALES = 12

_VERSION_ONE_SCALE = 9


@dataclass(frozen=True)
class ClassifierWeights:
    """A trained model: the encoder's arrays by checkpoint name, the head, and what is made of its logits,
    pooled_output @ head_kernel + head_bias; float32 [hidden, columns] and [columns].

    Outputs for every token have the logits sequence_output @ head_kernel + head_bias. `first_token_head` is the kernel and
    the bias for the first token, if they differ.
    """

    config: MobileBertConfig
    encoder: Mapping[str, np.ndarray]
    mask_convention: MaskConvention
    head_kernel: np.ndarray
    head_bias: np.ndarray
    outputs: GraphOutputs = PROBABILITIES
    first_token_head: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(
        cls, encoder: EncoderCheckpoint, head_kernel: np.ndarray, head_bias: np.ndarray, outputs: GraphOutputs
    ) -> ClassifierWeights:
        return cls(encoder.config, encoder.weights, encoder.mask_convention, head_kernel, head_bias, outputs)

    def graph(
        self, max_length: int, quantization: Quantization, compatibility: Compatibility, rows: Encoded | None
    ) -> bytes:
        return build_inference_graph(self, max_length, quantization, compatibility, rows)


@dataclass(frozen=True)
class _Scaled:
    """A tensor [rows, columns] that represents tensor · scale; `scale` has one number or one for each column."""

    tensor: int
    scale: np.ndarray = field(default_factory=lambda: np.ones(1, np.float32))


def build_inference_graph(
    weights: ClassifierWeights,
    max_length: int,
    quantization: Quantization,
    compatibility: Compatibility = "litert",
    rows: Encoded | None = None,
) -> bytes:
    """`ids`, `mask`, `segment_ids` (int32 [1, max_length]) → the task's outputs, `probability` (float32 [1, classes]) of
    text classification.

    int4 uses `rows`, texts like those that will be classified, to round weights so that products change least, and to
    refine the vectors of the most frequent tokens. The other forms do not need them. Raises ModelError for what
    cannot be written: int4 for the Task Library, weights beyond the range of float16, weights that are NaN or infinite.
    """
    require_finite_weights({**weights.encoder, **_head_arrays(weights)})
    if quantization == "int4" and compatibility == "task-library":
        raise ModelError(
            "the Task Library 0.4.4 does not support 4-bit weights; export with quantization dynamic or float16"
        )
    # The check of the result reports a product that overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        graph = _InferenceGraph(weights, max_length, quantization, compatibility)
        if quantization == "int4" and rows is not None:
            observed = _ObservedGraph(weights, max_length)
            graph.moments = measure_moments(observed.build(), observed.inputs, rows, max_length)
            graph.refined_pieces = _frequent_pieces(rows, weights.config.vocab_size)
        return graph.build()


def _head_arrays(weights: ClassifierWeights) -> dict[str, np.ndarray]:
    arrays = {"head/kernel": weights.head_kernel, "head/bias": weights.head_bias}
    if weights.first_token_head is not None:
        arrays["head/first/kernel"], arrays["head/first/bias"] = weights.first_token_head
    return arrays


def _frequent_pieces(rows: Encoded, vocab_size: int) -> np.ndarray:
    """Returns the ids of the most frequent tokens, ascending. A [PAD] follows every row."""
    counts = np.bincount(rows.flat_ids, minlength=vocab_size)
    counts[rows.pad_id] += len(rows)
    most = np.argsort(-counts, kind="stable")[:_REFINED_PIECES]
    return np.sort(most[counts[most] > 0])


class _InferenceGraph:
    """The state of the construction: the builder, the weights and the chosen form."""

    def __init__(
        self,
        weights: ClassifierWeights,
        max_length: int,
        quantization: Quantization,
        compatibility: Compatibility,
    ) -> None:
        self.graph = GraphBuilder()
        self.weights = weights
        self.config = weights.config
        self.max_length = max_length
        self.form = quantization
        self.quantize = quantization in ("dynamic", "int4")
        self.one_scale = compatibility == "task-library"
        self.moments: Mapping[str, Moments] = {}
        self.refined_pieces: np.ndarray | None = None
        self.encoder = balance_encoder(self.config, weights.encoder) if self.quantize else weights.encoder

    def build(self) -> bytes:
        graph = self.graph
        ids, mask, segments = (graph.input(name, [1, self.max_length]) for name in ("ids", "mask", "segment_ids"))
        scores_offset, scores_factor = self._mask(mask)
        states = _Scaled(self._embed(ids, segments))
        last = self.config.num_hidden_layers - 1
        every_token = self.weights.outputs.every_token
        for layer in range(self.config.num_hidden_layers):
            first_token_only = layer == last and not every_token
            states = self._layer(layer, states, scores_offset, scores_factor, first_token_only=first_token_only)
        if self.config.classifier_activation and not every_token:
            pooled = self._fully_connected("pooler", states, *self._dense("pooler/dense"))
            states = _Scaled(graph.op("pooler/tanh", "TANH", [pooled], graph.shape(pooled)))
        return self._finish(self.weights.outputs.add(graph, self._logits(states)))

    def _logits(self, states: _Scaled) -> int:
        """Adds the head. It has a few thousand numbers and decides every prediction, so it stays float32."""
        weights = self.weights
        logits = self._fully_connected("head", states, weights.head_kernel, weights.head_bias, quantize=False)
        if weights.first_token_head is None:
            return logits
        first = _Scaled(self.graph.first_row("head/first_state", states.tensor), states.scale)
        first_logits = self._fully_connected("head/first", first, *weights.first_token_head, quantize=False)
        return self.graph.join_rows("head/all", first_logits, logits)

    def _finish(self, outputs: dict[int, str]) -> bytes:
        return self.graph.finish(outputs, f"MobileBERT {self.weights.outputs.kind}")

    def _array(self, name: str) -> np.ndarray:
        return self.encoder[name]

    def _dense(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self._array(f"{name}/kernel"), self._array(f"{name}/bias")

    def _norm(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self._array(f"{name}/FakeLayerNorm/gamma"), self._array(f"{name}/FakeLayerNorm/beta")

    def _dense_norm(self, dense: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of a dense layer with the NoNorm after it: gamma·(x W + b) + beta = x (W gamma) + (b gamma +
        beta)."""
        (kernel, bias), (gamma, beta) = self._dense(dense), self._norm(norm)
        return kernel * gamma, bias * gamma + beta

    def _fully_connected(
        self,
        name: str,
        rows: _Scaled,
        kernel: np.ndarray,
        bias: np.ndarray,
        *,
        relu: bool = False,
        quantize: bool | None = None,
    ) -> int:
        """[rows, inputs] → [rows, outputs]; kernels are [inputs, outputs] here and [outputs, inputs] in the file."""
        return self._product(name, rows.tensor, kernel * rows.scale[:, None], bias, relu=relu, quantize=quantize)

    def _product(
        self, name: str, rows: int, kernel: np.ndarray, bias: np.ndarray, *, relu: bool, quantize: bool | None
    ) -> int:
        graph = self.graph
        quantize = self.quantize if quantize is None else quantize
        if quantize and not relu and (diagonal := dominant_diagonal(kernel)) is not None:
            rest = self._product(f"{name}/rest", rows, kernel - np.diag(diagonal), bias, relu=False, quantize=True)
            scale = graph.constant(f"{name}/diagonal", diagonal.astype(np.float32))
            return graph.binary(f"{name}/sum", "ADD", rest, graph.binary(f"{name}/scaled", "MUL", rows, scale))
        matrix = np.ascontiguousarray(kernel.T, np.float32)
        # The folded product of two finite numbers may not be finite.
        require_finite_weights({f"{name}/kernel": matrix, f"{name}/bias": np.asarray(bias, np.float32)})
        if quantize and self.one_scale and not relu:
            return self._product_of_one_scale(name, rows, matrix, bias)
        if quantize and name in self.moments and not name.startswith(_EIGHT_BITS_ALWAYS):
            return self._product_for_inputs(name, rows, matrix, bias, relu)
        weight, version = self._kernel(f"{name}/kernel", matrix, quantize)
        return self._multiplied(name, rows, weight, version, bias, relu)

    def _product_for_inputs(self, name: str, rows: int, matrix: np.ndarray, bias: np.ndarray, relu: bool) -> int:
        """Adds a product of 4-bit weights. On inputs like the measured ones its result is close to that without
        rounding.

        The effect of rounding on the mean input is a constant, which the bias corrects.
        """
        moments = self.moments[name]
        values, scales = quantize_rows_for_inputs(matrix, moments.covariance)
        weight = self.graph.constant_4_bit(f"{name}/kernel", values, scales)
        lost = (matrix - values * scales[:, None]) @ moments.mean
        return self._multiplied(name, rows, weight, _VERSION_SCALES, bias + lost, relu)

    def _product_of_one_scale(self, name: str, rows: int, matrix: np.ndarray, bias: np.ndarray) -> int:
        """Adds a product for runtimes with one scale for all weights. The scales of its outputs follow as a factor."""
        graph = self.graph
        values, scales = quantize_rows(matrix)
        weight = graph.constant(f"{name}/kernel", values, 1.0)
        product = self._multiplied(name, rows, weight, _VERSION_ONE_SCALE, np.zeros(len(matrix)), False)
        scaled = graph.binary(f"{name}/scaled", "MUL", product, graph.constant(f"{name}/scales", scales))
        return graph.binary(f"{name}/with_bias", "ADD", scaled, graph.constant(f"{name}/bias", np.float32(bias)))

    def _multiplied(self, name: str, rows: int, weight: int, version: int, bias: np.ndarray, relu: bool) -> int:
        graph = self.graph
        activation = schema.ActivationFunctionType.RELU if relu else schema.ActivationFunctionType.NONE
        options = {"fusedActivationFunction": activation, "asymmetricQuantizeInputs": version > 1}
        inputs = [rows, weight, graph.constant(f"{name}/bias", np.asarray(bias, np.float32))]
        shape = [graph.shape(rows)[0], graph.shape(weight)[0]]
        return graph.op(name, "FULLY_CONNECTED", inputs, shape, version=version, options=options)

    def _kernel(self, name: str, matrix: np.ndarray, quantize: bool) -> tuple[int, int]:
        """float32 [outputs, inputs] → the stored tensor and the version of FULLY_CONNECTED that reads it."""
        graph = self.graph
        if quantize and self.one_scale:
            scale = float(np.abs(matrix).max()) / 127.0 or 1.0
            return graph.constant(name, np.rint(matrix / scale).astype(np.int8), scale), _VERSION_ONE_SCALE
        if quantize and self.form == "int4" and not name.startswith(_EIGHT_BITS_ALWAYS):
            return graph.constant_4_bit(name, *quantize_rows_to_4_bits(matrix)), _VERSION_SCALES
        if quantize:
            return graph.constant(name, *quantize_rows(matrix)), _VERSION_SCALES
        if self.form == "float16" and not name.startswith("head"):
            return self._float16(name, matrix), 1
        return graph.constant(name, matrix), 1

    def _float16(self, name: str, values: np.ndarray) -> int:
        """Adds a constant that is stored as float16 and read as float32."""
        largest = float(np.abs(values).max())
        if not largest <= float(np.finfo(np.float16).max):
            raise ModelError(
                f"{name} holds {largest:.3g}, which float16 cannot; export with quantization dynamic or none"
            )
        return self.graph.dequantized(f"{name}/float", self.graph.constant(name, values.astype(np.float16)))

    def _mask(self, mask: int) -> tuple[int, int | None]:
        """[1, length] of ones and zeros → what is added to scores, and what they are multiplied by."""
        graph = self.graph
        factor = graph.reshape("mask/factor", graph.cast("mask/float", mask), [1, 1, -1])
        amount = 10000.0 if self.weights.mask_convention == "additive" else 6.0
        scaled = graph.binary("mask/scaled", "MUL", factor, graph.small_constant(np.array([amount], np.float32)))
        offset = graph.binary("mask/offset", "SUB", scaled, graph.small_constant(np.array([amount], np.float32)))
        return offset, None if self.weights.mask_convention == "additive" else factor

    def _embed(self, ids: int, segments: int) -> int:
        """Ids and segments, [1, length] → states [length, hidden].

        The trigram is made from ids, which are few, instead of vectors. Beyond each end it uses the id of a row of
        zeros after the last entry of the word table.
        """
        graph, config = self.graph, self.config
        ids = graph.reshape("embeddings/ids", ids, [-1])
        outside = graph.small_constant([config.vocab_size])
        padded = graph.op(
            "embeddings/padded_ids",
            "PADV2",
            [ids, graph.small_constant(np.array([[1, 1]], np.int32)), outside],
            [self.max_length + 2],
            like=ids,
            options={},
        )
        following = graph.between("embeddings/following_ids", padded, 2, 0)
        previous = graph.between("embeddings/previous_ids", padded, 0, 2)
        trigrams = graph.op(
            "embeddings/trigrams",
            "PACK",
            [following, ids, previous],
            [self.max_length, 3],
            like=ids,
            options={"valuesCount": 3, "axis": 1},
        )
        vectors = self._word_vectors(trigrams)
        rows = graph.reshape("embeddings/rows", vectors, [-1, 3 * config.embedding_size])
        kernel, bias = self._dense_norm("embeddings/embedding_transformation", "embeddings")
        states = self._fully_connected("embeddings/transformation", _Scaled(rows), kernel, bias)

        gamma, _ = self._norm("embeddings")
        segment_table = graph.constant(
            "embeddings/segment_table", self._array("embeddings/token_type_embeddings") * gamma
        )
        segment_rows = graph.gather(
            "embeddings/segments", segment_table, graph.reshape("embeddings/segment_ids", segments, [-1])
        )
        states = graph.binary("embeddings/with_segments", "ADD", states, segment_rows)
        positions = self._array("embeddings/position_embeddings")[: self.max_length] * gamma
        return graph.binary("embeddings/states", "ADD", states, self._position_vectors(positions, ids))

    def _position_vectors(self, positions: np.ndarray, ids: int) -> int:
        """[max_length, hidden_size] → as many rows as there are ids."""
        graph, name = self.graph, "embeddings/position_table"
        if self.form == "int4":
            stored = graph.constant(name, *quantize_rows(positions))
            return graph.lookup("embeddings/positions", stored, self._position_ids(ids))
        table = self._float16(name, positions) if self.form == "float16" else graph.constant(name, positions)
        return graph.gather("embeddings/positions", table, self._position_ids(ids))

    def _position_ids(self, ids: int) -> int:
        """Adds 0, 1, 2, … for each id. It follows a resized input without dynamic shapes."""
        graph = self.graph
        zeros = graph.binary("embeddings/zeros", "MUL", ids, graph.small_constant([0]))
        ones = graph.binary("embeddings/ones", "ADD", zeros, graph.small_constant([1]))
        axis = graph.small_constant(np.int32(0))
        options = {"exclusive": True, "reverse": False}
        return graph.op("embeddings/position_ids", "CUMSUM", [ones, axis], [self.max_length], like=ids, options=options)

    def _word_vectors(self, trigrams: int) -> int:
        """[length, 3] ids → [length, 3, embedding_size]."""
        graph = self.graph
        words = self._array("embeddings/word_embeddings")
        table = np.concatenate([words, np.zeros((1, words.shape[1]), words.dtype)])
        if self.form == "none":
            return graph.gather("embeddings/words", graph.constant("embeddings/word_table", table), trigrams)
        if self.form == "float16":
            return graph.gather("embeddings/words", self._float16("embeddings/word_table", table), trigrams)
        # A scale for each word: the vectors of frequent and rare words differ in size by more than 8 bits can represent.
        if self.form == "int4":
            return self._word_vectors_of_4_bits(table, graph.reshape("embeddings/flat_trigrams", trigrams, [-1]))
        values, scales = quantize_rows(table)
        gathered = graph.gather(
            "embeddings/word_values", graph.constant("embeddings/word_table", values, scale=1.0), trigrams
        )
        vectors = graph.dequantized("embeddings/word_floats", gathered)
        scale_table = graph.constant("embeddings/word_scales", scales[:, None])
        scale_rows = graph.gather("embeddings/word_scale_rows", scale_table, trigrams)
        return graph.binary("embeddings/words", "MUL", vectors, scale_rows)

    def _word_vectors_of_4_bits(self, table: np.ndarray, ids: int) -> int:
        """Returns [ids, embedding_size].

        The vectors of refined tokens get the error of their 4 bits added, also in 4 bits.
        """
        graph = self.graph
        values, scales = quantize_rows_to_4_bits(table)
        words = graph.lookup("embeddings/words", graph.constant_4_bit("embeddings/word_table", values, scales), ids)
        if self.refined_pieces is None:
            return words
        count = len(self.refined_pieces)
        left = (table - values * scales[:, None])[self.refined_pieces]
        rest = np.concatenate([left, np.zeros((1, left.shape[1]), left.dtype)])
        rest_table = graph.constant_4_bit("embeddings/rest_table", *quantize_rows_to_4_bits(rest))
        places = np.full(len(table), count, np.int32)
        places[self.refined_pieces] = np.arange(count)
        rest_ids = graph.gather("embeddings/rest_ids", graph.constant("embeddings/rest_places", places), ids)
        rest_rows = graph.lookup("embeddings/rest", rest_table, rest_ids)
        return graph.binary("embeddings/refined_words", "ADD", words, rest_rows)

    def _layer(
        self, index: int, states: _Scaled, scores_offset: int, scores_factor: int | None, *, first_token_only: bool
    ) -> _Scaled:
        """[length, hidden] → the same, or with `first_token_only` [1, hidden]."""
        graph, config, prefix = self.graph, self.config, f"encoder/layer_{index}"
        stream = states
        if first_token_only:
            stream = _Scaled(graph.first_row(f"{prefix}/first", states.tensor), states.scale)
        layer_input, query, key, value = self._attention_inputs(prefix, states, stream)
        context = self._attention(prefix, query, key, value, scores_offset, scores_factor)

        narrow = self._residual(
            f"{prefix}/attention/output",
            _Scaled(context),
            f"{prefix}/attention/output/dense",
            f"{prefix}/attention/output",
            layer_input,
        )
        networks = [f"{prefix}/ffn_layer_{network}" for network in range(config.num_feedforward_networks - 1)]
        for network in [*networks, prefix]:
            inner = self._fully_connected(
                f"{network}/intermediate", narrow, *self._dense(f"{network}/intermediate/dense"), relu=True
            )
            narrow = self._residual(
                f"{network}/output", _Scaled(inner), f"{network}/output/dense", f"{network}/output", narrow
            )
        name = f"{prefix}/output/bottleneck"
        return self._residual(name, narrow, f"{name}/dense", name, stream)

    def _attention_inputs(self, prefix: str, states: _Scaled, stream: _Scaled) -> tuple[_Scaled, int, int, int]:
        """Returns the bottleneck's layer input, and query, key and value, each [rows, intra_bottleneck_size].

        All products of one tensor are merged. The score's factor 1/√head_size is folded into the query.
        """
        graph, config = self.graph, self.config
        width = config.intra_bottleneck_size
        input_kernel, input_bias = self._dense_norm(f"{prefix}/bottleneck/input/dense", f"{prefix}/bottleneck/input")
        scale = 1.0 / math.sqrt(width / config.num_attention_heads)
        query_kernel, query_bias = (array * scale for array in self._dense(f"{prefix}/attention/self/query"))
        key = self._dense(f"{prefix}/attention/self/key")
        value = self._dense(f"{prefix}/attention/self/value")
        whole = states is stream

        if config.use_bottleneck_attention:
            narrow = self._fully_connected(f"{prefix}/bottleneck/input", states, input_kernel, input_bias)
            layer_input = narrow if whole else graph.first_row(f"{prefix}/bottleneck/first", narrow)
            query = self._fully_connected(f"{prefix}/query", _Scaled(layer_input), query_kernel, query_bias)
            key_rows, value_rows = self._merged(f"{prefix}/key_value", _Scaled(narrow), [key, value])
            return _Scaled(layer_input), query, key_rows, value_rows
        if config.key_query_shared_bottleneck:
            shared = self._dense_norm(f"{prefix}/bottleneck/attention/dense", f"{prefix}/bottleneck/attention")
            if whole:
                parts = [(input_kernel, input_bias), shared, value]
                layer_input, narrow, value_rows = self._merged(f"{prefix}/bottleneck", states, parts)
                query_key = [(query_kernel, query_bias), key]
                query, key_rows = self._merged(f"{prefix}/query_key", _Scaled(narrow), query_key)
                return _Scaled(layer_input), query, key_rows, value_rows
            layer_input = self._fully_connected(f"{prefix}/bottleneck/input", stream, input_kernel, input_bias)
            narrow, value_rows = self._merged(f"{prefix}/bottleneck", states, [shared, value])
            first = graph.first_row(f"{prefix}/bottleneck/first", narrow)
            query = self._fully_connected(f"{prefix}/query", _Scaled(first), query_kernel, query_bias)
            key_rows = self._fully_connected(f"{prefix}/key", _Scaled(narrow), *key)
            return _Scaled(layer_input), query, key_rows, value_rows
        layer_input, query = self._merged(
            f"{prefix}/bottleneck", stream, [(input_kernel, input_bias), (query_kernel, query_bias)]
        )
        key_rows, value_rows = self._merged(f"{prefix}/key_value", states, [key, value])
        return _Scaled(layer_input), query, key_rows, value_rows

    def _merged(self, name: str, rows: _Scaled, parts: list[tuple[np.ndarray, np.ndarray]]) -> list[int]:
        """Adds dense layers of the same input and width as one product that is split."""
        if self.quantize and any(dominant_diagonal(kernel) is not None for kernel, _ in parts):
            return [self._fully_connected(f"{name}/part_{i}", rows, *part) for i, part in enumerate(parts)]
        kernel = np.concatenate([kernel for kernel, _ in parts], axis=1)
        product = self._fully_connected(name, rows, kernel, np.concatenate([bias for _, bias in parts]))
        return self.graph.split(f"{name}/parts", product, len(parts))

    def _attention(
        self, prefix: str, query: int, key: int, value: int, scores_offset: int, scores_factor: int | None
    ) -> int:
        graph, heads, width = self.graph, self.config.num_attention_heads, self.config.intra_bottleneck_size

        def split_heads(name: str, rows: int) -> int:
            split = graph.reshape(f"{prefix}/{name}/split", rows, [-1, heads, width // heads])
            return graph.transpose(f"{prefix}/{name}/heads", split, [1, 0, 2])

        query, key, value = split_heads("query", query), split_heads("key", key), split_heads("value", value)
        rows, length = graph.shape(query)[1], graph.shape(key)[1]
        scores = graph.op(
            f"{prefix}/scores", "BATCH_MATMUL", [query, key], [heads, rows, length], options={"adjY": True}
        )
        if scores_factor is not None:
            scores = graph.binary(f"{prefix}/scores/factor", "MUL", scores, scores_factor)
        scores = graph.binary(f"{prefix}/scores/masked", "ADD", scores, scores_offset)
        probabilities = graph.op(f"{prefix}/softmax", "SOFTMAX", [scores], graph.shape(scores), options={"beta": 1.0})
        context = graph.op(
            f"{prefix}/context", "BATCH_MATMUL", [probabilities, value], [heads, rows, width // heads], options={}
        )
        merged = graph.transpose(f"{prefix}/context/rows", context, [1, 0, 2])
        return graph.reshape(f"{prefix}/context/merged", merged, [-1, width])

    def _residual(self, name: str, rows: _Scaled, dense: str, norm: str, residual: _Scaled) -> _Scaled:
        """gamma·(rows W + b + residual) + beta.

        gamma is not multiplied. It is kept as the result's scale and folded into the next products, as long as the
        ratio of the scales of its columns stays within `_LARGEST_SPREAD`.
        """
        graph = self.graph
        kernel, bias = self._dense_norm(dense, norm)
        gamma, _ = self._norm(norm)
        scale = gamma * residual.scale
        sizes = np.abs(scale)
        tensor = residual.tensor
        if not 0 < sizes.max() <= _LARGEST_SPREAD * sizes.min():
            factor = graph.constant(f"{name}/gamma", np.asarray(scale, np.float32))
            tensor = graph.binary(f"{name}/scaled_residual", "MUL", tensor, factor)
            scale = np.ones(1, np.float32)
        product = self._fully_connected(name, rows, kernel / scale, bias / scale)
        return _Scaled(graph.binary(f"{name}/sum", "ADD", product, tensor), scale)


class _ObservedGraph(_InferenceGraph):
    """The graph of int4 with unrounded weights. The inputs of its products are additional outputs.

    After `build`, `inputs` has the name of the output with the input of each product.
    """

    def __init__(self, weights: ClassifierWeights, max_length: int) -> None:
        super().__init__(weights, max_length, "int4", "litert")
        self.inputs: dict[str, str] = {}
        self._observed: dict[int, str] = {}

    def _kernel(self, name: str, matrix: np.ndarray, quantize: bool) -> tuple[int, int]:
        return self.graph.constant(name, matrix), 1

    def _multiplied(self, name: str, rows: int, weight: int, version: int, bias: np.ndarray, relu: bool) -> int:
        self._observed[rows] = self.inputs[name] = self.graph.name(rows)
        return super()._multiplied(name, rows, weight, version, bias, relu)

    def _finish(self, outputs: dict[int, str]) -> bytes:
        return self.graph.finish({**outputs, **self._observed}, "inputs of products")
