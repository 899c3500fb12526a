"""The reader of `.tflite` files and the check before a run: what is sound passes, what could do harm is named."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.encoders.test_average_words import as_model_maker
from tests.model_files import places_of_graph, with_meaningful_damage, with_random_damage
from tests.tflite.test_checks import described, packed, unpacked
from tests.tflite.test_inference_graph import LENGTH, classifier_weights
from tests.tiny import tiny_checkpoint
from textclf.errors import ModelError
from textclf.tflite.checks import structure_problems
from textclf.tflite.format.flatbuffer import DamagedFlatbufferError, FlatTable
from textclf.tflite.format.packed_files import append_files
from textclf.tflite.graph.mobilebert import build_inference_graph
from textclf.tflite.inspection import inspect_model
from textclf.tflite.metadata import read_metadata
from textclf.tflite.model_file import TfliteModel, read_file
from textclf.tflite.trial.graph_check import check_graph, strange_weights


@pytest.fixture(scope="module")
def graph() -> bytes:
    return build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "dynamic")


@pytest.fixture(scope="module")
def model(graph) -> bytes:
    return described(graph, tokenizer="device", quantization="dynamic")


def operator(model: schema.ModelT, name: str) -> schema.OperatorT:
    """The first operation of a kind."""
    code = getattr(schema.BuiltinOperator, name)
    found = model.subgraphs[0].operators
    return next(op for op in found if model.operatorCodes[op.opcodeIndex].builtinCode == code)


def tensor(model: schema.ModelT, index: int) -> schema.TensorT:
    return model.subgraphs[0].tensors[index]


def constant(model: schema.ModelT, index: int, values: list[int]) -> None:
    """Another content of a constant of int32, of another length where it must be."""
    found = tensor(model, index)
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.asarray(values, np.int32).view(np.uint8)
    found.buffer = len(model.buffers) - 1
    if found.shape is not None and len(found.shape):
        found.shape = np.asarray([len(values)], np.int32)


def weights_with_scales(model: schema.ModelT) -> schema.TensorT:
    return next(t for t in model.subgraphs[0].tensors if t.quantization is not None and len(t.quantization.scale) > 1)


def set_to(path: str, value: object) -> Callable[[schema.ModelT], None]:
    """What sets an attribute of the first tensor, operation or whatever a path from the model leads to."""

    def change(model: schema.ModelT) -> None:
        *steps, last = path.split(".")
        place: object = model
        for step in steps:
            place = place[int(step)] if step.lstrip("-").isdigit() else getattr(place, step)  # type: ignore[index]
        setattr(place, last, value)

    return change


def written_twice(model: schema.ModelT) -> None:
    first, second = model.subgraphs[0].operators[:2]
    second.outputs = list(first.outputs)


def in_another_order(model: schema.ModelT) -> None:
    model.subgraphs[0].operators.reverse()


def into_a_constant(model: schema.ModelT) -> None:
    operator(model, "FULLY_CONNECTED").outputs = [int(operator(model, "FULLY_CONNECTED").inputs[1])]


def with_an_operand(name: str, position: int, value: int) -> Callable[[schema.ModelT], None]:
    def change(model: schema.ModelT) -> None:
        found = operator(model, name)
        inputs = [int(index) for index in found.inputs]
        inputs[position] = value
        found.inputs = inputs

    return change


def with_numbers(name: str, position: int, *values: int) -> Callable[[schema.ModelT], None]:
    return lambda model: constant(model, int(operator(model, name).inputs[position]), list(values))


def with_option(name: str, option: str, value: object) -> Callable[[schema.ModelT], None]:
    return lambda model: setattr(operator(model, name).builtinOptions, option, value)


def with_scales(**changes: object) -> Callable[[schema.ModelT], None]:
    def change(model: schema.ModelT) -> None:
        found = weights_with_scales(model).quantization
        for key, value in changes.items():
            setattr(found, key, value(found) if callable(value) else value)

    return change


def of_kind(name: str) -> Callable[[schema.ModelT], None]:
    """The softmax becomes another operation."""

    def change(model: schema.ModelT) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), 1
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = "TextDecoder" if name == "CUSTOM" else None
        model.operatorCodes.append(code)
        operator(model, "SOFTMAX").opcodeIndex = len(model.operatorCodes) - 1

    return change


def two_graphs(model: schema.ModelT) -> None:
    model.subgraphs.append(model.subgraphs[0])


def a_constant_input(model: schema.ModelT) -> None:
    tensor(model, model.subgraphs[0].inputs[0]).buffer = next(
        i for i, b in enumerate(model.buffers) if b.data is not None
    )


def half_a_buffer(model: schema.ModelT) -> None:
    found = weights_with_scales(model)
    model.buffers[found.buffer].data = model.buffers[found.buffer].data[:-3]


def control_dependencies(model: schema.ModelT) -> None:
    entry = schema.MetadataT()
    entry.name, entry.buffer = "model_control_dependencies", 0
    model.metadata = [entry]


def sparse(model: schema.ModelT) -> None:
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder = [0, 1]
    weights_with_scales(model).sparsity = parameters


DAMAGE: dict[str, tuple[Callable[[schema.ModelT], None], str]] = {
    "an operand that is left out": (
        with_an_operand("TRANSPOSE", 1, -1),
        r"input 1 of operation \d+ \(TRANSPOSE\) is tensor -1",
    ),
    "an operand beyond the last tensor": (with_an_operand("ADD", 0, 100_000), "is tensor 100000 of"),
    "an operand of another shape": (with_an_operand("FULLY_CONNECTED", 1, 0), r"operation \d+ \(FULLY_CONNECTED\)"),
    "too few operands": (set_to("subgraphs.0.operators.-1.inputs", []), "has 0 inputs; expected 1"),
    "too many results": (set_to("subgraphs.0.operators.0.outputs", [3, 4]), "has 2 outputs; expected 1"),
    "a tensor written twice": (written_twice, "a constant, an input, or written before"),
    "a constant that is written": (into_a_constant, "a constant, an input, or written before"),
    "operations in another order": (in_another_order, "which nothing has written before"),
    "an output that nothing writes": (set_to("subgraphs.0.operators.-1.outputs", [0]), "writes tensor 0"),
    "an input beyond the last tensor": (set_to("subgraphs.0.inputs", [0, 1, 9999]), "an input is tensor 9999 of"),
    "an input twice": (set_to("subgraphs.0.inputs", [0, 0, 1]), r"its inputs are the tensors \[0, 0, 1\]"),
    "an input that is constant": (a_constant_input, "takes|is a constant"),
    "no output": (set_to("subgraphs.0.outputs", []), r"its outputs are the tensors \[\]"),
    "a kind of operation that is not there": (set_to("subgraphs.0.operators.0.opcodeIndex", 77), "is of kind 77 of"),
    "an unknown code": (set_to("operatorCodes.0.builtinCode", 5000), "the code 5000"),
    "an operation of its own": (of_kind("CUSTOM"), r"\(TextDecoder\) is a custom operation"),
    "another graph that is called": (of_kind("IF"), "calls another graph"),
    "a table of the runtime": (of_kind("HASHTABLE_LOOKUP"), "needs texts or tables"),
    "options of another operation": (of_kind("TRANSPOSE"), "has 1 inputs; expected 2"),
    "two graphs": (two_graphs, "it has 2 graphs"),
    "an axis beyond the shape": (with_option("GATHER", "axis", 5), "the axis is 5 of a tensor of 2 dimensions"),
    "axes that name one twice": (with_numbers("TRANSPOSE", 1, 0, 0, 0), "name one twice|axes are given"),
    "an axis that is none": (with_numbers("SPLIT", 0, 9), "the axis is 9"),
    "parts that do not come out": (with_option("SPLIT", "numSplits", 7), "its options say 7"),
    "a beginning outside": (with_numbers("SLICE", 1, 9999, 0), r"9999 \+ \d+ of \d+ are asked for"),
    "a shape of another size": (with_numbers("RESHAPE", 1, 5, 5), "cannot have the shape"),
    "a shape below zero": (with_numbers("RESHAPE", 1, -7, 5), "its shape is"),
    "padding of two gigabytes": (with_numbers("PADV2", 1, 0, 1 << 30), "amounts are given|bytes at once"),
    "a factor that is no number": (with_option("SOFTMAX", "beta", float("nan")), "its factor beta is nan"),
    "an unknown activation": (
        with_option("FULLY_CONNECTED", "fusedActivationFunction", 77),
        "its activation has the number 77",
    ),
    "shuffled weights": (with_option("FULLY_CONNECTED", "weightsFormat", 1), "its weights are shuffled"),
    "half a buffer": (half_a_buffer, r"takes [\d,]+ bytes, but [\d,]+ are stored"),
    "a buffer that is not there": (set_to("subgraphs.0.tensors.5.buffer", 100_000), "item 100000 of a list"),
    "a shape of a terabyte": (
        set_to("subgraphs.0.tensors.0.shape", [1, 1 << 30, 1 << 10]),
        "expected at most 1,073,741,824",
    ),
    "a negative size": (set_to("subgraphs.0.tensors.0.shape", [1, -5]), "with a negative size"),
    "nine dimensions": (set_to("subgraphs.0.tensors.0.shape", [1] * 9), "has 9 dimensions"),
    "an unknown type": (set_to("subgraphs.0.tensors.0.type", 99), "has the type 99"),
    "texts": (set_to("subgraphs.0.tensors.0.type", schema.TensorType.STRING), "has the type string"),
    "another type than is computed": (set_to("subgraphs.0.tensors.0.type", schema.TensorType.FLOAT32), "float32"),
    "a value that is kept": (set_to("subgraphs.0.tensors.0.isVariable", True), "kept from call to call"),
    "sparse weights": (sparse, "has sparse values"),
    "scales that are no numbers": (with_scales(scale=lambda q: np.full_like(q.scale, np.nan)), "not finite"),
    "scales below zero": (with_scales(scale=lambda q: -q.scale), "negative or not finite"),
    "too few scales": (with_scales(scale=lambda q: q.scale[:-1], zeroPoint=None), "scales along dimension"),
    "scales along another dimension": (with_scales(quantizedDimension=7), "along dimension 7"),
    "zero points beyond eight bits": (
        with_scales(zeroPoint=lambda q: np.full(len(q.scale), 1 << 40)),
        "zero points outside",
    ),
    "too many zero points": (with_scales(zeroPoint=lambda q: np.zeros(len(q.scale) + 1, np.int64)), "zero points"),
    "a signature of tensors that are not there": (
        set_to("signatureDefs.0.inputs.0.tensorIndex", 70_000),
        "a signature names",
    ),
    "an order of its own": (control_dependencies, "it changes the order"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_could_do_harm_is_found_before_it_runs(kind, graph):
    change, message = DAMAGE[kind]
    damaged = unpacked(graph)
    change(damaged)
    content = packed(damaged)
    with pytest.raises(ModelError, match=message) as caught:
        check_graph(TfliteModel(content, "m.tflite"))
    assert str(caught.value).startswith("m.tflite: ")
    assert str(caught.value).endswith("copy or export the model again")
    assert "\n" not in str(caught.value)


def test_sound_graphs_pass_at_every_length(graph):
    for content in (graph, as_model_maker()[0]):
        check_graph(TfliteModel(content))
    check_graph(TfliteModel(graph), lengths=range(2, LENGTH + 1))


def test_a_graph_that_does_not_fit_another_length_is_found(graph):
    fixed = unpacked(graph)
    index = int(operator(fixed, "RESHAPE").inputs[1])
    constant(fixed, index, [int(size) for size in tensor(fixed, operator(fixed, "RESHAPE").outputs[0]).shape])
    content = packed(fixed)
    check_graph(TfliteModel(content))
    with pytest.raises(ModelError, match=r"with inputs of \[1, 2\]"):
        check_graph(TfliteModel(content), lengths=[2])


def test_numbers_that_are_none_are_counted_by_tensor(graph):
    changed = unpacked(graph)
    bias = next(t for t in changed.subgraphs[0].tensors if t.name == b"head/bias")
    changed.buffers[bias.buffer].data = np.array([1, np.nan, np.inf], np.float32).view(np.uint8)
    assert strange_weights(TfliteModel(packed(changed))) == [
        "2 of 3 numbers in the tensor 'head/bias' are not numbers (NaN)"
    ]
    assert structure_problems(described(packed(changed)))[-1].startswith("2 of 3 numbers in the tensor 'head/bias'")
    assert strange_weights(TfliteModel(graph)) == []


# --- Files that are traps --------------------------------------------------------------------------------------------


def test_lists_that_share_their_bytes_are_given_up():
    """A vector of 2,000 offsets to one table with a text of 100,000 characters would be 200 MB."""
    builder = flatbuffers.Builder(1 << 20)
    text = builder.CreateString("x" * 100_000)
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, text, 0)
    table = builder.EndObject()
    builder.StartVector(4, 2_000, 4)
    for _ in range(2_000):
        builder.PrependUOffsetTRelative(table)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject(), b"TEST")
    root = FlatTable.root(bytes(builder.Output()), b"TEST")
    with pytest.raises(DamagedFlatbufferError, match="share too many bytes"):
        [item.text(3) for item in root.tables(0)]


def test_a_small_file_that_claims_gigabytes_takes_no_memory(model):
    tracemalloc.start()
    try:
        for place, size in random.Random(1).sample(places_of_graph(model), 8):
            claimed = bytearray(model)
            claimed[place : place + size] = b"\xff\xff\xff\x7f"[:size]
            structure_problems(bytes(claimed))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def repacked(model: bytes, **files: bytes) -> bytes:
    """The model with other files behind it; names have _ for their dot."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    kept.update({name.replace("_", "."): content for name, content in files.items()})
    return append_files(model[: model.index(b"PK\3\4")], kept)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels_txt": b"\n" * 100_002}, "labels.txt in it has 100,002 lines; expected at most 100,000"),
        ({"labels_txt": b"x" * 10_001}, "labels.txt:1 in it has 10,001 characters"),
        ({"vocab_txt": b"\n" * 2_000_002}, "vocab.txt in it has 2,000,002 lines"),
        ({"vocab_txt": b"[PAD]\n" + b"y" * 20_000}, "vocab.txt:2 in it has 20,000 characters"),
        ({"textclf_json": b" " * (1 << 20) + b"{}"}, "textclf.json in it has 1,048,578 bytes; expected at most"),
    ],
)
def test_packed_files_of_absurd_sizes_are_refused(files, message, model):
    with pytest.raises(ModelError, match=message):
        read_metadata(repacked(model, **files))


def test_more_digits_than_any_id_has_are_no_number():
    content, _, _ = as_model_maker()
    with pytest.raises(ModelError, match=r"vocab\.txt:2 in it is `a 9{57}…`, expected a word and its id"):
        read_metadata(repacked(content, vocab_txt=b"<PAD> 0\na " + b"9" * 5000 + b"\n"))


def test_pipes_and_files_of_another_kind_are_not_waited_for(tmp_path):
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match=r"pipe: not a file; give the path of a \.tflite file"):
        read_file(tmp_path / "pipe")
    with pytest.raises(ModelError, match=r"cannot be read \(.*null"):
        read_file("a\0b")


def test_a_file_larger_than_any_model_is_not_read(tmp_path):
    with (tmp_path / "huge.tflite").open("wb") as file:
        file.write(struct.pack("<I4s", 8, b"TFL3"))
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match=r"has 1,099,511,627,776 bytes; a model has at most"):
        read_file(tmp_path / "huge.tflite")


def test_weights_behind_the_flatbuffer_are_read_and_bounded(graph):
    changed = unpacked(graph)
    found = weights_with_scales(changed)
    data = bytes(changed.buffers[found.buffer].data)
    number = found.buffer
    changed.buffers[number].data = None
    changed.buffers[number].offset, changed.buffers[number].size = 1 << 20, len(data)
    content = packed(changed)
    whole = content + b"\0" * ((1 << 20) - len(content)) + data
    name = found.name.decode()
    read = next(t for t in TfliteModel(whole).tensors if t.name == name)
    assert read.span == (1 << 20, len(data))
    assert bytes(TfliteModel(whole).constant(read)) == data
    check_graph(TfliteModel(whole))
    with pytest.raises(ModelError, match=rf"buffer {number} ends at byte {(1 << 20) + len(data)}, the file at"):
        TfliteModel(whole[:-1]).tensors  # noqa: B018


# --- Chance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["random", "meaningful"])
def test_no_damage_brings_a_reader_to_another_end_than_an_answer_or_a_model_error(damage, model, tmp_path):
    words, _, _ = as_model_maker()
    chance = random.Random(f"seed of {damage} damage")
    path = tmp_path / "m.tflite"
    messages, slowest = [], 0.0
    for content in (model, words):
        places = places_of_graph(content)
        for _ in range(60):
            damaged = (
                with_random_damage(content, chance)
                if damage == "random"
                else with_meaningful_damage(content, places, chance)
            )
            path.write_bytes(damaged)
            begun = time.thread_time()
            for read in (read_metadata, inspect_model):
                try:
                    json.dumps(read(path).__dict__, default=str)
                except ModelError as error:
                    messages.append(str(error))
            assert all(isinstance(problem, str) for problem in structure_problems(damaged))
            slowest = max(slowest, time.thread_time() - begun)
    assert 30 < len(messages) < 240
    assert not any("\n" in message for message in messages)
    assert slowest < 2
