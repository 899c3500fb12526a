"""Draws a run's log.jsonl: `python -m pretraining.curves RUN_FOLDER/log.jsonl OUT.svg`. Needs matplotlib, which textclf has."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def draw(log: Path, out: Path) -> None:
    """Every part of the loss over the tokens seen: lines for training, dots for held-out text."""
    import matplotlib

    matplotlib.use("svg")
    # The same log gives the same bytes.
    matplotlib.rcParams["svg.hashsalt"] = "textclf"
    from matplotlib import pyplot

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    parts = [name for name in lines[0] if name.startswith(("embeddings", "layer_")) or name in ("sentence", "cosine")]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for part in parts:
        by_kind = {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "held_out")}
        millions = {kind: [line["tokens"] / 1e6 for line in found] for kind, found in by_kind.items()}
        (drawn,) = axes.plot(millions["train"], [line[part] for line in by_kind["train"]], linewidth=1, label=part)
        axes.plot(millions["held_out"], [line[part] for line in by_kind["held_out"]], "o", color=drawn.get_color())
    axes.set(xlabel="tokens seen, millions", ylabel="loss (1 = what a constant would give)", ylim=(0, None))
    axes.legend(ncols=2, fontsize="small")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
