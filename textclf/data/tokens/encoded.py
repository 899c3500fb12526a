"""The token ids of many rows (`Encoded`), the arrays that a model reads (`Tokens`), and the interface of every tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

Overflow = Literal["head", "tail", "head_tail"]
"""The tokens that are kept of a text that is too long: the first, the last, or a quarter of the first and then the
last."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Encoded rows, including [CLS] and [SEP], one after the other in one array.

    Row i is `flat_ids[offsets[i]:offsets[i + 1]]`; its first `first_lengths[i]` ids ([CLS], the first text, [SEP]) are
    segment 0, the rest segment 1. `truncated[i]` says whether the row was truncated.
    """

    flat_ids: np.ndarray  # int32 [total]
    offsets: np.ndarray  # int64 [rows + 1]
    first_lengths: np.ndarray  # int32 [rows]
    truncated: np.ndarray  # bool [rows]
    pad_id: int

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def lengths(self) -> np.ndarray:
        """Ids in each row, int64 [rows]."""
        return np.diff(self.offsets)


class Tokens(NamedTuple):
    """The inputs of a model, each int32 [rows, length]: token ids, the mask (1 for a token, 0 for padding) and segments.

    Inside TensorFlow functions, the three are `tf.Tensor`s of the same shapes.
    """

    ids: np.ndarray
    mask: np.ndarray
    segments: np.ndarray

    def row(self, number: int) -> Tokens:
        """Returns one row, each array [1, length]."""
        return Tokens(*(array[number : number + 1] for array in self))


def pad(encoded: Encoded, indices: Sequence[int] | np.ndarray, length: int) -> Tokens:
    """Returns the rows at `indices`, padded to `length`.

    Raises ValueError when a row is longer than `length`.
    """
    rows = np.asarray(indices, dtype=np.int64)
    starts = encoded.offsets[rows]
    lengths = encoded.offsets[rows + 1] - starts
    if lengths.size and lengths.max() > length:
        raise ValueError(f"a row of {lengths.max()} ids does not fit into {length}")
    positions = np.arange(length)
    filled = positions < lengths[:, None]
    ids = np.full((len(rows), length), encoded.pad_id, dtype=np.int32)
    ids[filled] = encoded.flat_ids[(starts[:, None] + positions)[filled]]
    segments = filled & (positions >= encoded.first_lengths[rows][:, None])
    return Tokens(ids, filled.astype(np.int32), segments.astype(np.int32))


class TextTokenizer(Protocol):
    """The interface of a tokenizer for training and classifying. `Tokenizer` and `WordTokenizer` implement it."""

    vocabulary: tuple[str, ...]
    pad_id: int
    unknown_id: int

    @property
    def kind(self) -> str: ...

    def ids_added(self, texts: int) -> int: ...

    def pieces(self, texts: Sequence[str]) -> list[list[int]]: ...

    def encode(self, texts: Sequence[tuple[str, ...]], max_length: int, overflow: Overflow = "head") -> Encoded: ...


def utf8(text: str) -> bytes:
    """Returns UTF-8 of a text, with U+FFFD for each lone surrogate (as browsers do; no device can be handed one)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def kept_pieces(pieces: list[int], count: int, overflow: Overflow) -> list[int]:
    """Returns at most `count` of the tokens. A quarter of head before the tail as in Sun et al. 2019, section 5.3.1."""
    if len(pieces) <= count:
        return pieces
    head = {"head": count, "tail": 0, "head_tail": count // 4}[overflow]
    return pieces[:head] + pieces[len(pieces) - (count - head) :]
