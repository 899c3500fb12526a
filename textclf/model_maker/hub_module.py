"""Writes any encoder in the form that Model Maker can use: a TF1 Hub module, like the published MobileBERT.

Takes an encoder in memory. Writes a folder with `tfhub_module.pb`, `saved_model.pb`, `variables/` and `assets/vocab.txt`,
with the signatures `tokens` and `tokenization_info`. As in the published graph, layers are not shared in a loop and every
token is computed in every layer, so measurements of this module hold for the published one too.
"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig
from textclf.encoders.formats.saved_model_file import FILE

MODULE_FILE = "tfhub_module.pb"
VARIABLE_PREFIX = "bert/"
# The module definition's field 1, the format version: 3.
_MODULE_DEFINITION = b"\x08\x03"
_V1 = tf.compat.v1


def write_hub_module(folder: Path, checkpoint: EncoderCheckpoint) -> None:
    """Writes the module into `folder`, which must not exist."""
    with TemporaryDirectory() as scratch, tf.Graph().as_default():
        vocabulary = Path(scratch) / "vocab.txt"
        vocabulary.write_text("".join(f"{piece}\n" for piece in checkpoint.vocabulary), encoding="utf-8", newline="\n")
        # Resource variables can be trained by other versions of TensorFlow. They are fed at run time, because
        # constants would double the file.
        values = {
            name: _V1.placeholder_with_default(tf.zeros(array.shape), array.shape)
            for name, array in checkpoint.weights.items()
        }
        variables = {
            name: _V1.Variable(value, name=VARIABLE_PREFIX + name, use_resource=True) for name, value in values.items()
        }
        signatures = {
            "tokens": _tokens_signature(_Encoder(checkpoint, variables)),
            "tokenization_info": _tokenization_signature(vocabulary, checkpoint.do_lower_case),
        }
        assets = _V1.get_collection(_V1.GraphKeys.ASSET_FILEPATHS)
        with _V1.Session() as session:
            fed = {values[name]: array for name, array in checkpoint.weights.items()}
            session.run(_V1.global_variables_initializer(), fed)
            builder = _V1.saved_model.Builder(str(folder))
            builder.add_meta_graph_and_variables(
                session, [], signature_def_map=signatures, assets_collection=assets, strip_default_attrs=True
            )
            builder.save()
    _leave_out_later_attributes(folder / FILE)
    (folder / MODULE_FILE).write_bytes(_MODULE_DEFINITION)


def _leave_out_later_attributes(file: Path) -> None:
    """Removes an attribute that TensorFlow 2.8 does not know and warns about. Only debuggers use it."""
    model = SavedModel.FromString(file.read_bytes())
    for node in model.meta_graphs[0].graph_def.node:
        node.attr.pop("debug_name", None)
    file.write_bytes(model.SerializeToString(deterministic=True))


def _tokens_signature(encoder: _Encoder) -> object:
    inputs = {
        name: _V1.placeholder(tf.int32, [None, None], name=name) for name in ("input_ids", "input_mask", "segment_ids")
    }
    sequence_output, pooled_output = encoder.outputs(inputs["input_ids"], inputs["input_mask"], inputs["segment_ids"])
    return _signature(inputs, {"sequence_output": sequence_output, "pooled_output": pooled_output})


def _tokenization_signature(vocabulary: Path, do_lower_case: bool) -> object:
    file = tf.constant(str(vocabulary), name="vocab_file")
    _V1.add_to_collection(_V1.GraphKeys.ASSET_FILEPATHS, file)
    return _signature({}, {"vocab_file": file, "do_lower_case": tf.constant(do_lower_case, name="do_lower_case")})


def _signature(inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]) -> object:
    infos = [{name: _tensor_info(tensor) for name, tensor in tensors.items()} for tensors in (inputs, outputs)]
    return _V1.saved_model.build_signature_def(*infos, method_name="")


def _tensor_info(tensor: tf.Tensor) -> TensorInfo:
    shape = tensor.shape.as_proto()
    return TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum, tensor_shape=shape)


class _Encoder:
    """The graph of the forward pass (paper, figure 1c; google-research mobilebert/modeling.py)."""

    def __init__(self, checkpoint: EncoderCheckpoint, variables: dict[str, tf.Variable]) -> None:
        self.config: MobileBertConfig = checkpoint.config
        self.mask_convention = checkpoint.mask_convention
        self.variables = variables

    def outputs(self, input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """int32 [batch, length] three times → `sequence_output` [batch, length, hidden], `pooled_output` [batch, hidden]."""
        config = self.config
        batch, length = tf.unstack(tf.shape(input_ids))
        states = self._embed(input_ids, segment_ids, batch, length)
        mask = tf.cast(input_mask, tf.float32)[:, None, None, :]
        for layer in range(config.num_hidden_layers):
            states = self._layer(f"encoder/layer_{layer}", states, mask, batch, length)
        sequence_output = tf.reshape(states, [batch, length, config.hidden_size], name="sequence_output")
        pooled_output = sequence_output[:, 0]
        if config.classifier_activation:
            pooled_output = tf.tanh(self._dense("pooler/dense", pooled_output))
        return sequence_output, tf.identity(pooled_output, name="pooled_output")

    def _embed(self, input_ids: tf.Tensor, segment_ids: tf.Tensor, batch: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """States [batch·length, hidden] from the next, the current and the previous token's vectors."""
        config = self.config
        vectors = tf.gather(self.variables["embeddings/word_embeddings"], input_ids)
        following = tf.pad(vectors[:, 1:], [[0, 0], [0, 1], [0, 0]])
        previous = tf.pad(vectors[:, :-1], [[0, 0], [1, 0], [0, 0]])
        trigrams = tf.reshape(tf.concat([following, vectors, previous], axis=2), [-1, 3 * config.embedding_size])
        states = self._dense("embeddings/embedding_transformation", trigrams)
        segments = tf.one_hot(tf.reshape(segment_ids, [-1]), config.type_vocab_size)
        states += tf.matmul(segments, self.variables["embeddings/token_type_embeddings"])
        states = tf.reshape(states, [batch, length, config.hidden_size])
        states += tf.slice(self.variables["embeddings/position_embeddings"], [0, 0], [length, -1])
        return self._norm("embeddings", tf.reshape(states, [-1, config.hidden_size]))

    def _layer(self, name: str, states: tf.Tensor, mask: tf.Tensor, batch: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        config = self.config
        layer_input = self._dense_norm(f"{name}/bottleneck/input", states)
        if config.use_bottleneck_attention:
            query_input = key_input = value_input = layer_input
        elif config.key_query_shared_bottleneck:
            query_input = key_input = self._dense_norm(f"{name}/bottleneck/attention", states)
            value_input = states
        else:
            query_input = key_input = value_input = states

        def heads(kind: str, rows: tf.Tensor) -> tf.Tensor:
            width = config.intra_bottleneck_size // config.num_attention_heads
            projected = self._dense(f"{name}/attention/self/{kind}", rows)
            apart = tf.reshape(projected, [batch, length, config.num_attention_heads, width])
            return tf.transpose(apart, [0, 2, 1, 3])

        query, key, value = heads("query", query_input), heads("key", key_input), heads("value", value_input)
        context = tf.transpose(tf.matmul(self._attention(query, key, mask), value), [0, 2, 1, 3])
        context = tf.reshape(context, [-1, config.intra_bottleneck_size])
        inner = self._dense(f"{name}/attention/output/dense", context)
        inner = self._norm(f"{name}/attention/output", inner + layer_input)
        for network in range(config.num_feedforward_networks - 1):
            inner = self._feed_forward(f"{name}/ffn_layer_{network}", inner)
        inner = self._feed_forward(name, inner)
        wide = self._dense(f"{name}/output/bottleneck/dense", inner)
        return self._norm(f"{name}/output/bottleneck", wide + states)

    def _attention(self, query: tf.Tensor, key: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        scores = tf.matmul(query, key, transpose_b=True) * (1.0 / math.sqrt(query.shape[-1]))
        if self.mask_convention == "additive":
            return tf.nn.softmax(scores + (1.0 - mask) * -10000.0)
        return tf.nn.softmax(scores * mask + (1.0 - mask) * -6.0)

    def _feed_forward(self, name: str, states: tf.Tensor) -> tf.Tensor:
        wide = tf.nn.relu(self._dense(f"{name}/intermediate/dense", states))
        return self._norm(f"{name}/output", self._dense(f"{name}/output/dense", wide) + states)

    def _dense(self, name: str, rows: tf.Tensor) -> tf.Tensor:
        return tf.nn.bias_add(tf.matmul(rows, self.variables[f"{name}/kernel"]), self.variables[f"{name}/bias"])

    def _norm(self, name: str, rows: tf.Tensor) -> tf.Tensor:
        """NoNorm (paper, section 3.4)."""
        gamma, beta = self.variables[f"{name}/FakeLayerNorm/gamma"], self.variables[f"{name}/FakeLayerNorm/beta"]
        return rows * gamma + beta

    def _dense_norm(self, name: str, rows: tf.Tensor) -> tf.Tensor:
        return self._norm(name, self._dense(f"{name}/dense", rows))
