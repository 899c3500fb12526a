"""Reads a google-research checkpoint: `bert_config.json`, `vocab.txt` and a TensorFlow 1 checkpoint, as in the released
archive."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from textclf.data.tokens.vocabulary import read_vocabulary
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig
from textclf.encoders.formats.arrays import read_weights
from textclf.encoders.formats.configuration import make_config, read_json
from textclf.encoders.formats.facts import EncoderFacts
from textclf.encoders.formats.question_head import stored_question_head
from textclf.encoders.formats.tensorflow_checkpoint import data_bytes, index_checkpoint
from textclf.encoders.formats.tensorflow_names import original_arrays
from textclf.encoders.formats.vocabulary import Vocabulary, check_vocabulary, is_lower_cased
from textclf.errors import EncoderError

NAME = "tf1_checkpoint"
HOLDS = "bert_config.json, vocab.txt and *.ckpt.index with *.ckpt.data-*"

CONFIG_FILE = "bert_config.json"
VOCABULARY_FILE = "vocab.txt"
_LONGEST_STATE = 2**20

# The defaults of settings that the file omits (google-research mobilebert/modeling.py, `BertConfig`).
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 16,
    "trigram_input": False,
    "use_bottleneck": False,
    "use_bottleneck_attention": False,
    "key_query_shared_bottleneck": False,
    "num_feedforward_networks": 1,
    "normalization_type": "layer_norm",
    "classifier_activation": True,
}


def recognise(folder: Path) -> bool:
    """Returns whether a checkpoint is in the folder itself (in SavedModels it is one level down)."""
    return bool(_prefixes(folder))


def read(folder: Path) -> EncoderCheckpoint:
    """Returns the encoder in a folder for which `recognise` is true."""
    for file in (folder / CONFIG_FILE, folder / VOCABULARY_FILE):
        if not file.is_file():
            raise EncoderError(f"{file}: is missing beside the checkpoint; expected {HOLDS}")
    config = _config(folder)
    prefix = _choose_prefix(folder)
    raw = index_checkpoint(prefix)
    weights = read_weights(config, original_arrays(raw), prefix, data_bytes(prefix))
    vocabulary = find_vocabulary(folder)
    check_vocabulary(vocabulary, config)
    # The released checkpoint was trained with the additive mask; a bare checkpoint has no graph that could say otherwise.
    head = stored_question_head(raw)
    return EncoderCheckpoint(
        config, weights, vocabulary.pieces, vocabulary.do_lower_case, "additive", NAME, folder, head
    )


def read_facts(folder: Path) -> EncoderFacts:
    """Returns the facts in the configuration and the vocabulary."""
    config, vocabulary = _config(folder), find_vocabulary(folder)
    check_vocabulary(vocabulary, config)
    return EncoderFacts.of(config, vocabulary, folder)


def _config(folder: Path) -> MobileBertConfig:
    settings = {**_DEFAULTS, **read_json(folder / CONFIG_FILE)}
    for key in ("embedding_size", "intra_bottleneck_size"):
        settings[key] = settings.get(key) or settings["hidden_size"]
    return make_config(settings, folder / CONFIG_FILE)


def find_vocabulary(folder: Path) -> Vocabulary:
    """Returns the vocabulary beside the checkpoint. Only its entries show whether it is lower-cased."""
    pieces = read_vocabulary(folder / VOCABULARY_FILE)
    return Vocabulary(pieces, is_lower_cased(pieces), folder / VOCABULARY_FILE)


def _prefixes(folder: Path) -> list[Path]:
    return sorted(file.with_suffix("") for file in folder.glob("*.index") if not file.name.startswith("."))


def _choose_prefix(folder: Path) -> Path:
    """Returns the only checkpoint, or the one that the file `checkpoint` names.

    The folder in this file is the writer's and is ignored.
    """
    prefixes = _prefixes(folder)
    if len(prefixes) == 1:
        return prefixes[0]
    state_file = folder / "checkpoint"
    if state_file.is_file():
        with state_file.open(encoding="utf-8", errors="replace") as stream:
            match = re.search(r'^model_checkpoint_path: "([^"]*)"', stream.read(_LONGEST_STATE), re.MULTILINE)
        for prefix in prefixes:
            if match and prefix.name == re.split(r"[/\\]", match[1])[-1]:
                return prefix
    raise EncoderError(
        f"{folder}: holds {len(prefixes)} checkpoints ({', '.join(p.name for p in prefixes)}) and no file `checkpoint`"
        " that says which; keep one"
    )
