"""Token ids of a set as textclf would train on it: takes CSV files and an encoder, returns arrays that a file can keep.

A machine that has the files of all sets needs neither the CSV files nor time for tokenising.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import textclf
from pretraining.evaluate import recipe_text
from pretraining.sets import LabelledSet
from textclf.data.tokens.encoded import Encoded
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.prepare import load_recipe_data, prepare, prepare_data
from textclf.errors import DataError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Rows:
    """The rows of one part: token ids and label indices int64 [rows]."""

    encoded: Encoded
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, most: int) -> Rows:
        """Returns at most this many rows, evenly spread."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(len(self), most)).astype(np.int64))
        encoded = self.encoded
        flat = [encoded.flat_ids[encoded.offsets[row] : encoded.offsets[row + 1]] for row in chosen]
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in flat])]).astype(np.int64)
        first, truncated = encoded.first_lengths[chosen], encoded.truncated[chosen]
        return Rows(Encoded(np.concatenate(flat), offsets, first, truncated, encoded.pad_id), self.labels[chosen])


@dataclass(frozen=True)
class TokenSet:
    """A set for one vocabulary: `validation` chooses the epoch, `test` is measured, whichever rows these are."""

    name: str
    label_names: tuple[str, ...]
    max_length: int
    train: Rows
    validation: Rows
    test: Rows

    def some(self, most: int) -> TokenSet:
        return replace(self, **{part: getattr(self, part).some(most) for part in PARTS})

    def write(self, file: Path) -> None:
        arrays: dict[str, Any] = {"label_names": np.array(self.label_names), "max_length": np.array(self.max_length)}
        for part in PARTS:
            rows: Rows = getattr(self, part)
            encoded = rows.encoded
            arrays |= {f"{part}/{key}": getattr(encoded, key) for key in ("flat_ids", "first_lengths", "truncated")}
            arrays |= {f"{part}/lengths": encoded.lengths, f"{part}/labels": rows.labels}
            arrays[f"{part}/pad_id"] = np.array(encoded.pad_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def read(cls, name: str, file: Path) -> TokenSet:
        """Raises DataError for a file that `write` did not make."""
        try:
            with np.load(file, allow_pickle=False) as arrays:
                parts = {part: _rows({key: arrays[f"{part}/{key}"] for key in _KEYS}) for part in PARTS}
                return cls(name, tuple(map(str, arrays["label_names"])), int(arrays["max_length"]), **parts)
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"{file}: is not a file of tokens ({error}); remove it, and name the sets with --data"
            ) from error


_KEYS = ("flat_ids", "first_lengths", "truncated", "lengths", "labels", "pad_id")


def _rows(arrays: dict[str, np.ndarray]) -> Rows:
    offsets = np.concatenate([[0], np.cumsum(arrays["lengths"])]).astype(np.int64)
    encoded = Encoded(arrays["flat_ids"], offsets, arrays["first_lengths"], arrays["truncated"], int(arrays["pad_id"]))
    return Rows(encoded, arrays["labels"])


def token_file(folder: Path, name: str, split: str, encoder: EncoderCheckpoint, max_length: int) -> Path:
    """Where the tokens of a set are kept. Encoders with the same vocabulary share a file."""
    vocabulary = hashlib.sha256(repr((encoder.do_lower_case, encoder.vocabulary)).encode()).hexdigest()[:8]
    return folder / f"{name}-{split}-{max_length}-{vocabulary}.npz"


def tokenize(data: LabelledSet, encoder: EncoderCheckpoint, max_length: int) -> TokenSet:
    """Reads, checks and tokenises the rows exactly as `textclf train` does. Raises a TextclfError as it does."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        training = {"epochs": 1, "max_length": max_length}
        file.write_text(recipe_text(data, str(encoder.path.resolve()), training, 1), encoding="utf-8")
        recipe, dataset = load_recipe_data(textclf.load_recipe(file))
    prepared = prepare(recipe, dataset, encoder)
    found = prepare_data(prepared.recipe, dataset, prepared.tokenizer)
    rows = {split.name: Rows(found.encoded[split.name], np.asarray(split.labels, np.int64)) for split in dataset.splits}
    return TokenSet(data.name, tuple(dataset.labels), max_length, *(rows[part] for part in PARTS))


def part_names(sets: Sequence[TokenSet]) -> str:
    """A line about each set."""
    return "\n".join(
        f"{found.name}: {len(found.train):,} rows for training, {len(found.validation):,} choose the epoch, "
        f"{len(found.test):,} are measured, {len(found.label_names)} labels"
        for found in sets
    )
