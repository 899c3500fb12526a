"""Reads arrays of `.safetensors` files, one or several shards: names and shapes first, each array on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from textclf.encoders.formats.arrays import RawArray
from textclf.errors import EncoderError

_LARGEST_HEADER = 16 * 2**20


def index_safetensors(files: Iterable[Path]) -> dict[str, RawArray]:
    """Returns the arrays of all files by name. The files stay mapped into memory while the result is used.

    Raises EncoderError for a file that is damaged, incomplete or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    arrays: dict[str, RawArray] = {}
    for file in files:
        _check_header(file)
        try:
            handle: Any = safe_open(file, framework="numpy")
            for name in handle.keys():  # noqa: SIM118 - the handle is not iterable
                view = handle.get_slice(name)
                if view.get_dtype() == "BF16":
                    import ml_dtypes  # noqa: F401 - gives numpy this type
                arrays[name] = RawArray(tuple(view.get_shape()), view.get_dtype(), _reader(handle, name, file))
        except (SafetensorError, OSError, ValueError, OverflowError) as error:
            raise EncoderError(
                f"{file}: cannot be read as safetensors ({error}); it is damaged or incomplete, get it again"
            ) from error
    return arrays


def _check_header(file: Path) -> None:
    """Raises an error for a list of tensors that is longer than the file or than an encoder's list can be."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if size > min(_LARGEST_HEADER, file.stat().st_size - 8):
        raise EncoderError(
            f"{file}: cannot be read as safetensors (its list of tensors has {size:,} bytes); it is damaged or incomplete,"
            " get it again"
        )


def _reader(handle: Any, name: str, file: Path) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        try:
            array: np.ndarray = handle.get_tensor(name)
            return array
        except Exception as error:
            raise EncoderError(f"{file}: the tensor {name!r} cannot be read ({error})") from error

    return read
