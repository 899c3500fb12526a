"""Draws a run's log.jsonl: `python -m pretraining.curves RUN/log.jsonl OUT.svg`. Needs matplotlib, which textclf has."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOSSES = ("minilm_", "mpnet_", "relation_")


def draw(log: Path, out: Path) -> None:
    """One panel per student with every loss over the tokens: lines for training, dots for held-out text."""
    import matplotlib

    matplotlib.use("svg")
    # The same log gives the same bytes.
    matplotlib.rcParams["svg.hashsalt"] = "textclf"
    from matplotlib import pyplot

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "student" in line]
    students = list(dict.fromkeys(line["student"] for line in lines))
    figure, panels = pyplot.subplots(len(students), figsize=(9, 4 * len(students)), sharex=True, squeeze=False)
    for student, axes in zip(students, panels[:, 0], strict=True):
        _draw_student(axes, [line for line in lines if line["student"] == student])
        axes.set(title=student, ylabel="loss (1 = a constant)", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(ncols=1, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    panels[-1, 0].set(xlabel="tokens seen, millions")
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


def _draw_student(axes: Any, lines: Sequence[Mapping[str, Any]]) -> None:
    parts = [name for name in lines[0] if name.startswith(LOSSES)]
    for number, part in enumerate(parts):
        kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "held_out")}
        millions = {kind: [line["tokens"] / 1e6 for line in found] for kind, found in kinds.items()}
        style = "-" if number < 10 else "--"
        (drawn,) = axes.plot(millions["train"], [line[part] for line in kinds["train"]], style, linewidth=1, label=part)
        axes.plot(millions["held_out"], [line[part] for line in kinds["held_out"]], "o", ms=3, color=drawn.get_color())


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
