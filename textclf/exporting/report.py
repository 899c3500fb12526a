"""The report of `textclf verify` and of an export, whatever the task of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from textclf.data.findings.finding import counted
from textclf.terminal.tables import text_table
from textclf.tflite.runtimes import RuntimeSupport, remedy_lines

MODEL = "model.tflite"

CheckResult = Literal["passed", "failed", "no verdict", "not checked"]

Verdict = Literal["verified", "structure only", "no verdict", "failed"]
"""`structure only`: nothing was compared with the file's predictions, neither the trained model nor labels nor another
program."""

STRUCTURE, ANSWERS, TRAINED_MODEL, ROWS = "structure", "answers in LiteRT", "trained model", "your rows"
"""The names of the checks that are not those of another program."""


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


@dataclass(frozen=True)
class Check:
    """One check of a file: what was found or why it was not checked, and then the command that adds it, if one does."""

    name: str
    result: CheckResult
    details: str
    remedy: str | None = None


@dataclass
class VerificationReport:
    """The results of the checks. `problems` is empty for a model that passed.

    `checks` lists every check, also those that were not made. `runtimes` says for each known runtime which of its versions
    load the file. `checked` says what else was looked at.
    """

    model: str
    problems: list[str] = field(default_factory=list)
    parity: Parity | None = None
    rows: MeasuredRows | None = None
    consumers: list[OtherProgram] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    runtimes: list[RuntimeSupport] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What the checks say of the file as a whole."""
        if self.problems:
            return "failed"
        if self.parity is not None and self.parity.doubt is not None:
            return "no verdict"
        compared = any(check.result == "passed" and check.name not in (STRUCTURE, ANSWERS) for check in self.checks)
        return "verified" if compared or not self.checks else "structure only"

    def conclude(self, name: str, problems: Sequence[str], details: str, *, doubt: str | None = None) -> None:
        """Adds a check that was made, and its problems. `details` say what was found if there are none."""
        self.problems += problems
        if problems:
            more = f" ({counted(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
            self.checks.append(Check(name, "failed", problems[0] + more))
        else:
            self.checks.append(Check(name, "passed" if doubt is None else "no verdict", doubt or details))

    def skip(self, name: str, reason: str, remedy: str | None = None) -> None:
        """Adds a check that was not made."""
        self.checks.append(Check(name, "not checked", reason, remedy))

    def as_dict(self) -> dict[str, Any]:
        values = {"verdict": self.verdict, **asdict(self)}
        return values if self.checked else {key: value for key, value in values.items() if key != "checked"}

    def as_text(self) -> str:
        """Returns lines for a terminal."""
        doubt = self.parity.doubt if self.parity is not None else None
        lines = [f"{self.model}: {_VERDICTS[self.verdict]}"]
        lines += [f"problem: {problem}" for problem in self.problems]
        if doubt is not None:
            lines.append(f"warning: {doubt}")
        if not self.checks:
            return "\n".join([*lines, *self._results()])
        lines += ["", text_table(["Check", "Result", "Details"], self._rows_of_checks(), left_columns=3)]
        lines += ["", *(f"checked: {what}" for what in self.checked)] if self.checked else []
        remedies = [f"{check.name}: {check.remedy}" for check in self.checks if check.remedy is not None]
        if remedies:
            lines += ["", "Add what was not checked:", *remedies]
        if self.runtimes:
            rows = [(one.runtime, one.platforms, one.as_text()) for one in self.runtimes]
            lines += ["", text_table(["Runtime", "Platforms", "Loads the file"], rows, left_columns=3)]
            lines += remedy_lines(self.runtimes)
        return "\n".join(lines)

    def _results(self) -> list[str]:
        lines = [] if self.parity is None else [self.parity.as_text()]
        lines += [] if self.rows is None else [self.rows.as_text()]
        return lines + [result.as_text() for result in self.consumers]

    def _rows_of_checks(self) -> list[tuple[str, str, str]]:
        return [(check.name, check.result, check.details) for check in self.checks]


_VERDICTS: dict[Verdict, str] = {
    "verified": "verified",
    "structure only": "structure only: its predictions were not compared with anything",
    "no verdict": "no verdict, because there are too few rows",
    "failed": "NOT verified",
}
