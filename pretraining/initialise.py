"""The student before its first step: every weight fitted to MiniLM by least squares, from the first layer to the last.

Takes the teacher and batches of text, and returns weights under the names of `expected_shapes`. A layer is fitted to what it
gets from the fitted layers before it, so each fit also corrects their error. Everything happens on the teacher's device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pretraining import student
from pretraining.attention import attend
from pretraining.rows import Texts
from pretraining.teacher import Inside, Teacher
from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes
from textclf.errors import EncoderError

# The share of a layer's input that goes around the layer. The teacher normalises its residual stream, so that the
# layer's own path must carry most of it: 0.5 fits worse, and 0.1 hardly better but with weights twice as large.
AROUND = 0.25
# Of the mean squared input; keeps fits finite where inputs are nearly dependent.
RIDGE = 1e-3


@dataclass(frozen=True)
class _Material:
    """What the fits read: the teacher, the batches, and the teacher's states for each batch."""

    teacher: Teacher
    batches: Sequence[Texts]
    states: list[Mapping[int, Tensor]]

    def flat(self, parts: Iterable[Tensor]) -> Tensor:
        """Flat states of every batch → [tokens of all batches, …] without padding."""
        return torch.cat([part[texts.present] for part, texts in zip(parts, self.batches, strict=True)])

    def wanted(self, number: int) -> Tensor:
        """The teacher's states `number`, of which 0 is the embeddings' output."""
        return self.flat(states[number] for states in self.states)

    def inside(self, layer: int) -> Inside:
        """What the teacher's layer, from 0, computes for all tokens."""
        pairs = zip(self.states, self.batches, strict=True)
        insides = [self.teacher.inside(layer, states[layer], texts) for states, texts in pairs]
        names = ("query", "key", "value", "attended", "intermediate")
        return Inside(*(self.flat(getattr(inside, name) for inside in insides) for name in names))


def fit_linear(inputs: Tensor, targets: Tensor, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Ridge regression with an intercept, [n, inputs] and [n, outputs] → kernel [inputs, outputs] and bias [outputs]."""
    input_mean, target_mean = inputs.mean(0), targets.mean(0)
    centred = (inputs - input_mean).double()
    moments = centred.t() @ centred
    moments.diagonal().add_(ridge * moments.diagonal().mean())
    kernel = torch.linalg.solve(moments, centred.t() @ (targets - target_mean).double()).float()
    return kernel, target_mean - input_mean @ kernel


@torch.no_grad()
def initial_weights(
    config: MobileBertConfig, teacher: Teacher, layer_map: Sequence[int], batches: Sequence[Texts], seed: int
) -> dict[str, Tensor]:
    """`layer_map[i]` is the teacher's layer, from 0, that the student's layer i replaces.

    Raises EncoderError for a student whose stream is not as wide as the teacher's, or that has more inner units, other heads
    or other layers than the teacher.
    """
    _check(config, teacher, layer_map)
    generator = torch.Generator().manual_seed(seed)
    device = batches[0].ids.device
    shapes = expected_shapes(config)
    weights = {name: _blank(name, shape, generator).to(device) for name, shape in shapes.items()}
    material = _Material(teacher, batches, [teacher(texts).states for texts in batches])
    _fit_embeddings(weights, config, material)
    states = [student.embed(weights, texts) for texts in batches]
    for index, teacher_layer in enumerate(layer_map):
        states = _fit_layer(weights, config, (index, teacher_layer), states, material)
    return weights


def _check(config: MobileBertConfig, teacher: Teacher, layer_map: Sequence[int]) -> None:
    theirs = teacher.config
    expected = {
        "hidden_size": (config.hidden_size, theirs.hidden_size),
        "intra_bottleneck_size": (config.intra_bottleneck_size, theirs.hidden_size),
        "num_attention_heads": (config.num_attention_heads, theirs.num_attention_heads),
    }
    for key, (found, wanted) in expected.items():
        if found != wanted:
            raise EncoderError(f"a student with `{key}` {found} cannot be fitted to this teacher; expected {wanted}")
    if config.intermediate_size > theirs.intermediate_size:
        raise EncoderError(
            f"a student with `intermediate_size` {config.intermediate_size} cannot be fitted to a teacher with"
            f" {theirs.intermediate_size} inner units; expected at most as many"
        )
    if beyond := [layer for layer in layer_map if layer >= theirs.num_hidden_layers]:
        raise EncoderError(
            f"`minilm_layers` names the layers {beyond}; the teacher has {theirs.num_hidden_layers}, from 0"
        )


def _blank(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if name.endswith("/gamma"):
        return torch.ones(shape)
    if name.endswith(("/beta", "/bias")):
        return torch.zeros(shape)
    return 0.02 * torch.randn(shape, generator=generator)


def _fit_embeddings(weights: dict[str, Tensor], config: MobileBertConfig, material: _Material) -> None:
    """Word vectors: a truncated SVD of the teacher's, each normalised as the teacher's first norm would.

    Rows are weighted by the fourth root of their count, so that common words are kept best and rare ones are not lost.
    """
    theirs = material.teacher.weights
    words = theirs["embeddings.word_embeddings.weight"]
    positions = theirs["embeddings.position_embeddings.weight"]
    kinds = theirs["embeddings.token_type_embeddings.weight"]
    gamma = theirs["embeddings.LayerNorm.weight"]

    whole = words + positions[:64].mean(0) + kinds[0]
    spread = whole.std(-1, keepdim=True, unbiased=False)
    normalised = (whole - whole.mean(-1, keepdim=True)) / spread * gamma
    found = material.flat(texts.ids.flatten() for texts in material.batches)
    counts = torch.bincount(found, minlength=len(words)).float()
    importance = (counts + 1)[:, None] ** 0.25
    _, directions = torch.linalg.eigh((normalised * importance).t() @ (normalised * importance))
    weights["embeddings/word_embeddings"] = normalised @ directions[:, -config.embedding_size :]

    usual = spread[found].median()
    around = (positions - positions[:64].mean(0)) * gamma / usual
    weights["embeddings/position_embeddings"] = around[: config.max_position_embeddings].clone()
    weights["embeddings/token_type_embeddings"] = (kinds - kinds[0]) * gamma / usual

    inputs, beside = [], []
    for texts in material.batches:
        inputs.append(student.trigrams(weights["embeddings/word_embeddings"][texts.ids]).flatten(0, 1))
        place = weights["embeddings/position_embeddings"][: texts.length]
        beside.append((place + weights["embeddings/token_type_embeddings"][texts.segments]).flatten(0, 1))
    fitted = fit_linear(material.flat(inputs), material.wanted(0) - material.flat(beside))
    _put(weights, "embeddings/embedding_transformation", fitted)


def _fit_layer(
    weights: dict[str, Tensor],
    config: MobileBertConfig,
    layers: tuple[int, int],
    states: list[Tensor],
    material: _Material,
) -> list[Tensor]:
    """`layers`: the student's layer and the teacher's that it replaces; `states`: what the student's layer reads.

    Returns the student's next states.
    """
    index, teacher_layer = layers
    prefix, width = f"encoder/layer_{index}", config.hidden_size
    inside = material.inside(teacher_layer)

    stream = material.flat(states)
    for part in ("query", "key", "value"):
        _put(weights, f"{prefix}/attention/self/{part}", fit_linear(stream, getattr(inside, part)))
    contexts = _contexts(student.layer_weights(weights, index), config, states, material.batches)
    both = torch.cat([stream, material.flat(contexts)], -1)
    kernel, bias = fit_linear(both, inside.attended)
    _put(weights, f"{prefix}/bottleneck/input/dense", (kernel[:width].clone(), torch.zeros_like(bias)))
    _put(weights, f"{prefix}/attention/output/dense", (kernel[width:].clone(), bias))
    attended = both @ kernel + bias

    kept_units = _most_important(inside.intermediate, config.intermediate_size)
    kernel, bias = fit_linear(attended, inside.intermediate[:, kept_units])
    _put(weights, f"{prefix}/intermediate/dense", (kernel, bias))
    active = torch.relu(attended @ kernel + bias)

    # The layer returns gamma * (D (active W + attended + b) + stream): fitted jointly in `active` and `attended`, then
    # D is the part of `attended` and W what is left of the other after D is taken out of it.
    wanted, rows = _layer_target(material, teacher_layer)
    both = torch.cat([active, attended], -1)
    kernel, bias = fit_linear(both[rows], wanted[rows] / AROUND - stream[rows])
    ahead, back = kernel[: config.intermediate_size], kernel[config.intermediate_size :].clone()
    damped = back @ back.t()
    damped.diagonal().add_(RIDGE * damped.diagonal().mean())
    unmixed = torch.linalg.solve(damped, back @ ahead.t()).t()
    _put(weights, f"{prefix}/output/dense", (unmixed.clone(), torch.zeros_like(bias)))
    _put(weights, f"{prefix}/output/bottleneck/dense", (back, bias))
    weights[f"{prefix}/output/bottleneck/FakeLayerNorm/gamma"] = torch.full_like(bias, AROUND)

    layer = student.layer_weights(weights, index)
    narrow = [student.before_attention(layer, state)[0] for state in states]
    triples = zip(states, narrow, contexts, strict=True)
    return [student.after_attention(layer, *triple) for triple in triples]


def _contexts(
    layer: student.Weights, config: MobileBertConfig, states: list[Tensor], batches: Sequence[Texts]
) -> list[Tensor]:
    contexts = []
    for state, texts in zip(states, batches, strict=True):
        _, *parts = student.before_attention(layer, state)
        contexts.append(attend(*parts, texts.mask[:, None, None, :], config.num_attention_heads))
    return contexts


def _most_important(intermediate: Tensor, count: int) -> Tensor:
    """The hidden units whose output varies most over tokens, not counting the few tokens where a unit explodes."""
    active = functional.gelu(intermediate)
    # torch.quantile takes 16 million values at most.
    limit = active[:8_000].abs().quantile(0.98, dim=0)
    return active.clamp(-limit, limit).var(0).topk(count).indices.sort().values


def _layer_target(material: _Material, teacher_layer: int) -> tuple[Tensor, Tensor]:
    """The teacher's states, and the rows to fit: of the last layer not the first token, which is to mean something else."""
    wanted = material.wanted(teacher_layer + 1)
    places = (torch.arange(texts.length, device=wanted.device).expand_as(texts.ids) for texts in material.batches)
    place = material.flat(part.flatten() for part in places)
    last = material.teacher.config.num_hidden_layers - 1
    return wanted, (place > 0) if teacher_layer == last else (place >= 0)


def _put(weights: dict[str, Tensor], name: str, fitted: tuple[Tensor, Tensor]) -> None:
    weights[f"{name}/kernel"], weights[f"{name}/bias"] = fitted
