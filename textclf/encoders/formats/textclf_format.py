"""Reads and writes textclf's format of an encoder: a folder with `config.json`, `encoder.safetensors` and `vocab.txt`.

Arrays have the canonical names of `expected_shapes`, as float32, float16, or int8 with a float32 array `<name>:scale`;
a value is then int8 · scale. In the folder of a run, the best checkpoint is read. An encoder of the package may have
`changes.safetensors` instead (`changes.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from textclf.data.tokens.vocabulary import read_vocabulary
from textclf.encoders.average_words import FORMAT as AVERAGE_WORDS
from textclf.encoders.checkpoint import EncoderCheckpoint, MaskConvention, MobileBertConfig
from textclf.encoders.formats.arrays import (
    SCALE_SUFFIX,
    RawArray,
    StoredArray,
    dominant_diagonal,
    read_weights,
    scaled_axis,
)
from textclf.encoders.formats.changes import CHANGES_FILE, base_folder, changed_arrays, changes_of
from textclf.encoders.formats.configuration import make_config, read_json, shown
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.question_head import own_question_head
from textclf.encoders.formats.safetensors_file import index_safetensors
from textclf.encoders.formats.vocabulary import Vocabulary, check_vocabulary
from textclf.errors import EncoderError

NAME = "textclf"
HOLDS = (
    'config.json with "format": "textclf-encoder", encoder.safetensors and vocab.txt, or the folder of a textclf run'
)

StoredType = Literal["float32", "float16", "int8"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "encoder.safetensors"
VOCABULARY_FILE = "vocab.txt"
HEAD_FILE = "head.safetensors"
BEST_CHECKPOINT = Path("checkpoints/best")

_FORMAT = "textclf-encoder"
_VERSION = 1
# Settings of every file in this format. They are not written.
_IMPLIED = {"hidden_act": "relu", "normalization_type": "no_norm", "trigram_input": True, "use_bottleneck": True}


def recognise(folder: Path) -> bool:
    """Returns whether the folder, or the best checkpoint of a run folder, has this format."""
    return _encoder_folder(folder) is not None


def read(folder: Path) -> EncoderCheckpoint:
    """Returns the encoder in a folder for which `recognise` is true."""
    place = _encoder_folder(folder) or folder
    config, mask_convention = _config(place)
    base = read_json(place / CONFIG_FILE).get("base")
    weights_file = place / (WEIGHTS_FILE if base is None else CHANGES_FILE)
    for file in (weights_file, place / VOCABULARY_FILE):
        if not file.is_file():
            raise EncoderError(f"{file}: is missing; a textclf encoder is {HOLDS}")
    stored, size = index_safetensors([weights_file]), weights_file.stat().st_size
    if base is None:
        arrays = _stored_arrays(stored, weights_file)
    else:
        base_file = base_folder(place, base) / WEIGHTS_FILE
        arrays = changed_arrays(_stored_arrays(index_safetensors([base_file]), base_file), stored, weights_file)
        size += base_file.stat().st_size
    weights = read_weights(config, arrays, weights_file, size)
    vocabulary = find_vocabulary(place)
    check_vocabulary(vocabulary, config)
    head_file = place / HEAD_FILE
    head = own_question_head(index_safetensors([head_file])) if head_file.is_file() else {}
    return EncoderCheckpoint(
        config, weights, vocabulary.pieces, vocabulary.do_lower_case, mask_convention, NAME, place, head
    )


def read_facts(folder: Path) -> EncoderFacts:
    """Returns the facts in the configuration and the vocabulary."""
    place = _encoder_folder(folder) or folder
    (config, _), vocabulary = _config(place), find_vocabulary(place)
    check_vocabulary(vocabulary, config)
    return EncoderFacts.of(config, vocabulary, place)


def _config(place: Path) -> tuple[MobileBertConfig, MaskConvention]:
    file = place / CONFIG_FILE
    settings = read_json(file)
    if settings.get("version") != _VERSION:
        raise EncoderError(
            f"{file}: is of version {shown(settings.get('version'))}, this textclf reads version {_VERSION};"
            " install a newer textclf"
        )
    mask_convention = settings.get("mask_convention")
    if mask_convention != "additive" and mask_convention != "scaled":
        raise EncoderError(f'{file}: `mask_convention` is {shown(mask_convention)}, expected "additive" or "scaled"')
    return make_config({**settings, **_IMPLIED}, file), mask_convention


def find_vocabulary(folder: Path) -> Vocabulary:
    """Returns the vocabulary of an encoder of this format, without its weights."""
    place = _encoder_folder(folder) or folder
    settings = read_json(place / CONFIG_FILE)
    do_lower_case = settings.get("do_lower_case")
    if not isinstance(do_lower_case, bool):
        raise EncoderError(f"{place / CONFIG_FILE}: `do_lower_case` is {shown(do_lower_case)}, expected true or false")
    return Vocabulary(read_vocabulary(place / VOCABULARY_FILE), do_lower_case, place / VOCABULARY_FILE)


def write_encoder(
    folder: Path, checkpoint: EncoderCheckpoint, dtype: StoredType = "float32", base: EncoderCheckpoint | None = None
) -> None:
    """Writes an encoder in this format into `folder`, which is made if it does not exist. Each file is written
    completely or not at all.

    With int8, matrices are stored with one symmetric scale for each output (of kernels) or row (of embeddings), near
    multiples of the identity as float16, and vectors stay float32. With a `base`, an encoder of the package, only the
    changes to it are stored, and such a folder is read inside the package alone. Raises EncoderError if float16 cannot
    represent a weight.
    """
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {} if base is None else changes_of(checkpoint.weights, base.weights)
    for name, array in checkpoint.weights.items() if base is None else ():
        arrays.update(_to_stored(name, array, dtype))
    settings: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "mask_convention": checkpoint.mask_convention,
        "do_lower_case": checkpoint.do_lower_case,
        **asdict(checkpoint.config),
    }
    if base is not None:
        settings["base"] = base.path.name
    _replace(folder / (WEIGHTS_FILE if base is None else CHANGES_FILE), save(arrays, metadata={"format": _FORMAT}))
    _replace(folder / VOCABULARY_FILE, "".join(f"{piece}\n" for piece in checkpoint.vocabulary).encode())
    _replace(folder / CONFIG_FILE, (json.dumps(settings, indent=2) + "\n").encode())


def is_average_words(folder: Path) -> bool:
    """Returns whether the folder is a run, or the best checkpoint of a run, of averaged words."""
    return _folder_of(folder, AVERAGE_WORDS) is not None


def _encoder_folder(folder: Path) -> Path | None:
    return _folder_of(folder, _FORMAT)


def _folder_of(folder: Path, form: str) -> Path | None:
    """Returns the folder, or the best checkpoint in it, with a configuration of that format."""
    for place in (folder, folder / BEST_CHECKPOINT):
        config_file = place / CONFIG_FILE
        if config_file.is_file():
            try:
                if read_json(config_file).get("format") == form:
                    return place
            except EncoderError:
                continue
    return None


def _stored_arrays(raw: Mapping[str, RawArray], file: Path) -> dict[str, StoredArray]:
    return {
        name: StoredArray(name, array.shape, _reader(name, raw, file))
        for name, array in raw.items()
        if not name.endswith(SCALE_SUFFIX)
    }


def _reader(name: str, raw: Mapping[str, RawArray], file: Path) -> Callable[[], np.ndarray]:
    if raw[name].dtype != "I8":
        return raw[name].read
    scale_name = name + SCALE_SUFFIX

    def read() -> np.ndarray:
        if scale_name not in raw:
            raise EncoderError(
                f"{file}: the int8 tensor {name!r} has no companion {scale_name!r}; get the encoder again"
            )
        values, scale = raw[name].read(), raw[scale_name].read()
        fits = scale.ndim == values.ndim and all(
            size in (1, whole) for size, whole in zip(scale.shape, values.shape, strict=True)
        )
        if scale.dtype != np.float32 or not fits:
            raise EncoderError(
                f"{file}: {scale_name!r} is {scale.dtype} {list(scale.shape)}, expected float32 that broadcasts"
                f" to the shape {list(values.shape)} of {name!r}"
            )
        scaled: np.ndarray = values * scale
        return scaled

    return read


def _to_stored(name: str, array: np.ndarray, dtype: StoredType) -> dict[str, np.ndarray]:
    if dtype == "int8" and array.ndim == 2 and dominant_diagonal(array) is not None:
        # With the diagonal, eight bits would leave no precision for the rest.
        dtype = "float16"
    if dtype == "int8" and array.ndim == 2:
        axis = scaled_axis(name)
        scale = np.abs(array).max(axis=axis, keepdims=True).astype(np.float32) / 127
        scale[scale == 0] = 1
        return {name: np.ascontiguousarray(np.round(array / scale), np.int8), name + SCALE_SUFFIX: scale}
    if dtype != "float16":
        return {name: np.ascontiguousarray(array, np.float32)}
    limit = np.finfo(np.float16).max
    if np.abs(array).max() > limit:
        raise EncoderError(
            f"the tensor {name!r} reaches {np.abs(array).max():.4g} and float16 ends at {limit:.4g}; write float32 or int8"
        )
    return {name: np.ascontiguousarray(array, np.float16)}


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(file)
