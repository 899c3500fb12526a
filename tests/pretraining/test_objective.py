"""The losses, against plain computations."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining.objective import (  # noqa: E402
    inverse_deviations,
    mapped_error,
    relation_error,
    state_error,
    weight_at,
)


def random_states(seed: int, tokens: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, width)).astype(np.float32)


def relations(states: np.ndarray, heads: int) -> np.ndarray:
    """[length, width] without padding → softmax of the products of every head's vectors, [heads, length, length]."""
    found = []
    for vectors in np.split(states.astype(np.float64), heads, axis=1):
        scores = np.exp(vectors @ vectors.T / np.sqrt(vectors.shape[1]))
        found.append(scores / scores.sum(1, keepdims=True))
    return np.stack(found)


def test_relations_are_compared_as_in_a_plain_computation() -> None:
    lengths, length, heads = (5, 8, 3), 8, 3
    mine, theirs = random_states(0, 24, 12), random_states(1, 24, 18)
    divergences = []
    for row, size in enumerate(lengths):
        wanted, found = (relations(part[row * length : row * length + size], heads) for part in (theirs, mine))
        divergences.append((wanted * np.log(wanted / found)).sum(-1).mean(0))
    mask = torch.arange(length)[None] < torch.tensor(lengths)[:, None]
    error = relation_error(torch.from_numpy(mine), torch.from_numpy(theirs), mask, heads)
    assert float(error) == pytest.approx(np.concatenate(divergences).mean(), rel=1e-5)
    assert float(relation_error(torch.from_numpy(theirs), torch.from_numpy(theirs), mask, heads)) == pytest.approx(
        0, abs=1e-6
    )


def test_a_constant_has_an_error_of_one_and_padding_counts_nothing() -> None:
    target = random_states(0, 40, 6)
    present = (np.arange(40) < 30).astype(np.float32)
    constant = np.tile(target[:30].mean(0), (40, 1))
    constant[30:] = 1e3
    parts = [torch.from_numpy(part) for part in (constant, target, present)]
    assert float(state_error(*parts)) == pytest.approx(1, rel=1e-4)
    assert float(state_error(parts[1], *parts[1:])) == 0


def test_a_mapped_error_counts_every_number_of_the_target_alike() -> None:
    states, kernel, bias = (
        torch.from_numpy(random_states(seed, *shape)) for seed, shape in enumerate([(30, 4), (4, 6), (1, 6)])
    )
    target = states @ kernel + bias[0]
    deviation = target.std(0)
    off = target + deviation * torch.tensor([1.0, 0, 0, 0, 0, 2.0])
    error = mapped_error(states, kernel, bias[0], off, 1 / deviation, torch.ones(30))
    assert float(error) == pytest.approx((1 + 4) / 6, rel=1e-4)


def test_a_number_that_never_changes_does_not_outweigh_the_others() -> None:
    target = torch.from_numpy(random_states(0, 500, 8))
    target[:, 3] = 0.25
    found = inverse_deviations(target)
    assert torch.isfinite(found).all()
    assert found[3] == pytest.approx(5 / target.std(0).median().item(), rel=1e-4)
    torch.testing.assert_close(found[0], 1 / target[:, 0].std())


def test_weights_of_losses_change_linearly() -> None:
    assert [weight_at((1.0, 0.25), progress) for progress in (0, 0.5, 1)] == [1.0, 0.625, 0.25]
