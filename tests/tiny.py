"""A two-layer MobileBERT with a small vocabulary, for tests in which size does not matter."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from textclf.data.tokens.encoded import Encoded
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes
from textclf.encoders.formats.textclf_format import write_encoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
WORDS = """
the is it was and not my your i you we they he she this that good bad great awful love hate like fine
poor nice best worst happy sad broken works film app phone food order money please help thanks never
always again very so too what when where how why call bill card bank refund ship late early fast slow
free win prize claim now text stop
""".split()
VOCABULARY = list(dict.fromkeys(SPECIAL + LETTERS + [f"##{letter}" for letter in LETTERS[:36]] + WORDS))


def tiny_config(**changes: object) -> MobileBertConfig:
    settings = {
        "vocab_size": len(VOCABULARY),
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intra_bottleneck_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    return MobileBertConfig(**{**settings, **changes})


def tiny_checkpoint(seed: int = 0, mask_convention: str = "additive", **changes: object) -> EncoderCheckpoint:
    """Random weights, every array clearly different from its neutral value."""
    config = tiny_config(**changes)
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(config).items():
        spread = 0.5 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.2
        weights[name] = (random.standard_normal(shape) * spread + name.endswith("gamma")).astype(np.float32)
    return EncoderCheckpoint(config, weights, list(VOCABULARY), True, mask_convention, "tiny", Path("tiny"))


def ids_of(encoded: Encoded) -> list[list[int]]:
    """The ids of encoded rows as lists."""
    return [part.tolist() for part in np.split(encoded.flat_ids, encoded.offsets[1:-1])]


def write_tiny_encoder(folder: Path, **changes: object) -> Path:
    """The tiny encoder on disk, for a recipe's `encoder.source`."""
    write_encoder(folder, tiny_checkpoint(**changes))
    return folder


def write_reviews(path: Path, rows: int, seed: int = 0) -> Path:
    """A CSV that is easy to learn: columns id, review, mood (good or bad), one word decides."""
    random = np.random.default_rng(seed)
    signs = {"good": ["good", "great", "love", "best", "happy"], "bad": ["bad", "awful", "hate", "worst", "sad"]}
    fillers = "the film was a very app and this food is so my phone works again always".split()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review", "mood"])
        for number in range(rows):
            mood = ("good", "bad")[number % 2]
            words = list(random.choice(fillers, random.integers(2, 9)))
            words.insert(int(random.integers(len(words) + 1)), str(random.choice(signs[mood])))
            writer.writerow([number + 1, f"{' '.join(words)} {number}", mood])
    return path


def write_recipe(folder: Path, *, rows: int = 160, encoder: Path | None = None, **training: object) -> Path:
    """A recipe, its data and its tiny encoder in one folder.

    This encoder has one layer: TensorFlow needs half as long for its training step as for that of two layers.
    """
    write_reviews(folder / "train.csv", rows)
    write_reviews(folder / "test.csv", 60, seed=1)
    source = encoder or write_tiny_encoder(folder / "encoder", num_hidden_layers=1)
    settings = {"epochs": 10, "batch_size": 16, "learning_rate": 3e-3, **training}
    path = folder / "recipe.yaml"
    path.write_text(
        "name: reviews\n"
        "dataset:\n  train: train.csv\n  test: test.csv\n  validation: 0.2\n  text: review\n  label: mood\n"
        f"encoder:\n  source: {source}\n  max_length: 32\n"
        "training:\n" + "".join(f"  {key}: {value}\n" for key, value in settings.items())
    )
    return path
