"""The student in PyTorch: the maths of textclf/encoders/mobilebert.py for the form of MobileBERT that is distilled here.

A layer has one feed-forward network and reads queries, keys and values from the wide stream. Weights have the names of
`expected_shapes`, kernels are [inputs, outputs]. States are flat: [rows · length, hidden_size].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pretraining.attention import attend
from pretraining.rows import Texts
from textclf.encoders.checkpoint import MobileBertConfig

Weights = Mapping[str, Tensor]


def dense(weights: Weights, name: str, inputs: Tensor) -> Tensor:
    return functional.linear(inputs, weights[f"{name}/kernel"].t(), weights[f"{name}/bias"])


def no_norm(weights: Weights, name: str, inputs: Tensor) -> Tensor:
    return torch.addcmul(weights[f"{name}/FakeLayerNorm/beta"], inputs, weights[f"{name}/FakeLayerNorm/gamma"])


def layer_weights(weights: Weights, number: int) -> dict[str, Tensor]:
    """Returns a layer's arrays under names that are the same for every layer."""
    prefix = f"encoder/layer_{number}/"
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def embed(weights: Weights, texts: Texts) -> Tensor:
    """Returns the states before any layer."""
    vectors = trigrams(functional.embedding(texts.ids, weights["embeddings/word_embeddings"]))
    states = dense(weights, "embeddings/embedding_transformation", vectors)
    states = states + weights["embeddings/position_embeddings"][: texts.length]
    states = states + functional.embedding(texts.segments, weights["embeddings/token_type_embeddings"])
    return no_norm(weights, "embeddings", states).flatten(0, 1)


def trigrams(vectors: Tensor) -> Tensor:
    """[rows, length, size] → next, current and previous token's vectors side by side, zeros past the ends."""
    following = functional.pad(vectors[:, 1:], (0, 0, 0, 1))
    previous = functional.pad(vectors[:, :-1], (0, 0, 1, 0))
    return torch.cat([following, vectors, previous], dim=-1)


def before_attention(layer: Weights, states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """→ the narrow states, queries, keys and values."""
    narrow = no_norm(layer, "bottleneck/input", dense(layer, "bottleneck/input/dense", states))
    query, key, value = (dense(layer, f"attention/self/{part}", states) for part in ("query", "key", "value"))
    return narrow, query, key, value


def after_attention(layer: Weights, states: Tensor, narrow: Tensor, context: Tensor) -> Tensor:
    """→ the next layer's states."""
    attended = no_norm(layer, "attention/output", dense(layer, "attention/output/dense", context) + narrow)
    wide = torch.relu(dense(layer, "intermediate/dense", attended))
    ahead = no_norm(layer, "output", dense(layer, "output/dense", wide) + attended)
    return no_norm(layer, "output/bottleneck", dense(layer, "output/bottleneck/dense", ahead) + states)


@dataclass(frozen=True)
class Encoded:
    """The states of the embeddings and of every layer, and the last layer's query, key and value."""

    states: list[Tensor]
    relations: tuple[Tensor, ...]


def encode(
    weights: Weights,
    config: MobileBertConfig,
    texts: Texts,
    before: Callable[..., tuple[Tensor, ...]] = before_attention,
    after: Callable[..., Tensor] = after_attention,
) -> Encoded:
    """`before` and `after` may be compiled versions of the two parts of a layer.

    Padding is excluded by minus infinity where the exported graph subtracts 10,000: the same in float32.
    """
    bias = texts.mask[:, None, None, :]
    states, relations = [embed(weights, texts)], ()
    for number in range(config.num_hidden_layers):
        layer = layer_weights(weights, number)
        narrow, *relations = before(layer, states[-1])
        states.append(after(layer, states[-1], narrow, attend(*relations, bias, config.num_attention_heads)))
    return Encoded(states, tuple(relations))
