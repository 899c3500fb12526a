"""Functions for all format readers: they match stored arrays with those that a configuration requires, and read them.

They take an index of the arrays in a file, by canonical name, and return float32 arrays, or raise an error that names
the file, the tensor and the shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes
from textclf.errors import EncoderError

_LAYER = re.compile(r"encoder/layer_(\d+)/")
_NETWORK = re.compile(r"encoder/layer_\d+/ffn_layer_(\d+)/")
_NAMES_SHOWN = 3
_MOST_PARAMETERS = 2_000_000_000
# A number needs at least a byte of a file. Compressed numbers, or rows that share numbers, may need less.
_MOST_NUMBERS_A_BYTE = 4
_NUMBERS_BESIDES = 2**24


@dataclass(frozen=True)
class RawArray:
    """An array in its file. `dtype` is the file's name of its type. Shapes are known before any array is read."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class StoredArray:
    """An array in a file: its name in the file, its shape in textclf's layout, and a function that reads it in this
    layout."""

    stored_name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


SCALE_SUFFIX = ":scale"
"""In textclf's own files, an array `<name>:scale` belongs to the integers of the array `<name>`."""


def scaled_axis(name: str) -> int:
    """Returns the axis over which a matrix has one scale: a kernel for each output, embeddings for each row."""
    return 0 if name.endswith("/kernel") else 1


def numpy_type(name: str) -> np.dtype:
    """Returns the little-endian type of that name, bfloat16 among them."""
    if name == "bfloat16":
        import ml_dtypes

        short: np.dtype = np.dtype(ml_dtypes.bfloat16)
        return short
    little: np.dtype = np.dtype(name).newbyteorder("<")
    return little


def read_weights(
    config: MobileBertConfig, stored: Mapping[str, StoredArray], file: Path, file_bytes: int
) -> dict[str, np.ndarray]:
    """Returns every array of `expected_shapes(config)` as float32, in that order; other arrays (heads, optimiser slots)
    are left.

    `file_bytes` is how large all files of the weights are. Raises EncoderError for an encoder array that is missing,
    misshapen, not finite or beyond what the configuration says, and for more numbers than such files can hold.
    """
    _check_counts(config, stored, file)
    shapes = expected_shapes(config)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    if parameters > _MOST_PARAMETERS:
        # A compressed file may hold them in a few bytes, and this machine's memory may not.
        raise EncoderError(f"{file}: has {parameters:,} parameters; no MobileBERT has over {_MOST_PARAMETERS:,}")
    _check_presence(shapes, stored, file)
    for name, shape in shapes.items():
        found = stored[name].shape
        if found != shape:
            raise EncoderError(
                f"{file}: the tensor {stored[name].stored_name!r} has the shape {list(found)}, but the configuration asks"
                f" for {list(shape)}; the configuration and the weights are not of the same encoder"
            )
    if parameters > _MOST_NUMBERS_A_BYTE * file_bytes + _NUMBERS_BESIDES:
        raise EncoderError(
            f"{file}: claims {parameters:,} parameters in {file_bytes:,} bytes; the file is damaged or made to fill this"
            " machine's memory, get the encoder again"
        )
    return {name: read_float32(stored[name], file) for name in shapes}


def count_layers(names: Mapping[str, StoredArray]) -> int:
    """Returns the number of transformer layers whose arrays occur among canonical names."""
    return len({match.group(1) for name in names if (match := _LAYER.match(name))})


def count_networks(names: Mapping[str, StoredArray]) -> int:
    """Returns the number of feed-forward networks a layer; the last one carries no number in its name."""
    return len({match.group(1) for name in names if (match := _NETWORK.match(name))}) + 1


def _check_counts(config: MobileBertConfig, stored: Mapping[str, StoredArray], file: Path) -> None:
    """Checks that the arrays have the numbers of layers and networks of the configuration, before single names are
    missing."""
    counts = (
        ("num_hidden_layers", config.num_hidden_layers, count_layers(stored)),
        ("num_feedforward_networks", config.num_feedforward_networks, count_networks(stored)),
    )
    if not count_layers(stored):
        raise EncoderError(f"{file}: holds no tensor of a MobileBERT encoder; is it another model's file?")
    for key, configured, found in counts:
        if configured != found:
            raise EncoderError(
                f"{file}: holds tensors for {key} = {found}, but the configuration says {configured};"
                " the configuration and the weights are not of the same encoder, or the file is incomplete"
            )


def _check_presence(shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, StoredArray], file: Path) -> None:
    missing = [name for name in shapes if name not in stored]
    if not missing:
        return
    shown = ", ".join(f"{name!r} {list(shapes[name])}" for name in missing[:_NAMES_SHOWN])
    more = f" and {len(missing) - _NAMES_SHOWN} more" if len(missing) > _NAMES_SHOWN else ""
    raise EncoderError(
        f"{file}: {len(missing)} of the encoder's {len(shapes)} tensors are missing: {shown}{more}"
        " (names as in google-research's checkpoint, without `bert/`); get the whole encoder again"
    )


def read_float32(stored: StoredArray, file: Path) -> np.ndarray:
    """Returns an array as float32. Raises EncoderError for other kinds of numbers, and for NaN and infinity."""
    array = stored.read()
    if not (np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"):
        raise EncoderError(
            f"{file}: the tensor {stored.stored_name!r} holds {array.dtype}, expected floating-point numbers"
        )
    with np.errstate(over="ignore"):
        array = np.asarray(array, dtype=np.float32)
    odd = array.size - int(np.isfinite(array).sum())
    if odd:
        raise EncoderError(
            f"{file}: the tensor {stored.stored_name!r} holds NaN or infinity, {odd:,} of {array.size:,} numbers; the file"
            " is damaged or its training diverged, get the encoder again"
        )
    return array


# A diagonal this many times larger than the rest of its column determines the column's scale.
_DOMINANT = 2.0


def dominant_diagonal(kernel: np.ndarray) -> np.ndarray | None:
    """Returns the diagonal of a square kernel [inputs, outputs] that is near a scaled identity, else None.

    With such a diagonal, eight bits leave almost no precision for the rest of each column.
    """
    if kernel.shape[0] != kernel.shape[1]:
        return None
    diagonal = np.diag(kernel)
    rest = np.abs(kernel - np.diag(diagonal)).max(axis=0)
    return diagonal.copy() if np.median(np.abs(diagonal) / np.maximum(rest, 1e-30)) > _DOMINANT else None
