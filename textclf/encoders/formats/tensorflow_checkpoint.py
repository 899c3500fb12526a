"""Arrays in TensorFlow checkpoints: names and shapes first, each array when it is asked for.

In: a checkpoint's prefix, the path without `.index`. Out: its arrays by name; TensorFlow's own reader does the reading.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from textclf.encoders.formats.arrays import RawArray
from textclf.errors import EncoderError
from textclf.native_log import load_tensorflow


def index_checkpoint(prefix: Path) -> dict[str, RawArray]:
    """The arrays of a checkpoint by name.

    Raises EncoderError for a checkpoint that is damaged, incomplete or of another kind.
    """
    load_tensorflow()
    import tensorflow as tf

    index_file = prefix.with_name(f"{prefix.name}.index")
    if not index_file.is_file():
        raise EncoderError(f"{index_file}: is missing; get the whole checkpoint again")
    if not list(prefix.parent.glob(f"{prefix.name}.data-*-of-*")):
        raise EncoderError(
            f"{prefix}.data-00000-of-00001: is missing beside {index_file.name}; get the whole checkpoint again"
        )
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, LookupError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"{index_file}: cannot be read as a TensorFlow checkpoint ({_first_line(error)}); get it again"
        ) from error
    return {
        name: RawArray(tuple(shape), types[name].name, _reader(reader, name, prefix)) for name, shape in shapes.items()
    }


def _reader(reader: Any, name: str, prefix: Path) -> Callable[[], np.ndarray]:
    load_tensorflow()
    import tensorflow as tf

    def read() -> np.ndarray:
        try:
            return reader.get_tensor(name)
        except (tf.errors.OpError, LookupError, ValueError, RuntimeError) as error:
            raise EncoderError(
                f"{prefix}: the tensor {name!r} cannot be read ({_first_line(error)}); the checkpoint is damaged or"
                " incomplete, get it again"
            ) from error

    return read


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
