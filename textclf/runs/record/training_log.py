"""The steps in the `log.jsonl` of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_LAST_BYTES = 1 << 14


@dataclass(frozen=True)
class Step:
    """A step of the training: its mean loss in nats, its learning rate, and how many rows it took how many seconds."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    rows: int
    seconds: float


def read_steps(folder: Path) -> list[Step]:
    """The steps of a run in their order; none if the folder has no log. Raises ValueError for a damaged log."""
    log = folder / "log.jsonl"
    if not log.exists():
        return []
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    try:
        return [
            Step(**{name: entry[name] for name in Step.__dataclass_fields__})
            for entry in entries
            if entry["event"] == "step"
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"log.jsonl is damaged ({type(error).__name__}: {error})") from error


def last_step(log: Path) -> int | None:
    """Returns the number of the last step in a log, from its last kilobytes; None if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # the incomplete line of a run that was killed, or the end of a long one
    return None
