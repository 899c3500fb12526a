"""Which rows decide how 4-bit weights are rounded: enough tokens, whatever the length of a row."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.tflite.graph.moments import _chosen_rows


@pytest.mark.parametrize(
    ("rows", "length", "expected"),
    [(1_000, 30, 256), (1_000, 128, 256), (1_000, 384, 85), (10, 384, 10), (3, 50_000, 1)],
)
def test_rows_are_chosen_until_they_have_as_many_tokens_as_256_rows_of_128(
    rows: int, length: int, expected: int
) -> None:
    chosen = _chosen_rows(np.full(rows, length))
    assert len(chosen) == len(set(chosen.tolist())) == expected
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen.max() < rows


def test_the_rows_are_spread_over_all_rows_and_always_the_same() -> None:
    lengths = np.full(10_000, 384)
    chosen = _chosen_rows(lengths)
    assert chosen.min() < 1_000
    assert chosen.max() > 9_000
    assert chosen.tolist() == _chosen_rows(lengths).tolist()
