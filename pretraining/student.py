"""The student in PyTorch: the same maths as textclf/encoders/mobilebert.py, as functions of a dictionary of named arrays.

In: weights under the names of `expected_shapes`, kernels [inputs, outputs]. Out: the states of every layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from textclf.encoders.checkpoint import MobileBertConfig

Weights = Mapping[str, torch.Tensor]


def dense(weights: Weights, name: str, inputs: torch.Tensor) -> torch.Tensor:
    return functional.linear(inputs, weights[f"{name}/kernel"].t(), weights[f"{name}/bias"])


def no_norm(weights: Weights, name: str, inputs: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(weights[f"{name}/FakeLayerNorm/beta"], inputs, weights[f"{name}/FakeLayerNorm/gamma"])


def embed(weights: Weights, ids: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """int64 [batch, length] twice → [batch, length, hidden_size], before any layer."""
    vectors = trigrams(functional.embedding(ids, weights["embeddings/word_embeddings"]))
    states = dense(weights, "embeddings/embedding_transformation", vectors)
    states = states + weights["embeddings/position_embeddings"][: ids.shape[1]]
    states = states + functional.embedding(segments, weights["embeddings/token_type_embeddings"])
    return no_norm(weights, "embeddings", states)


def trigrams(vectors: torch.Tensor) -> torch.Tensor:
    """[batch, length, size] → next, current and previous token's vectors side by side, zeros past the ends."""
    following = functional.pad(vectors[:, 1:], (0, 0, 0, 1))
    previous = functional.pad(vectors[:, :-1], (0, 0, 1, 0))
    return torch.cat([following, vectors, previous], dim=-1)


def attention(
    weights: Weights,
    config: MobileBertConfig,
    prefix: str,
    inputs: tuple[torch.Tensor, torch.Tensor],
    attend: torch.Tensor,
) -> torch.Tensor:
    """`inputs` are what query and key read, and what value reads; → context [batch, length, bottleneck]."""
    for_query_key, for_value = inputs
    heads = config.num_attention_heads

    def split(states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:2], heads, states.shape[-1] // heads).transpose(1, 2)

    query = split(dense(weights, f"{prefix}/attention/self/query", for_query_key))
    key = split(dense(weights, f"{prefix}/attention/self/key", for_query_key))
    value = split(dense(weights, f"{prefix}/attention/self/value", for_value))
    context = functional.scaled_dot_product_attention(query, key, value, attn_mask=attend)
    return context.transpose(1, 2).flatten(2)


def layer(
    weights: Weights, config: MobileBertConfig, index: int, states: torch.Tensor, attend: torch.Tensor
) -> torch.Tensor:
    """One layer, [batch, length, hidden_size] → the same; `attend` [batch, 1, 1, length] is true at tokens."""
    prefix = f"encoder/layer_{index}"
    narrow = no_norm(weights, f"{prefix}/bottleneck/input", dense(weights, f"{prefix}/bottleneck/input/dense", states))
    for_query_key, for_value = states, states
    if config.use_bottleneck_attention:
        for_query_key, for_value = narrow, narrow
    elif config.key_query_shared_bottleneck:
        shared = dense(weights, f"{prefix}/bottleneck/attention/dense", states)
        for_query_key = no_norm(weights, f"{prefix}/bottleneck/attention", shared)
    context = attention(weights, config, prefix, (for_query_key, for_value), attend)
    narrow = no_norm(
        weights, f"{prefix}/attention/output", dense(weights, f"{prefix}/attention/output/dense", context) + narrow
    )
    parts = [f"{prefix}/ffn_layer_{number}" for number in range(config.num_feedforward_networks - 1)]
    for part in [*parts, prefix]:
        wide = torch.relu(dense(weights, f"{part}/intermediate/dense", narrow))
        narrow = no_norm(weights, f"{part}/output", dense(weights, f"{part}/output/dense", wide) + narrow)
    back = dense(weights, f"{prefix}/output/bottleneck/dense", narrow)
    return no_norm(weights, f"{prefix}/output/bottleneck", back + states)


def encode(
    weights: Weights, config: MobileBertConfig, ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor
) -> list[torch.Tensor]:
    """int64 [batch, length] three times → states of the embeddings and of every layer, [batch, length, hidden_size] each.

    Padding is kept out by minus infinity where the exported graph subtracts 10,000: the same in float32.
    """
    attend = mask[:, None, None, :].bool()
    states = [embed(weights, ids, segments)]
    for index in range(config.num_hidden_layers):
        states.append(layer(weights, config, index, states[-1], attend))
    return states
