"""The head for question answering that some published encoders have: found in their files, read when it is asked for.

BERT's `run_squad.py` calls its arrays `cls/squad/output_weights` [2, hidden] and `cls/squad/output_bias`, transformers
`qa_outputs`. Of the two outputs for a token, the first is the start of an answer and the second the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats.arrays import RawArray, StoredArray, read_float32
from textclf.errors import EncoderError

# Names in a file → the part, and whether the array is stored as [2, hidden].
_NAMES: tuple[tuple[re.Pattern[str], str, bool], ...] = (
    (re.compile(r"(?:.*/)?cls/squad/output_weights$"), "kernel", True),
    (re.compile(r"(?:.*/)?cls/squad/output_bias$"), "bias", False),
    (re.compile(r"qa_outputs\.weight$"), "kernel", True),
    (re.compile(r"qa_outputs\.bias$"), "bias", False),
    (re.compile(r"(?:.*/)?qa_outputs/kernel:0$"), "kernel", False),
    (re.compile(r"(?:.*/)?qa_outputs/bias:0$"), "bias", False),
)

_OWN_NAMES = {"head/kernel": "kernel", "head/bias": "bias", "features/mean": "mean", "features/scale": "scale"}

HEADS_UNDERSTOOD = (
    "cls/squad/output_weights and output_bias of a TensorFlow checkpoint, the signature squad of a TF1 Hub module, or "
    "qa_outputs of transformers"
)


class QuestionHead(NamedTuple):
    """A dense layer on the standardised state of every token, (state - mean) * scale; all float32.

    `kernel` is [hidden, 2] and `bias` [2], the start of an answer first. `mean` and `scale` are [2, hidden]: for the first
    token, and for all others.
    """

    kernel: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray


def stored_question_head(raw: Mapping[str, RawArray]) -> dict[str, StoredArray]:
    """Returns the arrays `kernel` and `bias` of a published head among all arrays of a file, without reading them; none
    if there is no such head."""
    found = {}
    for name, array in raw.items():
        for pattern, part, is_transposed in _NAMES:
            if pattern.match(name):
                found[part] = transposed(name, array) if is_transposed else as_is(name, array)
    return found


def own_question_head(raw: Mapping[str, RawArray]) -> dict[str, StoredArray]:
    """Does the same for the head of a textclf run; none if the run's task is another one."""
    mean = raw.get("features/mean")
    if mean is None or len(mean.shape) != 2:
        return {}
    return {part: as_is(name, raw[name]) for name, part in _OWN_NAMES.items() if name in raw}


def question_head(checkpoint: EncoderCheckpoint) -> QuestionHead | None:
    """Reads the head that came with an encoder; None if there is none.

    Raises EncoderError for a head that is incomplete, of other shapes, or not finite.
    """
    stored, width = checkpoint.question_head, checkpoint.width
    if not stored:
        return None
    arrays = {"mean": np.zeros((2, width), np.float32), "scale": np.ones((2, width), np.float32)}
    for part, shape in {"kernel": (width, 2), "bias": (2,), "mean": (2, width), "scale": (2, width)}.items():
        if part in stored:
            arrays[part] = _read(stored[part], part, shape, checkpoint)
        elif part not in arrays:
            raise EncoderError(
                f"{checkpoint.path}: its head for question answering has {next(iter(stored.values())).stored_name!r} but no "
                f"{part}; get the encoder again"
            )
    return QuestionHead(**arrays)


def _read(stored: StoredArray, part: str, shape: tuple[int, ...], checkpoint: EncoderCheckpoint) -> np.ndarray:
    if stored.shape != shape:
        raise EncoderError(
            f"{checkpoint.path}: the {part} of its head for question answering, {stored.stored_name!r}, has the shape "
            f"{list(stored.shape)} in the order [inputs, outputs], expected {list(shape)}; use another encoder, or remove the "
            "head from its files"
        )
    return read_float32(stored, checkpoint.path)


def as_is(name: str, array: RawArray) -> StoredArray:
    """Returns an array that is stored in the layout [inputs, outputs]."""
    return StoredArray(name, array.shape, array.read)


def transposed(name: str, array: RawArray) -> StoredArray:
    """Returns an array that is stored in the layout [outputs, inputs]."""
    return StoredArray(name, array.shape[::-1], lambda: array.read().T)
