"""TFLite metadata: the same bytes as tflite-support's writer, read back whole, and nothing but ModelError for bad files.

`tflite_support.tflite` and `tflite_support_metadata.json` were made by tflite-support 0.4.4 from models like `tiny_model`.
"""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as tflite
from ai_edge_litert.interpreter import Interpreter

from textclf.errors import ModelError
from textclf.tflite import metadata
from textclf.tflite.format.flatbuffer import FlatTable, pack_table
from textclf.tflite.graph.builder import GraphBuilder
from textclf.tflite.metadata import ModelMetadata, append_files, metadata_buffer, read_metadata, write_metadata

DATA = Path(__file__).parents[1] / "fixtures"
REFERENCE = {
    name: base64.b64decode(content)
    for name, content in json.loads((DATA / "tflite_support_metadata.json").read_text())["buffers"].items()
}
LABELS = ["ham", "spam", "über"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "café"]
SETTINGS = {"tokenizer": "device", "text": ["Frage", "Antwört"], "label": None}
INPUTS = ("input_ids", "input_mask", "segment_ids")
# Texts of tflite-support's own, which its files carry.
STANDARD = {"name": "BertNLClassifier", "description": "Classify the input text into a set of known categories."}


def tiny_model(inputs=INPUTS) -> bytes:
    """int32 [1, 3] inputs, each times a number of its own, summed → softmax [1, 3]."""
    graph = GraphBuilder()
    total = graph.small_constant(np.zeros((1, 3), np.float32))
    for factor, name in enumerate(inputs, 1):
        weight = graph.constant(f"{name}/factor", np.float32([factor]))
        product = graph.binary(f"{name}/product", "MUL", graph.cast(f"{name}/float", graph.input(name, [1, 3])), weight)
        total = graph.binary(f"{name}/sum", "ADD", total, product)
    output = graph.op("scores", "SOFTMAX", [total], [1, 3], options={"beta": 0.25})
    return graph.finish({output: "probability"}, "tiny")


def described_model(**changes) -> bytes:
    arguments = {"name": "tiny", "labels": LABELS, "vocabulary": VOCABULARY, "settings": SETTINGS}
    return write_metadata(tiny_model(), **{**arguments, **changes})


def run(model: bytes) -> np.ndarray:
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.int32([[len(detail["name"]), 2, 7]]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_the_buffer_is_byte_for_byte_that_of_tflite_support():
    assert metadata_buffer(["ids", "mask", "segment_ids"], **STANDARD) == REFERENCE["standard"]


def test_the_buffer_follows_the_order_of_the_graph_s_inputs():
    assert metadata_buffer(["segment_ids", "mask", "ids"], **STANDARD) == REFERENCE["other_order"]


def test_the_buffer_is_that_of_tflite_support_with_every_field_filled():
    described = metadata_buffer(
        ["ids", "mask", "segment_ids"],
        name="support tickets",
        description="Sorts messages. Ü",
        version="1.2",
        author="A. Person",
        license="Apache-2.0",
        with_settings=True,
    )
    assert described == REFERENCE["everything"]


def test_the_buffer_of_a_regex_tokenizer_is_that_of_tflite_support():
    described = metadata_buffer(["input_text"], name="NLClassifier", delimiter_pattern=r"[^\w\']+")
    assert described == REFERENCE["regex"]


def test_lists_are_packed_in_their_order():
    builder = flatbuffers.Builder(0)
    builder.Finish(pack_table(builder, {0: [1.5, 2.5, 4.5], 1: [{0: "first"}, {0: "second"}]}), b"TEST")
    written = bytes(builder.Output())
    assert struct.pack("<I3f", 3, 1.5, 2.5, 4.5) in written
    assert [table.text(0) for table in FlatTable.root(written, b"TEST").tables(1)] == ["first", "second"]


def test_what_is_written_is_read_back():
    model = described_model(description="What it does", version="7", author="A. Person", license="MIT")
    assert read_metadata(model) == ModelMetadata(
        name="tiny",
        description="What it does",
        version="7",
        author="A. Person",
        license="MIT",
        min_parser_version="1.1.0",
        labels=("ham", "spam", "über"),
        tokenizer="bert",
        vocabulary=tuple(VOCABULARY),
        delimiter_pattern=None,
        input_names=("ids", "mask", "segment_ids"),
        output_names=("probability",),
        input_tensors=INPUTS,
        output_tensors=("scores",),
        files=("labels.txt", "vocab.txt", "textclf.json"),
        settings=SETTINGS,
        tokenizer_at_graph=True,
    )


def test_bytes_views_and_paths_are_read_alike(tmp_path):
    model = described_model()
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    assert read_metadata(path) == read_metadata(str(path)) == read_metadata(memoryview(model)) == read_metadata(model)


def test_a_file_without_settings_has_none():
    described = read_metadata(described_model(settings=None))
    assert described.settings is None
    assert described.files == ("labels.txt", "vocab.txt")


def test_inputs_are_told_apart_by_their_names():
    inputs = ("serving_default_input_type_ids:0", "serving_default_input_word_ids:0", "serving_default_input_mask:0")
    model = write_metadata(tiny_model(inputs), name="x", labels=LABELS, vocabulary=VOCABULARY)
    described = read_metadata(model)
    assert described.input_names == ("segment_ids", "ids", "mask")
    assert described.input_tensors == inputs


def test_a_regex_tokenizer_s_vocabulary_is_numbered():
    model = write_metadata(
        tiny_model(["word_ids"]), name="x", labels=LABELS, vocabulary=["<PAD>", "a b", "c"], delimiter_pattern=r"\W+"
    )
    described = read_metadata(model)
    assert (described.tokenizer, described.delimiter_pattern) == ("regex", r"\W+")
    assert described.vocabulary == ("<PAD>", "a b", "c")
    assert described.input_names == ("input_text",)
    assert zipfile.ZipFile(io.BytesIO(model)).read("vocab.txt") == b"<PAD> 0\na b 1\nc 2\n"


def test_the_model_computes_the_same_with_metadata():
    model = tiny_model()
    np.testing.assert_array_equal(run(described_model()), run(model))
    assert run(model).max() > 0.4


def test_everything_of_the_model_is_kept():
    def parts(content: bytes) -> tflite.ModelT:
        return tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(content, 0))

    before, after = parts(tiny_model()), parts(described_model())
    assert (after.version, after.description) == (before.version, before.description)
    assert [tensor.name for tensor in after.subgraphs[0].tensors] == [t.name for t in before.subgraphs[0].tensors]
    assert len(after.buffers) == len(before.buffers) + 1
    for old, new in zip(before.buffers, after.buffers, strict=False):
        np.testing.assert_array_equal(new.data, old.data)
    assert [signature.signatureKey for signature in after.signatureDefs] == [b"serving_default"]
    assert [entry.name for entry in after.metadata] == [b"TFLITE_METADATA"]
    assert bytes(after.buffers[after.metadata[0].buffer].data[4:8]) == b"M001"


def test_earlier_metadata_entries_stay():
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(tiny_model(), 0))
    entry = tflite.MetadataT()
    entry.name, entry.buffer = "min_runtime_version", 0
    model.metadata = [entry]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    described = write_metadata(bytes(builder.Output()), name="x", labels=LABELS, vocabulary=VOCABULARY)
    entries = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(described, 0)).metadata
    assert [entry.name for entry in entries] == [b"min_runtime_version", b"TFLITE_METADATA"]
    assert read_metadata(described).labels == tuple(LABELS)


@pytest.mark.parametrize("length", range(1, 18))
def test_weights_and_metadata_stay_aligned(length):
    name = "x" * length
    model, described = tiny_model(), described_model(name=name)
    assert described.find(model) > 0
    assert described.find(model) % 64 == 0
    assert described.find(metadata_buffer(["ids", "mask", "segment_ids"], name=name, with_settings=True)) % 16 == 0


def test_the_same_arguments_give_the_same_bytes():
    assert described_model(settings={"b": 1, "a": 2}) == described_model(settings={"a": 2, "b": 1})


def test_packed_files_are_stored_uncompressed_and_undated():
    entries = zipfile.ZipFile(io.BytesIO(described_model())).infolist()
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.create_system for entry in entries} == {3}


def test_files_can_be_appended_to_what_is_packed():
    model = append_files(described_model(), {"readme.txt": b"hello"})
    assert read_metadata(model).files == ("labels.txt", "vocab.txt", "textclf.json", "readme.txt")
    assert zipfile.ZipFile(io.BytesIO(model)).read("readme.txt") == b"hello"
    with pytest.raises(ModelError, match=r"vocab\.txt is packed into this model already"):
        append_files(model, {"vocab.txt": b""})


def test_a_file_that_tflite_support_wrote_is_read():
    described = read_metadata(DATA / "tflite_support.tflite")
    ours = read_metadata(
        described_model(
            name="support tickets",
            description="Sorts messages. Ü",
            version="1.2",
            author="A. Person",
            license="Apache-2.0",
            settings={},
        )
    )
    assert described == ours


def test_model_maker_s_file_is_read(shared):
    described = read_metadata(shared / "peers" / "model_maker_mobilebert_dynamic.tflite")
    assert described.labels == ("ham", "spam")
    assert described.tokenizer == "bert"
    assert (len(described.vocabulary), described.vocabulary[2045]) == (30522, "there")
    assert described.input_names == ("ids", "segment_ids", "mask")
    assert described.input_tensors[1] == "serving_default_input_type_ids:0"
    assert described.author == "TensorFlow Lite Model Maker"
    assert described.settings is None


def test_lines_are_read_as_devices_read_them():
    bare = write_metadata(tiny_model(), name="x", labels=LABELS, vocabulary=VOCABULARY)
    bare = bare[: bare.index(b"PK\x03\x04")]
    model = append_files(bare, {"labels.txt": b"a\r\nb\r\nc", "vocab.txt": b"[PAD]\r\n\nx\xe2\x80\xa8y\n \n"})
    described = read_metadata(model)
    assert described.labels == ("a", "b", "c")
    assert described.vocabulary == ("[PAD]", "x\u2028y", " ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a", "b"]}, r"shapes \[1, 3\]; expected one of \[1, 2\] for 2 labels"),
        ({"labels": ["a", "b\nc", "d"]}, r"label 1 is 'b\\nc'; expected text on one line"),
        ({"labels": ["a", "", "d"]}, "label 1 is ''"),
        ({"labels": ["a", "b", "\ud800"]}, "a label holds half of a character"),
        ({"vocabulary": ["[PAD]", "x\r"]}, r"vocabulary entry 1 is 'x\\r'"),
        ({"delimiter_pattern": r"\s"}, "the model has 3 inputs, expected one of word ids"),
    ],
)
def test_what_devices_would_misread_is_not_written(changes, message):
    with pytest.raises(ModelError, match=message):
        described_model(**changes)


def test_models_that_are_described_already_or_cannot_be_are_refused():
    def write(model: bytes) -> bytes:
        return write_metadata(model, name="x", labels=LABELS, vocabulary=VOCABULARY)

    with pytest.raises(ModelError, match="has metadata or packed files already"):
        write(described_model())
    with pytest.raises(ModelError, match="has metadata or packed files already"):
        write(append_files(tiny_model(), {"a": b""}))
    with pytest.raises(ModelError, match="inputs are named a, b, c; expected ids, mask and segment_ids"):
        write(tiny_model(["a", "b", "c"]))
    with pytest.raises(ModelError, match=r"not a whole TFLite file: bytes 4 to 8 are b'': expected|expected b'TFL3'"):
        write(b"")


def packed(**files: bytes) -> bytes:
    """The tiny model with metadata, and these files in place of those that it should have."""
    model = described_model()
    return append_files(model[: model.index(b"PK\x03\x04")], {name.replace("_", "."): files[name] for name in files})


def with_archive(**fields: object) -> bytes:
    """The tiny model with metadata, and an archive whose entries are written with these settings of `zipfile`."""
    stream = io.BytesIO()
    model = described_model()
    stream.write(model[: model.index(b"PK\x03\x04")])
    with zipfile.ZipFile(stream, "a", **fields) as archive:
        archive.writestr("labels.txt", "a\nb\nc\n" * 100)
        archive.writestr("vocab.txt", "[PAD]\n" * 100)
    return stream.getvalue()


def with_claimed_size(size: int) -> bytes:
    """The tiny model whose archive says that labels.txt is so large."""
    model = bytearray(packed(labels_txt=b"a\nb\nc\n", vocab_txt=b"x\n"))
    directory = model.index(b"PK\x01\x02")
    struct.pack_into("<I", model, directory + 24, size)
    return bytes(model)


def with_two_files_of_one_name() -> bytes:
    model = packed(labels_txt=b"a\nb\nc\n", labels_tx_=b"d\ne\nf\n", vocab_txt=b"x\n")
    return model.replace(b"labels.tx.", b"labels.txt")


BROKEN = {
    "empty": (b"", "bytes 4 to 8 are b'', expected b'TFL3'"),
    "a text": (b"text,label\n1,2\n", "bytes 4 to 8 are b',lab', expected b'TFL3'"),
    "no metadata": (tiny_model(), "a TFLite model without metadata"),
    "another metadata version": (described_model().replace(b"M001", b"M002", 1), "b'M002', expected b'M001'"),
    "cut in the graph": (described_model()[:900], "not a whole TFLite model"),
    "cut in the archive": (described_model()[:-30], "packed behind the model are no files; the file may be truncated"),
    "no vocabulary": (packed(labels_txt=b"a\nb\nc"), r"names vocab\.txt, but packed behind the model are labels\.txt"),
    "damaged vocabulary": (described_model().replace(b"good\nbad", b"gold\nbad"), "are damaged .*Bad CRC"),
    "labels in Latin-1": (packed(labels_txt=b"a\n\xfc", vocab_txt=b"x"), "not UTF-8 .byte 0xfc in line 2"),
    "compressed": (with_archive(compression=zipfile.ZIP_DEFLATED), "packed twice or compressed"),
    "absurd size": (with_claimed_size(0xFFFFFFF0), "is said to have 4294967280 bytes in 6"),
    "a file twice": (with_two_files_of_one_name(), "packed twice or compressed"),
    "settings cut off": (
        packed(labels_txt=b"a", vocab_txt=b"x", textclf_json=b'{"a'),
        "textclf.json in it is not JSON",
    ),
    "settings of a wrong kind": (
        packed(labels_txt=b"a", vocab_txt=b"x", textclf_json=b"[]"),
        r"is `\[\]`, expected an",
    ),
    "settings too deep": (packed(labels_txt=b"a", vocab_txt=b"x", textclf_json=b"[" * 99999), "is not JSON"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_says_what_was_found(name, tmp_path):
    content, message = BROKEN[name]
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_metadata(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_what_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(ModelError, match=r"missing\.tflite: the model cannot be read \(No such file"):
        read_metadata(tmp_path / "missing.tflite")
    with pytest.raises(ModelError, match=r"the model cannot be read \(Is a directory\)"):
        read_metadata(tmp_path)


def test_a_large_file_of_another_kind_is_told_by_its_start(tmp_path):
    with (tmp_path / "huge.tflite").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match=r"bytes 4 to 8 are b'\\x00\\x00\\x00\\x00', expected b'TFL3'"):
        read_metadata(tmp_path / "huge.tflite")


def test_metadata_of_another_graph_is_refused(monkeypatch):
    monkeypatch.setattr(metadata, "metadata_buffer", lambda *_, **__: REFERENCE["regex"])
    with pytest.raises(ModelError, match="describes 1 inputs and 1 outputs, but the graph has 3 and 1"):
        read_metadata(described_model())


def test_a_regex_vocabulary_that_is_not_numbered_is_refused():
    model = write_metadata(
        tiny_model(["word_ids"]), name="x", labels=LABELS, vocabulary=["a", "b"], delimiter_pattern=" "
    )
    model = model[: model.index(b"PK\x03\x04")]
    with pytest.raises(ModelError, match=r"vocab\.txt:2 in it is `b x`, expected a word and its id"):
        read_metadata(append_files(model, {"labels.txt": b"a", "vocab.txt": b"a 0\nb x\n"}))
    with pytest.raises(ModelError, match="gives 2 words 2 different ids up to 429496729; expected 0 to 1"):
        read_metadata(append_files(model, {"labels.txt": b"a", "vocab.txt": b"a 0\nb 429496729\n"}))


def test_no_damage_causes_another_error():
    chance = random.Random(5)
    whole = described_model()
    refused = 0
    for _ in range(1500):
        model = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3, 20])):
            value = chance.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(model), chance.randrange(1 << 32)])
            struct.pack_into("<I", model, chance.randrange(len(model) - 4), value)
        try:
            read_metadata(model[: chance.choice([len(model), chance.randrange(len(model))])])
        except ModelError:
            refused += 1
    assert 500 < refused < 1500


def test_no_damage_of_a_bare_model_causes_another_error():
    chance = random.Random(6)
    whole = tiny_model()
    refused = 0
    for _ in range(1500):
        model = bytearray(whole)
        value = chance.choice([0, 0xFFFFFFFF, len(model), chance.randrange(1 << 32)])
        struct.pack_into("<I", model, chance.randrange(len(model) - 4), value)
        try:
            write_metadata(bytes(model), name="x", labels=LABELS, vocabulary=VOCABULARY)
        except ModelError:
            refused += 1
    assert 100 < refused < 1500


def test_reading_loads_neither_the_writer_nor_tensorflow():
    code = (
        f"import sys; from textclf.tflite.metadata import read_metadata; read_metadata({str(DATA)!r} + '/tflite_support.tflite');"
        "print([name for name in ('flatbuffers', 'tensorflow', 'keras', 'ai_edge_litert') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
