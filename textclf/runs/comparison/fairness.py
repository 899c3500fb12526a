"""Which of the measured rows some runs were trained on and others not: these make a comparison unfair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Overlap(NamedTuple):
    """The measured rows that only some runs, and those that all runs were trained on, bool [rows]. `whose` names the runs of
    the first, with numbers."""

    unfair: np.ndarray
    by_all: np.ndarray
    whose: str


def overlap_of(trained_on: Mapping[str, np.ndarray], rows: int) -> Overlap:
    """Compares the measured rows that each run was trained on, bool [rows] by the run's name."""
    by_any, by_all = np.zeros(rows, bool), np.full(rows, bool(trained_on))
    for its_rows in trained_on.values():
        by_any |= its_rows
        by_all &= its_rows
    unfair = by_any & ~by_all
    counts = {name: int((its_rows & unfair).sum()) for name, its_rows in trained_on.items()}
    return Overlap(unfair, by_all, " and ".join(f"{name} ({count:,})" for name, count in counts.items() if count))
