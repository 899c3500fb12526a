"""Every form in which people have a MobileBERT gives the same weights; what is damaged is refused with its reason."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tests.encoder_writers import (
    HUGGING_FACE_FORMS,
    add_node,
    pytorch_arrays,
    pytorch_old,
    pytorch_zip,
    settings_of,
    write_hugging_face,
    write_safetensors,
    write_tf1_checkpoint,
    write_tf1_hub,
    write_tf2_saved_model,
)
from tests.tiny import tiny_checkpoint, tiny_config
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes
from textclf.encoders.formats import FORMATS, read_encoder, read_vocabulary
from textclf.encoders.formats.pytorch_file import index_pytorch
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.errors import EncoderError

Writer = Callable[[Path, EncoderCheckpoint], object]


def _hugging_face(form: str, prefix: str = "") -> Writer:
    return lambda folder, checkpoint: write_hugging_face(folder, checkpoint, form, prefix)


WRITERS: dict[str, tuple[str, Writer]] = {
    "textclf": ("textclf", write_encoder),
    **{form: ("hugging_face", _hugging_face(form)) for form in HUGGING_FACE_FORMS},
    "prefixed safetensors": ("hugging_face", _hugging_face("model.safetensors", "mobilebert.")),
    "prefixed shards": ("hugging_face", _hugging_face("model.safetensors.index.json", "mobilebert.")),
    "prefixed pytorch_model.bin": ("hugging_face", _hugging_face("pytorch_model.bin", "mobilebert.")),
    "prefixed old.bin": ("hugging_face", _hugging_face("old.bin", "mobilebert.")),
    "tf1_checkpoint": ("tf1_checkpoint", write_tf1_checkpoint),
    "tf1_hub": ("tf1_hub", write_tf1_hub),
    "tf2_saved_model": ("tf2_saved_model", write_tf2_saved_model),
}
ALL_FORMS = pytest.mark.parametrize("form", WRITERS)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same small encoder in every form, not to be changed."""
    root = tmp_path_factory.mktemp("encoders")
    for form, (_, write) in WRITERS.items():
        write(root / form, tiny_checkpoint())
    return root


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the small encoder in a form, for a test to damage."""
    return lambda form: Path(shutil.copytree(written / form, tmp_path / "copy", symlinks=True))


def assert_same(found: EncoderCheckpoint, expected: EncoderCheckpoint) -> None:
    assert list(found.weights) == list(expected_shapes(expected.config))
    for name, array in expected.weights.items():
        assert found.weights[name].dtype == np.float32, name
        np.testing.assert_array_equal(found.weights[name], array, err_msg=name)
    assert found.config == expected.config
    assert found.vocabulary == expected.vocabulary


@ALL_FORMS
def test_every_format_gives_the_same_weights_to_the_bit(form: str, written: Path) -> None:
    found = read_encoder(written / form)
    assert_same(found, tiny_checkpoint())
    assert (found.format, found.mask_convention, found.do_lower_case) == (WRITERS[form][0], "additive", True)
    assert found.path == written / form


@ALL_FORMS
def test_variants_load_from_every_format(form: str, tmp_path: Path) -> None:
    tiny = {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False, "num_feedforward_networks": 2}
    variants = (
        {**tiny, "num_attention_heads": 2, "type_vocab_size": 3},
        {"num_feedforward_networks": 1, "num_hidden_layers": 3, "classifier_activation": True},
    )
    for number, changes in enumerate(variants):
        checkpoint = tiny_checkpoint(**changes)
        WRITERS[form][1](tmp_path / str(number), checkpoint)
        assert_same(read_encoder(tmp_path / str(number)), checkpoint)


@pytest.mark.parametrize("name", ["textclf", "tf1_hub", "tf2_saved_model"])
def test_the_mask_convention_is_read_where_the_format_tells_it(name: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(mask_convention="scaled")
    WRITERS[name][1](tmp_path, checkpoint)
    assert read_encoder(tmp_path).mask_convention == "scaled"


@pytest.mark.parametrize("write", [write_tf1_hub, write_tf2_saved_model])
def test_saved_models_say_themselves_whether_text_is_lower_cased(write: Callable[..., Path], tmp_path: Path) -> None:
    assert read_encoder(write(tmp_path / "cased", tiny_checkpoint(), do_lower_case=False)).do_lower_case is False


def test_a_vocabulary_with_capitals_is_taken_for_a_cased_one(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    cased = replace(checkpoint, vocabulary=[*checkpoint.vocabulary[:-1], "London"])
    assert read_encoder(write_tf1_checkpoint(tmp_path, cased)).do_lower_case is False


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_our_own_format_keeps_what_its_type_can_hold(dtype: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    # Transposed arrays lie in another order in memory: what is stored must follow their meaning.
    weights = {n: np.asfortranarray(a) for n, a in checkpoint.weights.items()}
    write_encoder(tmp_path, replace(checkpoint, weights=weights), dtype)
    for name, array in read_encoder(tmp_path).weights.items():
        original = checkpoint.weights[name]
        step = np.abs(original).max(axis=0 if name.endswith("/kernel") else -1, keepdims=True) / 127
        tolerance = {"float32": 0.0, "float16": np.abs(original) * 2**-11 + 1e-7, "int8": step * 0.501}[dtype]
        if dtype == "int8" and array.ndim == 1:
            tolerance = 0.0
        assert (np.abs(array - original) <= tolerance).all(), name


def test_float16_is_refused_for_weights_that_it_cannot_hold(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    checkpoint.weights["embeddings/word_embeddings"][3, 4] = 1e5
    with pytest.raises(EncoderError, match=r"'embeddings/word_embeddings' reaches 1e\+05 and float16"):
        write_encoder(tmp_path, checkpoint, "float16")


def test_a_run_folder_is_read_through_its_best_checkpoint(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    write_encoder(tmp_path / "checkpoints" / "best", checkpoint)
    (tmp_path / "vocab.txt").write_text("other")
    assert_same(read_encoder(tmp_path), checkpoint)


def test_a_folder_inside_the_folder_is_found_as_archives_have_it(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    write_tf1_checkpoint(tmp_path / "uncased_L-2" / "inner", checkpoint)
    (tmp_path / "__MACOSX").mkdir()
    assert_same(read_encoder(tmp_path), checkpoint)


@ALL_FORMS
def test_the_vocabulary_is_read_without_weights(form: str, copy: Callable[[str], Path]) -> None:
    folder = copy(form)
    for file in folder.rglob("*"):
        if file.suffix in (".safetensors", ".bin", ".h5") or ".data-" in file.name:
            file.write_bytes(b"")
    vocabulary = read_vocabulary(folder)
    assert vocabulary.pieces == tiny_checkpoint().vocabulary
    assert vocabulary.do_lower_case is True


def test_tokenizer_json_stands_in_for_vocab_txt(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    write_hugging_face(tmp_path, checkpoint)
    (tmp_path / "vocab.txt").unlink()
    pieces = {piece: number for number, piece in reversed(list(enumerate(checkpoint.vocabulary)))}
    tokenizer = {"model": {"type": "WordPiece", "vocab": pieces}, "normalizer": {"lowercase": False}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = read_encoder(tmp_path)
    assert found.vocabulary == checkpoint.vocabulary
    assert found.do_lower_case is False


def test_hugging_face_settings_that_equal_the_defaults_may_be_left_out(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    write_hugging_face(tmp_path, checkpoint)
    defaults = {**asdict(MobileBertConfig()), "hidden_act": "relu", "trigram_input": True, "use_bottleneck": True}
    settings = {key: value for key, value in settings_of(checkpoint).items() if value != defaults.get(key)}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mobilebert", **settings}))
    assert_same(read_encoder(tmp_path), checkpoint)


def test_half_precision_and_bfloat16_files_become_float32(tmp_path: Path) -> None:
    import ml_dtypes

    checkpoint = tiny_checkpoint()
    for dtype in (np.float16, ml_dtypes.bfloat16):
        rounded = {name: array.astype(dtype) for name, array in checkpoint.weights.items()}
        write_hugging_face(tmp_path, checkpoint)
        write_safetensors(tmp_path / "model.safetensors", pytorch_arrays(replace(checkpoint, weights=rounded)))
        expected = {name: array.astype(np.float32) for name, array in rounded.items()}
        assert_same(read_encoder(tmp_path), replace(checkpoint, weights=expected))


def test_every_form_is_read_without_tensorflow(written: Path) -> None:
    code = (
        "import sys, pathlib; from textclf.encoders.formats import read_encoder, read_facts, read_vocabulary;"
        "[read(pathlib.Path(p)) for read in (read_encoder, read_facts, read_vocabulary) for p in sys.argv[1:]];"
        "assert not {'tensorflow', 'keras', 'torch', 'transformers', 'tensorflow_hub'} & set(sys.modules)"
    )
    folders = [str(written / form) for form in WRITERS]
    subprocess.run([sys.executable, "-c", code, *folders], check=True)


# The shared encoders: written by the original programs.

SHARED = pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("hugging_face", "hugging_face"),
        ("tf1_ckpt", "tf1_checkpoint"),
        ("tf1_hub", "tf1_hub"),
        ("tf2_saved_model", "tf2_saved_model"),
    ],
)


@SHARED
def test_the_original_programs_encoders_give_equal_weights_and_their_outputs(
    shared: Path, folder: str, name: str
) -> None:
    from textclf.encoders.mobilebert import Encoder

    found = read_encoder(shared / "encoders" / folder)
    assert found.format == name
    assert_same(found, read_encoder(shared / "encoders" / "hugging_face"))
    reference = np.load(shared / "encoders" / folder / "reference.npz")
    encoder = Encoder(found)
    for suffix in ("", "_128"):
        inputs = (reference[key + suffix] for key in ("input_ids", "input_mask", "segment_ids"))
        output = encoder.encode(*inputs)
        np.testing.assert_allclose(output.sequence_output, reference[f"sequence_output{suffix}"], rtol=0, atol=2e-4)
        np.testing.assert_allclose(output.pooled_output, reference[f"pooled_output{suffix}"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("kept", ["pytorch_model.bin", "tf_model.h5"])
def test_the_original_programs_other_weight_files_are_equal_too(shared: Path, kept: str, tmp_path: Path) -> None:
    original = shared / "encoders" / "hugging_face"
    for file in ("config.json", "vocab.txt", kept):
        (tmp_path / file).symlink_to(original / file)
    assert_same(read_encoder(tmp_path), read_encoder(original))


# What is damaged.


def _change_json(folder: Path, file: str, **changes: object) -> None:
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**settings, **changes}))


def _truncate(file: Path, share: float = 0.6) -> None:
    os.truncate(file, int(file.stat().st_size * share))


@ALL_FORMS
def test_a_truncated_weights_file_is_refused_by_name(form: str, copy: Callable[[str], Path]) -> None:
    folder = copy(form)
    largest = max((f for f in folder.rglob("*") if f.is_file()), key=lambda file: file.stat().st_size)
    _truncate(largest)
    with pytest.raises(EncoderError, match=re.escape(largest.name.partition(".data")[0])):
        read_encoder(folder)


@ALL_FORMS
def test_a_missing_tensor_is_named_with_its_shape(form: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    weights = dict(checkpoint.weights)
    del weights["encoder/layer_1/attention/self/value/kernel"]
    WRITERS[form][1](tmp_path / "encoder", replace(checkpoint, weights=weights))
    message = "1 of the encoder's 99 tensors are missing: 'encoder/layer_1/attention/self/value/kernel' [32, 16]"
    with pytest.raises(EncoderError, match=re.escape(message)):
        read_encoder(tmp_path / "encoder")


@ALL_FORMS
def test_a_misshapen_tensor_is_named_with_both_shapes(form: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    weights = dict(checkpoint.weights)
    weights["encoder/layer_1/output/bottleneck/dense/kernel"] = np.ones((16, 33), np.float32)
    WRITERS[form][1](tmp_path / "encoder", replace(checkpoint, weights=weights))
    with pytest.raises(EncoderError, match=r"has the shape \[16, 33\], but .* asks for \[16, 32\]"):
        read_encoder(tmp_path / "encoder")


@ALL_FORMS
def test_numbers_that_are_not_finite_are_refused(form: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    checkpoint.weights["embeddings/FakeLayerNorm/beta"][5] = np.nan
    WRITERS[form][1](tmp_path / "encoder", checkpoint)
    with pytest.raises(EncoderError, match=r"(LayerNorm|embedding_norm).* holds NaN or infinity"):
        read_encoder(tmp_path / "encoder")


@ALL_FORMS
def test_a_vocabulary_of_another_length_is_refused(form: str, copy: Callable[[str], Path]) -> None:
    folder = copy(form)
    (file,) = folder.rglob("vocab.txt")
    with file.open("a") as stream:
        stream.write("onemore\n")
    rows = tiny_config().vocab_size
    message = f"vocab.txt: holds {rows + 1} entries, but the encoder's embedding table has {rows} rows"
    with pytest.raises(EncoderError, match=message):
        read_encoder(folder)


@ALL_FORMS
def test_a_missing_vocabulary_is_refused(form: str, copy: Callable[[str], Path]) -> None:
    folder = copy(form)
    next(folder.rglob("vocab.txt")).unlink()
    with pytest.raises(EncoderError, match=r"vocab.txt.*(is missing|put the encoder's vocabulary)"):
        read_encoder(folder)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({0: "<pad>"}, r"lacks the special tokens \[PAD\]"),
        ({7: "same", 9: "same"}, "vocab.txt:10: the entry 'same' is already in line 8"),
    ],
)
def test_a_vocabulary_that_is_not_berts_is_refused(replaced: dict[int, str], message: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    pieces = [replaced.get(number, piece) for number, piece in enumerate(checkpoint.vocabulary)]
    write_encoder(tmp_path, replace(checkpoint, vocabulary=pieces))
    with pytest.raises(EncoderError, match=message):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, '`hidden_act` is "gelu", and only "relu" is supported'),
        ({"hidden_act": "relu6"}, '`hidden_act` is "relu6", and only "relu" is supported'),
        ({"normalization_type": "layer_norm"}, '`normalization_type` is "layer_norm", and only "no_norm" is supported'),
        ({"trigram_input": False}, "`trigram_input` is false, and only true is supported"),
        ({"use_bottleneck": False}, "`use_bottleneck` is false, and only true is supported"),
        ({"num_hidden_layers": 3}, "holds tensors for num_hidden_layers = 2, but the configuration says 3"),
        ({"num_hidden_layers": 1}, "holds tensors for num_hidden_layers = 2, but the configuration says 1"),
        (
            {"num_feedforward_networks": 3},
            "holds tensors for num_feedforward_networks = 4, but the configuration says 3",
        ),
        ({"num_hidden_layers": 2_000_000_000}, "num_hidden_layers = 2, but the configuration says 2000000000"),
        ({"vocab_size": 2**31 - 1}, "has 34,359,757,136 parameters; no MobileBERT has over 2,000,000,000"),
        ({"num_hidden_layers": 1e400}, "`num_hidden_layers` is Infinity, expected a positive whole number"),
        ({"hidden_size": "big"}, '`hidden_size` is "big", expected a positive whole number'),
        ({"hidden_size": True}, "`hidden_size` is true, expected a positive whole number"),
        ({"vocab_size": 0}, "`vocab_size` is 0, expected a positive whole number"),
        ({"num_attention_heads": 5}, "`intra_bottleneck_size` 16 cannot be divided among `num_attention_heads` 5"),
        ({"classifier_activation": True}, "tensors are missing: 'pooler/dense/kernel' [32, 32]"),
        ({"classifier_activation": None}, "`classifier_activation` is null, expected true or false"),
        ({"attention_probs_dropout_prob": 2}, "`attention_probs_dropout_prob` is 2, expected a number from 0 up to 1"),
        (
            {"key_query_shared_bottleneck": False},
            "'encoder.layer.0.attention.self.query.weight' has the shape [16, 16], but the configuration asks for [32, 16]",
        ),
        ({"model_type": "distilbert"}, '`model_type` is "distilbert", expected "mobilebert"'),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused_by_its_setting(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint())
    _change_json(tmp_path, "config.json", **changes)
    with pytest.raises(EncoderError, match=re.escape(message)):
        read_encoder(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", '"x"', "\xff".encode("latin-1"), "[" * 100_000])
def test_a_configuration_that_is_no_json_object_is_refused(content: str | bytes, tmp_path: Path) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint())
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EncoderError, match=r"config\.json"):
        read_encoder(tmp_path)


def test_a_google_research_configuration_without_a_setting_has_that_programs_default(tmp_path: Path) -> None:
    write_tf1_checkpoint(tmp_path, tiny_checkpoint())
    settings = json.loads((tmp_path / "bert_config.json").read_text())
    del settings["normalization_type"]
    (tmp_path / "bert_config.json").write_text(json.dumps(settings))
    with pytest.raises(EncoderError, match='`normalization_type` is "layer_norm", and only "no_norm"'):
        read_encoder(tmp_path)


def test_a_checkpoint_without_its_data_is_refused(tmp_path: Path) -> None:
    write_tf1_checkpoint(tmp_path, tiny_checkpoint())
    next(tmp_path.glob("*.data-*")).unlink()
    with pytest.raises(EncoderError, match=r"mobilebert_variables\.ckpt\.data-00000-of-00001: is missing"):
        read_encoder(tmp_path)


def test_of_several_checkpoints_the_named_one_is_read(tmp_path: Path) -> None:
    checkpoint, other = tiny_checkpoint(seed=1), tiny_checkpoint(seed=2)
    write_tf1_checkpoint(tmp_path, other)
    for file in tmp_path.glob("mobilebert*"):
        file.rename(tmp_path / file.name.replace("mobilebert_variables.ckpt", "model.ckpt-20"))
    write_tf1_checkpoint(tmp_path, checkpoint)
    assert_same(read_encoder(tmp_path), checkpoint)
    (tmp_path / "checkpoint").write_text(r'model_checkpoint_path: "C:\\run\\model.ckpt-20"')
    assert_same(read_encoder(tmp_path), other)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(EncoderError, match=r"holds 2 checkpoints \(mobilebert_variables.ckpt, model.ckpt-20\)"):
        read_encoder(tmp_path)


@pytest.mark.parametrize("form", ["tf1_hub", "tf2_saved_model"])
@pytest.mark.parametrize("content", [b"", b"not a protocol buffer at all", b"\x00" * 50])
def test_a_broken_saved_model_file_is_refused(form: str, content: bytes, copy: Callable[[str], Path]) -> None:
    folder = copy(form)
    (folder / "saved_model.pb").write_bytes(content)
    with pytest.raises(EncoderError, match=r"saved_model\.pb: (cannot be read as a SavedModel|holds no graph)"):
        read_encoder(folder)


def _edit_graph(folder: Path, edit: Callable[[object], None]) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    for meta_graph in model.meta_graphs:
        edit(meta_graph.graph_def)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())


def test_a_graph_that_masks_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    write_tf1_hub(tmp_path, tiny_checkpoint())

    def weaken(graph: object) -> None:
        for node in graph.node:
            if node.name == "low":
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.float32(-3)))

    _edit_graph(tmp_path, weaken)
    with pytest.raises(EncoderError, match=r"saved_model\.pb: its graph masks padding in no way that is known"):
        read_encoder(tmp_path)


def test_a_graph_with_another_activation_is_refused(tmp_path: Path) -> None:
    write_tf1_hub(tmp_path, tiny_checkpoint())
    _edit_graph(tmp_path, lambda graph: add_node(graph.node, "six", "Relu6", ["s"]))
    with pytest.raises(EncoderError, match=r'`hidden_act` is \["relu", "relu6"\], and only "relu"'):
        read_encoder(tmp_path)


def test_a_saved_model_without_keras_metadata_is_refused_with_what_is_not_known(
    copy: Callable[[str], Path],
) -> None:
    folder = copy("tf2_saved_model")
    (folder / "keras_metadata.pb").unlink()
    with pytest.raises(EncoderError, match="no Keras metadata of its layers, so their activation and normalisation"):
        read_encoder(folder)


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint())
    write_safetensors(tmp_path / "model.safetensors", {"distilbert.x": np.ones(3, np.float32)})
    with pytest.raises(EncoderError, match="holds no tensor of a MobileBERT encoder"):
        read_encoder(tmp_path)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    weights = {**checkpoint.weights, "embeddings/FakeLayerNorm/gamma": np.ones(32, np.int32)}
    write_hugging_face(tmp_path, replace(checkpoint, weights=weights))
    with pytest.raises(EncoderError, match=r"'embeddings.LayerNorm.weight' holds int32"):
        read_encoder(tmp_path)


def test_an_int8_tensor_without_its_scale_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    write_encoder(tmp_path, tiny_checkpoint(), "int8")
    arrays = load_file(tmp_path / "encoder.safetensors")
    del arrays["embeddings/word_embeddings:scale"]
    save_file(arrays, tmp_path / "encoder.safetensors")
    with pytest.raises(EncoderError, match="'embeddings/word_embeddings' has no companion"):
        read_encoder(tmp_path)
    arrays["embeddings/word_embeddings:scale"] = np.ones((3, 1), np.float32)
    save_file(arrays, tmp_path / "encoder.safetensors")
    with pytest.raises(EncoderError, match=r"is float32 \[3, 1\], expected float32 that broadcasts"):
        read_encoder(tmp_path)


def test_a_version_of_our_format_from_the_future_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, tiny_checkpoint())
    _change_json(tmp_path, "config.json", version=2)
    with pytest.raises(EncoderError, match="is of version 2, this textclf reads version 1; install a newer textclf"):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../secret.safetensors"}, "names the file '../secret.safetensors' outside its own folder"),
        ({"a": "model-9.safetensors"}, "model-9.safetensors: is missing; model.safetensors.index.json lists 1 files"),
        (["a"], "has no `weight_map` from tensors to files"),
    ],
)
def test_a_bad_list_of_shards_is_refused(weight_map: object, message: str, tmp_path: Path) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint(), "model.safetensors.index.json")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(EncoderError, match=re.escape(message)):
        read_encoder(tmp_path)


def test_a_folder_with_something_else_names_the_formats_understood(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    with pytest.raises(EncoderError) as caught:
        read_encoder(tmp_path)
    assert "it holds model.tflite" in str(caught.value)
    assert all(form.NAME in str(caught.value) for form in FORMATS)


def test_a_pointer_in_place_of_the_weights_says_how_to_get_them(tmp_path: Path) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint())
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n")
    with pytest.raises(EncoderError, match=r"model\.safetensors: is Git LFS' note about the file and not"):
        read_encoder(tmp_path)


def test_a_config_without_weights_says_which_weights_are_read(tmp_path: Path) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"no weights; expected .*pytorch_model\.bin or tf_model\.h5"):
        read_encoder(tmp_path)


# PyTorch files: read as data, never as programs.


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["TEXTCLF_TEST_TRAP"],)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_that_wants_to_run_something_is_refused_and_runs_nothing(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    monkeypatch.setenv("TEXTCLF_TEST_TRAP", str(trap))
    content = pickle.dumps({"embeddings.x": _Runs()}, protocol)
    old = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})) + content
    for data in (content, old):
        (tmp_path / "pytorch_model.bin").write_bytes(data)
        with pytest.raises(EncoderError, match="nothing in them is executed"):
            index_pytorch([tmp_path / "pytorch_model.bin"])
    assert not trap.exists()


@pytest.mark.parametrize("write", [pytorch_zip, pytorch_old])
def test_pytorch_files_cut_or_changed_anywhere_never_crash(write: Callable[..., bytes], tmp_path: Path) -> None:
    whole = write({"embeddings.a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(2, np.float16)})
    file = tmp_path / "pytorch_model.bin"
    random = np.random.default_rng(0)
    messages = []
    for trial in range(600):
        content = bytearray(whole)
        if trial % 2:
            content = content[: random.integers(len(content))]
        else:
            content[random.integers(len(content))] = random.integers(256)
        file.write_bytes(content)
        try:
            for array in index_pytorch([file]).values():
                array.read()
        except EncoderError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all("pytorch_model.bin" in message for message in messages)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    array = np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), (2, 3), (16, 4))
    (tmp_path / "pytorch_model.bin").write_bytes(pytorch_zip({"a": array}))
    with pytest.raises(EncoderError, match="has a tensor that reaches element 6 of a storage of 6"):
        index_pytorch([tmp_path / "pytorch_model.bin"])


def test_strided_views_of_pytorch_tensors_are_read_as_they_are_meant(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T

    class Contiguous(np.ndarray):
        """Writes its bytes in the order of its memory, as a storage holds them."""

        def tobytes(self, order: str = "C") -> bytes:
            return np.asarray(self).tobytes("F")

    (tmp_path / "pytorch_model.bin").write_bytes(pytorch_zip({"a": array.view(Contiguous)}))
    np.testing.assert_array_equal(index_pytorch([tmp_path / "pytorch_model.bin"])["a"].read(), array)


def test_a_hdf5_dataset_that_points_into_another_file_is_not_read(tmp_path: Path) -> None:
    import h5py

    write_hugging_face(tmp_path, tiny_checkpoint(), "tf_model.h5")
    name = "mobilebert/tf_mobile_bert_for_pre_training/mobilebert/embeddings/LayerNorm/bias:0"
    (tmp_path / "secret").write_bytes(b"0123" * 32)
    with h5py.File(tmp_path / "tf_model.h5", "a") as content:
        del content[name]
        content.create_dataset(name, (32,), np.float32, external=[(str(tmp_path / "secret"), 0, 128)])
    with pytest.raises(EncoderError, match="'embeddings/FakeLayerNorm/beta' \\[32\\]"):
        read_encoder(tmp_path)


def test_reading_leaves_the_folders_as_they_were(written: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in written.rglob("*")}
    for form in WRITERS:
        read_encoder(written / form)
    assert {file: file.stat().st_mtime_ns for file in written.rglob("*")} == before
