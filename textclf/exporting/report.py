"""The report of `textclf verify` and of an export, whatever the task of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

MODEL = "model.tflite"


class Parity(Protocol):
    """A file compared with the trained model on real rows; a dataclass. `Verification` is that of text classification."""

    @property
    def doubt(self) -> str | None:
        """Why there is no verdict: a bound is exceeded, but not by more than chance explains on this few rows."""

    @property
    def changed(self) -> str:
        """How much the export changed: `3 of 412 predicted labels`."""

    @property
    def scores(self) -> Sequence[tuple[str, float, float]]:
        """Each score by its name, in 0..1: that of the trained model and that of the file."""

    def as_text(self) -> str:
        """Returns one line for a terminal."""


class MeasuredRows(Protocol):
    """The results on the rows of a table; a dataclass. `RowsResult` is that of text classification."""

    @property
    def scores(self) -> Sequence[tuple[str, float, str]]:
        """Each score by its name, in 0..1, with the rows that it was measured on: `12 labelled rows`."""

    def as_text(self) -> str:
        """Returns one line for a terminal."""


class OtherProgram(Protocol):
    """Another program compared with textclf; a dataclass. `ConsumerResult` is that of text classification."""

    @property
    def name(self) -> str: ...

    def as_text(self) -> str:
        """Returns one line for a terminal."""


@dataclass
class VerificationReport:
    """The results of the checks. `problems` is empty for a model that passed; `checked` says what was checked."""

    model: str
    problems: list[str] = field(default_factory=list)
    parity: Parity | None = None
    rows: MeasuredRows | None = None
    consumers: list[OtherProgram] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return values if self.checked else {key: value for key, value in values.items() if key != "checked"}

    def as_text(self) -> str:
        """Returns lines for a terminal."""
        doubt = self.parity.doubt if self.parity is not None else None
        passed = "verified" if doubt is None else "no verdict, because there are too few rows"
        lines = [f"{self.model}: {'NOT verified' if self.problems else passed}"]
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += [f"checked: {what}" for what in self.checked]
        if self.parity is not None:
            lines.append(self.parity.as_text())
        if doubt is not None:
            lines.append(f"warning: {doubt}")
        if self.rows is not None:
            lines.append(self.rows.as_text())
        return "\n".join([*lines, *(result.as_text() for result in self.consumers)])
