"""A file of results, one JSON object a line: what is in it is not measured again. Also the cells of the tables made of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from textclf.errors import ArgumentError, DataError


class Results:
    """The runs in a file, each a dict; `identity` are the keys that tell runs apart, `scores` those of shares in 0..1.

    Raises DataError for a line that is not a run, and ArgumentError for a path that cannot be such a file.
    """

    def __init__(self, file: Path, identity: Sequence[str], scores: Sequence[str] = ("accuracy", "macro_f1")) -> None:
        self.file = file
        self.rows = _read(file, identity, scores)

    def find(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the first run with these values, or None."""
        same = (row for row in self.rows if all(row[key] == value for key, value in wanted.items()))
        return next(same, None)

    def add(self, row: dict[str, Any]) -> None:
        """Appends a run to the file in one write, so that a process that is killed leaves whole lines."""
        self.rows.append(row)
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def _read(file: Path, identity: Sequence[str], scores: Sequence[str]) -> list[dict[str, Any]]:
    if file.is_dir() or not file.parent.is_dir():
        raise ArgumentError(f"--results: {file} is not a file in an existing folder; name a file such as results.jsonl")
    if not file.exists():
        return []
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        missing = [key for key in identity if not isinstance(row, dict) or key not in row]
        if missing or not _is_measured(row, scores):
            what = f"a run without {missing[0]}" if isinstance(row, dict) and missing else "not a run"
            raise DataError(
                f"{file}:{number}: the line is {what}: {line[:80]!r}; remove it, or use another file with --results"
            )
        rows.append(row)
    return rows


def _is_measured(row: Mapping[str, Any], scores: Sequence[str]) -> bool:
    return all(isinstance(row.get(score), float | int) and 0 <= row[score] <= 1 for score in scores)


def cell(scores: Sequence[float]) -> str:
    """Shares from 0 to 1 → their mean ± standard deviation (of a sample) in %, and their number if it is not 1."""
    if not scores:
        return ""
    if len(scores) == 1:
        return f"{100 * scores[0]:.1f}"
    return f"{100 * mean(scores):.1f} ± {100 * stdev(scores):.1f} ({len(scores)})"


def processor() -> str:
    """The name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
