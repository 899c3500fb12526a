"""Several runs of one encoder as one model: the maths of textclf/encoders/mobilebert.py with a first axis for the runs.

All runs read the same batch. Steps of a small encoder are limited by the launch of kernels, so ten runs in one product take
hardly longer than one. Arrays are [runs, …]; states are [runs, rows · length, hidden_size].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pretraining.rows import Texts
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig
from textclf.errors import EncoderError

WORDS = "embeddings/word_embeddings"

# Four products with the same wide states are one: the narrow states, queries, keys and values.
_WIDE = ("bottleneck/input/dense", "attention/self/query", "attention/self/key", "attention/self/value")

_REPLACED = -10000.0

Values = Mapping[str, Tensor]


def check_form(encoder: EncoderCheckpoint) -> None:
    """Raises EncoderError for a MobileBERT of another form than the built-in encoders."""
    config = encoder.config
    other = (
        config.key_query_shared_bottleneck
        or config.use_bottleneck_attention
        or config.num_feedforward_networks != 1
        or config.classifier_activation
        or encoder.mask_convention != "additive"
    )
    if other:
        raise EncoderError(
            f"{encoder.path}: only encoders of the built-in form can be fine-tuned here: one feed-forward network a layer, "
            "queries and keys from the wide stream, no pooler, an additive mask"
        )


@dataclass(frozen=True)
class Place:
    """Where an array is in the row of a run: `level` is 0 for the head, 1 for the last layer, and grows downwards."""

    shape: tuple[int, ...]
    start: int
    level: int
    decays: bool

    @property
    def end(self) -> int:
        return self.start + int(np.prod(self.shape))


def arrays_of_run(encoder: EncoderCheckpoint, kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the arrays that are trained: those of the encoder, with some products merged, and those of the head."""
    arrays = {name: array for name, array in encoder.weights.items() if not name.startswith("encoder/")}
    for layer in range(encoder.config.num_hidden_layers):
        prefix = f"encoder/layer_{layer}/"
        for part in ("kernel", "bias"):
            parts = [encoder.weights[f"{prefix}{name}/{part}"] for name in _WIDE]
            arrays[f"{prefix}wide/{part}"] = np.concatenate(parts, axis=-1)
        merged = tuple(f"{prefix}{name}/" for name in _WIDE)
        kept = [name for name in encoder.weights if name.startswith(prefix)]
        arrays |= {
            name: encoder.weights[name]
            for name in kept
            if not (name.startswith(merged) and name.endswith(("/kernel", "/bias"))) or "FakeLayerNorm" in name
        }
    return {**arrays, "head/kernel": kernel, "head/bias": bias}


def places_of(arrays: Mapping[str, np.ndarray], layers: int) -> dict[str, Place]:
    """Returns the place of every array but the word vectors, which have a tensor of their own."""
    places, start = {}, 0
    for name, array in arrays.items():
        if name == WORDS:
            continue
        level = layers + 1
        if name.startswith("head/"):
            level = 0
        elif name.startswith("encoder/layer_"):
            level = layers - int(name.split("/")[1].removeprefix("layer_"))
        places[name] = Place(array.shape, start, level, not name.endswith(("bias", "gamma", "beta")))
        start = places[name].end
    return places


class Stack:
    """The weights of some runs: `words` [runs, vocabulary, embedding_size] and `others` [runs, numbers], and gradients.

    Each run begins with the same arrays.
    """

    def __init__(self, words: Tensor, others: Tensor, places: Mapping[str, Place], frozen: int | None) -> None:
        """`frozen` is the number of lower layers that are not trained, beside the embeddings; None if all are."""
        self.words, self.others, self.places, self.frozen = words.detach(), others.detach(), places, frozen
        self.gradients = torch.zeros_like(self.others)
        self.trains_words = frozen is None
        self.values = {WORDS: self.words.requires_grad_(self.trains_words)}
        for name, place in places.items():
            value = self.others[:, place.start : place.end].unflatten(1, place.shape).detach()
            if self.is_trained(name):
                value.requires_grad_()
                value.grad = self.gradients[:, place.start : place.end].unflatten(1, place.shape)
            self.values[name] = value

    @classmethod
    def of(
        cls, arrays: Mapping[str, np.ndarray], layers: int, runs: int, frozen: int | None, device: torch.device
    ) -> Stack:
        places = places_of(arrays, layers)
        row = np.concatenate([arrays[name].astype(np.float32).ravel() for name in places])
        words, others = (torch.from_numpy(np.asarray(part, np.float32)).to(device) for part in (arrays[WORDS], row))
        return cls(words.repeat(runs, 1, 1), others.repeat(runs, 1), places, frozen)

    def __len__(self) -> int:
        return len(self.others)

    def is_trained(self, name: str) -> bool:
        if self.frozen is None or name.startswith("head/"):
            return True
        return name.startswith("encoder/layer_") and int(name.split("/")[1].removeprefix("layer_")) >= self.frozen

    def first(self, runs: int) -> Stack:
        """The same weights, of these runs only."""
        return Stack(self.words[:runs], self.others[:runs], self.places, self.frozen)

    def clear_gradients(self) -> None:
        self.gradients.zero_()
        self.words.grad = None


@dataclass(frozen=True)
class Dropout:
    """`attention` is a rate; `head` has one for each run, float32 [runs, 1, 1]."""

    attention: float
    head: Tensor


def product(inputs: Tensor, kernel: Tensor, bfloat16: bool) -> Tensor:
    """With `bfloat16`, operands, result and gradients are rounded as in textclf's dense layers.

    The result is bfloat16 then: adding a bias of float32 to it takes the sum in float32 without another pass.
    """
    if bfloat16:
        return torch.bmm(inputs.bfloat16(), kernel.bfloat16())
    return torch.bmm(inputs, kernel)


def dense(values: Values, name: str, inputs: Tensor, bfloat16: bool) -> Tensor:
    return product(inputs, values[f"{name}/kernel"], bfloat16) + values[f"{name}/bias"][:, None]


def no_norm(values: Values, name: str, inputs: Tensor) -> Tensor:
    gamma, beta = (values[f"{name}/FakeLayerNorm/{part}"][:, None] for part in ("gamma", "beta"))
    return torch.addcmul(beta, inputs, gamma)


def embed(values: Values, texts: Texts, bfloat16: bool) -> Tensor:
    words = values[WORDS]
    runs, vocabulary, _ = words.shape
    shifts = torch.arange(0, runs * vocabulary, vocabulary, device=words.device)
    vectors = functional.embedding(texts.ids + shifts[:, None, None], words.flatten(0, 1))
    following = functional.pad(vectors[:, :, 1:], (0, 0, 0, 1))
    previous = functional.pad(vectors[:, :, :-1], (0, 0, 1, 0))
    trigrams = torch.cat([following, vectors, previous], dim=-1).flatten(1, 2)
    states = dense(values, "embeddings/embedding_transformation", trigrams, bfloat16)
    kinds = values["embeddings/token_type_embeddings"]
    numbers = torch.arange(kinds.shape[1], device=words.device)
    segments = (texts.segments.flatten()[:, None] == numbers).to(states.dtype)
    states = states + torch.bmm(segments.expand(runs, -1, -1), kinds)
    positions = values["embeddings/position_embeddings"][:, : texts.length]
    states = (states.unflatten(1, texts.ids.shape) + positions[:, None]).flatten(1, 2)
    return no_norm(values, "embeddings", states)


def transformer_layer(
    layer: Values, states: Tensor, bias: Tensor, heads: int, dropout: float, bfloat16: bool, first_token_only: bool
) -> Tensor:
    """With `first_token_only`, returns the first token's states, [runs, rows, hidden_size].

    `bias` is [runs · rows, 1, 1, length], added to the attention scores.
    """
    runs, length = len(states), bias.shape[-1]
    narrow, *parts = dense(layer, "wide", states, bfloat16).chunk(4, dim=-1)
    query, key, value = (part.reshape(-1, length, heads, part.shape[-1] // heads) for part in parts)
    if first_token_only:
        query = query[:, :1]
        states, narrow = (part.unflatten(1, (-1, length))[:, :, 0] for part in (states, narrow))
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    narrow = no_norm(layer, "bottleneck/input", narrow)
    context = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    context = context.transpose(1, 2).reshape(runs, -1, heads * context.shape[-1])
    attended = no_norm(layer, "attention/output", dense(layer, "attention/output/dense", context, bfloat16) + narrow)
    wide = torch.relu(dense(layer, "intermediate/dense", attended, bfloat16))
    ahead = no_norm(layer, "output", dense(layer, "output/dense", wide, bfloat16) + attended)
    return no_norm(layer, "output/bottleneck", dense(layer, "output/bottleneck/dense", ahead, bfloat16) + states)


def pooled(
    stack: Stack, config: MobileBertConfig, texts: Texts, dropout: float = 0.0, bfloat16: bool = False
) -> Tensor:
    """→ the first token's states after the last layer, float32 [runs, rows, hidden_size]."""
    states, last = embed(stack.values, texts, bfloat16), config.num_hidden_layers - 1
    bias = torch.where(texts.mask, 0.0, _REPLACED)[:, None, None].repeat(len(stack), 1, 1, 1)
    for number in range(last + 1):
        prefix = f"encoder/layer_{number}/"
        layer = {name.removeprefix(prefix): value for name, value in stack.values.items() if name.startswith(prefix)}
        states = transformer_layer(
            layer, states, bias, config.num_attention_heads, dropout, bfloat16, first_token_only=number == last
        )
    return states


def logits(
    stack: Stack,
    config: MobileBertConfig,
    constants: tuple[Tensor, Tensor],
    texts: Texts,
    dropout: Dropout | None = None,
    bfloat16: bool = False,
) -> Tensor:
    """→ float32 [runs, rows, labels]; `constants` are mean and scale of the features."""
    features = pooled(stack, config, texts, 0.0 if dropout is None else dropout.attention, bfloat16)
    features = (features - constants[0]) * constants[1]
    if dropout is not None:
        kept = torch.rand_like(features) >= dropout.head
        features = features * kept / (1.0 - dropout.head)
    return dense(stack.values, "head", features, False)


def row_losses(found: Tensor, targets: Tensor, smoothing: Tensor) -> Tensor:
    """Logits [runs, rows, labels], label indices [rows] and a smoothing of each run [runs] → cross-entropy [runs, rows]."""
    logarithms = torch.log_softmax(found, dim=-1)
    chosen = logarithms.gather(2, targets.expand(len(found), -1)[:, :, None])[:, :, 0]
    return -((1.0 - smoothing[:, None]) * chosen + smoothing[:, None] * logarithms.mean(dim=-1))


def divergence(found: Tensor) -> Tensor:
    """Logits of two passes, [runs, 2 · rows, labels] → half the sum of both Kullback-Leibler divergences [runs, rows]
    (R-Drop, Liang et al. 2021, equation 2)."""
    first, second = torch.log_softmax(found, dim=-1).chunk(2, dim=1)
    return 0.5 * ((first.exp() - second.exp()) * (first - second)).sum(dim=-1)
