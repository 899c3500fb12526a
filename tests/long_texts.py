"""Tables of long texts for tests: the words that decide are anywhere in them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tests.tiny import write_recipe

SIGNS = {"good": ["good", "great", "love", "best", "happy"], "bad": ["bad", "awful", "hate", "worst", "sad"]}
FILLERS = "the film was a very app and this food is so my phone works again always".split()


def write_long_reviews(path: Path, rows: int, seed: int = 0, most_words: int = 60) -> Path:
    """Columns id, review, mood, as in `write_reviews`; a text of n words has n // 4 that decide."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review", "mood"])
        for number in range(rows):
            mood = ("good", "bad")[number % 2]
            words = list(random.choice(FILLERS, random.integers(4, most_words)))
            for _ in range(len(words) // 4):
                words.insert(int(random.integers(len(words) + 1)), str(random.choice(SIGNS[mood])))
            writer.writerow([number + 1, " ".join(words), mood])
    return path


def write_long_recipe(folder: Path, *, rows: int = 100, encoder: Path | None = None, **training: object) -> Path:
    """A recipe for such tables and the tiny encoder, which reads windows of 16 tokens."""
    recipe = write_recipe(folder, encoder=encoder, **training)
    write_long_reviews(folder / "train.csv", rows)
    write_long_reviews(folder / "test.csv", 60, seed=1)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("max_length: 32", "max_length: 16\n  overflow: windows"), encoding="utf-8")
    return recipe
