"""A teacher in plain PyTorch: BERT, or MPNet with its relative positions.

Takes texts, returns the states of every layer, the last layer's queries, keys and values, and sentence vectors. States are
flat: [rows · length, width].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pretraining.attention import attend
from pretraining.compiling import compiled
from pretraining.rows import Texts
from pretraining.teacher_files import StoredTeacher

LayerWeights = Mapping[str, Tensor]

# Hugging Face's modeling_mpnet.py, `compute_position_bias`.
_FARTHEST = 128


@dataclass(frozen=True)
class Taught:
    """`states[0]` is the output of the embeddings, `states[i]` of layer i, all flat; `relations` are the last layer's query,
    key and value, flat; `sentence` float32 [rows, width] is the mean of the last states of a row's tokens."""

    states: Mapping[int, Tensor]
    relations: tuple[Tensor, ...]
    sentence: Tensor

    def only(self, numbers: Iterable[int]) -> Taught:
        """Returns these states and the sentences, for keeping the answers to many texts."""
        return Taught({number: self.states[number] for number in numbers}, (), self.sentence)


@dataclass(frozen=True)
class Inside:
    """What one layer computes, all flat: what the parts of a student's layer are fitted to."""

    query: Tensor
    key: Tensor
    value: Tensor
    attended: Tensor
    intermediate: Tensor


class Teacher:
    """Weights on a device, in float32 for fits and in bfloat16 for training."""

    def __init__(self, stored: StoredTeacher, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.stored, self.config, self.vocabulary = stored, stored.config, stored.vocabulary
        self.weights = {name: value.to(device, dtype) for name, value in stored.weights.items()}
        self.layers = [self._layer(number) for number in range(self.config.num_hidden_layers)]
        self.compile(False)

    def compile(self, wanted: bool = True) -> None:
        functions = (queries_keys_values, next_states)
        self._queries_keys_values, self._next_states = [compiled(part) if wanted else part for part in functions]

    @torch.no_grad()
    def __call__(self, texts: Texts) -> Taught:
        states, relations = [self._embed(texts)], ()
        bias = self._bias(texts)
        for layer in self.layers:
            relations = self._queries_keys_values(layer, states[-1]).chunk(3, -1)
            context = attend(*relations, bias, self.config.num_attention_heads)
            states.append(self._next_states(layer, states[-1], context, self.config.layer_norm_eps))
        present = texts.mask[..., None].float()
        last = states[-1].view(*texts.ids.shape, -1)
        return Taught(dict(enumerate(states)), relations, (last * present).sum(1) / present.sum(1))

    @torch.no_grad()
    def inside(self, number: int, states: Tensor, texts: Texts) -> Inside:
        """Returns what layer `number`, from 0, computes from the states before it."""
        layer = self.layers[number]
        parts = queries_keys_values(layer, states).chunk(3, -1)
        context = attend(*parts, self._bias(texts), self.config.num_attention_heads)
        attended = after_attention(layer, states, context, self.config.layer_norm_eps)
        return Inside(*parts, attended, _dense(layer, "intermediate.dense", attended))

    def _layer(self, number: int) -> LayerWeights:
        prefix = f"encoder.layer.{number}."
        layer = {name.removeprefix(prefix): value for name, value in self.weights.items() if name.startswith(prefix)}
        for kind in ("weight", "bias"):
            parts = [layer.pop(f"attention.self.{part}.{kind}") for part in ("query", "key", "value")]
            layer[f"attention.self.{kind}"] = torch.cat(parts)
        return layer

    def _embed(self, texts: Texts) -> Tensor:
        states = self.weights["embeddings.word_embeddings.weight"][texts.ids]
        states = states + self.weights["embeddings.position_embeddings.weight"][: texts.length]
        if not self.config.relative_buckets:
            states = states + self.weights["embeddings.token_type_embeddings.weight"][texts.segments]
        return _norm(self.weights, "embeddings.LayerNorm", states.flatten(0, 1), self.config.layer_norm_eps)

    def _bias(self, texts: Texts) -> Tensor:
        mask = texts.mask[:, None, None, :]
        if not self.config.relative_buckets:
            return mask
        table = self.weights["encoder.relative_attention_bias.weight"]
        near = table[relative_buckets(texts.length, self.config.relative_buckets, table.device)]
        # [length, length, heads] → [rows, heads, length, length]
        return torch.where(mask, near.permute(2, 0, 1)[None], torch.finfo(near.dtype).min)


def relative_buckets(length: int, count: int, device: torch.device) -> Tensor:
    """int64 [length, length]: the row of MPNet's table for the places of a query and of a key."""
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    half = count // 2
    exact, away = half // 2, distance.abs()
    # Near distances have a bucket each, far ones share buckets whose width grows with the logarithm.
    far = torch.log(away.float().clamp(min=1) / exact) / math.log(_FARTHEST / exact) * (half - exact)
    far = (exact + far.long()).clamp(max=half - 1)
    return (distance < 0).long() * half + torch.where(away < exact, away, far)


def queries_keys_values(layer: LayerWeights, states: Tensor) -> Tensor:
    """→ [tokens, 3 · width]."""
    return _dense(layer, "attention.self", states)


def after_attention(layer: LayerWeights, states: Tensor, context: Tensor, eps: float) -> Tensor:
    return _norm(layer, "attention.output.LayerNorm", _dense(layer, "attention.output.dense", context) + states, eps)


def next_states(layer: LayerWeights, states: Tensor, context: Tensor, eps: float) -> Tensor:
    attended = after_attention(layer, states, context, eps)
    wide = functional.gelu(_dense(layer, "intermediate.dense", attended))
    return _norm(layer, "output.LayerNorm", _dense(layer, "output.dense", wide) + attended, eps)


def _dense(layer: LayerWeights, name: str, inputs: Tensor) -> Tensor:
    return functional.linear(inputs, layer[f"{name}.weight"], layer[f"{name}.bias"])


def _norm(layer: LayerWeights, name: str, inputs: Tensor, eps: float) -> Tensor:
    gamma, beta = layer[f"{name}.weight"], layer[f"{name}.bias"]
    return functional.layer_norm(inputs, gamma.shape, gamma, beta, eps)
