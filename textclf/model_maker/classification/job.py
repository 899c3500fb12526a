"""Writes the folder for the worker: `job.json`, the rows of each split as a plain CSV file, and the encoder.

The tables are rewritten without anything that Model Maker cannot handle: byte order marks, encodings, delimiters, other
column names, labels that it would sort in another order, and rows sorted by label.
"""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path

import numpy as np

from textclf.data.examples import Dataset, Split
from textclf.encoders.interface import AnyEncoder
from textclf.model_maker.classification.encoders import at_model_maker
from textclf.recipe.settings import Recipe


def prepare_job(folder: Path, recipe: Recipe, dataset: Dataset, checkpoint: AnyEncoder, seed: int) -> None:
    """Writes the folder, which must be empty."""
    for split in dataset.splits:
        # Model Maker does not shuffle, and does not use the end of the table. The seed decides which rows these are.
        rows = np.random.default_rng(seed).permutation(len(split.rows)) if split is dataset.train else None
        _write_rows(folder / f"{split.name}.csv", split, rows)
    for name in ("cache", "model", "temporary"):
        (folder / name).mkdir()
    job = {
        "task": "text-classification",
        "parent": os.getpid(),
        "splits": [split.name for split in dataset.splits],
        "seed": seed,
        "quantization": recipe.export.quantization,
        "epochs": recipe.training.epoch_count,
        "batch_size": recipe.training.batch_size,
        "max_length": recipe.encoder.fixed_length,
        "dropout": recipe.training.dropout,
        **at_model_maker(recipe).write(folder / "encoder", recipe, checkpoint),
        "started": time.time(),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")


def label_name(index: int) -> str:
    """Returns the name of a label in the job's tables. Model Maker sorts these names into the order of the recipe."""
    return f"{index:06d}"


def _write_rows(path: Path, split: Split, order: np.ndarray | None) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "label"])
        for row in range(len(split.rows)) if order is None else order:
            # Both kinds of tokenizer ignore NUL, but it is an error for the worker's CSV reader.
            [text] = split.texts[row]
            writer.writerow([_encodable(text.replace("\0", " ")), label_name(split.labels[row])])


def _encodable(text: str) -> str:
    """Replaces halves of characters, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode("utf-8")
