"""What a peer is given and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretraining.sets import read_rows


@dataclass(frozen=True)
class Rows:
    """Texts of one file, each with one text or two, and their labels. As in textclf, rows without any text are left out."""

    texts: list[tuple[str, ...]]
    labels: list[str]

    @property
    def joined(self) -> list[str]:
        """The texts of a pair in one line each."""
        return [" \n ".join(texts) for texts in self.texts]


@dataclass(frozen=True)
class Job:
    """`validation` is None where settings are chosen by cross-validation."""

    peer: str
    train: Rows
    validation: Rows | None
    test: Rows
    seed: int
    recipe: Mapping[str, Any]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Job:
        def rows(split: str) -> Rows:
            found = [row for row in read_rows(Path(values[split])) if any(row[name].strip() for name in values["text"])]
            return Rows(
                [tuple(row[name] for name in values["text"]) for row in found], [row[values["label"]] for row in found]
            )

        validation = rows("validation") if values["validation"] else None
        return cls(values["peer"], rows("train"), validation, rows("test"), values["seed"], values["recipe"])


@dataclass(frozen=True)
class Answer:
    """The labels predicted for the test rows, the settings that were chosen, and what computed them: `device` is None for
    the processor."""

    predicted: list[str]
    chosen: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    device: str | None = None
    bfloat16: bool = False
