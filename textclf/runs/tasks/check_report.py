"""What `textclf check` reports: the report of text classification, which those of other tasks extend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from textclf.data.findings.finding import Finding, visible

_SHOWN_LABELS = 20


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: the numbers of rows by split and label, and the problems found in the data."""

    name: str
    recipe: str
    labels: list[str]
    rows: dict[str, dict[str, int]]
    findings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """Lines for a terminal."""
        lines = [f"{self.recipe}: the recipe is valid", *self.data_lines()]
        for severity in ("warning", "note"):
            lines += [f"{severity.capitalize()}: {one}" for one in self.findings if one.severity == severity]
        return "\n".join(lines if self.findings else [*lines, "No problems found in the data."])

    def facts(self) -> Sequence[tuple[str, str]]:
        """The most important numbers, with their names, for a summary."""
        return (("Rows", self.split_sizes()), ("Labels", f"{len(self.labels):,}"))

    def split_sizes(self) -> str:
        return ", ".join(f"{sum(counts.values()):,} {split}" for split, counts in self.rows.items())

    def data_lines(self) -> list[str]:
        """Lines about the rows and labels."""
        lines = [f"Rows: {self.split_sizes()}", f"Labels: {len(self.labels):,}"]
        shown = {label: visible(label).strip("`") for label in self.labels[:_SHOWN_LABELS]}
        width = max(map(len, shown.values()))
        for label, name in shown.items():
            counts = ", ".join(f"{counts[label]:,} {split}" for split, counts in self.rows.items())
            lines.append(f"  {name:<{width}}  {counts}")
        if len(self.labels) > _SHOWN_LABELS:
            lines.append(f"  … and {len(self.labels) - _SHOWN_LABELS:,} more")
        return lines
