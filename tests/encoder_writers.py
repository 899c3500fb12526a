"""Small encoders in each layout in which people have MobileBERT, written without the programs that write the real ones."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint

HUGGING_FACE_FORMS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "old.bin",
    "tf_model.h5",
)


def write_vocabulary(folder: Path, checkpoint: EncoderCheckpoint) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in checkpoint.vocabulary), encoding="utf-8")


def settings_of(checkpoint: EncoderCheckpoint) -> dict[str, object]:
    implied = {"hidden_act": "relu", "normalization_type": "no_norm", "trigram_input": True, "use_bottleneck": True}
    return {**asdict(checkpoint.config), **implied}


# Hugging Face


def pytorch_arrays(checkpoint: EncoderCheckpoint, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays under transformers' names, kernels as [outputs, inputs]."""
    arrays = {}
    for name, array in checkpoint.weights.items():
        new = name.replace("FakeLayerNorm/gamma", "LayerNorm/weight").replace("FakeLayerNorm/beta", "LayerNorm/bias")
        new = new.replace("ffn_layer_", "ffn/").replace("layer_", "layer/").replace("kernel", "weight")
        new = new + "/weight" if name.endswith("_embeddings") else new
        arrays[prefix + new.replace("/", ".")] = np.ascontiguousarray(array.T if name.endswith("kernel") else array)
    return arrays


def write_hugging_face(
    folder: Path, checkpoint: EncoderCheckpoint, form: str = "model.safetensors", prefix: str = ""
) -> Path:
    write_vocabulary(folder, checkpoint)
    (folder / "config.json").write_text(json.dumps({"model_type": "mobilebert", **settings_of(checkpoint)}))
    arrays = pytorch_arrays(checkpoint, prefix)
    if prefix:
        arrays["classifier.weight"] = np.ones((3, 7), np.float32)
        arrays["cls.predictions.bias"] = np.ones(5, np.float32)
    if form == "model.safetensors":
        write_safetensors(folder / form, arrays)
    elif form == "model.safetensors.index.json":
        write_shards(folder, arrays)
    elif form == "pytorch_model.bin":
        (folder / form).write_bytes(pytorch_zip(arrays))
    elif form == "old.bin":
        (folder / "pytorch_model.bin").write_bytes(pytorch_old(arrays))
    else:
        write_keras_h5(folder / form, checkpoint)
    return folder


def write_safetensors(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(dict(arrays), file, metadata={"format": "pt"})


def write_shards(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    names, half = list(arrays), len(arrays) // 2
    weight_map = {}
    for number, part in enumerate((names[:half], names[half:]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        write_safetensors(folder / shard, {name: arrays[name] for name in part})
        weight_map.update(dict.fromkeys(part, shard))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_keras_h5(file: Path, checkpoint: EncoderCheckpoint) -> None:
    import h5py

    with h5py.File(file, "w") as content:
        for name, array in checkpoint.weights.items():
            new = name.replace("FakeLayerNorm/gamma", "LayerNorm/weight").replace(
                "FakeLayerNorm/beta", "LayerNorm/bias"
            )
            new = new.replace("ffn_layer_", "ffn.").replace("layer_", "layer_._")
            if name.endswith("_embeddings"):
                new += "/weight" if "word" in name else "/embeddings"
            content[f"mobilebert/tf_mobile_bert_for_pre_training/mobilebert/{new}:0"] = array
        content["predictions___cls/tf_mobile_bert_for_pre_training/predictions___cls/predictions/bias:0"] = np.ones(3)


class _Storage:
    def __init__(self, key: str, array: np.ndarray) -> None:
        self.key, self.array = key, array


@contextmanager
def _torch_names() -> Iterator[types.ModuleType]:
    """Modules that lend a pickle PyTorch's names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    kept = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _pickled_tensors(arrays: Mapping[str, np.ndarray], view: tuple[object, ...]) -> bytes:
    with _torch_names() as torch:
        kinds = {"float32": torch.FloatStorage, "float16": torch.HalfStorage, "int64": torch.LongStorage}

        class Tensor:
            def __init__(self, storage: _Storage) -> None:
                self.storage = storage

            def __reduce__(self) -> tuple[object, ...]:
                array = self.storage.array
                strides = tuple(stride // array.itemsize for stride in array.strides)
                arguments = (self.storage, 0, array.shape, strides, False, collections.OrderedDict())
                return torch._utils._rebuild_tensor_v2, arguments

        class Pickler(pickle.Pickler):
            def persistent_id(self, item: object) -> object:
                if not isinstance(item, _Storage):
                    return None
                return ("storage", kinds[item.array.dtype.name], item.key, "cpu", item.array.size, *view)

        buffer = io.BytesIO()
        state = collections.OrderedDict(
            (name, Tensor(_Storage(str(n), array))) for n, (name, array) in enumerate(arrays.items())
        )
        state._metadata = {"": {"version": 1}}
        Pickler(buffer, 2).dump(state)
        return buffer.getvalue()


def pytorch_zip(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What torch.save writes since version 1.6."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", _pickled_tensors(arrays, ()))
        archive.writestr("archive/byteorder", "little")
        for n, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{n}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def pytorch_old(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What torch.save wrote before."""
    writer = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, writer)]
    parts.append(_pickled_tensors(arrays, (None,)))
    keys = sorted(str(n) for n in range(len(arrays)))
    parts.append(pickle.dumps(keys, 2))
    values = list(arrays.values())
    for key in keys:
        parts.append(struct.pack("<q", values[int(key)].size) + values[int(key)].tobytes())
    return b"".join(parts)


# TensorFlow


def write_variables(prefix: Path, arrays: Mapping[str, np.ndarray]) -> None:
    import tensorflow as tf

    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(arrays[name]) for name in names],
    )


def write_tf1_checkpoint(folder: Path, checkpoint: EncoderCheckpoint) -> Path:
    write_vocabulary(folder, checkpoint)
    (folder / "bert_config.json").write_text(json.dumps(settings_of(checkpoint)))
    arrays = {f"bert/{name}": array for name, array in checkpoint.weights.items()}
    heads = {
        "bert/pooler/dense/bias": np.ones(4, np.float32),
        "cls/predictions/output_bias": np.ones(4, np.float32),
        "bert/embeddings/word_embeddings/adam_m": np.ones(4, np.float32),
        "global_step": np.int64(3),
    }
    write_variables(folder / "mobilebert_variables.ckpt", {**heads, **arrays})
    (folder / "checkpoint").write_text('model_checkpoint_path: "/nowhere/mobilebert_variables.ckpt"\n')
    return folder


def write_tf1_hub(folder: Path, checkpoint: EncoderCheckpoint, do_lower_case: bool = True) -> Path:
    """The module's variables, and of its graph what a reader can learn from: an attention layer's way into its softmax."""
    from tensorflow.core.protobuf import saved_model_pb2

    write_vocabulary(folder / "assets", checkpoint)
    write_variables(
        folder / "variables" / "variables", {f"bert/{name}": array for name, array in checkpoint.weights.items()}
    )
    model = saved_model_pb2.SavedModel()
    for tags in (["train"], []):
        meta_graph = model.meta_graphs.add()
        meta_graph.meta_info_def.tags.extend(tags)
        add_attention(meta_graph.graph_def.node, checkpoint)
        add_node(meta_graph.graph_def.node, "act", "Tanh" if checkpoint.config.classifier_activation else "Relu", ["s"])
        if checkpoint.config.classifier_activation:
            add_node(meta_graph.graph_def.node, "relu", "Relu", ["s"])
        add_node(meta_graph.graph_def.node, "Const_1", "Const", value=do_lower_case)
        outputs = meta_graph.signature_def["tokenization_info"].outputs
        outputs["do_lower_case"].name = "Const_1:0"
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return folder


def add_attention(nodes: object, checkpoint: EncoderCheckpoint) -> None:
    """scores·factor + offset → softmax, with the constants of the checkpoint's mask convention."""
    config = checkpoint.config
    width = config.intra_bottleneck_size // config.num_attention_heads
    additive = checkpoint.mask_convention == "additive"
    add_node(nodes, "scores", "BatchMatMulV2", ["q", "k"])
    add_node(nodes, "scale", "Const", value=np.float32(1 / np.sqrt(width)))
    add_node(nodes, "scaled", "Mul", ["scores", "scale"])
    add_node(nodes, "mask", "Cast", ["input_mask"])
    add_node(nodes, "one", "Const", value=np.float32(1))
    add_node(nodes, "padding", "Sub", ["one", "mask"])
    add_node(nodes, "low", "Const", value=np.float32(-10000 if additive else -6))
    add_node(nodes, "offset", "Mul", ["padding", "low"])
    add_node(nodes, "kept", "Identity" if additive else "Mul", ["scaled"] if additive else ["scaled", "mask"])
    add_node(nodes, "sum", "AddV2", ["kept", "offset"])
    add_node(nodes, "s", "Softmax", ["sum"])


def add_node(nodes: object, name: str, op: str, inputs: list[str] | None = None, value: object = None) -> None:
    import tensorflow as tf

    node = nodes.add(name=name, op=op, input=inputs or [])
    if value is not None:
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


MODEL_GARDEN_NAMES = {
    "embeddings/word_embeddings": "mobile_bert_embedding/word_embedding/embeddings",
    "embeddings/token_type_embeddings": "mobile_bert_embedding/type_embedding/embeddings",
    "embeddings/position_embeddings": "mobile_bert_embedding/position_embedding/embeddings",
    "embeddings/embedding_transformation": "mobile_bert_embedding/embedding_projection",
    "embeddings/FakeLayerNorm": "mobile_bert_embedding/embedding_norm",
    "bottleneck/input/dense": "bottleneck_input/dense",
    "bottleneck/input/FakeLayerNorm": "bottleneck_input/norm",
    "bottleneck/attention/dense": "kq_shared_bottleneck/dense",
    "bottleneck/attention/FakeLayerNorm": "kq_shared_bottleneck/norm",
    "attention/self": "attention",
    "attention/output/dense": "attention/attention_output",
    "attention/output/FakeLayerNorm": "attention/norm",
    "output/bottleneck/dense": "bottleneck_output/dense",
    "output/bottleneck/FakeLayerNorm": "bottleneck_output/norm",
    "output/dense": "output_dense",
    "output/FakeLayerNorm": "norm",
    "intermediate/dense": "intermediate_dense",
    "pooler/dense": "pooler",
}


def model_garden_name(name: str, networks: int) -> str:
    layer, rest = "", name
    if name.startswith("encoder/layer_"):
        layer, rest = name.removeprefix("encoder/").split("/", 1)
        layer = f"transformer_{layer}/"
        if rest.startswith(("intermediate/", "output/dense", "output/FakeLayerNorm")):
            rest = f"ffn_layer_{networks - 1}/{rest}"
    for ours, theirs in sorted(MODEL_GARDEN_NAMES.items(), key=lambda item: -len(item[0])):
        if f"/{ours}" in f"/{rest}":
            return layer + f"/{rest}".replace(f"/{ours}", f"/{theirs}")[1:]
    raise KeyError(name)


def write_tf2_saved_model(folder: Path, checkpoint: EncoderCheckpoint, do_lower_case: bool = True) -> Path:
    """A module that holds the variables, and a function with an attention layer's softmax, saved by TensorFlow itself."""
    import tensorflow as tf

    config = checkpoint.config
    heads, width = config.num_attention_heads, config.intra_bottleneck_size // config.num_attention_heads
    write_vocabulary(folder.with_name(f"{folder.name}-assets"), checkpoint)
    module = tf.Module()
    module.variables_in_order = []
    for name, array in checkpoint.weights.items():
        if "/attention/self/" in name:
            array = array.reshape(*array.shape[:-1], heads, width)
        elif name.endswith("attention/output/dense/kernel"):
            array = array.reshape(heads, width, -1)
        garden_name = model_garden_name(name, config.num_feedforward_networks)
        module.variables_in_order.append(tf.Variable(array, name=garden_name))
    module.do_lower_case = tf.Variable(do_lower_case, trainable=False)
    module.vocab_file = tf.saved_model.Asset(str(folder.with_name(f"{folder.name}-assets") / "vocab.txt"))

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 3]), tf.TensorSpec([None, 3], tf.int32)])
    def attend(query: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
        mask = tf.cast(input_mask, tf.float32)[:, None]
        scores = tf.matmul(query, query) * (1 / np.sqrt(width))
        if checkpoint.mask_convention == "scaled":
            return tf.nn.softmax(scores * mask + (1.0 - mask) * -6.0)
        return tf.nn.softmax(scores + (1.0 - mask) * -1e9)

    module.attend = attend
    tf.saved_model.save(module, str(folder))
    layer = {
        "num_attention_heads": heads,
        "intermediate_act_fn": "relu",
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
        "normalization_type": "no_norm",
        "use_bottleneck_attention": config.use_bottleneck_attention,
    }
    metadata = json.dumps({"class_name": "Text>MobileBertTransformer", "config": layer})
    (folder / "keras_metadata.pb").write_bytes(b"\x0a\x05" + metadata.encode() * config.num_hidden_layers)
    return folder
