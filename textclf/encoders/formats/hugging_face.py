"""Reads a Hugging Face folder: `config.json`, a vocabulary, and weights in one of the formats that `transformers`
writes.

The names of the weights may have the prefix `mobilebert.`, and there may be heads. PyTorch's formats store dense
kernels transposed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from textclf.data.tokens.vocabulary import checked_pieces, read_vocabulary
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.arrays import RawArray, StoredArray, read_weights
from textclf.encoders.formats.configuration import make_config, read_json, shown
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.hdf5_file import index_hdf5
from textclf.encoders.formats.pytorch_file import index_pytorch
from textclf.encoders.formats.question_head import stored_question_head
from textclf.encoders.formats.safetensors_file import index_safetensors
from textclf.encoders.formats.vocabulary import Vocabulary, check_vocabulary, is_lower_cased
from textclf.errors import EncoderError

NAME = "hugging_face"
HOLDS = "config.json of model_type mobilebert with model.safetensors (or shards), pytorch_model.bin or tf_model.h5"

# transformers omits from config.json the settings with its default values (MobileBertConfig in configuration_mobilebert.py).
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "embedding_size": 128,
    "hidden_size": 512,
    "num_hidden_layers": 24,
    "intra_bottleneck_size": 128,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "num_feedforward_networks": 4,
    "key_query_shared_bottleneck": True,
    "use_bottleneck_attention": False,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "attention_probs_dropout_prob": 0.1,
    "hidden_dropout_prob": 0.0,
    "hidden_act": "relu",
    "normalization_type": "no_norm",
    "trigram_input": True,
    "use_bottleneck": True,
}

# In order of preference. Each may be split into shards that `<name>.index.json` lists.
_WEIGHT_FORMS: tuple[tuple[str, Callable[[list[Path]], dict[str, RawArray]]], ...] = (
    ("model.safetensors", index_safetensors),
    ("pytorch_model.bin", index_pytorch),
    ("tf_model.h5", index_hdf5),
)

_LARGEST_LIST = 16 * 2**20
_POINTER = b"version https://git-lfs"
_EMBEDDING_TABLE = re.compile(r"embeddings/(word|token_type|position)_embeddings/(weight|embeddings)$")
_PYTORCH_PART = re.compile(r"(?:(?P<prefix>mobilebert)\.)?(?P<rest>(?:embeddings|encoder|pooler)\..+)$")
_KERAS_PART = re.compile(r"(?:[^/]+/)*?(?P<rest>(?:embeddings|encoder|pooler)/.+):0$")


def recognise(folder: Path) -> bool:
    """Returns whether the folder has a `config.json` that names a kind of model, or one beside weights."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        return False
    try:
        settings = read_json(config_file)
    except EncoderError:
        settings = {}
    return "model_type" in settings or "architectures" in settings or _find_weights(folder) is not None


def read(folder: Path) -> EncoderCheckpoint:
    """Returns the encoder in a folder for which `recognise` is true."""
    config_file = folder / "config.json"
    settings = _settings(config_file)
    weights = _find_weights(folder)
    if weights is None:
        raise EncoderError(f"{folder}: has a config.json but no weights; expected {HOLDS}")
    file, shards, index = weights
    for shard in shards:
        _refuse_pointer(shard)
    raw = index(shards)
    stored = _stored_arrays(raw)
    # Only for a file without a head and without this setting the contents decide: transformers' default is true.
    settings = {"classifier_activation": "pooler/dense/kernel" in stored, **settings}
    config = make_config(settings, config_file)
    arrays = read_weights(config, stored, file, sum(shard.stat().st_size for shard in shards))
    vocabulary = find_vocabulary(folder)
    check_vocabulary(vocabulary, config)
    # transformers masks with the smallest number of the type. After softmax this is the same as -10000.
    head = stored_question_head(raw)
    return EncoderCheckpoint(
        config, arrays, vocabulary.pieces, vocabulary.do_lower_case, "additive", NAME, folder, head
    )


def read_facts(folder: Path) -> EncoderFacts:
    """Returns the facts in the configuration and the vocabulary."""
    config_file = folder / "config.json"
    if _find_weights(folder) is None:
        raise EncoderError(f"{folder}: has a config.json but no weights; expected {HOLDS}")
    config = make_config({"classifier_activation": False, **_settings(config_file)}, config_file)
    vocabulary = find_vocabulary(folder)
    check_vocabulary(vocabulary, config)
    return EncoderFacts.of(config, vocabulary, folder)


def _settings(config_file: Path) -> dict[str, Any]:
    """Returns the file's settings, completed with transformers' defaults; EncoderError for another kind of model."""
    settings = read_json(config_file)
    model_type = settings.get("model_type", "mobilebert")
    if model_type != "mobilebert":
        raise EncoderError(
            f'{config_file}: `model_type` is {shown(model_type)}, expected "mobilebert"; only MobileBERT encoders'
            " can be trained here, for example hf:google/mobilebert-uncased"
        )
    return {**_DEFAULTS, **settings}


def find_vocabulary(folder: Path) -> Vocabulary:
    """Returns the vocabulary from `vocab.txt`, or else from `tokenizer.json`."""
    file = folder / "vocab.txt"
    if file.is_file():
        pieces = read_vocabulary(file)
    else:
        file = folder / "tokenizer.json"
        pieces = _tokenizer_pieces(file)
    return Vocabulary(pieces, _do_lower_case(folder, pieces), file)


def canonical_name(name: str) -> str:
    """Returns the original's name of a parameter of transformers' PyTorch or Keras format, without prefix."""
    name = name.replace(".", "/").removesuffix(":0")
    if match := _EMBEDDING_TABLE.match(name):
        return f"embeddings/{match.group(1)}_embeddings"
    name = re.sub(r"layer(?:_/_|/)(\d+)/", r"layer_\1/", name)
    name = re.sub(r"ffn/(\d+)/", r"ffn_layer_\1/", name)
    name = re.sub(r"LayerNorm/(?:weight|gamma)$", "FakeLayerNorm/gamma", name)
    name = re.sub(r"LayerNorm/(?:bias|beta)$", "FakeLayerNorm/beta", name)
    return re.sub(r"/weight$", "/kernel", name)


def _find_weights(folder: Path) -> tuple[Path, list[Path], Callable[[list[Path]], dict[str, RawArray]]] | None:
    """Returns the file that names the weights, the files that hold them, and their reader."""
    for name, index in _WEIGHT_FORMS:
        file, shard_list = folder / name, folder / f"{name}.index.json"
        if file.is_file():
            return file, [file], index
        if shard_list.is_file():
            return shard_list, _shards(shard_list), index
    return None


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise EncoderError(f"{file}: is Git LFS' note about the file and not the file; run `git lfs pull` there")


def _shards(shard_list: Path) -> list[Path]:
    weight_map = read_json(shard_list, _LARGEST_LIST).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise EncoderError(f"{shard_list}: has no `weight_map` from tensors to files; get the file again")
    names = sorted(set(weight_map.values()))
    for name in names:
        if PureWindowsPath(name).name != name or name in ("", ".", "..") or not name.isprintable():
            raise EncoderError(f"{shard_list}: names the file {name!r} outside its own folder; such a file is not read")
        if not (shard_list.parent / name).is_file():
            raise EncoderError(
                f"{shard_list.parent / name}: is missing; {shard_list.name} lists {len(names)} files, get them all"
            )
    return [shard_list.parent / name for name in names]


def _stored_arrays(raw: Mapping[str, RawArray]) -> dict[str, StoredArray]:
    """Returns the encoder's arrays by canonical name, with kernels as [inputs, outputs] and without heads."""
    if any(name.endswith(":0") for name in raw):
        keras = {name: match["rest"] for name in raw if (match := _KERAS_PART.match(name))}
        return {canonical_name(rest): _as_is(name, raw[name]) for name, rest in keras.items()}
    matches = {name: match for name in raw if (match := _PYTORCH_PART.match(name))}
    prefixed = any(match["prefix"] for match in matches.values())
    stored = {}
    for name, match in matches.items():
        if bool(match["prefix"]) == prefixed:
            canonical = canonical_name(match["rest"])
            stored[canonical] = (
                _transposed(name, raw[name]) if canonical.endswith("/kernel") else _as_is(name, raw[name])
            )
    return stored


def _as_is(name: str, array: RawArray) -> StoredArray:
    return StoredArray(name, array.shape, array.read)


def _transposed(name: str, array: RawArray) -> StoredArray:
    return StoredArray(name, array.shape[::-1], lambda: array.read().T)


def _tokenizer_pieces(file: Path) -> list[str]:
    if not file.is_file():
        raise EncoderError(
            f"{file.parent}: has neither vocab.txt nor tokenizer.json; put the encoder's vocabulary there"
        )
    model = read_json(file, _LARGEST_LIST).get("model")
    pieces = model.get("vocab") if isinstance(model, dict) and model.get("type", "WordPiece") == "WordPiece" else None
    whole = isinstance(pieces, dict) and all(type(number) is int for number in pieces.values())
    if not isinstance(pieces, dict) or not whole or set(pieces.values()) != set(range(len(pieces))):
        raise EncoderError(f"{file}: holds no WordPiece vocabulary with the ids 0, 1, 2, …; add a vocab.txt")
    return checked_pieces(sorted(pieces, key=pieces.__getitem__), str(file))


def _do_lower_case(folder: Path, vocabulary: list[str]) -> bool:
    """Returns whether text is lower-cased: from the first tokenizer file that has this setting, else from the
    vocabulary."""
    for name, place in (("tokenizer_config.json", ("do_lower_case",)), ("tokenizer.json", ("normalizer", "lowercase"))):
        if (folder / name).is_file():
            setting: Any = read_json(folder / name, _LARGEST_LIST)
            for key in place:
                setting = setting.get(key) if isinstance(setting, dict) else None
            if isinstance(setting, bool):
                return setting
    return is_lower_cased(vocabulary)
