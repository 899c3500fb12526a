"""A Python that answers like a peer without training anything, and sets that are small enough for it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the peer's Python is a script that names its interpreter")

_SCRIPT = """#!{python}
import csv, json, sys
job = json.load(sys.stdin)
with open(job["train"], newline="") as file:
    rows = list(csv.DictReader(file))
with open({jobs!r}, "a") as file:
    print(json.dumps({{**job, "rows": rows}}), file=file)
chosen = {{"learning_rate": job["recipe"]["learning_rates"][0]}} if "learning_rates" in job["recipe"] else {{}}
accuracy = {{"tf-idf": 0.5}}.get(job["peer"], 0.6 + job["seed"] / 10)
print("a message of a library")
print(json.dumps({{"accuracy": accuracy, "macro_f1": accuracy / 2, "seconds": 3.0, "chosen": chosen, "sha256": None,
                  "processor": "a processor", "bfloat16": False}}))
"""


class Peers:
    """`python` is the path for --peers-python; `jobs` are the jobs that it was given, each with its training `rows`."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "jobs.jsonl"
        self.python = folder / "peers-python"
        self.python.write_text(_SCRIPT.format(python=sys.executable, jobs=str(self._log)))
        self.python.chmod(0o755)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


def write_set(folder: Path, header: Sequence[str] = ("text", "label"), rows: int = 40) -> Path:
    """Writes train, dev and test files with the labels good and bad, and numbered texts."""
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for number in range(rows):
                label = ("good", "bad")[number % 2]
                writer.writerow([*(f"{label} film {split} {number}" for _ in header[1:]), label])
    return folder


def read_results(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
