"""Encoders of the package that are stored as their changes to another one of the package.

`changes.safetensors` has each matrix that changed as `<name>`, two numbers of four bits in a byte (the first in the lower
half), and `<name>:scale` float32; a number from 1 to 15 is a change of (number - 8) · scale. Vectors are whole, as float32.
What is not in the file is as in the other encoder, which `base` in `config.json` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import numpy as np

from textclf.encoders.formats.arrays import SCALE_SUFFIX, RawArray, StoredArray, scaled_axis
from textclf.encoders.formats.configuration import shown
from textclf.errors import EncoderError

BUILTIN = Path(str(resources.files("textclf.encoders"))) / "builtin"
"""The folder with the encoders of the package."""

CHANGES_FILE = "changes.safetensors"

_MIDDLE, _LARGEST = 8, 7

# Parts of the largest change that are tried as the largest one that can be stored: a smaller one makes all others finer.
_PARTS = (1.0, 0.85, 0.7, 0.6, 0.5)


def base_folder(place: Path, base: object) -> Path:
    """Returns the folder of the encoder whose name is `base`. Raises EncoderError if `place` is not in the package."""
    if place.parent.resolve() != BUILTIN.resolve() or not isinstance(base, str) or Path(base).name != base:
        raise EncoderError(
            f"{place / 'config.json'}: `base` is {shown(base)}, but only encoders of the package are stored as changes; write "
            "the whole encoder"
        )
    return BUILTIN / base


def changed_arrays(
    base: Mapping[str, StoredArray], changes: Mapping[str, RawArray], file: Path
) -> dict[str, StoredArray]:
    """Returns the arrays of an encoder, given those of its base, and its changes from `file`."""
    return {
        name: StoredArray(name, array.shape, _reader(array, changes, file)) if name in changes else array
        for name, array in base.items()
    }


def _reader(array: StoredArray, changes: Mapping[str, RawArray], file: Path) -> Callable[[], np.ndarray]:
    name = array.stored_name

    def read() -> np.ndarray:
        stored = changes[name].read()
        if stored.dtype != np.uint8:
            return stored
        scale = changes[name + SCALE_SUFFIX].read() if name + SCALE_SUFFIX in changes else np.zeros(0)
        if array.shape != (*stored.shape[:1], 2 * stored.shape[-1]) or scale.ndim != 2:
            raise EncoderError(f"{file}: {name!r} does not fit the encoder that it changes; install textclf again")
        numbers = np.stack([stored & 15, stored >> 4], axis=2).reshape(array.shape).astype(np.float32) - _MIDDLE
        changed: np.ndarray = array.read().astype(np.float32) + numbers * scale
        return changed

    return read


def changes_of(weights: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file of changes. Word embeddings are left as they are in the base: they change least."""
    arrays: dict[str, np.ndarray] = {}
    for name, array in weights.items():
        if array.ndim != 2:
            arrays[name] = np.ascontiguousarray(array, np.float32)
        elif name != "embeddings/word_embeddings":
            scale, numbers = _rounded(array - base[name], axis=scaled_axis(name))
            halves = (numbers + _MIDDLE).astype(np.uint8).reshape(len(array), -1, 2)
            arrays[name] = np.ascontiguousarray(halves[:, :, 0] | halves[:, :, 1] << 4)
            arrays[name + SCALE_SUFFIX] = scale
    return arrays


def _rounded(change: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scale for each output or row that loses least, and the numbers from -7 to 7."""
    largest = np.abs(change).max(axis=axis, keepdims=True).astype(np.float32) / _LARGEST
    largest[largest == 0] = 1
    tried = []
    for part in _PARTS:
        scale = largest * np.float32(part)
        numbers = np.clip(np.round(change / scale), -_LARGEST, _LARGEST)
        tried.append((float(np.square(numbers * scale - change).sum()), scale, numbers))
    _, scale, numbers = min(tried, key=lambda one: one[0])
    return scale, numbers
