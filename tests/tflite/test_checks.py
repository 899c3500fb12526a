"""The structure check: a sound file passes, and each of the ways in which files are broken is named."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.model_files import stored_types
from tests.tflite.test_inference_graph import LENGTH, classifier_weights
from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.data.tokens.vocabulary import vocabulary_hash
from textclf.tflite.checks import structure_problems
from textclf.tflite.format.packed_files import append_files
from textclf.tflite.graph.mobilebert import build_inference_graph
from textclf.tflite.metadata import write_metadata

LABELS = ["good", "bad", "neither"]


def described(graph: bytes, labels=LABELS, vocabulary=VOCABULARY, **settings) -> bytes:
    return write_metadata(
        graph, name="test", labels=labels, vocabulary=vocabulary, settings={"text": ["t"], **settings}
    )


@pytest.fixture(scope="module")
def graph() -> bytes:
    return build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "dynamic")


def renamed(model: bytes, old: bytes, new: bytes, occurrence: int = 0) -> bytes:
    """The model with one of the places changed at which a text of this length stands as a flatbuffer's string."""
    pattern = len(old).to_bytes(4, "little") + old + b"\0"
    parts = model.split(pattern)
    assert len(parts) > occurrence + 1
    changed = len(new).to_bytes(4, "little") + new + b"\0"
    return pattern.join(parts[: occurrence + 1]) + changed + pattern.join(parts[occurrence + 1 :])


def unpacked(model: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))


def packed(model: schema.ModelT) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_metadata_name(graph: bytes, old: bytes, new: bytes) -> bytes:
    """Changes a name in the metadata, of which the graph and its signature have copies before or behind it."""
    model = described(graph)
    start = model.index(b"M001")
    end = start + 2000
    return model[:start] + renamed(model[start:end], old, new) + model[end:]


def with_int64_input(graph: bytes) -> bytes:
    model = unpacked(graph)
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].type = schema.TensorType.INT64
    return described(packed(model))


def with_batch_of_two(graph: bytes) -> bytes:
    model = unpacked(graph)
    for index in model.subgraphs[0].inputs:
        model.subgraphs[0].tensors[index].shape = np.array([2, LENGTH], np.int32)
    return described(packed(model))


def with_labels_file(graph: bytes, content: bytes | None) -> bytes:
    """Other labels packed behind the model than it was made with; None leaves the file out."""
    model = described(graph)
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    del files["labels.txt"]
    if content is not None:
        files["labels.txt"] = content
    return append_files(model[: model.index(b"PK\3\4")], files)


BROKEN = {
    "an input of another name": (
        lambda graph: with_metadata_name(graph, b"mask", b"musk"),
        "MediaPipe finds its inputs by the names",
    ),
    "an output of another name": (
        lambda graph: with_metadata_name(graph, b"probability", b"probabilitx"),
        "segmentation fault",
    ),
    "int64 inputs": (with_int64_input, "the input ids is int64; runtimes write int32"),
    "two texts a call": (with_batch_of_two, "runtimes write one text, [1, length], into each"),
    "no metadata": (lambda graph: graph, "without metadata"),
    "a zip that is cut off": (lambda graph: described(graph)[:-200], "packed behind the model"),
    "half a file": (lambda graph: described(graph)[: len(graph) // 2], "TFLite"),
    "another vocabulary": (
        lambda graph: described(graph, vocabulary_sha256=vocabulary_hash([*VOCABULARY, "more"])),
        "was exported with",
    ),
    "a vocabulary without special pieces": (
        lambda graph: described(graph, vocabulary=[piece.strip("[]") for piece in VOCABULARY]),
        "lacks [PAD], [UNK], [CLS], [SEP]",
    ),
    "a vocabulary larger than the table": (
        lambda graph: described(graph, vocabulary=[*VOCABULARY, "two", "more"]),
        "ids would lie outside",
    ),
    "a label missing": (
        lambda graph: with_labels_file(graph, b"good\nbad\n"),
        "2 labels for an output of the shape [1, 3]; expected one label for each number",
    ),
    "a label too many": (
        lambda graph: with_labels_file(graph, b"good\nbad\nneither\nboth\n"),
        "4 labels for an output of the shape [1, 3]; expected one label for each number",
    ),
    "no labels file": (
        lambda graph: with_labels_file(graph, None),
        "the metadata names labels.txt, but packed behind the model are vocab.txt, textclf.json",
    ),
    "an empty labels file": (lambda graph: with_labels_file(graph, b""), "no labels are attached to the output"),
    "a label twice": (lambda graph: described(graph, labels=["good", "bad", "good"]), "'good' occurs twice"),
    "other weights than it says": (lambda graph: described(graph, quantization="int4"), "are stored"),
    "a runtime that is too old": (
        lambda graph: described(graph, compatibility="task-library"),
        "FULLY_CONNECTED has version 12, but Task Library 0.4.4 knows versions up to 10",
    ),
}


def test_a_sound_file_has_no_problems(graph):
    model = described(graph, quantization="dynamic", vocabulary_sha256=vocabulary_hash(VOCABULARY))
    assert structure_problems(model, vocabulary=VOCABULARY) == []


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named(kind, graph):
    breaks, message = BROKEN[kind]
    problems = structure_problems(breaks(graph))
    assert any(message in problem for problem in problems), problems


def test_metadata_in_another_order_than_the_inputs_are_found(graph):
    model = described(graph)
    end_of_metadata = model.index(b"M001") + 2000
    graph_part = model[end_of_metadata:].replace(b"\4\0\0\0mask\0", b"\3\0\0\0ids\0\0")
    problems = structure_problems(model[:end_of_metadata] + graph_part)
    assert problems == ["the metadata call the input tensor ids mask, but it is ids: they are in another order"]


def test_a_vocabulary_other_than_the_trained_one_is_found(graph):
    assert any("trained with" in problem for problem in structure_problems(described(graph), vocabulary=["a", "b"]))


def test_the_kernels_are_counted_by_type(graph):
    counts = stored_types(described(graph))
    assert counts.pop("float32") == 1
    assert list(counts) == ["int8"]
    assert counts["int8"] > 10
