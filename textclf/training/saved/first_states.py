"""Saved states of the first textclf: decides whether one belongs to the training that is asked for now.

These states have no version, and their fingerprint covers more than training depends on: the whole recipe with absolute
paths.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from textclf.data.splits import set_aside
from textclf.encoders.prepare import PreparedData
from textclf.recipe.settings import AVERAGE_WORDS_ONLY, Recipe

_HEADER = "# A recipe with every default written out. Train it again: textclf train THIS_FILE\n"

# The sections and keys of recipes at that time; the fingerprint depends on their order.
_SECTIONS: dict[str, tuple[str, ...]] = {
    "dataset": ("train", "validation", "test", "text", "label", "labels", "delimiter", "encoding"),
    "encoder": ("source", "max_length", "tokenizer", "overflow", *AVERAGE_WORDS_ONLY),
    "training": (
        "engine",
        "epochs",
        "batch_size",
        "accumulate",
        "learning_rate",
        "warmup",
        "weight_decay",
        "dropout",
        "label_smoothing",
        "class_weights",
        "clip_norm",
        "head",
        "freeze",
        "precision",
        "early_stopping",
        "watchers",
        "calibrate",
        "reject_for_precision",
        "seed",
        "seeds",
    ),
    "export": ("quantization", "compatibility", "max_changed_labels", "max_lost_accuracy", "reject_label"),
}

_WATCHERS = ("not_finite", "learning_rate", "stuck", "one_class", "overfitting")


def first_fingerprint(recipe: Recipe, data: PreparedData, encoder: str) -> str | None:
    """Returns the fingerprint that the first textclf saved for this training; None for a recipe that it could not read.

    `encoder` is the fingerprint of the encoder.
    """
    dumped = _first_dump(recipe)
    if dumped is None:
        return None
    facts = [dumped, sorted(data.dataset.files.values()), encoder]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _first_dump(recipe: Recipe) -> str | None:
    """Returns the recipe as YAML, byte for byte as the first textclf wrote it."""
    all_values = recipe.model_dump(mode="json")
    values: dict[str, Any] = {"name": all_values["name"]}
    for section, keys in _SECTIONS.items():
        values[section] = {key: all_values[section][key] for key in keys}
    watchers = all_values["training"]["watchers"]
    values["training"]["watchers"] = {key: watchers[key] for key in _WATCHERS}
    # Keys that were added since then must have their defaults.
    if Recipe.model_validate(values) != recipe:
        return None
    if len(recipe.dataset.text) == 1:
        values["dataset"]["text"] = recipe.dataset.text[0]
    if not recipe.averages_words:
        for key in AVERAGE_WORDS_ONLY:
            del values["encoder"][key]
    return _HEADER + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def is_split_as_first(recipe: Recipe, data: PreparedData) -> bool:
    """Returns whether the rows are in the splits to which the first textclf assigned them.

    It kept rows with identical texts in one split. Today, rows that the model reads as equal are kept together, so splits
    can differ if texts differ only in capitals, for example.
    """
    settings, train = recipe.dataset, data.dataset.train
    shares = {
        name: share
        for name, share in (("test", settings.test), ("validation", settings.validation))
        if isinstance(share, float)
    }
    rows = sorted(
        (row, split.texts[place], int(split.labels[place]), split.name)
        for split in data.dataset.splits
        if split is train or split.name in shares
        for place, row in enumerate(split.rows)
    )
    sides = set_aside([row[1] for row in rows], [row[2] for row in rows], shares, recipe.training.seed)
    return sides == [row[3] for row in rows]
