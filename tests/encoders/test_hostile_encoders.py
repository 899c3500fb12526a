"""Encoder files that are damaged, or made to harm: each is refused in one line, at once, in little memory."""

from __future__ import annotations

import io
import json
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.encoder_writers import (
    pytorch_arrays,
    pytorch_old,
    pytorch_zip,
    write_hugging_face,
    write_tf1_checkpoint,
    write_tf1_hub,
    write_tf2_saved_model,
    write_variables,
)
from tests.mutations import mutated
from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.encoders.formats import hdf5_file, read_encoder, read_facts
from textclf.encoders.formats.pytorch_file import index_pytorch
from textclf.encoders.formats.tensorflow_checkpoint import index_checkpoint
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.errors import EncoderError

Write = Callable[[Path], object]


def hugging_face(form: str) -> Write:
    return lambda folder: write_hugging_face(folder, tiny_checkpoint(), form)


def tokenizer_json(folder: Path) -> None:
    write_hugging_face(folder, tiny_checkpoint())
    (folder / "vocab.txt").unlink()
    model = {"type": "WordPiece", "vocab": {piece: number for number, piece in enumerate(VOCABULARY)}}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, "normalizer": {"lowercase": True}}))


READERS: dict[str, tuple[Write, str, int]] = {
    "our own weights": (lambda folder: write_encoder(folder, tiny_checkpoint()), "encoder.safetensors", 60),
    "our own int8 weights": (
        lambda folder: write_encoder(folder, tiny_checkpoint(), "int8"),
        "encoder.safetensors",
        60,
    ),
    "our own configuration": (lambda folder: write_encoder(folder, tiny_checkpoint()), "config.json", 60),
    "safetensors": (hugging_face("model.safetensors"), "model.safetensors", 60),
    "list of shards": (hugging_face("model.safetensors.index.json"), "model.safetensors.index.json", 40),
    "PyTorch's zip": (hugging_face("pytorch_model.bin"), "pytorch_model.bin", 60),
    "PyTorch's older form": (hugging_face("old.bin"), "pytorch_model.bin", 60),
    "configuration": (hugging_face("model.safetensors"), "config.json", 60),
    "vocabulary": (hugging_face("model.safetensors"), "vocab.txt", 60),
    "tokenizer.json": (tokenizer_json, "tokenizer.json", 60),
    "HDF5": (hugging_face("tf_model.h5"), "tf_model.h5", 3),
    "checkpoint's index": (
        lambda folder: write_tf1_checkpoint(folder, tiny_checkpoint()),
        "mobilebert_variables.ckpt.index",
        60,
    ),
    "checkpoint's data": (
        lambda folder: write_tf1_checkpoint(folder, tiny_checkpoint()),
        "mobilebert_variables.ckpt.data-00000-of-00001",
        20,
    ),
    "TF1 SavedModel": (lambda folder: write_tf1_hub(folder, tiny_checkpoint()), "saved_model.pb", 60),
    "TF2 SavedModel": (lambda folder: write_tf2_saved_model(folder, tiny_checkpoint()), "saved_model.pb", 10),
    "TF2 variables": (lambda folder: write_tf2_saved_model(folder, tiny_checkpoint()), "variables/variables.index", 10),
    "Keras metadata": (lambda folder: write_tf2_saved_model(folder, tiny_checkpoint()), "keras_metadata.pb", 10),
}


@pytest.mark.parametrize("reader", READERS)
def test_whatever_is_damaged_is_read_or_refused_in_one_line(reader: str, tmp_path: Path) -> None:
    write, name, count = READERS[reader]
    folder = tmp_path / "encoder"
    write(folder)
    whole = (folder / name).read_bytes()
    messages: list[str] = []
    for seed in range(count):
        (folder / name).write_bytes(mutated(whole, seed))
        for read in (read_encoder, read_facts):
            try:
                read(folder)
            except EncoderError as error:
                messages.append(str(error))
    assert messages
    assert [message for message in messages if "\n" in message or str(folder) not in message] == []


def peak_growth(read: Callable[[], object]) -> int:
    """How much the process's largest memory grew, in bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EncoderError):
        read()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


# Claims of sizes: compared with the file before anything is reserved.


def test_rows_that_share_their_numbers_do_not_fill_the_memory(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    rows = 30_000_000
    table = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (rows, 16), (0, 0))

    class OneNumber(np.ndarray):
        def tobytes(self, order: str = "C") -> bytes:
            return b"\0\0\0\0"

        @property
        def size(self) -> int:
            return 1

    write_hugging_face(tmp_path, checkpoint, "pytorch_model.bin")
    arrays = {"embeddings.word_embeddings.weight": table.view(OneNumber)}
    (tmp_path / "pytorch_model.bin").write_bytes(pytorch_zip({**pytorch_arrays(checkpoint), **arrays}))
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "vocab_size": rows}))
    with pytest.raises(EncoderError, match=r"claims 480,\d+,\d+ parameters in \d+,\d+ bytes"):
        read_encoder(tmp_path)


def test_a_safetensors_header_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, tiny_checkpoint())
    content = (tmp_path / "encoder.safetensors").read_bytes()
    (tmp_path / "encoder.safetensors").write_bytes(struct.pack("<Q", 2**40) + content[8:])
    with pytest.raises(EncoderError, match="its list of tensors has 1,099,511,627,776 bytes"):
        read_encoder(tmp_path)


def test_an_hdf5_dataset_that_claims_more_than_its_file_is_refused(tmp_path: Path) -> None:
    import h5py

    write_hugging_face(tmp_path, tiny_checkpoint(), "tf_model.h5")
    with h5py.File(tmp_path / "tf_model.h5", "a") as content:
        content.create_dataset("big", (2_000_000_000,), np.float64, chunks=(1000,), fillvalue=1.0)
    with pytest.raises(EncoderError, match=r"tf_model\.h5: cannot be read as HDF5 \(it claims more than"):
        read_encoder(tmp_path)


def test_a_library_that_dies_or_hangs_over_an_hdf5_file_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint(), "tf_model.h5")
    program = tmp_path / "python"
    for script, message in (("kill -SEGV $$", "ends with code -11"), ("exec sleep 60", "reading it does not end")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(hdf5_file.sys, "executable", str(program))
        monkeypatch.setattr(hdf5_file, "LEAST_TIME", 0.5)
        with pytest.raises(EncoderError, match=message):
            read_encoder(tmp_path)


# Pickles: as many steps as an encoder's list needs, and no numbers that take minutes to multiply.


def old_form(tensors: bytes) -> bytes:
    writer = {"protocol_version": 1001, "little_endian": True}
    return b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, writer)) + tensors


def test_a_pickle_of_millions_of_empty_objects_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(old_form(b"\x80\x02(" + b"}" * 600_000 + b"t."))
    with pytest.raises(EncoderError, match="has a list of tensors of more than 500,000 steps"):
        index_pytorch([tmp_path / "pytorch_model.bin"])


def test_a_shape_of_enormous_numbers_is_refused_at_once(tmp_path: Path) -> None:
    array = np.ones(4, np.float32)
    content = pytorch_old({"a": array})
    # The shape (4,) becomes a tuple of 100,000 numbers of 255 bytes.
    large = b"\x8a\xff" + b"\x01" * 254 + b"\x7f"
    shape = b"(" + large * 100_000 + b"t"
    assert content.count(b"K\x04\x85") >= 1
    (tmp_path / "pytorch_model.bin").write_bytes(content.replace(b"K\x04\x85", shape, 1))
    with pytest.raises(EncoderError, match="has a tensor with a malformed shape"):
        index_pytorch([tmp_path / "pytorch_model.bin"])


def test_a_zip_entry_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"x")
        archive.writestr("archive/byteorder", b"little" + bytes(100 * 2**20))
    (tmp_path / "pytorch_model.bin").write_bytes(buffer.getvalue())
    grown = peak_growth(lambda: index_pytorch([tmp_path / "pytorch_model.bin"]))
    assert grown < 40 * 2**20


def test_a_zip_archive_with_a_list_of_a_million_entries_is_not_listed(tmp_path: Path) -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    listed = entry * 300_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(listed), 4, 0)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + listed + end)
    with pytest.raises(EncoderError, match="its list of entries is longer than an encoder's"):
        index_pytorch([tmp_path / "pytorch_model.bin"])


# JSON.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "mobilebert", "vocab_size": ' + "9" * 5000 + "}", "config.json: is not JSON that can be read"),
        ('{"model_type": "' + "m" * 5000 + '"}', r'`model_type` is "m{78}…, expected "mobilebert"'),
        (" " * 2**21, "config.json: is longer than 1,048,576 bytes"),
        ('{"model_type": "mobilebert", "hidden_act": [' + "[" * 500 + "]" * 500 + "]}", "`hidden_act` is"),
    ],
)
def test_a_configuration_made_to_harm_is_refused_with_a_short_message(
    content: str, message: str, tmp_path: Path
) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint())
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(EncoderError, match=message) as caught:
        read_encoder(tmp_path)
    assert len(str(caught.value)) < 600


# Checkpoints of TensorFlow.


def test_a_checkpoint_whose_index_was_changed_is_refused_by_its_checksum(tmp_path: Path) -> None:
    write_tf1_checkpoint(tmp_path, tiny_checkpoint())
    index = next(tmp_path.glob("*.index"))
    content = bytearray(index.read_bytes())
    content[100] ^= 1
    index.write_bytes(content)
    with pytest.raises(
        EncoderError, match=r"\.index: cannot be read as a TensorFlow checkpoint \(a checksum is wrong\)"
    ):
        read_encoder(tmp_path)


def test_a_checkpoint_whose_numbers_were_changed_is_refused_by_the_tensor(tmp_path: Path) -> None:
    write_tf1_checkpoint(tmp_path, tiny_checkpoint())
    data = next(tmp_path.glob("*.data-*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(EncoderError, match=r"the tensor 'bert/.*' cannot be read \(its checksum is wrong\)"):
        read_encoder(tmp_path)


def test_every_type_of_a_checkpoint_is_read_as_tensorflow_wrote_it(tmp_path: Path) -> None:
    import ml_dtypes

    types = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool", ml_dtypes.bfloat16)
    arrays = {f"a/{np.dtype(kind).name}": np.arange(6).reshape(2, 3).astype(kind) for kind in types}
    write_variables(tmp_path / "c", {**arrays, "scalar": np.float32(2.5), "text": np.array(b"a\0b", object)})
    found = index_checkpoint(tmp_path / "c")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].read(), array)
        assert found[name].dtype == name[2:]
    assert found["scalar"].read() == np.float32(2.5)
    assert found["text"].read().item() == b"a\0b"


# Numbers that are none.


def test_numbers_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    checkpoint.weights["embeddings/FakeLayerNorm/beta"][[5, 7]] = np.nan, np.inf
    write_encoder(tmp_path, checkpoint)
    message = "the tensor 'embeddings/FakeLayerNorm/beta' holds NaN or infinity, 2 of 32 numbers"
    with pytest.raises(EncoderError, match=message):
        read_encoder(tmp_path)


# Vocabularies.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: b"\xef\xbb\xbf" + text, r"vocab\.txt:1: the file begins with a byte order mark"),
        (lambda text: text.replace(b"good\n", b"go\0od\n"), r"vocab\.txt:\d+: the entry 'go\\x00od' is empty or holds"),
        (lambda text: text.replace(b"good\n", b"g" * 3_000_000 + b"\n"), "the entry has 3,000,000 characters"),
        (lambda text: text + b"x\n" * 20_000_000, r"vocab\.txt: is longer than 33,554,432 bytes"),
        (lambda text: text.replace(b"good", b"\xed\xa0\x80"), r"vocab\.txt:\d+: byte 0xed at offset \d+ is not UTF-8"),
        (lambda text: text.replace(b"\n", b"\r"), r"vocab\.txt.*(characters|holds 1 entries)"),
    ],
)
def test_a_vocabulary_that_devices_cannot_use_is_refused(
    change: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    write_encoder(tmp_path, tiny_checkpoint())
    (tmp_path / "vocab.txt").write_bytes(change((tmp_path / "vocab.txt").read_bytes()))
    with pytest.raises(EncoderError, match=message) as caught:
        read_encoder(tmp_path)
    assert len(str(caught.value)) < 500


def test_a_vocabulary_with_windows_line_ends_is_the_same_vocabulary(tmp_path: Path) -> None:
    write_encoder(tmp_path, tiny_checkpoint())
    (tmp_path / "vocab.txt").write_bytes((tmp_path / "vocab.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert read_encoder(tmp_path).vocabulary == VOCABULARY


@pytest.mark.parametrize("piece", ["\ud800", "", "a\nb"])
def test_a_piece_that_no_vocabulary_file_could_hold_is_refused(piece: str, tmp_path: Path) -> None:
    tokenizer_json(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace('"good"', json.dumps(piece)))
    with pytest.raises(EncoderError, match="is empty or holds a line end, a NUL or half a surrogate pair"):
        read_encoder(tmp_path)


@pytest.mark.parametrize("number", ["[]", "1.5", "null", "true", '"3"'])
def test_a_tokenizer_whose_ids_are_no_numbers_is_refused(number: str, tmp_path: Path) -> None:
    tokenizer_json(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace('"[PAD]": 0', f'"[PAD]": {number}'))
    with pytest.raises(EncoderError, match="holds no WordPiece vocabulary with the ids 0, 1, 2"):
        read_encoder(tmp_path)


# What is no encoder.


def test_a_run_of_averaged_words_is_told_what_it_is(tmp_path: Path) -> None:
    best = tmp_path / "checkpoints" / "best"
    best.mkdir(parents=True)
    (best / "config.json").write_text('{"format": "textclf-average-words", "version": 1}')
    for folder in (tmp_path, best):
        with pytest.raises(
            EncoderError, match="is a run of the encoder average-words, which other recipes cannot start"
        ):
            read_encoder(folder)
