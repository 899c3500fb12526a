"""Attention on flat states, [rows · length, width]: only here do rows and lengths matter.

Everything else in teachers and students works on single tokens. Its arrays always have the same number of rows, whatever the
length of the texts, so each part is compiled only once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


def split_heads(flat: Tensor, length: int, heads: int) -> Tensor:
    """[rows · length, width] → [rows, heads, length, width / heads]."""
    return flat.view(-1, length, heads, flat.shape[-1] // heads).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Flat query, key and value → flat context.

    `bias` is [rows, 1 or heads, 1 or length, length]: boolean and true for tokens to read, or numbers to add to the scores.
    """
    length = bias.shape[-1]
    query, key, value = (split_heads(part, length, heads) for part in (query, key, value))
    context = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return context.transpose(1, 2).flatten(2).flatten(0, 1)


@contextmanager
def chosen_kernels(device: torch.device) -> Iterator[None]:
    """On a GPU, `attend` uses the kernels with which the built-in encoders were made; elsewhere PyTorch chooses."""
    if device.type != "cuda":
        yield
        return
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], set_priority=True):
        yield
