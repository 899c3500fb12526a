"""The student before its first step: every weight fitted to the teacher by least squares, from the bottom up.

In: the teacher and some batches of text. Out: weights under the names of `expected_shapes`. What a layer of the student
reads is what the fitted layers below it give, so that each fit also makes up for the error of those before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from pretraining import student
from pretraining.corpus import Batch
from pretraining.teacher import Teacher, TeacherOutput
from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes

# The share of a layer's input that goes around the layer. The teacher normalises its residual stream, so that the
# layer's own path must carry most of it: 0.5 fits worse, and 0.1 hardly better but with weights twice as large.
AROUND = 0.25
# Of the mean squared input; keeps fits finite where inputs are nearly dependent.
RIDGE = 1e-3


@dataclass
class _Material:
    """What the fits read: the batches as tensors, the teacher's outputs for them, and which positions are tokens."""

    tensors: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    seen: list[TeacherOutput]
    present: list[torch.Tensor]

    def flat(self, parts: Iterable[torch.Tensor]) -> torch.Tensor:
        """One [batch, length, …] a batch → [tokens, …]."""
        return torch.cat([part[kept] for part, kept in zip(parts, self.present, strict=True)])

    @property
    def attend(self) -> list[torch.Tensor]:
        return [kept[:, None, None, :] for kept in self.present]


def fit_linear(inputs: torch.Tensor, targets: torch.Tensor, ridge: float = RIDGE) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression with an intercept, [n, inputs] and [n, outputs] → kernel [inputs, outputs] and bias [outputs]."""
    input_mean, target_mean = inputs.mean(0), targets.mean(0)
    centred = (inputs - input_mean).double()
    moments = centred.t() @ centred
    moments.diagonal().add_(ridge * moments.diagonal().mean())
    kernel = torch.linalg.solve(moments, centred.t() @ (targets - target_mean).double()).float()
    return kernel, target_mean - input_mean @ kernel


def initial_weights(
    config: MobileBertConfig, teacher: Teacher, layer_map: Sequence[int], batches: Sequence[Batch], seed: int
) -> dict[str, torch.Tensor]:
    """`layer_map[i]` is the teacher's layer, from 0, that the student's layer i stands for.

    Raises ValueError for a configuration whose stream is not as wide as the teacher's, or that is not one feed-forward
    network a layer with queries and keys read from the wide stream: the fit below is written for that form.
    """
    _check(config, teacher, layer_map)
    generator = torch.Generator().manual_seed(seed)
    weights = {name: _blank(name, shape, generator) for name, shape in expected_shapes(config).items()}
    material = _material(teacher, batches, layer_map)
    _fit_embeddings(weights, config, teacher, material)
    states = [student.embed(weights, ids, segments) for ids, _, segments in material.tensors]
    for index, teacher_layer in enumerate(layer_map):
        _fit_layer(weights, config, (index, teacher_layer), states, material)
        pairs = zip(states, material.attend, strict=True)
        states = [student.layer(weights, config, index, state, attend) for state, attend in pairs]
    return weights


def _material(teacher: Teacher, batches: Sequence[Batch], layer_map: Sequence[int]) -> _Material:
    tensors = [tuple(torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments)) for batch in batches]
    seen = [teacher(*parts, trace=tuple(layer_map)) for parts in tensors]
    return _Material(tensors, seen, [mask.bool() for _, mask, _ in tensors])


def _check(config: MobileBertConfig, teacher: Teacher, layer_map: Sequence[int]) -> None:
    width = teacher.config["hidden_size"]
    fits = (
        config.hidden_size == config.intra_bottleneck_size == width
        and config.num_attention_heads == teacher.config["num_attention_heads"]
        and config.num_feedforward_networks == 1
        and not config.key_query_shared_bottleneck
        and not config.use_bottleneck_attention
        and config.intermediate_size <= teacher.config["intermediate_size"]
        and config.num_hidden_layers == len(layer_map)
    )
    if not fits:
        raise ValueError(f"a student {config} with layers {list(layer_map)} cannot be fitted to a teacher {width} wide")


def _blank(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if name.endswith("/gamma"):
        return torch.ones(shape)
    if name.endswith(("/beta", "/bias")):
        return torch.zeros(shape)
    return 0.02 * torch.randn(shape, generator=generator)


def _fit_embeddings(
    weights: dict[str, torch.Tensor], config: MobileBertConfig, teacher: Teacher, material: _Material
) -> None:
    """Word vectors: a truncated SVD of the teacher's, each normalised as the teacher's first norm would.

    Rows are weighted by the fourth root of their count, so that common words are kept best and rare ones are not lost.
    """
    words = teacher.weights["embeddings.word_embeddings.weight"].float()
    positions = teacher.weights["embeddings.position_embeddings.weight"].float()
    kinds = teacher.weights["embeddings.token_type_embeddings.weight"].float()
    gamma = teacher.weights["embeddings.LayerNorm.weight"].float()

    whole = words + positions[:64].mean(0) + kinds[0]
    spread = whole.std(-1, keepdim=True, unbiased=False)
    normalised = (whole - whole.mean(-1, keepdim=True)) / spread * gamma
    found = material.flat(ids for ids, _, _ in material.tensors)
    counts = torch.bincount(found, minlength=len(words)).float()
    importance = (counts + 1)[:, None] ** 0.25
    _, directions = torch.linalg.eigh((normalised * importance).t() @ (normalised * importance))
    weights["embeddings/word_embeddings"] = normalised @ directions[:, -config.embedding_size :]

    usual = spread[found].median()
    around = (positions - positions[:64].mean(0)) * gamma / usual
    weights["embeddings/position_embeddings"] = around[: config.max_position_embeddings].clone()
    weights["embeddings/token_type_embeddings"] = (kinds - kinds[0]) * gamma / usual

    inputs, targets = [], []
    for (ids, _, segments), output in zip(material.tensors, material.seen, strict=True):
        beside = weights["embeddings/position_embeddings"][: ids.shape[1]]
        beside = beside + weights["embeddings/token_type_embeddings"][segments]
        inputs.append(student.trigrams(weights["embeddings/word_embeddings"][ids]))
        targets.append(output.states[0] - beside)
    fitted = fit_linear(material.flat(inputs), material.flat(targets))
    _put(weights, "embeddings/embedding_transformation", fitted)


def _fit_layer(
    weights: dict[str, torch.Tensor],
    config: MobileBertConfig,
    layers: tuple[int, int],
    states: list[torch.Tensor],
    material: _Material,
) -> None:
    """`layers`: the student's layer and the teacher's that it stands for; `states`: what the student's layer reads."""
    index, teacher_layer = layers
    prefix, width = f"encoder/layer_{index}", config.hidden_size
    traces = [output.traces[teacher_layer] for output in material.seen]

    stream = material.flat(states)
    for part in ("query", "key", "value"):
        wanted = material.flat(getattr(trace, part) for trace in traces)
        _put(weights, f"{prefix}/attention/self/{part}", fit_linear(stream, wanted))
    context = material.flat(
        student.attention(weights, config, prefix, (state, state), attend)
        for state, attend in zip(states, material.attend, strict=True)
    )
    both = torch.cat([stream, context], -1)
    kernel, bias = fit_linear(both, material.flat(trace.attended for trace in traces))
    _put(weights, f"{prefix}/bottleneck/input/dense", (kernel[:width].clone(), torch.zeros(width)))
    _put(weights, f"{prefix}/attention/output/dense", (kernel[width:].clone(), bias))
    attended = both @ kernel + bias

    intermediate = material.flat(trace.intermediate for trace in traces)
    kept_units = _most_important(intermediate, config.intermediate_size)
    kernel, bias = fit_linear(attended, intermediate[:, kept_units])
    _put(weights, f"{prefix}/intermediate/dense", (kernel, bias))
    active = torch.relu(attended @ kernel + bias)

    # The layer gives gamma * (D (active W + attended + b) + stream): fitted jointly in `active` and `attended`, then
    # D is the part of `attended` and W what is left of the other after D is taken out of it.
    wanted, rows = _layer_target(material, teacher_layer)
    both = torch.cat([active, attended], -1)
    kernel, bias = fit_linear(both[rows], wanted[rows] / AROUND - stream[rows])
    ahead, back = kernel[: config.intermediate_size], kernel[config.intermediate_size :].clone()
    damped = back @ back.t()
    damped.diagonal().add_(RIDGE * damped.diagonal().mean())
    unmixed = torch.linalg.solve(damped, back @ ahead.t()).t()
    _put(weights, f"{prefix}/output/dense", (unmixed.clone(), torch.zeros(width)))
    _put(weights, f"{prefix}/output/bottleneck/dense", (back, bias))
    weights[f"{prefix}/output/bottleneck/FakeLayerNorm/gamma"] = torch.full((width,), AROUND)


def _most_important(intermediate: torch.Tensor, count: int) -> torch.Tensor:
    """The hidden units whose output varies most over tokens, not counting the few tokens where a unit explodes."""
    active = functional.gelu(intermediate)
    # torch.quantile takes 16 million values at most.
    limit = active[:8_000].abs().quantile(0.98, dim=0)
    return active.clamp(-limit, limit).var(0).topk(count).indices.sort().values


def _layer_target(material: _Material, teacher_layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The teacher's states, and the rows to fit: of the last layer not the first token, which is to mean something else."""
    wanted = material.flat(output.states[teacher_layer + 1] for output in material.seen)
    place = material.flat(torch.arange(kept.shape[1]).expand_as(kept) for kept in material.present)
    last = len(material.seen[0].states) - 2
    return wanted, (place > 0) if teacher_layer == last else (place >= 0)


def _put(weights: dict[str, torch.Tensor], name: str, fitted: tuple[torch.Tensor, torch.Tensor]) -> None:
    weights[f"{name}/kernel"], weights[f"{name}/bias"] = fitted
