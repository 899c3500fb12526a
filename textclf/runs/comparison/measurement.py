"""What a comparison of engines measures of a training, and what it asks of the task for it.

Each task has its `Measurement` and its `EngineMeasures`; `engines.py` does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from textclf.data.examples import Dataset, Split
from textclf.recipe.settings import Recipe


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One training with one engine and seed. A task adds the results on the held-out rows.

    `total`, `first_step` (counted from the start of the program) and `export` are in seconds. `examples_per_second` is
    the rate after the first step; an example is a row, or a window of a context. `quantization` is the form of the file,
    which is a larger one than the recipe asks for if that did not pass its checks. `run` is the folder of the run, relative
    to the folder of the comparison.
    """

    predictions: ClassVar[str]
    """What a model predicts, for people: `labels`."""

    command: ClassVar[str]
    """The command of `textclf` that uses a model."""

    unit: ClassVar[str]
    """What the command counts: `rows`."""

    engine: str
    seed: int
    total: float
    first_step: float
    examples_per_second: float | None
    peak_mib: float
    export: float
    quantization: str
    bytes: int
    run: str

    @property
    def scores(self) -> Mapping[str, float | None]:
        """The results by their name for people, in 0..1; None: not measured. The first one is the most important."""
        raise NotImplementedError

    @property
    def changed(self) -> tuple[int, int]:
        """For how many of the compared rows the export changed the prediction, and how many were compared."""
        raise NotImplementedError


Common: TypeAlias = Mapping[str, Any]
"""The values that a `Measurement` of every task has, by name."""


class TimedModel(Protocol):
    """A model with one thread, and held-out rows."""

    def at_full_length(self, row: int) -> int:
        """Computes a row at the model's full length; returns how often the graph ran."""

    def predict(self) -> int:
        """Computes all rows, or some hundreds of them, as `textclf` does for a file; returns how many."""


class EngineMeasures(Protocol):
    """What a comparison of engines asks of a task."""

    def write_split(self, recipe: Recipe, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Writes each split into a file of the folder; returns the settings of `dataset` that read them."""

    def measurement(self, run: Path, common: Common) -> Measurement:
        """Reads the results of a finished run."""

    def open(self, model: Path, split: Split) -> AbstractContextManager[TimedModel]:
        """Opens a model to measure its speed."""
