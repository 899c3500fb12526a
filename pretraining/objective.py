"""What a student is to learn: the single losses.

Each takes flat states, [tokens, width]. A squared error is divided by the variance of its target: a constant would have 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pretraining.attention import split_heads
from pretraining.rows import Texts

_LITTLE = 1e-6


def weight_at(ramp: tuple[float, float], progress: float) -> float:
    """The weight of a loss after this fraction of the run."""
    start, end = ramp
    return start + (end - start) * progress


def state_error(states: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """`present` [tokens] is 1 for the rows that count and 0 for the others. The error is divided by the total variance."""
    rows, target = present[:, None], target.float()
    mean = (target * rows).sum(0) / rows.sum()
    variance = ((target - mean).square() * rows).sum()
    return ((states.float() - target).square() * rows).sum() / (variance + _LITTLE)


def mapped_error(
    states: Tensor, kernel: Tensor, bias: Tensor, target: Tensor, inverse_deviation: Tensor, present: Tensor
) -> Tensor:
    """The error after a linear map; `inverse_deviation` [width of the target] makes all numbers of the target equal."""
    made = functional.linear(states, kernel.t(), bias)
    errors = ((made.float() - target.float()) * inverse_deviation).square().mean(-1)
    return (errors * present).sum() / present.sum()


def inverse_deviations(target: Tensor) -> Tensor:
    """[n, width] → [width]. A number that hardly changes counts less; one of MPNet's 768 never changes."""
    deviation = target.std(0)
    return 1 / deviation.clamp(min=0.2 * deviation.median() + _LITTLE)


def cosine_distance(states: Tensor, target: Tensor) -> Tensor:
    return 1 - functional.cosine_similarity(states, target).mean()


def relation_error(mine: Tensor, theirs: Tensor, mask: Tensor, heads: int) -> Tensor:
    """How differently the tokens of a text relate to each other in two sets of queries (or keys, or values).

    `mask` boolean [rows, length]. A relation is the softmax over the scaled products of a head's vectors; the result is the
    mean Kullback-Leibler divergence from theirs (MiniLMv2, arXiv 2012.15828, equations 2 to 5).
    """
    length = mask.shape[1]

    def log_relations(flat: Tensor) -> Tensor:
        vectors = split_heads(flat, length, heads)
        scores = (vectors @ vectors.transpose(2, 3)).float() / math.sqrt(vectors.shape[-1])
        return functional.log_softmax(scores.masked_fill(~mask[:, None, None, :], -1e4), -1)

    wanted = log_relations(theirs)
    divergence = (wanted.exp() * (wanted - log_relations(mine))).sum(-1)
    counted = mask[:, None, :].float()
    return (divergence * counted).sum() / (counted.sum() * heads)


def present_tokens(texts: Texts, *, without_first: bool) -> Tensor:
    """float32 [tokens]: 1 for tokens, 0 for padding and, if it is to mean something else, for the first token."""
    present = texts.mask.float()
    if without_first:
        present = torch.cat([torch.zeros_like(present[:, :1]), present[:, 1:]], 1)
    return present.flatten()
