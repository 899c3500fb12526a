"""A MobileBERT in memory, whatever format it was read from: configuration, named arrays, vocabulary.

The names are those of the original checkpoint without its prefix `bert/`; kernels are [inputs, outputs].
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from textclf.data.tokens.wordpiece import Tokenizer
from textclf.recipe.settings import EncoderSettings

if TYPE_CHECKING:
    from textclf.encoders.formats.arrays import StoredArray
    from textclf.encoders.trainable import TrainableEncoder

MaskConvention = Literal["additive", "scaled"]
"""How padding is kept out of attention. `additive` is scores - 10000·(1 - mask): the published encoders were trained with
it. `scaled` is scores·mask - 6·(1 - mask), from the later quantisation-aware code."""


@dataclass(frozen=True)
class MobileBertConfig:
    """The sizes of a MobileBERT; the defaults are those of uncased_L-24_H-128_B-512_A-4_F-4_OPT."""

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 512
    num_hidden_layers: int = 24
    intra_bottleneck_size: int = 128
    num_attention_heads: int = 4
    intermediate_size: int = 512
    num_feedforward_networks: int = 4
    key_query_shared_bottleneck: bool = True
    use_bottleneck_attention: bool = False
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    attention_probs_dropout_prob: float = 0.1
    hidden_dropout_prob: float = 0.0
    classifier_activation: bool = False


@dataclass(frozen=True)
class EncoderCheckpoint:
    """A MobileBERT, as a format reader returns it; see `AnyEncoder` for its methods.

    `weights` are float32 arrays by canonical name (see `expected_shapes`); `path` is the folder or file that was read.
    `question_head` has the parts of a head for question answering, if the files have one (`formats/question_head.py`).
    """

    config: MobileBertConfig
    weights: dict[str, np.ndarray]
    vocabulary: list[str]
    do_lower_case: bool
    mask_convention: MaskConvention
    format: str
    path: Path
    question_head: Mapping[str, StoredArray] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        return self.config.max_position_embeddings

    @property
    def segments(self) -> int:
        return self.config.type_vocab_size

    @property
    def width(self) -> int:
        return self.config.hidden_size

    @property
    def layers(self) -> int:
        return self.config.num_hidden_layers

    @property
    def summary(self) -> str:
        return f"{self.layers}-layer encoder ({self.format})"

    def tokenizer(self, settings: EncoderSettings) -> Tokenizer:
        return Tokenizer(self.vocabulary, settings.tokenizer, self.do_lower_case)

    def fingerprint(self) -> str:
        facts = (asdict(self.config), self.mask_convention, self.do_lower_case, self.vocabulary)
        digest = hashlib.sha256(repr(facts).encode())
        for name in sorted(self.weights):
            array = self.weights[name]
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, "<f4").data)
        return digest.hexdigest()

    def with_weights(self, weights: dict[str, np.ndarray]) -> EncoderCheckpoint:
        return replace(self, weights=weights)

    def write(self, folder: Path) -> None:
        # Every format makes checkpoints and therefore imports this module.
        from textclf.encoders.formats.textclf_format import write_encoder

        write_encoder(folder, self)

    def trainable(self) -> TrainableEncoder:
        # TensorFlow takes seconds to load, and only training needs it.
        from textclf.encoders.trainable import TrainableMobileBert

        return TrainableMobileBert(self)


def expected_shapes(config: MobileBertConfig) -> dict[str, tuple[int, ...]]:
    """Returns the name and shape of every array of an encoder with this configuration, in a fixed order."""
    width, bottleneck = config.hidden_size, config.intra_bottleneck_size
    shapes: dict[str, tuple[int, ...]] = {}

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}/kernel"] = (inputs, outputs)
        shapes[f"{name}/bias"] = (outputs,)

    def norm(name: str, size: int) -> None:
        shapes[f"{name}/FakeLayerNorm/gamma"] = (size,)
        shapes[f"{name}/FakeLayerNorm/beta"] = (size,)

    shapes["embeddings/word_embeddings"] = (config.vocab_size, config.embedding_size)
    shapes["embeddings/token_type_embeddings"] = (config.type_vocab_size, width)
    shapes["embeddings/position_embeddings"] = (config.max_position_embeddings, width)
    dense("embeddings/embedding_transformation", 3 * config.embedding_size, width)
    norm("embeddings", width)
    for layer in range(config.num_hidden_layers):
        prefix = f"encoder/layer_{layer}"
        dense(f"{prefix}/bottleneck/input/dense", width, bottleneck)
        norm(f"{prefix}/bottleneck/input", bottleneck)
        if config.key_query_shared_bottleneck:
            dense(f"{prefix}/bottleneck/attention/dense", width, bottleneck)
            norm(f"{prefix}/bottleneck/attention", bottleneck)
        # Query and key read the bottleneck's output. With `use_bottleneck_attention` value reads it too, otherwise the wide
        # stream (google-research mobilebert/modeling.py).
        query_key = bottleneck if (config.key_query_shared_bottleneck or config.use_bottleneck_attention) else width
        value = bottleneck if config.use_bottleneck_attention else width
        dense(f"{prefix}/attention/self/query", query_key, bottleneck)
        dense(f"{prefix}/attention/self/key", query_key, bottleneck)
        dense(f"{prefix}/attention/self/value", value, bottleneck)
        dense(f"{prefix}/attention/output/dense", bottleneck, bottleneck)
        norm(f"{prefix}/attention/output", bottleneck)
        for network in range(config.num_feedforward_networks - 1):
            ffn = f"{prefix}/ffn_layer_{network}"
            dense(f"{ffn}/intermediate/dense", bottleneck, config.intermediate_size)
            dense(f"{ffn}/output/dense", config.intermediate_size, bottleneck)
            norm(f"{ffn}/output", bottleneck)
        dense(f"{prefix}/intermediate/dense", bottleneck, config.intermediate_size)
        dense(f"{prefix}/output/dense", config.intermediate_size, bottleneck)
        norm(f"{prefix}/output", bottleneck)
        dense(f"{prefix}/output/bottleneck/dense", bottleneck, width)
        norm(f"{prefix}/output/bottleneck", width)
    if config.classifier_activation:
        dense("pooler/dense", width, width)
    return shapes
