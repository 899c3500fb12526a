"""Heads for question answering that published encoders have, in each form in which they come."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.encoder_writers import (
    pytorch_arrays,
    pytorch_old,
    pytorch_zip,
    settings_of,
    write_hugging_face,
    write_keras_h5,
    write_safetensors,
    write_tf1_checkpoint,
    write_tf1_hub,
    write_variables,
    write_vocabulary,
)
from tests.tiny import tiny_checkpoint
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats import read_encoder
from textclf.encoders.formats.question_head import question_head
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.errors import EncoderError

KERNEL = np.random.default_rng(3).normal(size=(32, 2)).astype(np.float32)
BIAS = np.array([0.25, -0.5], np.float32)


def write_with_head(
    folder: Path, form: str, checkpoint: EncoderCheckpoint, kernel: np.ndarray = KERNEL, bias: np.ndarray | None = BIAS
) -> Path:
    """An encoder in a form, with `kernel` [hidden, 2] and `bias` under the names that this form has for them."""
    squad = {"cls/squad/output_weights": np.ascontiguousarray(kernel.T)}
    outputs = {"qa_outputs.weight": np.ascontiguousarray(kernel.T)}
    if bias is not None:
        squad["cls/squad/output_bias"] = outputs["qa_outputs.bias"] = bias
    if form in ("tf1_checkpoint", "tf1_hub"):
        write = write_tf1_checkpoint if form == "tf1_checkpoint" else write_tf1_hub
        write(folder, checkpoint)
        prefix = folder / ("mobilebert_variables.ckpt" if form == "tf1_checkpoint" else "variables/variables")
        encoder = {f"bert/{name}": array for name, array in checkpoint.weights.items()}
        slots = {"cls/squad/output_weights/adam_m": np.ones((2, 32), np.float32)}
        write_variables(prefix, {**encoder, **squad, **slots})
        return folder
    write_vocabulary(folder, checkpoint)
    (folder / "config.json").write_text(json.dumps({"model_type": "mobilebert", **settings_of(checkpoint)}))
    arrays = {**pytorch_arrays(checkpoint, "mobilebert."), **outputs}
    if form == "model.safetensors":
        write_safetensors(folder / form, arrays)
    elif form == "tf_model.h5":
        import h5py

        write_keras_h5(folder / form, checkpoint)
        with h5py.File(folder / form, "a") as content:
            content["qa_outputs/tf_mobile_bert_for_question_answering/qa_outputs/kernel:0"] = kernel
            content["qa_outputs/tf_mobile_bert_for_question_answering/qa_outputs/bias:0"] = bias
    else:
        (folder / "pytorch_model.bin").write_bytes(
            (pytorch_zip if form == "pytorch_model.bin" else pytorch_old)(arrays)
        )
    return folder


@pytest.mark.parametrize(
    "form", ["tf1_checkpoint", "tf1_hub", "model.safetensors", "pytorch_model.bin", "old.bin", "tf_model.h5"]
)
def test_a_published_head_is_read_with_its_encoder(tmp_path, form):
    checkpoint = tiny_checkpoint()
    found = read_encoder(write_with_head(tmp_path / "encoder", form, checkpoint))
    head = question_head(found)
    np.testing.assert_array_equal(head.kernel, KERNEL)
    np.testing.assert_array_equal(head.bias, BIAS)
    assert (head.mean == 0).all()
    assert (head.scale == 1).all()
    assert (head.mean.shape, head.scale.shape) == ((2, 32), (2, 32))
    plain = read_encoder(write_hugging_face(tmp_path / "plain", checkpoint))
    assert question_head(plain) is None
    assert found.fingerprint() == plain.fingerprint(), "another task would not know its encoder again"


def test_the_head_of_a_run_of_this_task_is_read_and_that_of_a_classifier_is_not(tmp_path):
    write_encoder(tmp_path, tiny_checkpoint())
    random = np.random.default_rng(0)
    mean, scale = random.normal(size=(2, 2, 32)).astype(np.float32)
    head = {"head/kernel": KERNEL, "head/bias": BIAS, "features/mean": mean, "features/scale": scale}
    write_safetensors(tmp_path / "head.safetensors", head)
    found = question_head(read_encoder(tmp_path))
    for array, expected in zip(found, (KERNEL, BIAS, mean, scale), strict=True):
        np.testing.assert_array_equal(array, expected)
    write_safetensors(tmp_path / "head.safetensors", {**head, "features/mean": mean[0], "features/scale": scale[0]})
    assert question_head(read_encoder(tmp_path)) is None


@pytest.mark.parametrize(
    ("kernel", "bias", "problem"),
    [
        (
            np.ones((32, 5), np.float32),
            np.ones(5, np.float32),
            r"'qa_outputs\.weight', has the shape \[32, 5\].* expected \[32, 2\]",
        ),
        (KERNEL, np.ones(3, np.float32), r"the bias of its head .*'qa_outputs\.bias', has the shape \[3\]"),
        (KERNEL, None, r"has 'qa_outputs\.weight' but no bias; get the encoder again"),
        (np.full((32, 2), np.nan, np.float32), BIAS, r"'qa_outputs\.weight' holds NaN or infinity, 64 of 64 numbers"),
        (KERNEL.astype(np.int32), BIAS, r"'qa_outputs\.weight' holds int32, expected floating-point"),
    ],
)
def test_a_head_that_cannot_be_used_is_an_error_only_where_it_is_asked_for(tmp_path, kernel, bias, problem):
    found = read_encoder(write_with_head(tmp_path / "encoder", "model.safetensors", tiny_checkpoint(), kernel, bias))
    with pytest.raises(EncoderError, match=problem):
        question_head(found)


# --- The signature of a Hub module -----------------------------------------------------------------------------------
def write_hub_with_signature(folder: Path, *, resources: bool, swapped: bool = False, other: bool = False) -> Path:
    """A TF1 Hub module whose signature `squad` computes as run_squad.py's `create_model`, from variables of other names.

    `swapped`: the end is the first output of the head. `other`: the logits are doubled, which is no dense layer.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    checkpoint = tiny_checkpoint()
    write_tf1_hub(folder, checkpoint)
    head = {"answer/weights": np.ascontiguousarray(KERNEL.T), "answer/offsets": BIAS}
    arrays = {f"bert/{name}": array for name, array in checkpoint.weights.items()}
    write_variables(folder / "variables" / "variables", {**arrays, **head})
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.variable_scope("", use_resource=resources):
        states = v1.placeholder(tf.float32, [None, None, 32], "states")
        zeros = tf.zeros_initializer()
        kernel, bias = (v1.get_variable(name, array.shape, tf.float32, zeros) for name, array in head.items())
        shape = tf.shape(states)
        logits = tf.nn.bias_add(tf.matmul(tf.reshape(states, [-1, 32]), kernel, transpose_b=True), bias)
        logits = 2 * logits if other else logits
        logits = tf.transpose(tf.reshape(logits, [shape[0], shape[1], 2]), [2, 0, 1])
        first, second = tf.unstack(logits, axis=0)
    start, end = (second, first) if swapped else (first, second)
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for meta_graph in model.meta_graphs:
        for node in graph.as_graph_def().node:
            meta_graph.graph_def.node.add().CopyFrom(node)
        outputs = meta_graph.signature_def["squad"].outputs
        outputs["start_logits"].name, outputs["end_logits"].name = start.name, end.name
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


@pytest.mark.parametrize("resources", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
def test_the_head_behind_the_signature_squad_is_found_whatever_its_variables_are_called(tmp_path, resources, swapped):
    found = read_encoder(write_hub_with_signature(tmp_path / "module", resources=resources, swapped=swapped))
    head = question_head(found)
    np.testing.assert_array_equal(head.kernel, KERNEL[:, ::-1] if swapped else KERNEL)
    np.testing.assert_array_equal(head.bias, BIAS[::-1] if swapped else BIAS)
    assert not [name for name in found.weights if name.startswith("answer")]


def test_a_signature_that_computes_otherwise_is_no_head(tmp_path):
    found = read_encoder(write_hub_with_signature(tmp_path / "module", resources=True, other=True))
    assert question_head(found) is None
