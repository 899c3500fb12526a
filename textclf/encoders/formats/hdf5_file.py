"""Arrays in Keras' HDF5 weight files: names and shapes first, each array when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from textclf.encoders.formats.arrays import RawArray
from textclf.errors import EncoderError


def index_hdf5(files: Iterable[Path]) -> dict[str, RawArray]:
    """The arrays of all files by their path inside the file. Links to other files are not followed.

    Raises EncoderError for a file that is damaged, incomplete or of another kind.
    """
    import h5py

    arrays: dict[str, RawArray] = {}
    for file in files:

        def add(name: str, item: Any, file: Path = file) -> None:
            # A dataset whose numbers lie in another file could make us read any file of this machine.
            if isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                arrays[name] = RawArray(item.shape, item.dtype.name, _reader(item, file))

        try:
            h5py.File(file, "r").visititems(add)
        except (OSError, RuntimeError) as error:
            raise EncoderError(
                f"{file}: cannot be read as HDF5 ({error}); it is damaged or incomplete, get it again"
            ) from error
    return arrays


def _reader(dataset: Any, file: Path) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        try:
            return dataset[()]
        except OSError as error:
            raise EncoderError(f"{file}: the tensor {dataset.name!r} cannot be read ({error})") from error

    return read
