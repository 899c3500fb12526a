"""A student in training: its weights, the linear maps to MPNet that are thrown away afterwards, and its optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from pretraining import student
from pretraining.compiling import compiled_for_training
from pretraining.initialise import fit_linear
from pretraining.objective import (
    cosine_distance,
    inverse_deviations,
    mapped_error,
    present_tokens,
    relation_error,
    state_error,
    weight_at,
)
from pretraining.rows import Texts
from pretraining.settings import Ramp, Settings
from pretraining.teacher import Taught
from textclf.errors import TrainingError

# The sentence is one vector per row, so there are few examples for its map.
_SENTENCE_RIDGE = 1e-2
_MOST_SKIPPED = 10

Losses = dict[str, tuple[Ramp, Tensor]]
"""A loss by name, with its weights at the start and at the end of the run."""


class Learner:
    """One student of a run. `start` or `restore` comes before `losses` and `update`."""

    def __init__(self, name: str, settings: Settings, device: torch.device) -> None:
        self.name, self.settings, self.plan = name, settings, settings.students[name]
        self.config, self.device = self.plan.config, device
        self.weights: dict[str, Parameter] = {}
        self.maps: dict[str, Parameter] = {}
        self.inverse_deviations: dict[int, Tensor] = {}
        self.skipped = self.skipped_in_a_row = 0
        self.compile(False)

    def compile(self, wanted: bool = True) -> None:
        functions = (student.before_attention, student.after_attention, state_error, mapped_error)
        used = [compiled_for_training(function) if wanted else function for function in functions]
        self._before, self._after, self._state_error, self._mapped_error = used

    # --- beginning ---------------------------------------------------------------------------------------------------
    def start(self, weights: Mapping[str, Tensor], batches: Sequence[Texts], mpnet: Sequence[Taught]) -> None:
        """The maps are fitted to `batches` with MPNet's answers, which are empty if no student learns from MPNet."""
        self.weights = {name: Parameter(value.to(self.device, torch.float32)) for name, value in weights.items()}
        if self.plan.mpnet_layers:
            self._fit_maps(batches, mpnet)
        self._make_optimiser()

    @torch.no_grad()
    def _fit_maps(self, batches: Sequence[Texts], mpnet: Sequence[Taught]) -> None:
        """Least squares from the first weights: random maps would pull at the student before they mean anything."""
        seen = [self.encode(texts).states for texts in batches]

        def flat(parts: Sequence[Tensor]) -> Tensor:
            return torch.cat([part[texts.present].float() for part, texts in zip(parts, batches, strict=True)])

        for mine, theirs in self.plan.mpnet_layers.items():
            wanted = flat([taught.states[theirs] for taught in mpnet])
            self.inverse_deviations[mine] = inverse_deviations(wanted)
            self._put_map(f"states_{mine}", fit_linear(flat([states[mine] for states in seen]), wanted))
        first = torch.cat([_first_tokens(states[-1], texts) for states, texts in zip(seen, batches, strict=True)])
        self._put_map("sentence", fit_linear(first, torch.cat([taught.sentence for taught in mpnet]), _SENTENCE_RIDGE))

    def _put_map(self, name: str, fitted: tuple[Tensor, Tensor]) -> None:
        self.maps[f"{name}/kernel"], self.maps[f"{name}/bias"] = map(Parameter, fitted)

    def _make_optimiser(self) -> None:
        settings = self.settings.optimiser
        self.parameters = [*self.weights.values(), *self.maps.values()]
        matrices = [value for value in self.parameters if value.ndim > 1]
        vectors = [value for value in self.parameters if value.ndim == 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=self.plan.learning_rate,
            betas=settings.betas,
            fused=True,
        )

    # --- learning ----------------------------------------------------------------------------------------------------
    def encode(self, texts: Texts) -> student.Encoded:
        return student.encode(self.weights, self.config, texts, self._before, self._after)

    def losses(self, texts: Texts, minilm: Taught, mpnet: Taught | None) -> Losses:
        encoded = self.encode(texts)
        losses = self._losses_from_minilm(encoded, texts, minilm)
        if self.plan.mpnet_layers:
            assert mpnet is not None, "a student with mpnet_layers needs MPNet"
            losses |= self._losses_from_mpnet(encoded, texts, mpnet)
        return losses

    def _losses_from_minilm(self, encoded: student.Encoded, texts: Texts, minilm: Taught) -> Losses:
        weights, last = self.plan.losses, self.config.num_hidden_layers
        wanted = [minilm.states[0], *(minilm.states[layer + 1] for layer in self.plan.minilm_layers)]
        losses: Losses = {}
        for number, (states, target) in enumerate(zip(encoded.states, wanted, strict=True)):
            present = present_tokens(texts, without_first=number == last)
            weight = weights.minilm_states if number else weights.embeddings
            losses[f"minilm_{number}"] = weight, self._state_error(states, target, present)
        first, sentence = _first_tokens(encoded.states[-1], texts), minilm.sentence * self.settings.sentence_scale
        return losses | _sentence_losses("minilm", weights.minilm_sentence, first, sentence)

    def _losses_from_mpnet(self, encoded: student.Encoded, texts: Texts, mpnet: Taught) -> Losses:
        weights, maps, last = self.plan.losses, self.maps, self.config.num_hidden_layers
        losses: Losses = {}
        for mine, theirs in self.plan.mpnet_layers.items():
            present = present_tokens(texts, without_first=mine == last)
            kernel, bias, target = maps[f"states_{mine}/kernel"], maps[f"states_{mine}/bias"], mpnet.states[theirs]
            error = self._mapped_error(
                encoded.states[mine], kernel, bias, target, self.inverse_deviations[mine], present
            )
            losses[f"mpnet_{mine}"] = weights.mpnet_states, error
        first = _first_tokens(encoded.states[-1], texts)
        made = (first @ maps["sentence/kernel"]).float() + maps["sentence/bias"]
        losses |= _sentence_losses("mpnet", weights.mpnet_sentence, made, mpnet.sentence)

        rows = max(1, round(self.settings.relations.rows * len(texts.ids)))
        some, mask = slice(0, rows * texts.length), texts.mask[:rows]
        for name, mine, theirs in zip(("query", "key", "value"), encoded.relations, mpnet.relations, strict=True):
            error = relation_error(mine[some], theirs[some], mask, self.settings.relations.heads)
            losses[f"relation_{name}"] = weights.relations, error
        return losses

    def backward(self, losses: Losses, progress: float) -> tuple[Tensor, Tensor]:
        """Returns the weighted sum and the norm of its gradients, which are clipped after it was measured."""
        total = torch.stack([weight_at(ramp, progress) * error for ramp, error in losses.values()]).sum()
        total.backward()
        return total.detach(), torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.optimiser.clip_norm)

    def update(self, norm: float, progress: float) -> None:
        """One step of the optimiser. Gradients that are not finite are left out.

        Raises TrainingError if that happens ten times in a row.
        """
        if math.isfinite(norm):
            for group in self.optimiser.param_groups:
                group["lr"] = self.learning_rate(progress)
            self.optimiser.step()
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
        self.optimiser.zero_grad(set_to_none=True)
        if self.skipped_in_a_row == _MOST_SKIPPED:
            raise TrainingError(
                f"the gradients of the student {self.name} were not finite in {_MOST_SKIPPED} steps in a row;"
                " start a new run with a lower learning_rate"
            )

    def learning_rate(self, progress: float) -> float:
        """Linear from 0 over the warm-up, then linear to 0 at the end."""
        warm_up = self.settings.optimiser.warm_up
        return self.plan.learning_rate * max(0.0, min(progress / warm_up, (1 - progress) / (1 - warm_up)))

    # --- keeping -----------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        return {
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "maps": {name: value.detach() for name, value in self.maps.items()},
            "inverse_deviations": self.inverse_deviations,
            "optimiser": self.optimiser.state_dict(),
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.weights = {name: Parameter(value) for name, value in state["weights"].items()}
        self.maps = {name: Parameter(value) for name, value in state["maps"].items()}
        self.inverse_deviations = state["inverse_deviations"]
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self._make_optimiser()
        self.optimiser.load_state_dict(state["optimiser"])

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.detach().float().cpu().numpy() for name, value in self.weights.items()}


def _first_tokens(flat: Tensor, texts: Texts) -> Tensor:
    """→ float32 [rows, width]."""
    return flat.view(*texts.ids.shape, -1)[:, 0].float()


def _sentence_losses(name: str, ramp: Ramp, made: Tensor, target: Tensor) -> Losses:
    start, end = ramp
    return {
        f"{name}_sentence": (ramp, state_error(made, target, torch.ones_like(made[:, 0]))),
        f"{name}_cosine": ((2 * start, 2 * end), cosine_distance(made, target)),
    }
