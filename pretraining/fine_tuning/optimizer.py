"""AdamW of textclf/training/optimizer.py for a stack of runs: each has its own rates, decay and clipping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pretraining.fine_tuning.recipes import FineTuning
from pretraining.fine_tuning.stack import Stack

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-6


class AdamW:
    """Changes the weights of a stack by its gradients."""

    def __init__(self, stack: Stack, recipes: Sequence[FineTuning]) -> None:
        self._stack, self._recipes = stack, recipes
        device, places = stack.others.device, stack.places
        levels, decays = (torch.zeros(stack.others.shape[1]) for _ in range(2))
        for name, place in places.items():
            levels[place.start : place.end] = place.level
            decays[place.start : place.end] = place.decays and stack.is_trained(name)
        by_layer = torch.tensor([recipe.rate_by_layer for recipe in recipes])[:, None]
        self._factors = [(by_layer ** levels.max()).to(device), (by_layer**levels).to(device)]
        decay = torch.tensor([recipe.weight_decay for recipe in recipes])[:, None]
        self._decays = [decay.to(device), (decay * decays).to(device)]
        self._clip = torch.tensor([recipe.clip_norm for recipe in recipes]).to(device)
        self._weights = [stack.words.detach().flatten(1), stack.others]
        self._first = [torch.zeros_like(weights) for weights in self._weights]
        self._second = [torch.zeros_like(weights) for weights in self._weights]

    def first(self, runs: int) -> AdamW:
        """The optimiser of the first runs only, with their moments."""
        smaller = AdamW(self._stack.first(runs), self._recipes[:runs])
        smaller._first = [moment[:runs] for moment in self._first]
        smaller._second = [moment[:runs] for moment in self._second]
        return smaller

    @property
    def stack(self) -> Stack:
        return self._stack

    @torch.no_grad()
    def update(self, rates: Tensor) -> Tensor:
        """`rates` float32 [runs, 1]; returns the norms of the gradients before clipping, [runs]."""
        words = self._stack.words.grad
        gradients = [None if words is None else words.flatten(1), self._stack.gradients]
        norms = [torch.linalg.vector_norm(part, dim=1) for part in gradients if part is not None]
        norm = torch.stack(norms).square().sum(0).sqrt()
        clipped = (self._clip / torch.maximum(norm, self._clip))[:, None]
        for index, gradient in enumerate(gradients):
            if gradient is None:
                continue
            weights, first, second = self._weights[index], self._first[index], self._second[index]
            gradient.mul_(clipped)
            first.lerp_(gradient, 1.0 - _BETA_1)
            second.mul_(_BETA_2).addcmul_(gradient, gradient, value=1.0 - _BETA_2)
            rate = rates * self._factors[index]
            weights.mul_(1.0 - rate * self._decays[index])
            weights.addcdiv_(first * -rate, second.sqrt().add_(_EPSILON))
        return norm
