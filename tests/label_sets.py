"""Rows with several topics that are easy to learn: each topic has words of its own."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.tiny import write_tiny_encoder

TOPICS = {
    "broken": ["broken", "bad"],
    "late": ["late", "slow"],
    "praise": ["great", "love"],
    "refund": ["refund", "bank"],
}

_FILLERS = "the film was a very app and this food is so my phone works again always".split()


def topic_rows(count: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    """Texts with their topics, none to four of them, in any order."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        topics = [topic for topic in TOPICS if random.random() < 0.35]
        words = [*random.choice(_FILLERS, random.integers(2, 8)), *(random.choice(TOPICS[topic]) for topic in topics)]
        random.shuffle(words)
        random.shuffle(topics)
        rows.append((f"{' '.join(words)} {number}", topics))
    return rows


def write_topics(path: Path, count: int, seed: int = 0) -> Path:
    """A CSV with the topics in one column and, once more, in a column for each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "topics", *TOPICS])
        for text, topics in topic_rows(count, seed):
            writer.writerow([text, "|".join(topics), *(int(topic in topics) for topic in TOPICS)])
    return path


def write_long_topics(path: Path, count: int, seed: int = 0, most_words: int = 60) -> Path:
    """Columns text and topics. The words of each topic of a text stand anywhere in it, once for every 8 words."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "topics"])
        for _ in range(count):
            words = random.choice(_FILLERS, random.integers(4, most_words)).tolist()
            topics = [topic for topic in TOPICS if random.random() < 0.35]
            for topic in topics * max(1, len(words) // 8):
                words.insert(int(random.integers(len(words) + 1)), str(random.choice(TOPICS[topic])))
            writer.writerow([" ".join(words), "|".join(topics)])
    return path


def write_long_topic_recipe(folder: Path, *, rows: int = 100, **settings: object) -> Path:
    """A recipe for such tables and the tiny encoder, which reads windows of 16 tokens."""
    recipe = write_topic_recipe(folder, **settings)
    write_long_topics(folder / "train.csv", rows)
    write_long_topics(folder / "test.csv", 60, seed=1)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("max_length: 32", "max_length: 16\n  overflow: windows"), encoding="utf-8")
    return recipe


ONE_COLUMN = {"label": "topics", "label_separator": '"|"'}
FOUR_COLUMNS = {"labels_from": f"[{', '.join(TOPICS)}]"}


def write_topic_recipe(
    folder: Path,
    dataset: Mapping[str, str] = ONE_COLUMN,
    *,
    rows: int = 200,
    encoder: str | None = None,
    **training: object,
) -> Path:
    """A recipe, its data and its tiny encoder of one layer in one folder."""
    write_topics(folder / "train.csv", rows)
    write_topics(folder / "test.csv", 60, seed=1)
    source = encoder or str(write_tiny_encoder(folder / "encoder", num_hidden_layers=1))
    settings = {"epochs": 4, "batch_size": 16, "learning_rate": 2e-3, **training}
    path = folder / "recipe.yaml"
    path.write_text(
        "name: topics\ndataset:\n  train: train.csv\n  test: test.csv\n  validation: 0.3\n"
        + "".join(f"  {key}: {value}\n" for key, value in dataset.items())
        + f"encoder:\n  source: {source}\n  max_length: 32\ntraining:\n"
        + "".join(f"  {key}: {value}\n" for key, value in settings.items())
    )
    return path
