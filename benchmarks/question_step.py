"""What one training step of question answering costs: memory and seconds, with random weights.

    python benchmarks/question_step.py [--layers 24] [--length 384] [--windows 32] [--steps 1]

A MobileBERT of the published width with random weights, windows of random tokens. The first step includes the compilation.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
STARTED = time.monotonic()
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402 - the clock starts before the imports
import tensorflow as tf  # noqa: E402

from textclf.data.tokens.batching import Batch, part_count  # noqa: E402
from textclf.data.tokens.encoded import Tokens  # noqa: E402
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes  # noqa: E402
from textclf.model_maker.worker import peak_memory  # noqa: E402
from textclf.recipe.settings import TrainingSettings  # noqa: E402
from textclf.training.machine.hardware import chosen_precision  # noqa: E402
from textclf.training.model import Part  # noqa: E402
from textclf.training.optimizer import AdamW  # noqa: E402
from textclf.training.question_answering.model import SpanModel  # noqa: E402
from textclf.training.step import TrainingStep  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--length", type=int, default=384, help="tokens of a window")
    parser.add_argument("--windows", type=int, default=32, help="windows of a step (training.batch_size)")
    parser.add_argument("--parts", type=int, help="gradient accumulation (default: as training chooses)")
    parser.add_argument("--steps", type=int, default=1, help="steps after the first one")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    options = parser.parse_args()

    precision = chosen_precision(options.precision)
    model = SpanModel(random_checkpoint(options.layers), seed=0)
    settings = TrainingSettings()
    step = TrainingStep(model, AdamW(model.variables, 0.01, 1.0), settings, tf.as_dtype(precision))
    parts = parts_of(options.windows, options.length, options.parts)
    print(
        f"{options.layers} layers, {options.windows} windows of {options.length} tokens in {len(parts)} parts, {precision}; "
        f"{peak_memory():,.0f} MiB before the first step",
        flush=True,
    )
    for number in range(options.steps + 1):
        begun = time.monotonic()
        loss, _ = step(parts, 1e-5, 1, number)
        seconds = time.monotonic() - begun
        what = (
            f"first step, {time.monotonic() - STARTED:.1f} s after the start" if number == 0 else f"step {number + 1}"
        )
        print(f"{what}: {seconds:.1f} s, loss {loss:.3f}, peak memory {peak_memory():,.0f} MiB", flush=True)


def random_checkpoint(layers: int) -> EncoderCheckpoint:
    config, random = replace(MobileBertConfig(), num_hidden_layers=layers), np.random.default_rng(0)
    weights = {}
    for name, shape in expected_shapes(config).items():
        size = 0.5 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.02
        values = np.ones(shape) if name.endswith("gamma") else random.standard_normal(shape) * size
        weights[name] = values.astype(np.float32)
    return EncoderCheckpoint(config, weights, ["[PAD]"], True, "additive", "random", Path("random"))


def parts_of(windows: int, length: int, count: int | None) -> list[Part]:
    """Random windows, an answer in each, in the parts in which training computes them."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, 30_000, (windows, length)).astype(np.int32)
    segments = np.tile((np.arange(length) >= 20).astype(np.int32), (windows, 1))
    mask = np.ones((windows, length), np.int32)
    starts = random.integers(20, length - 5, windows).astype(np.int32)
    targets = np.stack([starts, starts + 3], axis=1)
    rows = np.arange(windows)
    pieces = np.array_split(rows, min(windows, count or part_count(Batch(rows, length))))
    return [
        Part(Tokens(ids[rows], mask[rows], segments[rows]), targets[rows], np.ones(len(rows), np.float32))
        for rows in pieces
    ]


if __name__ == "__main__":
    main()
