"""Teachers, texts and settings that are small enough for seconds, in the files in which the real ones come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from tests.tiny import VOCABULARY, WORDS

_OTHERS = [piece for piece in VOCABULARY if piece not in ("[CLS]", "[SEP]")]
BERT_VOCABULARY = [*_OTHERS[:101], "[CLS]", "[SEP]", *_OTHERS[101:]]
"""[CLS] and [SEP] have the ids 101 and 102, as in BERT's vocabulary."""

MPNET_VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", *reversed(BERT_VOCABULARY), "<mask>"]
"""The same tokens with other ids, and MPNet's names of the special ones."""

HEADS, POSITIONS = 4, 64

STUDENT: dict[str, Any] = {
    "config": {
        "vocab_size": len(BERT_VOCABULARY),
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intra_bottleneck_size": 32,
        "num_attention_heads": HEADS,
        "intermediate_size": 48,
        "num_feedforward_networks": 1,
        "key_query_shared_bottleneck": False,
        "max_position_embeddings": POSITIONS,
    },
    "minilm_layers": [0, 2],
    "mpnet_layers": {1: 1, 2: 2},
    "learning_rate": 0.004,
    "losses": {
        "embeddings": [0.5, 0.1],
        "minilm_states": [1.0, 0.25],
        "minilm_sentence": [1.0, 0.5],
        "mpnet_states": [0.5, 1.0],
        "mpnet_sentence": [0.5, 1.5],
        "relations": [0.3, 0.5],
    },
}
SETTINGS: dict[str, Any] = {
    "seed": 5,
    "budget": {"tokens": 16_000},
    "mixture": {
        "tokens": 384,
        "lengths": [16, 32, 48],
        "short": 20,
        "crops": 0.1,
        "second_texts": 0.1,
        "holes": 0.1,
        "run_on": 0.0,
    },
    "optimiser": {"betas": [0.9, 0.98], "weight_decay": 0.01, "clip_norm": 1.0, "warm_up": 0.04},
    "fit": {"batches": 6, "tokens": 384},
    "sentence_scale": 1.5,
    "relations": {"heads": HEADS, "rows": 0.5},
    "log": {"steps": 5, "held_out_steps": 10},
    # The second student learns from MiniLM alone.
    "students": {"both": STUDENT, "alone": {**deepcopy(STUDENT), "mpnet_layers": {}}},
}


def changed(**changes: Any) -> dict[str, Any]:
    """The settings with other values: `changed(mixture__tokens=768)`."""
    settings = deepcopy(SETTINGS)
    for key, value in changes.items():
        *sections, name = key.split("__")
        section = settings
        for part in sections:
            section = section[part]
        section[name] = value
    return settings


def write_settings(file: Path, settings: Mapping[str, Any] = SETTINGS) -> Path:
    file.write_text(yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False), encoding="utf-8")
    return file


def write_vocabulary(folder: Path, vocabulary: Sequence[str]) -> None:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8")


def write_bert(folder: Path, seed: int = 3) -> Path:
    """A BERT of random weights: 3 layers, 32 wide."""
    settings = _sizes(width=32, layers=3, wide=64, vocabulary=BERT_VOCABULARY, positions=POSITIONS)
    names = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    weights = _random_weights(settings, names, seed, {"embeddings.token_type_embeddings.weight": (2, 32)})
    return _write(folder, {**settings, "model_type": "bert", "layer_norm_eps": 1e-12}, weights, BERT_VOCABULARY)


def write_mpnet(folder: Path, seed: int = 4) -> Path:
    """An MPNet of random weights: 2 layers, 24 wide, and one number of its last states that never changes."""
    settings = _sizes(width=24, layers=2, wide=48, vocabulary=MPNET_VOCABULARY, positions=POSITIONS + 2)
    names = tuple(f"attention.attn.{part}" for part in "qkvo")
    weights = _random_weights(settings, names, seed, {"encoder.relative_attention_bias.weight": (32, HEADS)})
    weights = {
        name.replace(".attention.output.LayerNorm", ".attention.LayerNorm"): array for name, array in weights.items()
    }
    weights["encoder.layer.1.output.LayerNorm.weight"][7] = 0
    settings |= {"model_type": "mpnet", "layer_norm_eps": 1e-5, "relative_attention_num_buckets": 32}
    return _write(folder, settings, weights, MPNET_VOCABULARY)


def _sizes(width: int, layers: int, wide: int, vocabulary: Sequence[str], positions: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": wide,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": positions,
    }


def _random_weights(
    settings: Mapping[str, int], attention: Sequence[str], seed: int, others: Mapping[str, tuple[int, int]]
) -> dict[str, np.ndarray]:
    width, wide = settings["hidden_size"], settings["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (settings["vocab_size"], width),
        "embeddings.position_embeddings.weight": (settings["max_position_embeddings"], width),
        **others,
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(settings["num_hidden_layers"]):
        dense = {
            **dict.fromkeys(attention, (width, width)),
            "intermediate.dense": (wide, width),
            "output.dense": (width, wide),
        }
        for part, shape in dense.items():
            shapes[f"encoder.layer.{layer}.{part}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{part}.bias"] = shape[:1]
        norms += [f"encoder.layer.{layer}.{part}.LayerNorm" for part in ("attention.output", "output")]
    random = np.random.default_rng(seed)
    weights = {name: _random(random, shape) for name, shape in shapes.items()}
    for name in norms:
        weights[f"{name}.weight"] = (1 + 0.1 * random.standard_normal(width)).astype(np.float32)
        weights[f"{name}.bias"] = _random(random, (width,))
    return weights


def _random(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    spread = 0.1 if len(shape) == 1 else shape[1] ** -0.5
    return (spread * random.standard_normal(shape)).astype(np.float32)


def _write(
    folder: Path, settings: Mapping[str, Any], weights: dict[str, np.ndarray], vocabulary: Sequence[str]
) -> Path:
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**settings, "hidden_act": "gelu"}), encoding="utf-8")
    write_vocabulary(folder, vocabulary)
    return folder


def write_corpus(folder: Path, passages: int = 300) -> Path:
    """Passages of 3 to 60 words in `corpus-0.txt`, 40 in `heldout.txt`."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(3, 60))) for _ in range(passages + 40)]
    (folder / "corpus-0.txt").write_text("\n".join(texts[40:]) + "\n", encoding="utf-8")
    (folder / "heldout.txt").write_text("\n".join(texts[:40]) + "\n", encoding="utf-8")
    return folder
